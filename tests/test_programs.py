"""Every primitive as a program: interpreted and as machine code, against the NumPy reading of its declaration."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule.ops  # noqa: F401  (declares the primitives)
from chainrule.compiler import Part, link
from chainrule.graph import PRIMITIVES, Draw, Graph, Primitive, apply, evaluate, placeholder
from chainrule.kernel.interpret import interpret
from chainrule.lowering import lower
from chainrule.rewrite import rewrite
from chainrule.spec import TensorSpec

SEEDS = range(12)
DRAWN = sorted(name for name, p in PRIMITIVES.items() if p.draw is not None)


def drawn_graph(primitive: Primitive, seed: int, dtype: str = "float64") -> tuple[Graph, list[np.ndarray]]:
    """One application of a primitive at a point of its domain."""
    arrays, parameters = primitive.draw(Draw(seed))  # type: ignore[misc]
    held = [np.ascontiguousarray(a) if np.ndim(a) else np.asarray(a) for a in map(np.asarray, arrays)]
    held = [a.astype(dtype) if a.dtype.kind == "f" else a for a in held]
    inputs = tuple(placeholder(TensorSpec(a.shape, a.dtype)) for a in held)
    result = apply(primitive, inputs, parameters)
    return Graph(inputs, tuple(result) if primitive.several else (result,)), held


def assert_agrees(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> None:
    wanted = np.asarray(wanted)
    size = float(np.abs(wanted).max(initial=0.0)) if wanted.dtype.kind == "f" else 1.0
    np.testing.assert_allclose(
        found.reshape(wanted.shape).astype(np.float64), wanted.astype(np.float64), rtol=10 * tolerance,
        atol=tolerance * max(size, 1.0),
    )  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_an_interpreted_program_gives_what_the_declaration_says(name):
    for seed in SEEDS:
        graph, arrays = drawn_graph(PRIMITIVES[name], seed)
        wanted = evaluate(graph, *arrays)

        found, status = interpret(lower(rewrite(graph)), *arrays)

        assert status == 0
        for f, w in zip(found, wanted, strict=True):
            assert_agrees(f, w, 1e-13)


@pytest.mark.parametrize("name", DRAWN)
def test_machine_code_gives_what_the_declaration_says(name):
    for seed in SEEDS:
        graph, arrays = drawn_graph(PRIMITIVES[name], seed)
        wanted = evaluate(graph, *arrays)
        inputs = tuple(f"in{i}" for i in range(len(arrays)))
        outputs = tuple(f"out{i}" for i in range(len(wanted)))
        memory = dict(zip(inputs, arrays, strict=True))
        memory |= {n: np.zeros(y.shape, y.dtype) for n, y in zip(outputs, graph.outputs, strict=True)}

        bound = link((Part(graph, inputs, outputs),), "native").bind(memory, {})

        assert bound.run(1) == 1
        for n, w in zip(outputs, wanted, strict=True):
            assert_agrees(memory[n], w, 1e-13)
