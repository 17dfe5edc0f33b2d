"""Dead code: what no output reads. Nodes that nothing reads are no part of a graph; this removes parts of nodes."""

from __future__ import annotations

from typing import Any

from chainrule.graph import PRIMITIVES, Graph, Node, Tensor, apply, replaced


def remove_dead(graph: Graph) -> Graph:
    """A scan without the states, rows and inputs that nobody needs; a split read in one place -> a slice.

    Changes no bit.
    """
    while (after := _lighter(replaced(graph, lambda node, inputs: None, bodies=remove_dead))) is not graph:
        graph = after
    return graph


def _lighter(graph: Graph) -> Graph:
    nodes = graph.nodes()
    read = {x.key for node in nodes for x in node.inputs} | {y.key for y in graph.outputs}

    def rule(node: Node, inputs: tuple[Tensor, ...]) -> tuple[Tensor | None, ...] | None:
        used = [i for i in range(len(node.specs)) if (node, i) in read]
        if node.primitive.name == "scan":
            return _lighter_scan(node, inputs, used)
        return _slice_of(node, inputs[0], used) if node.primitive.name == "split" else None

    return replaced(graph, rule, bodies=lambda body: body)


def _slice_of(node: Node, x: Tensor, used: list[int]) -> tuple[Tensor | None, ...] | None:
    if len(used) != 1 or len(node.specs) == 1:
        return None
    sizes, axis = node.parameters["sizes"], node.parameters["axis"]
    start = sum(sizes[: used[0]])
    parameters = {
        "starts": tuple(start if a == axis else 0 for a in range(x.ndim)),
        "stops": tuple(start + sizes[used[0]] if a == axis else n for a, n in enumerate(x.shape)),
        "steps": (1,) * x.ndim,
    }
    part = apply(PRIMITIVES["slice"], (x,), parameters)
    return tuple(part if i == used[0] else None for i in range(len(sizes)))


def _lighter_scan(node: Node, inputs: tuple[Tensor, ...], used: list[int]) -> tuple[Tensor | None, ...] | None:
    body: Graph = node.parameters["body"]
    carries, sequences, kept = (node.parameters[k] for k in ("carries", "sequences", "kept"))
    outputs, needed = _live(body, carries, used)
    rows = [i for i in range(carries, carries + sequences) if body.inputs[i].key in needed]
    rows = rows or [carries]  # the length of a loop is that of its first sequence
    fixed = [i for i in range(carries + sequences, len(inputs)) if body.inputs[i].key in needed]
    states = [i for i in outputs if i < carries]
    taken = [*states, *rows, *fixed]
    if len(taken) == len(inputs) and len(outputs) == len(body.outputs):
        return None
    lighter = Graph(tuple(body.inputs[i] for i in taken), tuple(body.outputs[i] for i in outputs))
    hidden = len([i for i in outputs if i >= len(body.outputs) - kept])
    parameters = {
        **node.parameters,
        "body": lighter,
        "carries": len(states),
        "sequences": len(rows),
        "kept": hidden,
    }
    results = apply(node.primitive, tuple(inputs[i] for i in taken), parameters)
    stands: dict[int, Tensor] = dict(zip(outputs, results, strict=True))
    return tuple(stands.get(i) for i in range(len(node.specs)))


def _live(body: Graph, carries: int, used: list[int]) -> tuple[list[int], set[Any]]:
    """(outputs to keep, keys that they read): those in use, and the states that feed them."""
    outputs = set(used)
    while True:
        kept = Graph(body.inputs, tuple(body.outputs[i] for i in sorted(outputs)))
        needed = {x.key for n in kept.nodes() for x in n.inputs} | {y.key for y in kept.outputs}
        states = {i for i in range(carries) if body.inputs[i].key in needed}
        if states <= outputs:
            return sorted(outputs), needed
        outputs |= states
