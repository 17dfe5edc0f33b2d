"""L1 and L2 penalties: what large weights add to the loss."""

from __future__ import annotations

from collections.abc import Mapping

from chainrule.graph import Tensor
from chainrule.ops import abs, sum
from chainrule.optim.arguments import Number, check


def penalty(parameters: Mapping[str, Tensor], l1: float = 0.0, l2: float = 0.0) -> Tensor | None:
    """l1 Σ |w| + l2 Σ w² over the weights, 0-d; None if both are 0 or there is no weight.

    parameters: tensors by name. Weights are those with two axes or more: biases and the scales and shifts of
                normalising layers have one and are left out, as shrinking them limits nothing that should be limited.
    l1, l2:     finite and at least 0; ArgumentError otherwise. The sums have no factor 1/2 and no mean, so the
                gradients are l1 sign(w) (0 at w = 0) and 2 l2 w: with SGD, ``weight_decay=2 * l2`` moves those weights
                alike (it decays biases too). With Adam it does not, as Adam divides by the size of the gradient.

    >>> from chainrule.graph import tensor
    >>> penalty({"0.weight": tensor([[1.0, -2.0]]), "0.bias": tensor([5.0])}, l1=0.5, l2=0.25)
    tensor(2.75)
    """
    at_least_0 = Number(at_least=0)
    l1, l2 = (check("penalty", name, at_least_0, value) for name, value in (("l1", l1), ("l2", l2)))
    weights = [w for w in parameters.values() if w.ndim >= 2]
    terms = [l1 * sum(abs(w)) for w in weights if l1] + [l2 * sum(w * w) for w in weights if l2]
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
