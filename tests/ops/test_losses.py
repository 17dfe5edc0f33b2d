"""Every loss against PyTorch in float64: values and first derivatives over its options, edges and errors."""

import numpy as np
import pytest

from chainrule import ops
from chainrule.autodiff import value_and_grad
from chainrule.errors import ArgumentError, DataError, DTypeError, ShapeError
from chainrule.graph import evaluate, trace
from chainrule.spec import FLOAT64, INT64, TensorSpec
from peers import peer

RANDOM = np.random.default_rng(11)
REDUCTIONS = ("mean", "sum", "none")
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def same_as_torch(ours, theirs, *arrays, rtol=1e-12):
    """Value and derivatives by every floating array, where both are weighted into a scalar the same way."""
    torch = peer("torch")
    numbers = tuple(i for i, a in enumerate(arrays) if a.dtype.kind == "f")
    shape = ours(*map(ops.as_tensor, arrays)).shape
    weights = 1.0 + np.arange(float(np.prod(shape))).reshape(shape)
    value, found = value_and_grad(lambda *xs: (ours(*xs) * weights).sum(), numbers)(*arrays)
    tensors = [torch.tensor(a).requires_grad_(a.dtype.kind == "f") for a in arrays]
    y = (theirs(*tensors) * torch.as_tensor(weights)).sum()
    y.backward()
    assert np.isclose(value.item(), y.item(), rtol=rtol, atol=1e-14)
    for g, i in zip(found, numbers, strict=True):
        wanted = tensors[i].grad.numpy()
        assert np.abs(g.numpy() - wanted).max(initial=0) <= rtol * max(np.abs(wanted).max(initial=0), 1e-3), i


@each_reduction
@pytest.mark.parametrize("shape", [(5,), (4, 3), (2, 3, 4), (1, 1)])
def test_mse_mae_and_huber_are_those_of_torch(reduction, shape):
    f = peer("torch").nn.functional
    p, t = RANDOM.normal(size=shape), RANDOM.normal(size=shape)
    p.flat[0] = t.flat[0]  # the kink of mae
    same_as_torch(lambda p, t: ops.mse(p, t, reduction), lambda p, t: f.mse_loss(p, t, reduction=reduction), p, t)
    same_as_torch(lambda p, t: ops.mae(p, t, reduction), lambda p, t: f.l1_loss(p, t, reduction=reduction), p, t)
    for delta in (1.0, 0.3):
        p.flat[-1] = t.flat[-1] + delta  # the joint of huber
        same_as_torch(
            lambda p, t: ops.huber(p, t, reduction, delta=delta),  # noqa: B023
            lambda p, t: f.huber_loss(p, t, reduction=reduction, delta=delta),  # noqa: B023
            p,
            t,
        )


def test_mae_has_slope_zero_at_its_kink():
    _, slope = value_and_grad(lambda p: ops.mae(p, np.zeros(2), "sum"))(np.array([0.0, -2.0]))
    assert slope.tolist() == [0, -1]


@each_reduction
def test_binary_cross_entropy_is_that_of_torch(reduction):
    f = peer("torch").nn.functional
    p, t = RANDOM.uniform(0.01, 0.99, (4, 3)), RANDOM.uniform(0, 1, (4, 3))
    weight = RANDOM.uniform(0.5, 2, (4, 3))
    same_as_torch(
        lambda p, t: ops.binary_cross_entropy(p, t, reduction=reduction),
        lambda p, t: f.binary_cross_entropy(p, t, reduction=reduction),
        p,
        t,
    )
    torch = peer("torch")
    same_as_torch(
        lambda p: ops.binary_cross_entropy(p, t, weight, reduction),
        lambda p: f.binary_cross_entropy(p, torch.tensor(t), torch.from_numpy(weight), reduction=reduction),
        p,
    )


def test_binary_cross_entropy_at_certain_predictions_is_that_of_torch():
    torch = peer("torch")
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-20]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    same_as_torch(
        lambda p: ops.binary_cross_entropy(p, t, reduction="none"),
        lambda p: torch.nn.functional.binary_cross_entropy(p, torch.tensor(t), reduction="none"),
        p,
        rtol=1e-8,  # torch keeps the 1e-12 below the fraction as a float32
    )
    assert ops.binary_cross_entropy(p, t, reduction="none").numpy().max() == 100


@each_reduction
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_binary_cross_entropy_with_logits_is_that_of_torch(reduction, scale):
    torch = peer("torch")
    f = torch.nn.functional.binary_cross_entropy_with_logits
    z, t = RANDOM.normal(size=(4, 3)) * scale, RANDOM.uniform(0, 1, (4, 3))
    weight, positive = RANDOM.uniform(0.5, 2, (4, 3)), np.array([0.5, 2.0, 3.0])
    tw, tp = torch.from_numpy(weight), torch.from_numpy(positive)
    ours = ops.binary_cross_entropy_with_logits
    same_as_torch(lambda z, t: ours(z, t, reduction=reduction), lambda z, t: f(z, t, reduction=reduction), z, t)
    same_as_torch(lambda z: ours(z, t, weight, reduction), lambda z: f(z, torch.tensor(t), tw, reduction=reduction), z)
    same_as_torch(
        lambda z: ours(z, t, weight, reduction, pos_weight=positive),
        lambda z: f(z, torch.tensor(t), tw, pos_weight=tp, reduction=reduction),
        z,
    )


CLASSES = 4
WEIGHT = np.array([0.5, 1.0, 2.0, 0.25])


@each_reduction
@pytest.mark.parametrize("shape", [(CLASSES,), (5, CLASSES), (3, CLASSES, 2), (2, CLASSES, 2, 3)])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["plain", "weighted"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("kind", ["indices", "ignored", "probabilities"])
def test_cross_entropy_is_that_of_torch(reduction, shape, weight, smoothing, kind):
    torch = peer("torch")
    z = RANDOM.normal(size=shape)
    rest = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    options = {"reduction": reduction, "label_smoothing": smoothing}
    theirs = {**options, "weight": None if weight is None else torch.from_numpy(weight)}
    if kind == "probabilities":
        t = RANDOM.dirichlet(np.ones(CLASSES), rest)
        t = np.moveaxis(t, -1, 1).copy() if len(shape) > 1 else t
    else:
        t = np.asarray(RANDOM.integers(0, CLASSES, rest))
        if kind == "ignored" and t.ndim:
            t.flat[0], options["ignore_index"], theirs["ignore_index"] = 1, 1, 1
            t.flat[1] = 2
    same_as_torch(
        lambda z: ops.cross_entropy(z, t, weight, **options),
        lambda z: torch.nn.functional.cross_entropy(z, torch.tensor(t), **theirs),
        z,
    )


def test_cross_entropy_ignores_minus_a_hundred_as_torch():
    torch = peer("torch")
    z, t = RANDOM.normal(size=(4, 3)), np.array([0, -100, 2, -100])
    same_as_torch(lambda z: ops.cross_entropy(z, t), lambda z: torch.nn.functional.cross_entropy(z, torch.tensor(t)), z)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_cross_entropy_of_extreme_logits_is_finite_and_that_of_torch(scale):
    torch = peer("torch")
    z, t = RANDOM.normal(size=(6, 3)) * scale, np.array([0, 1, 2, 0, 1, 2])
    same_as_torch(lambda z: ops.cross_entropy(z, t), lambda z: torch.nn.functional.cross_entropy(z, torch.tensor(t)), z)


def test_derivatives_by_the_target_probabilities_are_those_of_torch():
    torch = peer("torch")
    z, t = RANDOM.normal(size=(3, 4)), RANDOM.dirichlet(np.ones(4), 3)
    same_as_torch(ops.cross_entropy, torch.nn.functional.cross_entropy, z, t)


def test_a_traced_cross_entropy_refuses_labels_outside_the_classes_when_it_runs():
    graph = trace(ops.cross_entropy, TensorSpec((3, 4), FLOAT64), TensorSpec((3,), INT64)).graph
    assert np.isclose(evaluate(graph, np.zeros((3, 4)), np.array([0, 1, 3]))[0], np.log(4))
    for wrong in (-1, 4, -100):
        with pytest.raises(DataError, match=f"label {wrong} at row 2 is outside the 4 classes"):
            evaluate(graph, np.zeros((3, 4)), np.array([0, 1, wrong]))


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_a_target_that_would_broadcast_is_refused_with_the_shape_to_take(name):
    loss = ops.LOSSES[name]
    with pytest.raises(ShapeError, match=rf"{name}: the prediction is float64\[3, 1\].*reshape the target to \[3, 1\]"):
        loss(np.full((3, 1), 0.5), np.full(3, 0.5))
    with pytest.raises(ArgumentError, match="reduction must be one of mean, sum, none, got 'average'"):
        loss(np.full(3, 0.5), np.full(3, 0.5), reduction="average")
    with pytest.raises(ShapeError, match="the mean over no elements is undefined"):
        loss(np.zeros(0), np.zeros(0))


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros((2, 3)), np.array([0, 3])), {}, DataError, r"label 3 at row 1 is outside the 3 classes \(0 to 2\)"),
        ((np.zeros((2, 3)), np.array([-1, -2])), {}, DataError, "label -1 at row 0.*2 of 2 are"),
        ((np.zeros((2, 3)), np.array([0.0, 1.0])), {}, DTypeError, "class indices must be integers"),
        ((np.zeros((2, 3)), np.array([0, 1, 2])), {}, ShapeError, r"class indices \[2\] or probabilities \[2, 3\]"),
        ((np.zeros((2, 3)), np.array([0, 1]), np.ones(2)), {}, ShapeError, "one entry for each of the 3 classes"),
        ((np.zeros((2, 3)), np.array([0, 1])), {"label_smoothing": 1.5}, ArgumentError, "between 0 and 1, got 1.5"),
        ((np.zeros((2, 3)), np.array([0, 1])), {"reduction": "x"}, ArgumentError, "reduction must be one of"),
        ((np.float64(0), np.array(0)), {}, ShapeError, "needs an axis of classes"),
        ((np.zeros((0, 3)), np.zeros(0, int)), {}, ShapeError, "the mean over no rows is undefined"),
    ],
)
def test_a_cross_entropy_that_cannot_be_meant_is_refused(arguments, options, error, message):
    with pytest.raises(error, match=message):
        ops.cross_entropy(*arguments, **options)


def test_predictions_that_are_no_probabilities_are_refused():
    with pytest.raises(DataError, match=r"must be probabilities, got values from -1 to 2.*with_logits"):
        ops.binary_cross_entropy(np.array([-1.0, 2.0]), np.ones(2))
