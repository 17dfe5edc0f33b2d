"""Every operation, declared once."""

from chainrule.graph import PRIMITIVES
from chainrule.ops.activations import (
    elu,
    gelu,
    hardsigmoid,
    hardswish,
    hardtanh,
    leaky_relu,
    mish,
    prelu,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
)
from chainrule.ops.attention import scaled_dot_product_attention
from chainrule.ops.broadcasting import as_tensor, cast, floated
from chainrule.ops.control import barrier, checkpoint, identity, scan, stop_gradient
from chainrule.ops.convolution import conv2d
from chainrule.ops.declare import primitive
from chainrule.ops.elementwise import (
    abs,
    add,
    astype,
    ceil,
    clip,
    cos,
    divide,
    elementwise,
    equal,
    erf,
    exp,
    expm1,
    floor,
    floor_divide,
    greater,
    greater_equal,
    isfinite,
    isnan,
    less,
    less_equal,
    log,
    log1p,
    logical_and,
    logical_not,
    logical_or,
    logical_xor,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    pow,
    power,
    remainder,
    round,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    tanh,
    where,
)
from chainrule.ops.indexing import argsort, gather, getitem, one_hot, scatter_add, sort, take, take_along_axis
from chainrule.ops.linear_algebra import linear, matmul
from chainrule.ops.losses import (
    LOSSES,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    check_labels,
    cross_entropy,
    huber,
    mae,
    mse,
    softmax_cross_entropy,
)
from chainrule.ops.movement import (
    broadcast_to,
    concat,
    expand_dims,
    flatten,
    flip,
    matrix_transpose,
    pad,
    permute_dims,
    reshape,
    split,
    squeeze,
    stack,
)
from chainrule.ops.namespace import OPS, expansion
from chainrule.ops.normalization import batch_norm, layer_norm
from chainrule.ops.pooling import avg_pool2d, max_pool2d
from chainrule.ops.random import bernoulli, dropout_mask, key, manual_seed, normal, permutation, uniform
from chainrule.ops.recurrent import lstm_cell, lstm_update
from chainrule.ops.reduction import (
    all,
    any,
    argmax,
    argmin,
    cumsum,
    log_softmax,
    logsumexp,
    max,
    mean,
    min,
    prod,
    softmax,
    std,
    sum,
    var,
)
from chainrule.ops.windows import windows, windows_add

OWN = frozenset(PRIMITIVES)
"""The names of chainrule's own primitives, all declared by now: any other is the user's."""
