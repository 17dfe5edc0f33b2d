"""The layer trace: what one step saw at each layer, as plain arrays; all that `see` and the doctor need to know."""

from dataclasses import dataclass

import numpy as np

from chainrule.errors import ShapeError


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer with weights in one step on n rows: z = a W^T + b, followed by the activation function.

    The gradient of the mean loss is the product the whole package is about: dL/dW[j, i] = mean over rows of
    ``delta[:, j] * a[:, i]``, and dL/db[j] = mean over rows of ``delta[:, j]``.

    Where a weight is used at p positions or time steps a row, they stand in a second axis: a [n, p, in], z and delta
    [n, p, out], and the gradient sums over them.
    """

    name: str
    """Name of the layer in `state_dict`, without the parameter: "0" for "0.weight"."""
    kind: str
    """Class of the layer: "Linear"."""
    a: np.ndarray
    """Activation that comes in. [n, in]"""
    z: np.ndarray
    """Pre-activation. [n, out]"""
    delta: np.ndarray
    """Error: n times the cotangent at z, so that it is the row's own derivative of a mean loss. [n, out]"""
    weight: np.ndarray
    """Before the update. [out, in]"""
    bias: np.ndarray | None = None
    """Before the update. [out]"""
    activation: str | None = None
    """Name of the function that follows: "relu"; None where nothing follows."""
    local_derivative: np.ndarray | None = None
    """Derivative of that function at z, where it acts on each element alone. [n, out]"""

    def __post_init__(self) -> None:
        found = f"a {list(self.a.shape)}, z {list(self.z.shape)}, delta {list(self.delta.shape)}"
        if not self.a.ndim or not self.z.ndim or self.a.shape[0] != self.z.shape[0] or self.z.shape != self.delta.shape:
            raise ShapeError(
                f"LayerTrace {self.name!r}: a and z need the same rows, and z and delta the same shape; found {found}"
            )


@dataclass(frozen=True, eq=False)
class NetworkTrace:
    """One step of a network: its layers from the input on.

    loss: mean over the rows. rows: how many; the n by which delta was multiplied. step: updates made before it.
    """

    layers: tuple[LayerTrace, ...]
    loss: float
    rows: int
    step: int = 0
