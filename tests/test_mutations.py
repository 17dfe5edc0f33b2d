"""Proof that the derivative tests can fail: wrong rules are planted in every pullback, and each is caught."""

import copy

import numpy as np
import pytest

import chainrule.ops  # noqa: F401  declares the primitives
from chainrule.errors import ChainruleError
from chainrule.graph import PRIMITIVES, Draw, Graph, apply
from chainrule.ops import broadcast_to, getitem, reshape
from derivatives import Applied, rule_jacobians, wrong_entries

SEEDS = range(30)
DIFFERENTIABLE = sorted(name for name, p in PRIMITIVES.items() if p.draw is not None)
SMALL_FACTOR = 1 + 1e-5


def with_rule(primitive, pullback):
    """A copy of a primitive, outside the table, with another pullback."""
    mutant = copy.copy(primitive)
    object.__setattr__(mutant, "pullback", pullback)
    return mutant


def changed_cotangent(primitive, k, change):
    """The rule with what it gives for input k changed."""

    def pullback(dy, y, *inputs, **parameters):
        pulled = list(primitive.pullback(dy, y, *inputs, **parameters))
        if k < len(pulled) and pulled[k] is not None:
            pulled[k] = change(pulled[k])
        return tuple(pulled)

    return with_rule(primitive, pullback)


def changed_node(primitive, names, which, change):
    """The rule with the ``which``-th node of these names replaced by ``change(node, its inputs)``."""

    def pullback(dy, y, *inputs, **parameters):
        pulled = primitive.pullback(dy, y, *inputs, **parameters)
        given = [x for group in (dy, y, inputs) for x in (group if isinstance(group, tuple) else (group,))]
        sources = tuple(x for x in given if x is not None)
        found = tuple(x for x in pulled if x is not None)
        rebuilt = iter(replaced(Graph(sources, found), names, which, change))
        return tuple(None if x is None else next(rebuilt) for x in pulled)

    return with_rule(primitive, pullback)


def replaced(graph, names, which, change):
    stands, seen = {x.key: x for x in graph.inputs}, 0
    for node in graph.nodes():
        inputs = tuple(stands.get(x.key, x) for x in node.inputs)
        chosen = node.primitive.name in names and seen == which
        seen += node.primitive.name in names
        result = change(node, inputs) if chosen else apply(node.primitive, inputs, node.parameters)
        results = result if node.primitive.several else (result,)
        stands.update({(node, i): y for i, y in enumerate(results)})
    return [stands.get(y.key, y) for y in graph.outputs]


def count_nodes(primitive, names):
    """The most nodes of these names that the rule has at any generated point."""
    most = 0

    def pullback(dy, y, *inputs, **parameters):
        nonlocal most
        pulled = primitive.pullback(dy, y, *inputs, **parameters)
        given = [x for group in (dy, y, inputs) for x in (group if isinstance(group, tuple) else (group,))]
        graph = Graph(tuple(x for x in given if x is not None), tuple(x for x in pulled if x is not None))
        most = max(most, sum(node.primitive.name in names for node in graph.nodes()))
        return pulled

    for seed in SEEDS:
        Applied(with_rule(primitive, pullback), seed).backward_graph()
    return most


def swapped_inputs(primitive, i, j):
    """The rule that takes input i for input j wherever both have one spec."""

    def pullback(dy, y, *inputs, **parameters):
        view = list(inputs)
        if j < len(view) and view[i].spec == view[j].spec:
            view[i], view[j] = view[j], view[i]
        return primitive.pullback(dy, y, *view, **parameters)

    return with_rule(primitive, pullback)


def swapped_cotangents(primitive, i, j):
    """The rule that gives input i the cotangent of input j wherever both have one spec."""

    def pullback(dy, y, *inputs, **parameters):
        pulled = list(primitive.pullback(dy, y, *inputs, **parameters))
        if j < len(inputs) and inputs[i].spec == inputs[j].spec:
            pulled[i], pulled[j] = pulled[j], pulled[i]
        return tuple(pulled)

    return with_rule(primitive, pullback)


def one_term(kept):
    """A sum or difference of which only one side is left."""

    def change(node, inputs):
        term = inputs[kept] if node.primitive.name == "add" or kept == 0 else -inputs[kept]
        return broadcast_to(term, node.specs[0].shape)

    return change


def one_slice(node, inputs):
    """What a sum gives if it takes the first entry along its axes instead of adding them up."""
    axes = node.parameters["axes"]
    index = tuple(slice(0, 1) if a in axes else slice(None) for a in range(inputs[0].ndim))
    if any(inputs[0].shape[a] == 0 for a in axes):
        return apply(node.primitive, inputs, node.parameters)
    return reshape(getitem(inputs[0], index), node.specs[0].shape)


def not_summed(node, inputs):
    """What a sum gives if it is forgotten."""
    return inputs[0]


def mutants(primitive):
    """(description, mutant) for every way in which this rule can be planted wrong."""
    inputs = range(max(len(primitive.draw(Draw(seed))[0]) for seed in SEEDS))
    for k in inputs:
        yield f"sign of input {k}", changed_cotangent(primitive, k, lambda dx: -dx)
        yield f"factor of input {k}", changed_cotangent(primitive, k, lambda dx: dx * SMALL_FACTOR)
        yield f"no cotangent of input {k}", changed_cotangent(primitive, k, lambda dx: dx * 0.0)
    for which in range(count_nodes(primitive, {"add", "subtract"})):
        for kept in (0, 1):
            changed = changed_node(primitive, {"add", "subtract"}, which, one_term(kept))
            yield f"only side {kept} of sum or difference {which}", changed
    for which in range(count_nodes(primitive, {"sum"})):
        yield f"one slice for sum {which}", changed_node(primitive, {"sum"}, which, one_slice)
        yield f"sum {which} forgotten", changed_node(primitive, {"sum"}, which, not_summed)
    for j in inputs:
        for i in range(j):
            yield f"inputs {i} and {j} swapped", swapped_inputs(primitive, i, j)
            yield f"cotangents of inputs {i} and {j} swapped", swapped_cotangents(primitive, i, j)


def caught(mutant):
    """Whether the harness of test_primitives.py, as it is, refuses the rule at one of its points."""
    try:
        return any(wrong_entries(mutant, seed) for seed in SEEDS)
    except ChainruleError:  # a cotangent of a wrong shape never becomes a number
        return True


def equivalent(primitive, mutant):
    """Whether the planted rule is the right one: the same Jacobian, but for rounding, at every generated point."""
    for seed in SEEDS:
        pairs = zip(rule_jacobians(Applied(primitive, seed)), rule_jacobians(Applied(mutant, seed)), strict=True)
        if not all(np.allclose(a, b, rtol=1e-12, atol=1e-12 * np.abs(a).max(initial=0)) for a, b in pairs):
            return False
    return True


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_every_wrong_rule_planted_in_a_pullback_is_caught(name, record_property):
    primitive = PRIMITIVES[name]
    planted = same = 0
    missed = []
    for what, mutant in mutants(primitive):
        if caught(mutant):
            planted += 1
        elif equivalent(primitive, mutant):
            same += 1
        else:
            missed.append(what)
    print(f"{name}: {planted + len(missed)} planted, {planted} caught, {same} the same rule")
    record_property("planted", planted + len(missed))
    record_property("caught", planted)
    assert not missed, f"{name}: not caught: {missed}"
    assert planted >= 2, f"{name}: only {planted} wrong rules could be planted"


def test_wrong_rules_are_planted_by_the_hundred():
    assert sum(1 for name in DIFFERENTIABLE for _ in mutants(PRIMITIVES[name])) >= 450


def test_the_right_rules_are_not_caught():
    assert not [name for name in DIFFERENTIABLE if caught(with_rule(PRIMITIVES[name], PRIMITIVES[name].pullback))]
