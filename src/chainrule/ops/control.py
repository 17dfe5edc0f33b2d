"""Operations that steer derivatives and loops: stop_gradient, checkpoint, scan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.errors import ArgumentError, GraphError, ShapeError
from chainrule.graph import (
    Draw,
    Graph,
    Primitive,
    Tensor,
    apply,
    context,
    evaluator,
    holding,
    inline,
    nodes_between,
    placeholder,
    trace,
    vjp,
    write,
    zeros_like,
)
from chainrule.ops.broadcasting import as_tensor
from chainrule.ops.elementwise import add, tanh
from chainrule.ops.namespace import OPS
from chainrule.spec import FLOAT64, TensorSpec

stop_gradient = Primitive(
    "stop_gradient",
    "y = x, and nothing flows back",
    shape=lambda x: x,
    evaluate=lambda xp, x: x,
    pullback=lambda dy, y, x: (None,),
    arguments=lambda x: ((as_tensor(x),), {}),
    meaning="Cuts the backward pass here, as detach() in PyTorch.",
)


identity = Primitive(
    "identity",
    "y = x",
    shape=lambda x: x,
    evaluate=lambda xp, x: x,
    pullback=lambda dy, y, x: (dy,),
    arguments=lambda x: ((as_tensor(x),), {}),
    draw=lambda point: ((point.real(point.shape()),), {}),
    meaning="The same value under another name: what to differentiate by, when it is part of a larger graph.",
)


def body_evaluate(xp: Any, body: Graph, inputs: Sequence[Any]) -> tuple:
    """Run a body: its reference with an array namespace, its nodes anew with chainrule's own operations."""
    return inline(body, inputs) if xp is OPS else evaluator(body, xp)(*inputs)


# ------------------------------------------------------------------------------------------------ checkpoint


def _recomputed_pullback(dys: tuple, ys: tuple, *inputs: Tensor, body: Graph) -> tuple:
    """The forward pass once more, behind a barrier, and back through it."""
    again = tuple(map(barrier, inputs)) if inputs else ()
    with holding(recording=True):
        sources = tuple(_fresh(x) for x in again)
        outputs = inline(body, sources)
    pairs = [(y, dy) for y, dy in zip(outputs, dys, strict=True) if dy is not None]
    return tuple(vjp([y for y, _ in pairs], [dy for _, dy in pairs], list(sources)))


def _fresh(x: Tensor) -> Tensor:
    """A value to differentiate by: itself under trace, a leaf of its own when eager."""
    if x.array is None or x.requires_grad or not x.spec.floating:
        return x
    leaf = Tensor(x.spec, x.array)
    leaf.requires_grad = True
    return leaf


barrier = Primitive(
    "barrier",
    "y = x, which elimination of common subexpressions may not look through",
    shape=lambda x: x,
    evaluate=lambda xp, x: x,
    pullback=lambda dy, y, x: (dy,),
    arguments=lambda x: ((as_tensor(x),), {}),
    draw=lambda point: ((point.real(point.shape()),), {}),
)


def _draw_recomputed(point: Draw) -> tuple[tuple, dict]:
    x = point.real(point.shape(), -2, 2)
    w = point.real(x.shape, -2, 2)
    body = trace(lambda a, b: (tanh(a * b) * a, a + b), TensorSpec(x.shape, FLOAT64), TensorSpec(x.shape, FLOAT64))
    return (x, w), {"body": body.graph}


recomputed = Primitive(
    "checkpoint",
    "y = f(x), whose inner values the backward pass works out again",
    shape=lambda *xs, body: tuple(y.spec for y in body.outputs),
    evaluate=lambda xp, *xs, body: body_evaluate(xp, body, xs),
    pullback=_recomputed_pullback,
    arguments=lambda *xs, body: (tuple(map(as_tensor, xs)), {"body": body}),
    draw=_draw_recomputed,
    meaning="Keeps only the inputs of f for the backward pass: less memory for one more forward pass "
    "(Chen et al. 2016, arXiv:1604.06174).",
    why=("the forward pass once more, and back through it",),
    several=True,
)


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of tensors, with its inner values worked out again in the backward pass instead of kept."""

    def wrapped(*args: Any) -> Any:
        tensors = tuple(map(as_tensor, args))
        traced = trace(function, *(x.spec for x in tensors), lifts=True)
        outputs = apply(recomputed, (*tensors, *traced.captured), {"body": traced.graph})
        returned = len(outputs) - len(traced.targets)
        for target, value in zip(traced.targets, outputs[returned:], strict=True):
            write(target, value)
        return outputs[:returned] if returned > 1 else outputs[0]

    return wrapped


# ------------------------------------------------------------------------------------------------ scan
#
# A body is a graph: (carries, one row of each sequence, fixed inputs) -> (carries, one row of each result, kept rows).
# The kept rows are those of its values that the backward pass reads: scan stacks them as hidden outputs, so that
# nothing is worked out twice and elimination of dead code removes those that nobody reads.


def scan(function: Callable[..., Any], initial: Any, sequences: Any, *, reverse: bool = False) -> tuple[Any, Any]:
    """Loop over time: ``state, y = function(state, x)`` for each row x of ``sequences``.

    initial:   the first state: a tensor, or a tuple of them, whose shapes and dtypes ``function`` keeps.
    sequences: a tensor [time, ...], or a tuple of them of one length.
    reverse:   from the last row to the first.
    Gives the last state and the stacked y, each a tuple if ``function`` uses tuples for it. What ``function`` reads
    from outside gets its gradient too.
    """
    state, many_states = _as_tuple(initial)
    xs, many_sequences = _as_tuple(sequences)
    if not xs:
        raise ArgumentError("scan: needs at least one sequence to loop over")
    _steps([x.shape for x in xs])
    shape_of_result: list[bool] = []

    def body(*inputs: Tensor) -> tuple[Tensor, ...]:
        before, rows = inputs[: len(state)], inputs[len(state) :]
        returned = function(before if many_states else before[0], rows if many_sequences else rows[0])
        if not isinstance(returned, tuple) or len(returned) != 2:
            raise ArgumentError(f"scan: the function must return (state, y), got {type(returned).__name__}")
        (after, _), (ys, many) = _as_tuple(returned[0]), _as_tuple(returned[1])
        shape_of_result.append(many)
        if len(after) != len(before):
            raise ShapeError(f"scan: {len(before)} states go in and {len(after)} come out: return the same number")
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            if a.spec != b.spec:
                raise ShapeError(f"scan: state {i} goes in as {a.spec} and comes out as {b.spec}: they must be equal")
        return (*after, *ys)

    traced = trace(body, *(x.spec for x in state), *(TensorSpec(x.shape[1:], x.dtype) for x in xs), lifts=True)
    if traced.targets:
        raise GraphError("scan: its function writes to a buffer, which would keep one step's value: return it as state")
    outputs = apply_scan(traced.graph, state, xs, traced.captured, reverse)
    last, ys = outputs[: len(state)], outputs[len(state) : len(traced.graph.outputs)]
    return (last if many_states else last[0]), (ys if shape_of_result[0] else ys[0])


def _as_tuple(value: Any) -> tuple[tuple[Tensor, ...], bool]:
    if isinstance(value, (tuple, list)):
        return tuple(map(as_tensor, value)), True
    return (as_tensor(value),), False


def apply_scan(body: Graph, state: Sequence, xs: Sequence, fixed: Sequence, reverse: bool) -> tuple[Tensor, ...]:
    inputs = (*state, *xs, *fixed)
    differentiated = any(x.array is None or (x.requires_grad and context.recording) for x in inputs)
    kept = _values_read_backward(body, len(state)) if differentiated else ()
    return apply(
        scan_primitive,
        inputs,
        {
            "body": Graph(body.inputs, body.outputs + kept),
            "carries": len(state),
            "sequences": len(xs),
            "kept": len(kept),
            "reverse": reverse,
        },
    )


def _values_read_backward(body: Graph, carries: int) -> tuple[Tensor, ...]:
    """Values of ``body``, its carries among them, that the backward pass of its outputs reads."""
    sources = [x for x in body.inputs if x.spec.floating]
    outputs = [y for y in body.outputs if y.spec.floating]
    with holding(trace=None):
        cotangents = [placeholder(y.spec) for y in outputs]
        gradients = [g for g in vjp(outputs, cotangents, sources) if g is not None]
    forward = set(body.nodes())
    carried = {x.key for x in body.inputs[:carries]}
    read: dict[Any, Tensor] = {}
    for node in nodes_between([*body.inputs, *cotangents], gradients):
        if node not in forward:
            read.update({x.key: x for x in node.inputs if x.node in forward or x.key in carried})
    return tuple(read.values())


def _steps(shapes: Sequence[tuple[int, ...]]) -> int:
    sizes = {s[0] if s else -1 for s in shapes}
    if len(sizes) != 1 or -1 in sizes:
        raise ShapeError(f"scan: sequences must have one length along their first axis, got shapes {list(shapes)}")
    return sizes.pop()


def _scan_shape(*specs: TensorSpec, body: Graph, carries: int, sequences: int, kept: int, reverse: bool) -> tuple:
    steps = _steps([s.shape for s in specs[carries : carries + sequences]])
    rows = (TensorSpec((steps, *y.shape), y.dtype) for y in body.outputs[carries:])
    return (*(y.spec for y in body.outputs[:carries]), *rows)


def _scan_evaluate(xp: Any, *inputs: Any, body: Graph, carries: int, sequences: int, kept: int, reverse: bool) -> tuple:
    state, xs, fixed = inputs[:carries], inputs[carries : carries + sequences], inputs[carries + sequences :]
    steps, outputs = xs[0].shape[0], body.outputs[carries:]
    run = evaluator(body, xp)
    rows: list[Any] = [None] * steps
    for t in reversed(range(steps)) if reverse else range(steps):
        result = run(*state, *(x[t] for x in xs), *fixed)
        state, rows[t] = result[:carries], result[carries:]
    stacked = (
        xp.stack([row[i] for row in rows]) if steps else xp.zeros((0, *y.shape), dtype=y.dtype)
        for i, y in enumerate(outputs)
    )
    return (*state, *stacked)


def _scan_pullback(
    dys: tuple, ys: tuple, *inputs: Tensor, body: Graph, carries: int, sequences: int, kept: int, reverse: bool
) -> tuple:
    """A scan the other way over the backward pass of the body."""
    xs, fixed = inputs[carries : carries + sequences], inputs[carries + sequences :]
    first_kept = len(body.outputs) - kept
    flowing = [i for i, y in enumerate(body.outputs) if y.spec.floating and (i < carries or dys[i] is not None)]
    dstate = [i for i in flowing if i < carries]
    drows = [i for i in flowing if i >= carries]
    back = _backward_body(body, carries, sequences, kept, dstate, drows)
    floating_fixed = [f for f in fixed if f.spec.floating]
    outputs = apply_scan(
        back,
        [*(zeros_like(ys[i]) if dys[i] is None else dys[i] for i in dstate), *map(zeros_like, floating_fixed)],
        [*(dys[i] for i in drows), *xs, *ys[first_kept:]],
        fixed,
        not reverse,
    )
    results = iter(outputs)
    to_state = [next(results) if x.spec.floating else None for x in inputs[:carries]]
    to_fixed = [next(results) if x.spec.floating else None for x in fixed]
    to_rows = [next(results) if x.spec.floating else None for x in xs]
    return (*to_state, *to_rows, *to_fixed)


def _backward_body(body: Graph, carries: int, sequences: int, kept: int, dstate: list[int], drows: list[int]) -> Graph:
    """One step back: (state cotangents, sums for fixed inputs; row cotangents, x rows, kept rows; fixed) -> ...

    Gives (state cotangents before the step, sums; cotangents of the x rows).
    """
    state, rows = body.inputs[:carries], body.inputs[carries : carries + sequences]
    fixed = body.inputs[carries + sequences :]
    floating = [[x for x in part if x.spec.floating] for part in (state, rows, fixed)]
    with holding(trace=None):
        cotangents = {i: placeholder(body.outputs[i].spec) for i in dstate + drows}
        sources = [x for part in floating for x in part]
        found = vjp([body.outputs[i] for i in cotangents], list(cotangents.values()), sources)
        pulled = iter([zeros_like(x) if g is None else g for x, g in zip(sources, found, strict=True)])
        to_state, to_rows = ([next(pulled) for _ in part] for part in floating[:2])
        sums = [placeholder(x.spec) for x in floating[2]]
        to_fixed = [add(total, next(pulled)) for total in sums]
    held = body.outputs[len(body.outputs) - kept :]
    inputs = (*(cotangents[i] for i in dstate), *sums, *(cotangents[i] for i in drows), *rows, *held, *fixed)
    return Graph(inputs, (*to_state, *to_fixed, *to_rows))


def _draw_scan(point: Draw) -> tuple[tuple, dict]:
    """A small recurrent cell: h' = tanh(h w + x), y = h x."""
    shape, steps = point.shape(0, 1), point.size()
    state, xs, w = point.real(shape, -1, 1), point.real((steps, *shape), -1, 1), point.real(shape, -1, 1)
    body = trace(lambda h, x, w: (tanh(h * w + x), h * x), *(TensorSpec(shape, FLOAT64),) * 3).graph
    kept = _values_read_backward(body, 1)
    counts = {"carries": 1, "sequences": 1, "kept": len(kept), "reverse": point.flag()}
    return (state, xs, w), {"body": Graph(body.inputs, body.outputs + kept), **counts}


scan_primitive = Primitive(
    "scan",
    "state, y_t = f(state, x_t) for every t",
    shape=_scan_shape,
    evaluate=_scan_evaluate,
    pullback=_scan_pullback,
    arguments=lambda *xs, **parameters: (tuple(map(as_tensor, xs)), parameters),
    draw=_draw_scan,
    meaning="A loop over the first axis whose backward pass is a loop the other way.",
    why=("backpropagation through time",),
    several=True,
)
