"""Every primitive, from its declaration alone: derivatives, shapes, layouts. Nothing here knows an operation's name."""

import numpy as np
import pytest

import chainrule.ops  # noqa: F401  declares the primitives
from chainrule.graph import NUMPY, PRIMITIVES, Draw, Graph, apply, constant, evaluator, placeholder, vjp
from chainrule.ops import as_tensor, expansion
from chainrule.spec import FLOAT32, FLOAT64, TensorSpec
from derivatives import Applied, wrong_entries, wrong_second_entries

SEEDS = range(30)
DIFFERENTIABLE = sorted(name for name, p in PRIMITIVES.items() if p.draw is not None)
CUT = sorted(name for name, p in PRIMITIVES.items() if p.elementwise and p.draw is None)
"""Operations on elements that no gradient crosses."""

each = pytest.mark.parametrize("name", DIFFERENTIABLE)


def point(name, seed):
    """(arrays, parameters, draw) of a primitive at a generated point."""
    draw = Draw(seed)
    arrays, parameters = PRIMITIVES[name].draw(draw)
    return [np.asarray(a) for a in arrays], parameters, draw


def evaluated(primitive, arrays, parameters, xp=NUMPY):
    """Outputs of the reference as a tuple."""
    with np.errstate(all="ignore"):
        result = primitive.evaluate(xp, *arrays, **parameters)
    return result if primitive.several else (result,)


def inferred(primitive, arrays, parameters):
    """What the shape rule says, as a tuple of (shape, dtype)."""
    specs = primitive.shape(*(TensorSpec(a.shape, a.dtype) for a in arrays), **parameters)
    return [(s.shape, s.dtype) for s in (specs if primitive.several else (specs,))]


def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def narrowed(array):
    return array.astype(FLOAT32) if array.dtype.kind == "f" else array


def narrow_parameters(parameters):
    """A dtype among the parameters belongs to the point drawn, so it narrows with the arrays."""
    return {k: FLOAT32 if isinstance(v, np.dtype) and v == FLOAT64 else v for k, v in parameters.items()}


def test_there_are_primitives_to_test():
    assert len(DIFFERENTIABLE) >= 60
    assert len(CUT) >= 12


@each
def test_the_pullback_gives_the_jacobian_that_numbers_give(name):
    for seed in SEEDS:
        assert not (found := wrong_entries(PRIMITIVES[name], seed)), f"seed {seed}: {found}"


@each
def test_the_pullback_has_the_derivative_that_numbers_give(name):
    for seed in SEEDS:
        assert not (found := wrong_second_entries(PRIMITIVES[name], seed)), f"seed {seed}: {found}"


@each
def test_jvp_and_vjp_are_adjoint(name):
    """<Jv, u> = <v, Jᵀu>, where Jv is the pullback of the pullback."""
    for seed in SEEDS:
        applied = Applied(PRIMITIVES[name], seed)
        graph, outputs = applied.backward_graph()
        cotangents = graph.inputs[len(applied.arrays) :]
        reached = [i for i in range(len(applied.floating)) if i not in applied.unreached]
        pulled = [graph.outputs[i] for i in reached]
        tangents = [placeholder(g.spec) for g in pulled]
        pushed = vjp(pulled, tangents, list(cotangents))
        random = np.random.default_rng(seed)
        us = [random.uniform(-1, 1, y.shape) for y in outputs]
        vs = [random.uniform(-1, 1, g.shape) for g in pulled]
        known = [k for k, t in enumerate(pushed) if t is not None]
        run = evaluator(Graph((*graph.inputs, *tangents), (*pulled, *(pushed[k] for k in known))))
        results = run(*applied.arrays, *us, *vs)
        back = [v * g for v, g in zip(vs, results[: len(vs)], strict=True)]
        forward = [us[k] * t for k, t in zip(known, results[len(vs) :], strict=True)]
        terms = sum(float(np.abs(t).sum()) for t in (*back, *forward))
        apart = sum(float(t.sum()) for t in forward) - sum(float(t.sum()) for t in back)
        assert abs(apart) <= 1e-12 * max(terms, 1.0), f"seed {seed}: {apart} of {terms}"


@each
def test_the_shape_rule_says_what_evaluate_gives_in_both_float_widths(name):
    primitive = PRIMITIVES[name]
    for seed in SEEDS:
        arrays, parameters, _ = point(name, seed)
        if any(isinstance(v, Graph) for v in parameters.values()):  # a body was traced for its own dtypes
            found = [(np.shape(y), y.dtype) for y in evaluated(primitive, arrays, parameters)]
            assert found == inferred(primitive, arrays, parameters), f"seed {seed}"
            continue
        for inputs, given in ((arrays, parameters), ([narrowed(a) for a in arrays], narrow_parameters(parameters))):
            found = [(np.shape(y), y.dtype) for y in evaluated(primitive, inputs, given)]
            assert found == inferred(primitive, inputs, given), f"seed {seed}: {[a.dtype for a in inputs]}"


@each
def test_eager_equals_traced_to_the_bit_and_twice_gives_the_same(name):
    primitive = PRIMITIVES[name]
    for seed in SEEDS:
        arrays, parameters, _ = point(name, seed)
        inputs = tuple(placeholder(TensorSpec(a.shape, a.dtype)) for a in arrays)
        traced = apply(primitive, inputs, parameters)
        run = evaluator(Graph(inputs, tuple(traced) if primitive.several else (traced,)))
        once, twice = run(*arrays), run(*arrays)
        eager = apply(primitive, tuple(map(as_tensor, arrays)), parameters)
        eager = eager if primitive.several else (eager,)
        for a, b, y in zip(once, twice, eager, strict=True):
            assert same_bits(a, b)
            assert same_bits(a, y.numpy()), f"seed {seed}"


@each
def test_memory_layout_changes_no_result_and_inputs_are_never_written(name):
    primitive = PRIMITIVES[name]
    for seed in SEEDS:
        arrays, parameters, _ = point(name, seed)
        packed = [np.array(a, order="C") for a in arrays]
        spread = [spread_out(a) for a in arrays]
        for a in (*spread, *arrays):
            a.flags.writeable = False
        want = evaluated(primitive, packed, parameters)
        for y, other in zip(want, evaluated(primitive, spread, parameters), strict=True):
            # Not to the bit: NumPy's exp and matmul use other instructions where memory has gaps.
            assert y.dtype == other.dtype and y.shape == other.shape
            assert np.allclose(y, other, rtol=4e-16, atol=4e-16 * np.abs(y).max(initial=0), equal_nan=True), seed
        wrt, pulled = Applied(primitive, seed), None
        graph, outputs = wrt.backward_graph()
        ones = [np.ones(y.shape) for y in outputs]
        for a in ones:
            a.flags.writeable = False
        pulled = evaluator(graph)(*spread, *ones)
        assert len(pulled) == len(wrt.floating)


def spread_out(array):
    """The same values with gaps between them, and the last axis backwards."""
    if array.ndim == 0:
        return array.copy()
    wide = np.zeros((*array.shape[:-1], 3 * array.shape[-1]), array.dtype)
    view = wide[..., ::-3]
    view[...] = array
    return view


@each
def test_the_expansion_gives_what_the_reference_gives(name):
    primitive = PRIMITIVES[name]
    for seed in list(SEEDS)[:10]:
        arrays, parameters, _ = point(name, seed)
        want = evaluated(primitive, arrays, parameters)
        inputs = tuple(placeholder(TensorSpec(a.shape, a.dtype)) for a in arrays)
        found = evaluator(Graph(inputs, expansion(primitive, inputs, parameters)))(*arrays)
        for y, other in zip(want, found, strict=True):
            assert np.shape(y) == np.shape(other) and np.asarray(y).dtype == np.asarray(other).dtype
            assert np.allclose(y, other, rtol=1e-12, atol=1e-12 * max(1.0, np.abs(y).max(initial=0)), equal_nan=True)


@each
def test_the_generated_points_cover_what_they_should(name):
    """Empty, one, primes, other layouts and every scale where the declaration's domain and rank allow them."""
    drawn = [point(name, seed) for seed in SEEDS]
    arrays = [a for inputs, _, _ in drawn for a in inputs]
    floats = [a for a in arrays if a.dtype.kind == "f"]
    shapes = [a.shape for a in arrays]
    ranks = {len(s) for s in shapes}
    assert len(ranks) > 1 or 2 in ranks
    assert any(a.size == 1 for a in arrays)
    assert any(n in (2, 3, 5) for s in shapes for n in s)
    assert any(n in (3, 5) for s in shapes for n in s)
    assert any(not a.flags.c_contiguous for a in floats if a.size > 1)
    assert {draw.scale for _, _, draw in drawn} == {1e-3, 1.0, 30.0, 1e3}


def test_the_generated_points_cover_empty_and_scalar_and_broadcast_operands():
    empty = {n for n in DIFFERENTIABLE for s in SEEDS if any(a.size == 0 for a in point(n, s)[0])}
    scalar = {n for n in DIFFERENTIABLE for s in SEEDS if any(a.ndim == 0 for a in point(n, s)[0])}
    stretched = {
        n
        for n in DIFFERENTIABLE
        for s in SEEDS
        if PRIMITIVES[n].elementwise and len({a.shape for a in point(n, s)[0]}) > 1
    }
    elementwise = {n for n in DIFFERENTIABLE if PRIMITIVES[n].elementwise}
    several_inputs = {n for n in elementwise if len(point(n, 1)[0]) > 1}
    assert elementwise <= empty
    assert elementwise <= scalar
    assert several_inputs == stretched
    # Statistics over no elements are undefined, so those operations draw no empty points: the rest must.
    assert len(empty) >= 0.75 * len(DIFFERENTIABLE), sorted(set(DIFFERENTIABLE) - empty)


def test_unbounded_domains_are_drawn_from_a_thousandth_to_a_thousand():
    values = [np.abs(a) for s in SEEDS for a in point("add", s)[0] if a.size]
    assert min(float(v.max()) for v in values) <= 1e-3
    assert max(float(v.max()) for v in values) >= 500


@pytest.mark.parametrize("name", CUT)
def test_an_operation_that_no_gradient_crosses_equals_numpy_and_pulls_nothing_back(name):
    primitive = PRIMITIVES[name]
    random = np.random.default_rng(7)
    plain = getattr(np, name)
    for shape, other in (((), ()), ((0, 3), (1, 3)), ((1,), (5,)), ((2, 3), (3,)), ((5, 1), (1, 2))):
        a = np.round(random.uniform(-3, 3, shape) * 2) / 2
        b = np.round(random.uniform(1, 3, other) * 2) / 2
        arrays = (a, b)[: plain.nin] if isinstance(plain, np.ufunc) else (a,)
        tensors = tuple(map(constant, arrays))
        assert same_bits(primitive(*tensors).numpy(), plain(*arrays))
        pulled = primitive.pullback(constant(1.0), primitive(*tensors), *tensors)
        assert pulled == (None,) * len(arrays)


def test_every_primitive_says_what_it_computes():
    for primitive in PRIMITIVES.values():
        assert primitive.formula, primitive.name
        assert primitive.why == () or all(isinstance(phrase, str) for phrase in primitive.why)
