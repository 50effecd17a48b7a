"""Encoders of feature vectors: a multilayer perceptron, and vectors that are features already.

Legend: `n` items, `b` items of a batch, `d` numbers of an item.
"""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_last_axis, check_rank, real_array
from metal_jax.network._dense import Dense
from metal_jax.network._encoders.encoder import Encoder, shared_encoder


class Standardisation(NamedTuple):
    """Mean and scale of each feature; plain arrays on the host, for `numpy.savez`.

    Attributes:
        mean: float64[d].
        scale: float64[d], standard deviation, 1 for a feature that never varies.
    """

    mean: np.ndarray
    scale: np.ndarray


def fit_standardisation(features: ArrayLike) -> Standardisation:
    """Mean and standard deviation of the features of training items; no labels are read.

    They are data and not parameters, since weight decay would shrink parameters, and not a layer's
    state, since `fit` keeps none.

    Args:
        features: float[n, d].

    Returns:
        To be given to `standardise` for training items and all later ones.

    Raises:
        ValueError: no items, another number of axes, or a number that is not finite (names the
            item).

    Example:
        >>> standardise([[2.0]], fit_standardisation([[0.0], [4.0]])).tolist()
        [[0.0]]
    """
    features = np.asarray(real_array("features", features), np.float64)
    check_rank("features", features, 2)
    if not len(features):
        raise ValueError("features: got no items, expected at least one")
    if not np.isfinite(features).all():
        row, column = np.argwhere(~np.isfinite(features))[0]
        raise ValueError(f"features: item {row}, feature {column} is not finite")
    scale = np.std(features, axis=0)
    # The deviation of a constant feature is zero up to rounding.
    constant = scale <= 1e-12 * np.max(np.abs(features), axis=0)
    return Standardisation(np.mean(features, axis=0), np.where(constant, 1, scale))


def standardise(features: ArrayLike, standardisation: Standardisation) -> np.ndarray:
    """Features less their mean, over their scale.

    Args:
        features: float[n, d].
        standardisation: from `fit_standardisation`.

    Returns:
        float32[n, d], an encoder's input.

    Raises:
        ValueError: another number of features, or no real numbers.

    Example:
        >>> standardise([[1.0, 7.0], [3.0, 7.0]], fit_standardisation([[1.0, 7.0], [3.0, 7.0]]))
        array([[-1.,  0.],
               [ 1.,  0.]], dtype=float32)
    """
    features = np.asarray(real_array("features", features))
    check_rank("features", features, 2)
    check_last_axis("features", features, len(standardisation.mean))
    centred = features.astype(np.float64) - standardisation.mean
    return (centred / standardisation.scale).astype(np.float32)


class _Mlp(nn.Module):
    widths: tuple[int, ...]
    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool) -> jax.Array:
        x = _vectors(inputs)
        for width in self.widths:
            x = nn.relu(Dense(width)(x))
            x = nn.Dropout(self.dropout)(x, deterministic=deterministic)
        return x


class _Precomputed(nn.Module):
    width: int | None
    dropout: float

    @nn.compact
    def __call__(self, inputs: jax.Array, deterministic: bool) -> jax.Array:
        x = nn.Dropout(self.dropout)(_vectors(inputs), deterministic=deterministic)
        return x if self.width is None else Dense(self.width)(x)


def _vectors(inputs: jax.Array) -> jax.Array:
    inputs = jnp.asarray(inputs)
    check_rank("inputs", inputs, 2)
    return inputs if jnp.issubdtype(inputs.dtype, jnp.floating) else inputs.astype(float)


def mlp(widths: tuple[int, ...] = (128,), *, dropout: float = 0.2) -> Encoder:
    """A multilayer perceptron over feature vectors: dense layers with ReLU and dropout.

    The network has hidden layers of its own (`NetworkConfig.widths`); layers here are shared by
    what its heads read past the trunk.

    Args:
        widths: units of each layer; the last one's are the features.
        dropout: after each layer.

    Returns:
        An encoder of float[b, d]. Features of different scale want `standardise` first.

    Raises:
        ValueError: no widths, or one that is not positive; by `init` and `apply`, inputs that are
            not [b, d].

    Example:
        >>> encoder = mlp((16, 8))
        >>> params = jax.eval_shape(encoder.init, jax.random.key(0), jnp.ones((2, 3)))
        >>> params["Dense_1"]["kernel"].shape
        (16, 8)
    """
    widths = tuple(widths)
    if not widths or min(widths) < 1:
        raise ValueError(f"widths: got {widths}, expected positive integers")
    return shared_encoder(_Mlp(widths, dropout))


def precomputed(width: int | None = None, *, dropout: float = 0.0) -> Encoder:
    """Vectors that are features already, such as `sentence_embeddings` or another model's output.

    Args:
        width: features of a linear projection; None hands the vectors on as they are.
        dropout: share of the vectors' numbers that are dropped in training, before the projection.

    Returns:
        An encoder of float[b, d].

    Example:
        >>> encoder = precomputed()
        >>> encoder.apply({}, jnp.ones((2, 3)), None).shape
        (2, 3)
    """
    return shared_encoder(_Precomputed(width, dropout))
