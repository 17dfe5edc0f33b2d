"""JAX: the whole step under jit with optax's Adam and donated buffers; an epoch as a loop over steps or as one scan."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.workloads import Workload, epoch_data

ADAM = optax.adam(1e-3)


def first_weights(workload: Workload) -> list[dict[str, jax.Array]]:
    return [{"w": jnp.asarray(w.T.copy()), "b": jnp.asarray(b)} for w, b in workload.weights()]


def outputs(layers: list[dict[str, jax.Array]], x: jax.Array) -> jax.Array:
    for layer in layers[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ layers[-1]["w"] + layers[-1]["b"]


def loss(layers: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(outputs(layers, x), y).mean()


def updated(layers: Any, moments: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
    value, gradients = jax.value_and_grad(loss)(layers, x, y)
    changes, moments = ADAM.update(gradients, moments)
    return optax.apply_updates(layers, changes), moments, value


compiled_update = partial(jax.jit, donate_argnums=(0, 1))(updated)


@partial(jax.jit, donate_argnums=(0, 1), static_argnums=5)
def compiled_epoch(layers: Any, moments: Any, x: jax.Array, y: jax.Array, order: jax.Array, rows: int) -> Any:
    """All full batches in one scan, then the smaller last one."""

    def one(state: Any, chosen: jax.Array) -> tuple[Any, jax.Array]:
        *state, value = updated(*state, x[chosen], y[chosen])
        return tuple(state), value

    full = len(order) // rows * rows
    state, _ = jax.lax.scan(one, (layers, moments), order[:full].reshape(-1, rows))
    if full < len(order):
        state, _ = one(state, order[full:])
    return state


@jax.jit
def accuracy(layers: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return (outputs(layers, x).argmax(-1) == y).mean()


class Trained:
    """Weights, moments and one batch."""

    def __init__(self, workload: Workload, rows: int, option: str) -> None:
        self.workload = workload
        x, y = workload.batch(rows)
        self.x, self.y = jnp.asarray(x), jnp.asarray(y.astype(np.int32))
        self.reset()

    def step(self) -> None:
        self.layers, self.moments, value = compiled_update(self.layers, self.moments, self.x, self.y)
        value.block_until_ready()

    def reset(self) -> None:
        self.layers = first_weights(self.workload)
        self.moments = ADAM.init(self.layers)


def epoch(workload: Workload, rows: int, option: str) -> Callable[[], None]:
    x, y, held_x, held_y = epoch_data(workload, rows)
    y, held_y = y.astype(np.int32), jnp.asarray(held_y.astype(np.int32))
    held_x = jnp.asarray(held_x)
    if option == "scan":
        x, y = jnp.asarray(x), jnp.asarray(y)
    trained = Trained(workload, workload.rows, option)
    random = np.random.default_rng(2)

    def run() -> None:
        order = random.permutation(rows)
        if option == "scan":
            state = compiled_epoch(trained.layers, trained.moments, x, y, jnp.asarray(order), workload.rows)
            trained.layers, trained.moments = state
        else:
            for start in range(0, rows, workload.rows):
                chosen = order[start : start + workload.rows]
                state = compiled_update(trained.layers, trained.moments, x[chosen], y[chosen])
                trained.layers, trained.moments, _ = state
        accuracy(trained.layers, held_x, held_y).block_until_ready()

    return run
