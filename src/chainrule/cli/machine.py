"""Machine: versions, processor, linear algebra, and which packages are there or missing."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.cli.output import Output
from chainrule.version import __version__

_NEEDED = ("numpy", "safetensors", "msgspec", "narwhals", "typer", "rich")
_OPTIONAL = {
    "pyarrow": ("Parquet files", "pip install 'chainrule[parquet]'"),
    "pandas": ("dataframes", "pip install pandas"),
    "polars": ("dataframes", "pip install polars"),
}


def show_machine(output: Output) -> None:
    """What a report of a fault should begin with."""
    machine = {
        "chainrule": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "processor": _processor(),
        "cores": os.cpu_count() or 0,
        "blas": _blas(),
    }
    packages = {name: _version(name) for name in (*_NEEDED, *_OPTIONAL)}
    output.table(("", ""), [*machine.items()])
    output.table(("package", "version", "for"), [(name, version or "missing", _purpose(name, version))
                                                 for name, version in packages.items()])  # fmt: skip
    output.next("train", "digits")
    output.result({"schema": 1, **machine, "packages": packages})


def _purpose(name: str, version: str | None) -> str:
    if name in _NEEDED:
        return "chainrule itself" if version else "chainrule itself: pip install --force-reinstall chainrule"
    purpose, line = _OPTIONAL[name]
    return purpose if version else f"{purpose}: {line}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or "unknown"


def _blas() -> str:
    """The library behind NumPy's matrix products."""
    config: Any = np.show_config(mode="dicts")
    blas = config.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
