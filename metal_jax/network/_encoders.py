"""Encoders: from raw inputs to one feature vector for each item.

An encoder is a pair of pure functions, replaceable by the user's own.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np


class EncoderInit(Protocol):
    """`init(key, inputs) -> params`."""

    def __call__(self, key: jax.Array, inputs: Any) -> Any:
        """Parameters for inputs of these shapes."""
        ...


class EncoderApply(Protocol):
    """`apply(params, inputs, key) -> float[b, features]`."""

    def __call__(self, params: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        """Features; `key` drives dropout, None when predicting."""
        ...


class Encoder(NamedTuple):
    """Raw inputs to feature vectors.

    Attributes:
        init: `(key, inputs) -> params`; inputs is a pytree with a leading axis of items.
        apply: `(params, inputs, key) -> float[b, features]`; key None means no dropout.
    """

    init: EncoderInit
    apply: EncoderApply


def from_module(module: nn.Module) -> Encoder:
    """An encoder from a Linen module called as `module(inputs, deterministic)`."""

    def init(key: jax.Array, inputs: Any) -> Any:
        return module.init(key, inputs, True)["params"]

    def apply(params: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, inputs, key is None, rngs=rngs)  # pyright: ignore

    return Encoder(init, apply)


class BagOfFeatures(NamedTuple):
    """Sparse features, padded.

    Attributes:
        ids: int32[n, l], feature ids.
        weights: float32[n, l], their weights, 0 where padded.
    """

    ids: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array


class _EmbeddingBag(nn.Module):
    num_features: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, inputs: BagOfFeatures, deterministic: bool) -> jax.Array:
        table = self.param(
            "table",
            nn.initializers.normal(1 / np.sqrt(self.width)),
            (self.num_features, self.width),
        )
        weights = jnp.asarray(inputs.weights, table.dtype)
        # Dropping whole features, before the sum, keeps the network from leaning on single words.
        weights = nn.Dropout(self.dropout)(weights, deterministic=deterministic)
        bag = jnp.einsum("bl,blh->bh", weights, table[inputs.ids])
        bias = self.param("bias", nn.initializers.zeros, (self.width,))
        return nn.relu(bag * np.sqrt(self.width) + bias)


def embedding_bag(num_features: int, width: int = 64, *, dropout: float = 0.3) -> Encoder:
    """Weighted sum of feature embeddings, then a ReLU: an MLP's first layer over sparse features.

    Args:
        num_features: size of the feature space; ids are below it.
        width: features out.
        dropout: share of an item's features that are dropped in training.

    Returns:
        An encoder of `BagOfFeatures`.
    """
    return from_module(_EmbeddingBag(num_features, width, dropout))


_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")


def hashed_ngrams(
    texts: Sequence[str],
    *,
    num_features: int = 2**14,
    max_ngram: int = 2,
    max_features: int = 256,
) -> BagOfFeatures:
    """Lower-cased word n-grams hashed into a fixed number of features; nothing is fitted.

    A token is a run of letters and digits or one punctuation mark. The weight of a feature is
    `log(1 + count)`, scaled so that an item's weights have unit length.

    Args:
        texts: n strings.
        num_features: size of the feature space.
        max_ngram: longest n-gram, in tokens.
        max_features: distinct features kept of an item, in order of first appearance.

    Returns:
        `ids` int32[n, l] and `weights` float32[n, l], padded to the longest item.

    Example:
        >>> hashed_ngrams(["a b", ""]).weights.shape
        (2, 3)
    """
    rows: list[dict[int, int]] = []
    for text in texts:
        tokens = _TOKEN.findall(text.lower())
        counts: dict[int, int] = {}
        for size in range(1, max_ngram + 1):
            for i in range(len(tokens) - size + 1):
                gram = "\x1f".join(tokens[i : i + size])
                feature = zlib.crc32(gram.encode()) % num_features  # the same in every process
                if feature in counts or len(counts) < max_features:
                    counts[feature] = counts.get(feature, 0) + 1
        rows.append(counts)
    length = max([len(row) for row in rows], default=0) or 1
    ids = np.zeros((len(rows), length), np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = list(row)
        weights[i, : len(row)] = np.log1p(list(row.values()))
    norm = np.sqrt(np.sum(weights**2, axis=1, keepdims=True))
    return BagOfFeatures(ids, weights / np.maximum(norm, 1e-12))
