"""Nests of short rows, turned so that vectors go along the rows."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule import ops
from chainrule.graph import evaluate
from chainrule.kernel import Nest
from chainrule.kernel.interpret import interpret
from chainrule.lowering import lower
from chainrule.lowering.narrow import FEWEST, NARROW
from chainrule.rewrite import rewrite
from programs import traced


def softmax(x):
    return ops.softmax(x, axis=-1)


@pytest.mark.parametrize("columns", [1, 2, NARROW, NARROW + 1])
@pytest.mark.parametrize("rows", [FEWEST - 1, FEWEST, FEWEST + 5])
def test_rows_become_lanes_where_they_are_many_and_short(rows, columns):
    x = np.random.default_rng(rows).standard_normal((rows, columns))
    graph = rewrite(traced(softmax, x))
    program = lower(graph)
    lanes = {loop.extent for s in program.each() if isinstance(s, Nest) for loop in s.loops}
    assert (rows in lanes) == (rows >= FEWEST and columns <= NARROW)
    (found,), _ = interpret(program, x)
    np.testing.assert_allclose(found.reshape(x.shape), evaluate(graph, x)[0], rtol=1e-13)


def test_a_running_sum_along_short_rows_stays_right():
    x = np.random.default_rng(1).standard_normal((20, 3))
    graph = rewrite(traced(lambda x: ops.cumsum(ops.exp(x), axis=1) * 2.0, x))
    (found,), _ = interpret(lower(graph), x)
    np.testing.assert_allclose(found.reshape(x.shape), 2 * np.cumsum(np.exp(x), 1), rtol=1e-13)
