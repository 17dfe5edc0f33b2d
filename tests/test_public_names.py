"""The names that people import: all of them are there, and none of them by accident."""

import subprocess
import sys

import chainrule as cr

NAMES = [
    "Callback",
    "EarlyStopping",
    "Explanation",
    "Flow",
    "Run",
    "Tensor",
    "activations",
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "check_gradients",
    "checkpoint",
    "compare",
    "compile",
    "constant",
    "cross_entropy",
    "data",
    "derivation",
    "diagnose",
    "elementwise",
    "explain",
    "fit",
    "flow",
    "grad",
    "gradients",
    "hessian",
    "huber",
    "hvp",
    "jacobian",
    "jvp",
    "mae",
    "manual_seed",
    "mse",
    "nn",
    "no_grad",
    "ops",
    "optim",
    "primitive",
    "scan",
    "set_threads",
    "step",
    "stop_gradient",
    "tensor",
    "threads",
    "value_and_grad",
    "vjp",
    "watch",
    "where",
]


def test_the_public_names_are_these():
    assert sorted(cr.__all__) == sorted(NAMES)
    for name in NAMES:
        assert getattr(cr, name) is getattr(cr, name)
        assert name in dir(cr)


def test_every_public_name_says_what_it_is():
    assert [name for name in NAMES if not (getattr(cr, name).__doc__ or "").strip()] == []


def test_a_name_that_is_none_is_an_attribute_error():
    assert not hasattr(cr, "trian")


def printed(program: str) -> list[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()


def test_importing_chainrule_is_fast_and_loads_nothing_yet():
    program = """
import sys, time
began = time.perf_counter()
import chainrule
print(time.perf_counter() - began, "numpy" in sys.modules)
"""
    found = [printed(program) for _ in range(3)]
    assert min(float(seconds) for seconds, _ in found) < 0.25
    assert {loaded for _, loaded in found} == {"False"}


def test_training_loads_no_optional_package():
    program = """
import sys
import numpy as np
import chainrule as cr
cr.fit(cr.nn.Linear(1, 1), (np.ones((2, 1)), np.ones((2, 1))), loss="mse")
optional = {"torch", "jax", "pandas", "polars", "pyarrow", "sklearn", "scipy", "rich", "typer", "matplotlib"}
print(*sorted(optional & set(sys.modules)))
"""
    assert printed(program) == []
