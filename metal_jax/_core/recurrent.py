"""The LSTM recurrence as one kernel with its own backward pass.

Only what depends on the state before runs in the scans: the input's projection is the caller's (one
matrix product over all steps), the gates' derivatives are computed for all steps at once, and the
gradient of the recurrent weights is one product after the backward scan. Sigmoids are written by
tanh, so that the four gates are one elementwise call without concatenations.

Legend: l steps, b items, h hidden units, w input features, d LSTMs of equal size, for example one
for each direction.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

# Rows are the gates: input, forget, output, candidate. sigmoid(z) = tanh(z / 2) / 2 + 1 / 2.
_SCALE = np.array([[0.5], [0.5], [0.5], [1.0]])
_OFFSET = np.array([[0.5], [0.5], [0.5], [0.0]])
_IS_OUTPUT = np.array([[False], [False], [True], [False]])


@jax.custom_vjp
def lstm(projected: jax.Array, weights: jax.Array, mask: jax.Array) -> jax.Array:
    """Hidden states of an LSTM (Hochreiter and Schmidhuber 1997; forget gate Gers et al. 2000).

    An item keeps its state where the mask is False, so the last step holds each item's final state
    whatever its length.

    Args:
        projected: float[l, b, 4 h], input times input weights plus bias; gates in the order input,
            forget, output, candidate.
        weights: float[h, 4 h], recurrent weights, in the same order.
        mask: bool[l, b], False at padding.

    Returns:
        float[l, b, h].

    Example:
        >>> states = lstm(jnp.ones((3, 2, 8)), jnp.ones((2, 8)), jnp.ones((3, 2), bool))
        >>> states.shape
        (3, 2, 2)
    """
    return _forward(projected, weights, mask)[0]


def _forward(projected: jax.Array, weights: jax.Array, mask: jax.Array):
    num_items = projected.shape[1]
    size = weights.shape[0]
    dtype = projected.dtype
    scale, offset = _SCALE.astype(dtype), _OFFSET.astype(dtype)
    start = jnp.zeros((num_items, size), dtype)

    def step(state, inputs):
        (h, c), (z, kept) = state, inputs
        kept = kept[:, None]
        z = (z + h @ weights).reshape(num_items, 4, size)
        gates = scale * jnp.tanh(scale * z) + offset
        new_c = gates[:, 1] * c + gates[:, 0] * gates[:, 3]
        c, h = jnp.where(kept, new_c, c), jnp.where(kept, gates[:, 2] * jnp.tanh(new_c), h)
        return (h, c), (h, c, gates)

    _, (h, c, gates) = jax.lax.scan(step, (start, start), (projected, mask))
    return h, (h, c, gates, weights, mask)


def _backward(saved, cotangent: jax.Array):
    h, c, gates, weights, mask = saved
    num_steps, num_items, size = h.shape
    first = jnp.zeros_like(h[:1])
    h_before, c_before = jnp.concatenate([first, h[:-1]]), jnp.concatenate([first, c[:-1]])
    i, f, o, g = (gates[:, :, row] for row in range(4))
    t = jnp.tanh(c)
    slopes = jnp.stack([g * i * (1 - i), c_before * f * (1 - f), t * o * (1 - o), i * (1 - g * g)])
    slopes = jnp.where(mask[..., None, None], jnp.moveaxis(slopes, 0, 2), 0)
    through_cell = o * (1 - t * t)
    transposed = weights.T

    def step(state, inputs):
        dh, dc = state
        from_above, slope, through_cell, forget, kept = inputs
        kept = kept[:, None]
        dh = dh + from_above
        through = dc + dh * through_cell
        dz = slope * jnp.where(_IS_OUTPUT, dh[:, None], through[:, None])
        dz = dz.reshape(num_items, 4 * size)
        return (
            jnp.where(kept, dz @ transposed, dh),
            jnp.where(kept, through * forget, dc),
        ), dz

    zeros = jnp.zeros_like(h[0])
    inputs = (cotangent, slopes, through_cell, f, mask)
    _, dz = jax.lax.scan(step, (zeros, zeros), inputs, reverse=True)
    rows = num_steps * num_items
    return dz, h_before.reshape(rows, size).T @ dz.reshape(rows, 4 * size), None


lstm.defvjp(_forward, _backward)


class LstmWeights(NamedTuple):
    """Weights of d LSTMs; gates in the order input, forget, output, candidate.

    Attributes:
        input: float[d, w, 4 h].
        recurrent: float[d, h, 4 h].
        bias: float[d, 4 h].
    """

    input: jax.Array
    recurrent: jax.Array
    bias: jax.Array


def forget_gate_open(key: jax.Array, shape: tuple[int, ...], dtype: DTypeLike = float) -> jax.Array:
    """Initial bias float[..., 4 h]: 1 for the forget gate, else 0 (Jozefowicz et al. 2015).

    Args:
        key: not used; the signature is that of an initialiser.
        shape: of the bias.
        dtype: of the bias.

    Returns:
        The bias.
    """
    size = shape[-1] // 4
    return jnp.zeros(shape, dtype).at[..., size : 2 * size].set(1)


def lstm_layer(inputs: jax.Array, mask: jax.Array, weights: LstmWeights) -> jax.Array:
    """Hidden states of d LSTMs, each over its own sequences.

    Args:
        inputs: float[d, b, l, w].
        mask: bool[d, b, l], False at padding; see `lstm`.
        weights: of the d LSTMs.

    Returns:
        float[d, b, l, h].
    """
    projected = jnp.einsum("dblw,dwz->dlbz", inputs, weights.input)
    projected += weights.bias[:, None, None]
    states = jax.vmap(lstm)(projected, weights.recurrent, jnp.swapaxes(mask, 1, 2))
    return jnp.swapaxes(states, 1, 2)


def bidirectional_lstm(inputs: jax.Array, mask: jax.Array, weights: LstmWeights) -> jax.Array:
    """Hidden states of one LSTM from the first step on and one from the last step back.

    A state is kept through padding, at whichever end it lies, so what each step has read depends on
    the steps of the mask alone (Graves and Schmidhuber 2005).

    Args:
        inputs: float[b, l, w].
        mask: bool[b, l], False at padding.
        weights: of two LSTMs, forward and backward.

    Returns:
        float[2, b, l, h]; at a step, the first has read the steps up to it, the second those from
        it on. The final states are the last step's of the first and the first step's of the second.
    """
    turned = lstm_layer(
        jnp.stack([inputs, inputs[:, ::-1]]), jnp.stack([mask, mask[:, ::-1]]), weights
    )
    return jnp.stack([turned[0], turned[1, :, ::-1]])
