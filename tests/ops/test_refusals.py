"""Arguments that would silently mean something else are refused by name."""

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.errors import ArgumentError, ShapeError

P, T = np.full((4, 1), 0.5), np.ones((4, 1))


@pytest.mark.parametrize(
    "call, kind, words",
    [
        (lambda: ops.prelu(np.ones((2, 1)), np.ones(3)), ShapeError, r"prelu: weight must be \[1\] or one slope"),
        (lambda: ops.prelu(np.ones((2, 4)), np.ones(3)), ShapeError, "each of the 4 channels"),
        (lambda: ops.gelu(np.ones(3), approximate="exact"), ArgumentError, "'none' or 'tanh', got 'exact'"),
        (lambda: cr.huber(P, T, delta=-1.0), ArgumentError, "delta must be a finite number above 0, got -1.0"),
        (lambda: cr.binary_cross_entropy(P, T, weight=np.ones(4)), ShapeError, r"give it the shape \[4, 1\]"),
        (lambda: cr.binary_cross_entropy_with_logits(P, T, weight=np.ones(4)), ShapeError, r"the shape \[4, 1\]"),
        (lambda: cr.binary_cross_entropy_with_logits(P, np.ones(4), pos_weight=2.0), ShapeError, "reshape the target"),
    ],
)
def test_a_wrong_argument_is_named(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_weights_that_stretch_to_the_losses_are_taken():
    one = cr.binary_cross_entropy(P, T, weight=np.array([2.0]), reduction="none").numpy()
    assert np.allclose(one, 2 * np.log(2))
