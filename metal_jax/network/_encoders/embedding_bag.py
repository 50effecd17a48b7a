"""Weighted sum of feature embeddings: a linear layer over sparse features.

Legend: `b` items of a batch, `l` features of an item (padded).
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from metal_jax.network._encoders.encoder import Encoder, shared_encoder
from metal_jax.network._encoders.ngrams import BagOfFeatures


class _EmbeddingBag(nn.Module):
    num_features: int
    width: int
    dropout: float

    @nn.compact
    def __call__(self, inputs: BagOfFeatures, deterministic: bool) -> jax.Array:
        # Small against the learning rate: rare features start close to silent.
        table = self.param("table", nn.initializers.normal(0.1), (self.num_features, self.width))
        weights = jnp.asarray(inputs.weights, table.dtype)
        # Dropping whole features, before the sum, keeps the network from leaning on single words.
        weights = nn.Dropout(self.dropout)(weights, deterministic=deterministic)
        return jnp.einsum("bl,blh->bh", weights, table[inputs.ids])


def embedding_bag(num_features: int, width: int = 64, *, dropout: float = 0.3) -> Encoder:
    """Weighted sum of feature embeddings: a linear layer over sparse features, by gathering.

    The forward pass touches the batch's rows of the table only, `b l width` numbers. Its gradient
    is a dense array of the table's size, most rows zero, and Adam's two moments are as large; a
    step therefore costs time and memory in proportion to `num_features`, and decoupled weight
    decay shrinks every row in every step, also those of features that the batch lacks. For the
    tables that `fit_vocabulary` leaves (some thousand rows) this is cheap, and the decay of rare
    features is wanted; with 2**20 rows of 64 a step passes over four arrays of 268 MB.

    Args:
        num_features: size of the feature space; ids are below it.
        width: features out.
        dropout: share of an item's features that are dropped in training.

    Returns:
        An encoder of `BagOfFeatures`; an item without features has zeros.

    Example:
        >>> from metal_jax.network import hashed_ngrams
        >>> encoder, inputs = embedding_bag(1000, 8), hashed_ngrams(["a b"], num_features=1000)
        >>> jax.eval_shape(encoder.init, jax.random.key(0), inputs)["table"].shape
        (1000, 8)
    """
    return shared_encoder(_EmbeddingBag(num_features, width, dropout))
