"""The layer trace: what one step saw at each layer, as plain arrays; all that `see` and the doctor need to know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from chainrule.errors import ShapeError

FORMS = ("linear", "matmul", "lookup", "scale", "none")
"""How a weight meets what comes in; see ``LayerTrace.form``."""


class Use(NamedTuple):
    """One number of a network in one place: what multiplies it and the error there, for each row and use. [n, p]"""

    activation: np.ndarray
    error: np.ndarray


@dataclass(frozen=True, eq=False)
class LayerTrace:
    """One layer with weights in one step on n rows: z = a W^T + b, followed by the activation function.

    The gradient of the mean loss is the product the whole package is about: dL/dW[j, i] = mean over rows of
    ``delta[:, j] * a[:, i]``, and dL/db[j] = mean over rows of ``delta[:, j]``.

    Where a weight is used at p positions or time steps a row, they stand in axes of their own behind the first: a
    [n, p, in], z and delta [n, p, out], and the gradient sums over them. A weight that is used in several places has a
    trace for each, with the same ``weight_name``; its gradient is the sum of theirs.
    """

    name: str
    """Name of the layer in `state_dict`, without the parameter: "0" for "0.weight"."""
    kind: str
    """Class of the layer: "Linear"; for operations on a parameter outside a layer the operation."""
    a: np.ndarray
    """Activation that comes in. [n, *uses, in]; for a convolution its windows (`patches_of`)"""
    z: np.ndarray
    """Pre-activation. [n, *uses, out]"""
    delta: np.ndarray
    """Error: n times the cotangent at z, so that it is the row's own derivative of a mean loss. [n, *uses, out]"""
    weight: np.ndarray | None
    """Before the update. [out, in]; None for a layer with nothing but a bias"""
    bias: np.ndarray | None = None
    """Before the update. [out]"""
    activation: str | None = None
    """Name of the function that follows: "relu"; None where nothing follows."""
    local_derivative: np.ndarray | None = None
    """Derivative of that function at z, where it acts on each element alone. [n, *uses, out]"""
    form: str = "linear"
    """How the weight meets ``a``:

    "linear"  z[j] = Σ W[j, ...] a[...]      weight [out, *in], a [n, *uses, *in]; convolutions too
    "matmul"  z[j] = Σ a[i] W[i, j]          weight [in, out]
    "lookup"  z = W[a]                       a: whole numbers [n, *uses], the rows that are read; a one-hot activation
    "scale"   z[j] = a[j] W[j]               weight of a's last axes
    "none"    otherwise: no activation x error; ``by_row`` gives each row's part
    """
    weight_name: str = ""
    """In `state_dict`; by default ``name`` + ".weight". A shared one has the name of its first place."""
    bias_name: str = ""
    gradient: np.ndarray | None = None
    """dL/dW as the step used it, of all uses of the weight together; None: it is the product's."""
    bias_gradient: np.ndarray | None = None
    output: np.ndarray | None = None
    """What the activation function gave. [n, *uses, out]"""
    output_delta: np.ndarray | None = None
    """n times the cotangent at ``output``."""
    uses: str = ""
    """What the axes between rows and features are: "position", "time step"."""
    groups: int = 1
    """Parts into which a convolution's channels are cut."""
    by_row: Callable[[str, tuple[int, ...]], np.ndarray] | None = None
    """For the form "none": (name, index) -> what each row adds to that derivative. [n]"""

    def __post_init__(self) -> None:
        found = f"a {list(self.a.shape)}, z {list(self.z.shape)}, delta {list(self.delta.shape)}"
        if not self.a.ndim or not self.z.ndim or self.a.shape[0] != self.z.shape[0] or self.z.shape != self.delta.shape:
            raise ShapeError(
                f"LayerTrace {self.name!r}: a and z need the same rows, and z and delta the same shape; found {found}"
            )

    def parameters(self) -> dict[str, np.ndarray]:
        """The weight and the bias by their names in `state_dict`, as far as there are such."""
        found = {}
        if self.weight is not None:
            found[self.weight_name or _joined(self.name, "weight")] = self.weight
        if self.bias is not None:
            found[self.bias_name or _joined(self.name, "bias")] = self.bias
        return found

    @property
    def is_bias_only(self) -> bool:
        return self.weight is None

    def use(self, name: str, index: tuple[int, ...]) -> Use:
        """What multiplies the entry ``index`` of parameter ``name`` here, and the error there."""
        n, own = len(self.z), self.parameters()
        if self.weight is None or own.get(name) is not self.weight:
            error = self.delta[behind(index)]
            return Use(np.ones(error.shape, error.dtype).reshape(n, -1), error.reshape(n, -1))
        if self.form == "lookup":
            error = self.delta[..., index[1]] if len(index) > 1 else self.delta
            return Use((self.a == index[0]).astype(error.dtype).reshape(n, -1), error.reshape(n, -1))
        if self.form == "scale":
            return Use(self.a[behind(index)].reshape(n, -1), self.delta[behind(index)].reshape(n, -1))
        if self.form == "matmul":
            return Use(self.a[..., index[0]].reshape(n, -1), self.delta[..., index[1]].reshape(n, -1))
        inside = index[1:]
        if self.groups > 1:
            width, each = self.weight.shape[0] // self.groups, self.weight.shape[1]
            inside = (index[1] + index[0] // width * each, *index[2:])
        return Use(self.a[behind(inside)].reshape(n, -1), self.delta[..., index[0]].reshape(n, -1))

    def size_of_activation(self) -> tuple[float, int]:
        """(sum of the squares of all that weights are multiplied with, how many numbers that is)."""
        if self.form == "lookup":
            rows = 1 if self.weight is None else self.weight.shape[0]
            return float(self.a.size), self.a.size * rows
        return sum_of_squares(self.a), self.a.size

    def pushed(self, tangent: np.ndarray) -> np.ndarray | None:
        """How z moves if ``a`` moves by ``tangent`` (both with this layer's axes); None where that is not a product."""
        if self.weight is None or tangent.shape != self.a.shape:
            return None
        if self.form not in ("linear", "matmul") or self.weight.ndim != 2:
            return None
        weight = self.weight.T if self.form == "linear" else self.weight
        # Mostly one unit moves, and then the others' columns are zeros to multiply with.
        moving = np.flatnonzero(tangent.reshape(-1, tangent.shape[-1]).any(axis=0))
        return tangent[..., moving] @ weight[moving]


def behind(index: tuple[int, ...], row: int | slice = slice(None)) -> Any:
    """``index`` into the last axes of an array, whatever uses stand before them: [row, ..., *index]."""
    return (..., *index) if isinstance(row, slice) and row == slice(None) else (row, ..., *index)


def _joined(name: str, last: str) -> str:
    return f"{name}.{last}" if name else last


def sum_of_squares(array: np.ndarray) -> float:
    """Σ x², in the array's own precision by blocks; infinite or NaN where an entry is."""
    flat = array if array.flags.c_contiguous else np.ascontiguousarray(array)
    flat = flat.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        total = float(np.dot(flat, flat))
        # A square that leaves float32 is no infinite error, and one below it is not 0.
        if flat.dtype == np.float32 and flat.size and (not 1e-30 < total < 1e30):
            wide = flat.astype(np.float64)
            total = float(np.dot(wide, wide))
    return total


def rms(array: np.ndarray) -> float:
    """Root of the mean square; 0 for no entries."""
    return float(np.sqrt(sum_of_squares(array) / array.size)) if array.size else 0.0


def patches_of(
    images: np.ndarray,
    kernel: tuple[int, int],
    strides: tuple[int, int] = (1, 1),
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0)),
    dilations: tuple[int, int] = (1, 1),
) -> np.ndarray:
    """What each place of a convolution's kernel sees: a view [n, down, across, channels, *kernel], nothing copied.

    images: [n, channels, height, width]. padding: zeros (before, after) the rows and the columns.
    """
    if any(map(any, padding)):
        images = np.pad(images, ((0, 0), (0, 0), *padding))
    spans = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True))
    cut = np.lib.stride_tricks.sliding_window_view(images, spans, axis=(2, 3))
    cut = cut[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    return cut.transpose(0, 2, 3, 1, 4, 5)


LOSS, INPUT = -2, -1
"""In a link: the loss as the end that is fed, the network's input as the end that feeds."""


@dataclass(frozen=True, eq=False)
class Link:
    """Layer ``parent`` feeds layer ``child``: the error comes back from z of the child to z of the parent.

    Both count the layers of the trace from 0; parent may be INPUT, child LOSS. Sizes are root mean squares.
    """

    parent: int
    child: int
    error: float
    """Size of the error at the child's z; of the loss 1 / n times n."""
    through_weights: float
    """Size of the error behind the child's weights, at its ``a``."""
    arriving: float
    """Size of what arrives at the parent's z by this link."""
    derivative: np.ndarray | None = None
    """Where each entry of the child's ``a`` comes from one entry of the parent's z alone: its derivative, so shaped."""
    through: tuple[str, ...] = ()
    """The operations between, from the parent on."""

    @property
    def gain(self) -> float:
        """|what arrives| / |error at the child|."""
        return ratio(self.arriving, self.error)

    @property
    def weights(self) -> float:
        """The part of the gain that the child's weights have."""
        return ratio(self.through_weights, self.error)

    @property
    def local(self) -> float:
        """The root mean square of the local derivative; where it is not elementwise, the rest of the gain."""
        rest = ratio(self.arriving, self.through_weights)
        return rest if self.derivative is None else rms(self.derivative)

    @property
    def cross(self) -> float:
        """What is left of the gain: above 1 where large errors meet large local derivatives, else below."""
        return ratio(ratio(self.arriving, self.through_weights), self.local)


def ratio(a: float, b: float) -> float:
    """a / b, and 0 for 0 / 0: where nothing leaves, nothing arrives."""
    if b:
        return a / b
    return 0.0 if a == 0 else float("inf")


@dataclass(frozen=True, eq=False)
class NetworkTrace:
    """One step of a network: its layers in the order in which they ran.

    loss: of all rows. rows: how many; the n by which delta was multiplied. step: updates made before it.
    """

    layers: tuple[LayerTrace, ...]
    loss: float
    rows: int
    step: int = 0
    x: np.ndarray | None = None
    """The network's input. [n, ...]"""
    x_delta: np.ndarray | None = None
    """n times dL/dx; None where no gradient reaches it, as through whole numbers."""
    prediction: np.ndarray | None = None
    row_losses: np.ndarray | None = None
    """The loss of each row, if the loss is the mean of them. [n]"""
    links: tuple[Link, ...] = ()
    gradients: dict[str, np.ndarray] = field(default_factory=dict)
    """Of every trainable parameter by its `state_dict` name, as the step used it."""
    parameters: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why nothing reaches a parameter."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Other names of shared parameters -> the name that they have here."""
    loss_name: str = "loss"
    push: Callable[[str, int, np.ndarray], dict[int, np.ndarray]] | None = None
    """("z", "a" or "x"; which layer; a direction there, shaped as in it) -> how z of each next layer moves."""
    nudged: Callable[[str, int | str, tuple[int, ...], float], float] | None = None
    """("z", "a", "x" or "parameter"; which layer or name; index; by how much) -> the loss in float64 with it raised."""
    penalty: tuple[float, float] = (0.0, 0.0)
    """l1 and l2 that the step added to the loss, which ``gradients`` hold."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number of each layer in a derivation (W1, z1, a1): layers of one name share it; from 1."""
        found: dict[str, int] = {}
        return tuple(found.setdefault(layer.name, len(found) + 1) for layer in self.layers)
