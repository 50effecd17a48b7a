"""Recurrent networks, and edit distances between networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from benchmarks.harness import Case
from benchmarks.studies.edit_distance import networks
from metal_jax._core.recurrent import lstm
from metal_jax.exhaust import pairwise

_LSTM = {
    "ci": ((5, 4, 8),),
    "small": ((50, 64, 32),),
    "full": ((50, 64, 32), (200, 64, 32), (50, 256, 256)),
}


def _problem(num_steps: int, b: int, h: int) -> tuple[str, tuple[jax.Array, ...]]:
    keys = jax.random.split(jax.random.key(0), 3)
    arguments = (
        jax.random.normal(keys[0], (h, 4 * h)) / h**0.5,
        jax.random.normal(keys[1], (h, 4 * h)) / h**0.5,
        jax.random.normal(keys[2], (num_steps, b, h)),
    )
    return f"steps={num_steps} items={b} units={h}", arguments


def _states(inner: jax.Array, outer: jax.Array, x: jax.Array) -> jax.Array:
    projected = jnp.matmul(x, outer)
    return lstm(projected, inner, jnp.ones(x.shape[:2], bool))


def lstm_forward(sizes: str) -> list[Case]:
    """All hidden states, the input's projection included."""
    cases = []
    for num_steps, b, h in _LSTM[sizes]:
        name, arguments = _problem(num_steps, b, h)
        operations = 16 * num_steps * b * h * h
        cases.append(Case(name, _states, arguments, operations, note="matrix products"))
    return cases


def lstm_step(sizes: str) -> list[Case]:
    """Loss, gradient and a step of gradient descent."""
    return [lstm_step_case(*shape) for shape in _LSTM[sizes]]


def lstm_step_case(num_steps: int, b: int, h: int) -> Case:
    """The step at one length, batch and width."""

    def step(inner: jax.Array, outer: jax.Array, x: jax.Array):
        def loss(weights: tuple[jax.Array, jax.Array]) -> jax.Array:
            return jnp.mean(_states(*weights, x)[-1] ** 2)

        value, grads = jax.value_and_grad(loss)((inner, outer))
        return value, [w - 0.01 * g for w, g in zip((inner, outer), grads, strict=True)]

    name, arguments = _problem(num_steps, b, h)
    operations = 3 * 16 * num_steps * b * h * h
    note = "matrix products, the backward pass as two forward ones"
    return Case(name, step, arguments, operations, note=note)


def edit_distances(sizes: str) -> list[Case]:
    """All pairs of two sets of networks of 20 layers, encoding included."""
    return [edit_distance_case({"ci": 8, "small": 200, "full": 1000}[sizes], 20)]


def edit_distance_case(num: int, num_layers: int) -> Case:
    """All pairs of two sets of `num` networks."""
    a, b = (networks(num, num_layers, seed) for seed in (0, 1))
    return Case(f"{num} x {num}", lambda: pairwise(a, b))
