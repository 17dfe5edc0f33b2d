"""From the traced step to its lines: forward and backward."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chainrule.graph import Node, Tensor, nodes_between, shown
from chainrule.see.derivation import expression
from chainrule.see.derivation.lines import Line
from chainrule.see.derivation.names import Names, free_nodes, named_values, reads_only_z
from chainrule.see.derivation.trace import TracedStep


@dataclass
class Built:
    """The lines of a step, and the value of the graph that each of them computes."""

    names: Names
    lines: list[Line] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Name of each line's value -> the value."""
    number_of: dict[Node, int] = field(default_factory=dict)
    """Forward node -> its line."""

    def add(self, line: Line, tensor: Tensor | None) -> int:
        """Append a line under the next number."""
        number = len(self.lines) + 1
        self.lines.append(replace(line, number=number, key=line.key or line.name))
        if tensor is not None:
            self.tensors[line.key or line.name] = tensor
        return number

    def read(self, x: Tensor) -> ast.expr:
        """A value in an expression: its name, or its number if it is a constant of one element."""
        if x.key in self.names.of:
            return expression.name(self.names.of[x.key])
        if x.array is not None and x.array.size == 1:
            return expression.number(_shortest(x.array.reshape(-1)[0]))
        self.names.give(x.key, "c")
        return expression.name(self.names.of[x.key])


def _shortest(value: Any) -> float:
    """The number with the fewest digits that its dtype tells from others: 0.1 where float32 holds 0.10000000149."""
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def built(step: TracedStep) -> Built:
    """Forward lines in the order of the computation, then backward lines from the loss to the first layer."""
    forward = nodes_between(step.inputs, [step.loss])
    free = free_nodes(forward, step.inputs)
    made = Built(named_values(step, forward, free))
    _forward(made, step, forward, free)
    _backward(made, step)
    return made


def _forward(made: Built, step: TracedStep, forward: Sequence[Node], free: set[Node]) -> None:
    for node in forward:
        if node in free:
            continue
        for x in node.inputs:
            if x.node in free and x.key not in made.names.of:
                _free_line(made, step, x)
        outputs = [i for i in range(len(node.specs)) if _is_read(node, i, forward, step)]
        name = ", ".join(made.names.of[(node, i)] for i in outputs)
        line = Line(
            0,
            "forward",
            name,
            expression.text(written(made, node)),
            shape=node.specs[outputs[0]].shape,
            source=shown(node.line),
            layer=node.scope,
            operation=node.primitive.name,
            key=made.names.of[(node, outputs[0])],
        )
        made.number_of[node] = made.add(line, node.output(outputs[0]))
        for i in outputs[1:]:
            made.tensors[made.names.of[(node, i)]] = node.output(i)


def _is_read(node: Node, i: int, forward: Sequence[Node], step: TracedStep) -> bool:
    if len(node.specs) == 1 or node is step.loss.node:
        return True
    return any(x.node is node and x.index == i for later in forward for x in later.inputs)


def _free_line(made: Built, step: TracedStep, x: Tensor) -> None:
    """One line for all the operations that make a value of constants and random numbers."""
    nodes = nodes_between([], [x])
    random = any(r.key in {step.inputs[2].key} for n in nodes for r in n.inputs)  # == would compare tensors
    made.names.give(x.key, "mask" if random else "c")
    rule = f"{len(nodes)} operations that read neither data nor weights: no gradient crosses them"
    text = "random(key)" if random else "constant()"
    last = nodes[-1]
    made.add(
        Line(0, "forward", made.names.of[x.key], text, rule, shape=x.shape, source=shown(last.line), layer=last.scope,
             operation=last.primitive.name),
        x,
    )  # fmt: skip


def written(made: Built, node: Node) -> ast.expr:
    """The forward pass of a node, as its declaration writes it."""
    inputs = [made.read(x) for x in node.inputs]
    if node.primitive.written:
        return expression.filled(node.primitive.written, _values(inputs), _words(node))
    plain = {k: v for k, v in node.parameters.items() if isinstance(v, (int, float, tuple, str)) and v != ()}
    keywords = [ast.keyword(k, expression.parsed(repr(v))) for k, v in plain.items()]
    return ast.Call(expression.name(node.primitive.name), inputs, keywords)


def _values(inputs: Sequence[ast.expr]) -> dict[str, ast.expr]:
    return {"inputs": ast.Tuple(list(inputs), ast.Load()), **{str(i): x for i, x in enumerate(inputs)}}


def _words(node: Node) -> dict[str, Any]:
    terms = node.primitive.terms
    more = {} if terms is None else terms(*(x.spec for x in node.inputs), **node.parameters)
    return {**node.parameters, **more}


# ------------------------------------------------------------------------------------------------ backward


@dataclass(frozen=True)
class _Part:
    """What one node sends back to one of its inputs."""

    node: Node
    input: int
    tree: ast.expr
    place: int
    """Of the node, in the order of the backward pass."""


def _backward(made: Built, step: TracedStep) -> None:
    sources = {x.key for x in step.sources.values()}
    pulled_nodes = {node for node, _, _ in step.pulled}
    totals = {(node, i): dy for node, dys, _ in step.pulled for i, dy in enumerate(dys) if dy is not None}
    totals |= {step.sources[n].key: g for n, g in step.gradients.items() if g is not None}
    parts: dict[Any, list[_Part]] = {}
    for place, (node, dys, dxs) in enumerate(step.pulled):
        for i, (x, dx) in enumerate(zip(node.inputs, dxs, strict=True)):
            if dx is not None and (x.key in sources or x.node in pulled_nodes):
                parts.setdefault(x.key, []).append(_Part(node, i, _sent_back(made, step, node, dys, i), place))
    layers = (k for k, (n, _, _) in enumerate(step.pulled) if _reads_state(step, n) and (n, 0) in made.names.data)
    first_layer = next(layers, len(step.pulled))
    for place, (node, _, _) in enumerate(step.pulled):
        complete = {x.key: x for x in node.inputs if x.key in parts and parts[x.key][-1].place == place}
        for key, x in sorted(complete.items(), key=lambda entry: entry[0] not in sources):  # parameters first
            made.add(_backward_line(made, x, parts[key], first_layer), totals[key])
    for name, reason in step.reasons.items():
        x = step.sources[name]
        made.add(Line(0, "backward", f"d[{made.names.of[x.key]}]", "0", reason, shape=x.shape), None)


def _reads_state(step: TracedStep, node: Node) -> bool:
    return any(x.key in step.state for x in node.inputs)


def _sent_back(made: Built, step: TracedStep, node: Node, dys: Sequence[Tensor | None], i: int) -> ast.expr:
    """The declared rule of a node for its input ``i``, with the names of this step."""
    rules = node.primitive.rule
    cotangents = [
        expression.ONE
        if node is step.loss.node and k == step.loss.index
        else expression.derivative(made.read(node.output(k)))
        for k, dy in enumerate(dys)
        if dy is not None
    ]
    values = _values([made.read(x) for x in node.inputs])
    values |= {"dy": cotangents[0], "dys": ast.Tuple(cotangents, ast.Load())}
    if (node, 0) in made.names.of:
        values["y"] = made.read(node.output(0))
    words = {**_words(node), "i": i}
    if not rules:
        return ast.Call(expression.name(f"{node.primitive.name}_pullback"), [*cotangents, ast.Constant(i)], [])
    return expression.filled(rules[min(i, len(rules) - 1)], values, words)


def _backward_line(made: Built, x: Tensor, parts: list[_Part], first_layer: int) -> Line:
    nodes = list(dict.fromkeys(part.node for part in parts))
    whys = list(dict.fromkeys(_why(part) for part in parts))
    rule = "; ".join(w for w in whys if w)
    if len(parts) > 1:
        rule = f"{len(parts)} paths add up" + (f": {rule}" if rule else "")
    equations = {_equation(made, part, first_layer) for part in parts if (part.node, 0) in made.names.data}
    name = made.names.of[x.key]
    return Line(
        0,
        "backward",
        f"d[{name}]",
        expression.text(expression.joined([part.tree for part in parts])),
        rule,
        tuple(sorted(made.number_of[n] for n in nodes if n in made.number_of)),
        equations.pop() if len(equations) == 1 else "",
        "; ".join(dict.fromkeys(n for n in map(_note, nodes) if n)),
        x.shape,
        shown(nodes[0].line),
        nodes[0].scope,
        nodes[0].primitive.name,
        tuple(made.names.of.get((part.node, 0), "") for part in parts),
    )


def _why(part: _Part) -> str:
    words = part.node.primitive.why
    return words[min(part.input, len(words) - 1)] if words else ""


def _note(node: Node) -> str:
    """Constants and kinks, as the operation declares them."""
    words = _words(node)
    counts = []
    if "n" in words and any("{n}" in rule for rule in node.primitive.rule):
        counts = [f"n = {words['n']}, {words['counted']}" if "counted" in words else f"n = {words['n']}"]
    kink = node.primitive.convention.rstrip(".")
    return "; ".join([*counts, *([f"at kinks and ties: {kink}"] if kink else [])])


def _equation(made: Built, part: _Part, first_layer: int) -> str:
    """Nielsen's number: BP1 up to the output layer's error, then as declared, and BP2 for an activation function."""
    if part.place < first_layer:
        return "BP1" if part.node.inputs[part.input].key in made.names.data else ""
    declared = part.node.primitive.equations
    if declared:
        return declared[min(part.input, len(declared) - 1)]
    return "BP2" if part.node.primitive.elementwise and reads_only_z(made.names.of, part.node) else ""
