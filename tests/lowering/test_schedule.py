"""Schedules: what runs at once gives the same numbers, waits for what it needs, and shares no memory."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, ops
from chainrule.graph import Graph, context, evaluate, ones_cotangent, trace, vjp
from chainrule.kernel import Gemm, Program, Rows, Together, parts
from chainrule.kernel.effects import reads, writes
from chainrule.kernel.interpret import interpret
from chainrule.lowering import lower
from chainrule.lowering.schedule import LARGEST_WEIGHTS, scheduled
from chainrule.rewrite import rewrite
from chainrule.spec import FLOAT64, INT64, TensorSpec
from programs import random_program, traced


def backward(net, rows: int, width: int, dtype=FLOAT64) -> Graph:
    """Loss and gradients of a network that tells classes apart."""
    parameters = list(net.to(dtype.name).parameters())

    def passes(x, y):
        loss = cr.cross_entropy(net(x), y)
        return [loss, *vjp([loss], [ones_cotangent(loss)], [context.trace.seen(p) for p in parameters])]

    return trace(passes, TensorSpec((rows, width), dtype), TensorSpec((rows,), INT64)).graph


def perceptron(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in pairwise(widths):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def in_order(program: Program) -> Program:
    """The same statements one after another."""
    return replace(program, statements=tuple(program.each()))


def arrays_for(graph: Graph, classes: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(0)
    return [
        draw.integers(0, classes, x.shape) if x.dtype == INT64 else draw.uniform(-1, 1, x.shape) for x in graph.inputs
    ]


def test_both_passes_of_a_perceptron_are_one_run_of_rows_and_sums_over_rows_come_after():
    program = lower(rewrite(backward(perceptron(5, 7, 6, 3), 32, 5)))
    (rows,) = [s for s in program.statements if isinstance(s, Rows)]
    products = [s for s in program.each() if isinstance(s, Gemm)]
    assert rows.rows == 32
    assert len(products) == 8
    # Three forward, two back through the weights; the three that sum over rows to make gradients of weights come after.
    assert [p for p in products if p in rows.statements] == products[:5]
    assert any(isinstance(s, Together) and len([p for p in s.statements if isinstance(p, Gemm)]) == 3
               for s in program.statements)  # fmt: skip


def test_statistics_over_a_batch_part_the_run():
    net = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    program = lower(rewrite(backward(net, 24, 5)))
    assert len([s for s in program.statements if isinstance(s, Rows)]) >= 2


def test_weights_too_large_for_a_core_are_not_read_by_every_block_of_rows():
    side = int(LARGEST_WEIGHTS**0.5) + 1
    program = lower(rewrite(backward(perceptron(side, side, 3), 16, side)))
    large = [s for s in program.each() if isinstance(s, Gemm) and s.k * s.n > LARGEST_WEIGHTS]
    inside = [p for s in program.statements if isinstance(s, Rows) for p in s.statements]
    assert large
    assert not any(s in inside for s in large)


NETWORKS = {
    "perceptron": lambda: (perceptron(6, 9, 8, 3), 6),
    "batch norm": lambda: (nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)), 6),
    "layer norm": lambda: (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)), 6),
    "deep": lambda: (perceptron(*[6] * 9, 3), 6),
}


@pytest.mark.parametrize("rows", [2, 16, 17])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_schedule_gives_the_numbers_of_the_graph(name, rows):
    net, width = NETWORKS[name]()
    graph = rewrite(backward(net, rows, width))
    arrays = arrays_for(graph)
    found, _ = interpret(lower(graph), *arrays)
    for a, b in zip(evaluate(graph, *arrays), found, strict=True):
        np.testing.assert_allclose(b.reshape(np.shape(a)), a, rtol=0, atol=1e-13 * np.abs(a).max(initial=1e-300))


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_keep_their_numbers_when_scheduled_anew(seed):
    graph, arrays = random_program(seed)
    program = in_order(lower(rewrite(graph)))
    found, _ = interpret(scheduled(program), *arrays)
    for a, b in zip(evaluate(graph, *arrays), found, strict=True):
        np.testing.assert_allclose(b.reshape(np.shape(a)), a, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NETWORKS)
def test_what_runs_at_once_shares_no_memory(name):
    net, width = NETWORKS[name]()
    program = lower(rewrite(backward(net, 32, width)))
    for statement in program.statements:
        touched = {b for part in parts(statement) for b in reads(part) | writes(part)}
        places = sorted(
            (held.offset, held.offset + held.size * held.dtype.itemsize)
            for held in (program.buffers[b] for b in touched)
            if held.role == "scratch"
        )
        for (_, end), (start, _) in pairwise(places):
            assert end <= start


def test_what_reads_at_computed_positions_waits_for_all_rows():
    def function(x, w, i):
        made = ops.tanh(x @ w)
        return ops.gather(made, i), ops.exp(made) @ w

    program = lower(rewrite(traced(function, np.ones((16, 4)), np.ones((4, 4)), np.zeros(16, np.int64))))
    (rows,) = [s for s in program.statements if isinstance(s, Rows)]
    gathered = program.outputs[0]
    assert not any(gathered in writes(s) for s in rows.statements)
    assert any(program.outputs[1] in writes(s) for s in rows.statements)
