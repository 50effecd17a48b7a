"""The network of the LSTM predictor: layers and first epochs in, all targets out.

Legend: b runs, s sequences of l tokens, e epochs seen, h hidden units, o targets.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from metal_jax._core.recurrent import (
    LstmWeights,
    bidirectional_lstm,
    forget_gate_open,
    lstm_layer,
)
from metal_jax.exhaust._predictor_inputs import Inputs
from metal_jax.exhaust._tokens import PADDING

# log2 sizes go up to about 10.
_VALUE_SCALE = 0.25
_SUM_SCALE = 0.125
_EMBEDDING_SCALE = 0.5


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the network.

    Attributes:
        hidden_size: of each direction of the LSTM.
        embedding_size: of a layer.
        head_size: of the dense layer before the outputs.
        dropout: rate, before and after that layer.
    """

    hidden_size: int = 32
    embedding_size: int = 32
    head_size: int = 64
    dropout: float = 0.1


def apply_network(
    network: LstmNetwork, params: Any, inputs: Inputs, dropout_key: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Location and log scale, float[b, o] each; with dropout where a key is given."""
    if dropout_key is None:
        return cast(Any, network.apply(params, inputs))
    return cast(Any, network.apply(params, inputs, train=True, rngs={"dropout": dropout_key}))


class LstmNetwork(nn.Module):
    """A bidirectional LSTM over the layers, one over the epochs, and a common head.

    The layers' states are pooled by mean, maximum and sum (what adds up over layers, such as time,
    needs a sum) beside the two final states.
    """

    config: NetworkConfig
    num_kinds: int
    num_outputs: int

    @nn.compact
    def __call__(self, inputs: Inputs, train: bool = False) -> tuple[jax.Array, jax.Array]:
        """Location and log scale, float[b, o] each, of the standardised targets."""
        config = self.config
        parts = [*self._read_layers(inputs), inputs.settings]
        if inputs.curves.shape[1]:
            parts += self._read_curves(inputs)
        dropout = nn.Dropout(config.dropout, deterministic=not train)
        x = dropout(jnp.concatenate(parts, -1))
        x = dropout(nn.gelu(nn.Dense(config.head_size, name="head")(x)))
        location = nn.Dense(self.num_outputs, name="location")(x)
        # How wrong the location is must not bend what it learns from.
        log_scale = nn.Dense(self.num_outputs, name="log_scale")(jax.lax.stop_gradient(x))
        return location, log_scale

    def _read_layers(self, inputs: Inputs) -> list[jax.Array]:
        config = self.config
        num, num_sequences, size = inputs.ids.shape
        ids = inputs.ids.reshape(num * num_sequences, size)
        values = inputs.values.reshape(*ids.shape, inputs.values.shape[-1])
        mask = ids != PADDING
        x = nn.Embed(
            self.num_kinds,
            config.embedding_size,
            name="kinds",
            embedding_init=nn.initializers.normal(_EMBEDDING_SCALE),
        )(ids)
        x = x + nn.Dense(config.embedding_size, name="values")(_VALUE_SCALE * values)
        x = nn.gelu(x)
        weights = self._lstm_weights("layers", 2, x.shape[-1])
        states = bidirectional_lstm(x, mask, weights)
        final = jnp.stack([states[0, :, -1], states[1, :, 0]])
        kept = mask[..., None]
        length = jnp.sum(mask, 1, keepdims=True)
        total = jnp.sum(jnp.where(kept, states, 0), -2)
        mean = total / jnp.maximum(length, 1).astype(total.dtype)
        largest = jnp.max(jnp.where(kept, states, -1), -2)
        pooled = jnp.concatenate([mean, largest, _SUM_SCALE * total, final], -1)
        return [direction.reshape(num, -1) for direction in pooled]

    def _read_curves(self, inputs: Inputs) -> list[jax.Array]:
        x = nn.gelu(nn.Dense(self.config.embedding_size, name="epochs")(inputs.curves))
        mask = jnp.ones((1, *inputs.curves.shape[:2]), bool)
        states = lstm_layer(x[None], mask, self._lstm_weights("curves", 1, x.shape[-1]))
        curves = jnp.asarray(inputs.curves)
        return [states[0, :, -1], curves[:, 0], curves[:, -1]]

    def _lstm_weights(self, name: str, num: int, width: int) -> LstmWeights:
        """Weights of `num` LSTMs over `width` features."""
        size = self.config.hidden_size
        normal = nn.initializers.variance_scaling(1.0, "fan_in", "normal", batch_axis=(0,))
        return LstmWeights(
            self.param(f"{name}_input", normal, (num, width, 4 * size), jnp.float32),
            self.param(f"{name}_recurrent", normal, (num, size, 4 * size), jnp.float32),
            self.param(f"{name}_bias", forget_gate_open, (num, 4 * size), jnp.float32),
        )
