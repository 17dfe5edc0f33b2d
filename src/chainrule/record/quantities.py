"""The names of all that is measured at a layer while a network learns: one word for one number."""

from enum import StrEnum


class Quantity(StrEnum):
    """What a probe measures at one layer with weights, z = a W^T + b, in one step on n rows.

    The sizes are root mean squares over all entries, so that ``gradient = uses * activation * error * agreement`` holds
    exactly, whatever the width. Shares lie between 0 and 1.
    """

    ACTIVATION = "activation"
    """rms of what comes in, a."""
    ERROR = "error"
    """rms of delta: n times the cotangent at z."""
    AGREEMENT = "agreement"
    """rho: how far rows agree, the uncentred cosine of a and delta over rows. Its noise floor is 1/sqrt(n)."""
    USES = "uses"
    """Positions or time steps a row at which a weight is used: 1 in a dense layer."""
    GRADIENT = "gradient"
    """rms of dL/dW for a mean loss L."""
    NOISE = "noise"
    """rms of the sampling error of dL/dW: of its standard error over the rows of the batch."""
    WEIGHT = "weight"
    """rms of W before the update."""
    UPDATE = "update"
    """rms of what the optimizer added to W."""
    LOCAL_DERIVATIVE = "local derivative"
    """rms of the derivative of the function that follows, at z."""
    DERIVATIVE_GAIN = "derivative gain"
    """rms of delta over that of the error at the layer's output: what the local derivative does to the error."""
    WEIGHT_GAIN = "weight gain"
    """rms of the error at this layer's output over that of delta in the layer above: what its weights do."""
    FORWARD_GAIN = "forward gain"
    """rms of z over that of a."""
    DEAD = "dead"
    """Share of units whose local derivative is 0 for every row, so that they pass nothing back."""
    SATURATED = "saturated"
    """Share of entries at which a sigmoid or tanh has lost 95 % of its steepest slope or more."""
    ZERO_GRADIENT = "zero gradient"
    """Share of entries of dL/dW that are exactly 0."""
    TWINS = "twins"
    """Share of units whose incoming weights equal those of another unit of the layer, which then stay equal."""
    SPREAD = "spread"
    """rms over units of the standard deviation of z over rows: how far the layer tells rows apart."""
    NOT_FINITE = "not finite"
    """Share of entries of a, z and delta that are NaN or infinite."""


NETWORK = ""
"""Name of the layer under which measurements of the network as a whole stand."""
