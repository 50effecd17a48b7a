"""The network of the LSTM predictor: layers and first epochs in, all targets out.

Legend: b runs, l tokens, p paths of q tokens, e epochs seen, h hidden units, o targets.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.recurrent import (
    LstmWeights,
    bidirectional_lstm,
    forget_gate_open,
    lstm_layer,
)
from metal_jax.exhaust._predictor_inputs import Inputs
from metal_jax.exhaust._targets import is_log_modelled
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
    """

    hidden_size: int = 32
    embedding_size: int = 32
    head_size: int = 64


def network_of(config: NetworkConfig, num_kinds: int, names: Sequence[str]) -> LstmNetwork:
    """The network that predicts the named targets."""
    return LstmNetwork(config, num_kinds, tuple(is_log_modelled(name) for name in names))


def apply_network(
    network: LstmNetwork,
    params: Any,
    inputs: Inputs,
    dropout: ArrayLike = 0.0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Location and log scale, float[b, o] each; with dropout at a traced rate where a key is given.

    The rate is an argument, so that members with different rates are one program.
    """
    if key is None:
        return cast(Any, network.apply(params, inputs))
    return cast(Any, network.apply(params, inputs, dropout, rngs={"dropout": key}))


class LstmNetwork(nn.Module):
    """A bidirectional LSTM over the layers, one over each live path, one over the epochs, a head.

    The layers' states are pooled by mean, maximum and sum (what adds up over layers, such as time,
    needs a sum) beside the two final states. The paths of a cell are a set: what is read of each
    is pooled over them by sum and maximum, so that their order means nothing.

    Attributes:
        config: sizes.
        num_kinds: of layers, with padding and unknown.
        timed: for each of o targets, whether it is a time. Of a cell, other targets depend on the
            live paths alone.
    """

    config: NetworkConfig
    num_kinds: int
    timed: tuple[bool, ...]

    @nn.compact
    def __call__(
        self, inputs: Inputs, dropout: ArrayLike | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Location and log scale, float[b, o] each, of the standardised targets."""
        config = self.config
        embed = nn.Embed(
            self.num_kinds,
            config.embedding_size,
            name="kinds",
            embedding_init=nn.initializers.normal(_EMBEDDING_SCALE),
        )
        sizes = nn.Dense(config.embedding_size, name="values")

        def read(name: str, ids: Any, values: Any) -> jax.Array:
            x = nn.gelu(embed(ids) + sizes(_VALUE_SCALE * values))
            return self._read_layers(name, x, ids != PADDING)

        result: list[Any] = [inputs.settings]
        if inputs.curves.shape[1]:
            result += self._read_curves(inputs)
        whole = read("layers", inputs.ids, inputs.values)
        if not inputs.path_ids.shape[1]:
            return self._head("head", [whole, *result], dropout)
        num, num_paths, length = inputs.path_ids.shape
        ids = inputs.path_ids.reshape(num * num_paths, length)
        values = inputs.path_values.reshape(*ids.shape, -1)
        states = read("paths", ids, values).reshape(num, num_paths, -1)
        there = inputs.path_ids[:, :, :1] != PADDING
        result += [
            jnp.sum(jnp.where(there, states, 0), 1),
            jnp.max(jnp.where(there, states, -1), 1),
            jnp.sum(there, 1).astype(states.dtype),
        ]
        # An operation that the result does not depend on costs time and changes nothing else.
        of_time = self._head("head_of_times", [whole, *result], dropout)
        of_result = self._head("head", result, dropout)
        timed = np.array(self.timed)
        location, log_scale = (
            jnp.where(timed, x, y) for x, y in zip(of_time, of_result, strict=True)
        )
        return location, log_scale

    def _head(
        self, name: str, parts: Sequence[Any], dropout: ArrayLike | None
    ) -> tuple[jax.Array, jax.Array]:
        def drop(x: jax.Array) -> jax.Array:
            if dropout is None:
                return x
            kept = jax.random.bernoulli(self.make_rng("dropout"), 1 - dropout, x.shape)
            return jnp.where(kept, x / (1 - dropout), 0)

        x = drop(jnp.concatenate(parts, -1))
        x = drop(nn.gelu(nn.Dense(self.config.head_size, name=name)(x)))
        location = nn.Dense(len(self.timed), name=f"{name}_location")(x)
        # How wrong the location is must not bend what it learns from.
        x = jax.lax.stop_gradient(x)
        return location, nn.Dense(len(self.timed), name=f"{name}_log_scale")(x)

    def _read_layers(self, name: str, x: jax.Array, mask: jax.Array) -> jax.Array:
        """float[b, 8 h]: both directions' states, pooled; zeros where there is no layer."""
        weights = self._lstm_weights(name, 2, x.shape[-1])
        states = bidirectional_lstm(x, mask, weights)
        final = jnp.stack([states[0, :, -1], states[1, :, 0]])
        kept = mask[..., None]
        length = jnp.sum(mask, 1, keepdims=True)
        total = jnp.sum(jnp.where(kept, states, 0), -2)
        mean = total / jnp.maximum(length, 1).astype(total.dtype)
        largest = jnp.max(jnp.where(kept, states, -1), -2)
        pooled = jnp.concatenate([mean, largest, _SUM_SCALE * total, final], -1)
        return jnp.concatenate(list(pooled), -1)

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
