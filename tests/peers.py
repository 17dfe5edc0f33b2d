"""Optional packages that tests compare against: missing ones skip a test, except where everything must be there."""

import importlib
import importlib.util
import os
from types import ModuleType

import pytest


def skip_or_fail(reason: str) -> None:
    """Skip the test (or the module) for want of something optional; fail it where CHAINRULE_REQUIRE_PEERS is set."""
    if os.environ.get("CHAINRULE_REQUIRE_PEERS"):
        pytest.fail(f"CHAINRULE_REQUIRE_PEERS is set, but {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)


def peer(name: str) -> ModuleType:
    """Import an optional package: `torch = peer("torch")`, in a test or at the top of a module.

    A package that is there but broken raises its own ImportError: only absence is a reason to skip.
    """
    if importlib.util.find_spec(name.partition(".")[0]) is None:
        skip_or_fail(f"{name} is not installed; run: pip install -e '.[peers]'")
    module = importlib.import_module(name)
    if name.partition(".")[0] == "torch":
        importlib.import_module("torch").set_num_threads(1)  # two test processes share two cores
    return module
