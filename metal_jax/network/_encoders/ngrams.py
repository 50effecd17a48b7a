"""Text as a sparse bag of hashed n-grams, and the vocabulary of those worth an embedding.

`hashed_ngrams` fits nothing; `fit_vocabulary` keeps the features that several texts share, so that
each has an embedding of its own and the table stays small.

Legend: `n` items, `l` features of an item (padded), `v` features kept.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from metal_jax._core.checks import check_texts


class BagOfFeatures(NamedTuple):
    """Sparse features, padded.

    Attributes:
        ids: int32[n, l], feature ids.
        weights: float32[n, l], their weights, 0 where padded.
    """

    ids: np.ndarray | jax.Array
    weights: np.ndarray | jax.Array


_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _grams(text: str, max_ngram: int) -> Iterator[str]:
    """Yield the features of a text, the most general first."""
    tokens = _TOKEN.findall(_CAMEL.sub(" ", text).lower())
    yield from tokens
    marked = ["", *tokens]  # the empty token stands for the start of the text
    for size in range(2, max_ngram + 1):
        for i in range(len(marked) - size + 1):
            yield "\x1f".join(marked[i : i + size])
    for first, second in zip(marked, marked[2:], strict=False):
        yield f"{first}\x1e{second}"
    for token in tokens:
        if len(token) > 4:
            yield f"\x1d{token[:4]}"
            yield f"{token[-3:]}\x1d"


def hashed_ngrams(
    texts: Sequence[str],
    *,
    num_features: int = 2**20,
    max_ngram: int = 2,
    max_features: int = 512,
) -> BagOfFeatures:
    """Word n-grams and affixes hashed into a fixed number of features; nothing is fitted.

    A token is a lower-cased run of letters and digits or one punctuation mark; `camelCase` and
    `snake_case` names are split. The features are the n-grams, the longer of them with a mark for
    the start of the text, the pairs of tokens with one between them, and the first four and last
    three letters of words longer than four. The weight of a feature is `log(1 + count)`, scaled so
    that an item's weights have unit length.

    Args:
        texts: n strings.
        num_features: size of the feature space.
        max_ngram: longest n-gram, in tokens.
        max_features: distinct features kept of an item, n-grams first, shortest first.

    Returns:
        `ids` int32[n, l] and `weights` float32[n, l], padded to the longest item.

    Raises:
        ValueError: one string, or an item that is not a string (names it).

    Example:
        >>> hashed_ngrams(["a b", ""]).weights.shape
        (2, 5)
    """
    check_texts("texts", texts)
    rows: list[dict[int, int]] = []
    for text in texts:
        counts: dict[int, int] = {}
        for gram in _grams(text, max_ngram):
            # Not `hash`: the same in every process. Lone surrogates have no other encoding.
            feature = zlib.crc32(gram.encode("utf-8", "surrogatepass")) % num_features
            if feature in counts or len(counts) < max_features:
                counts[feature] = counts.get(feature, 0) + 1
        rows.append(counts)
    length = max([len(row) for row in rows], default=0) or 1
    ids = np.zeros((len(rows), length), np.int32)
    weights = np.zeros((len(rows), length), np.float32)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = list(row)
        weights[i, : len(row)] = np.log1p(list(row.values()))
    return BagOfFeatures(ids, _unit_length(weights))


class Vocabulary(NamedTuple):
    """The features worth an embedding; fitted on texts without labels.

    Attributes:
        ids: int32[v], feature ids, ascending.
        idf: float32[v], inverse document frequency `1 + log((1 + n) / (1 + items with it))`.
    """

    ids: np.ndarray
    idf: np.ndarray


def fit_vocabulary(bag: BagOfFeatures, *, min_count: int = 2, max_size: int = 2**13) -> Vocabulary:
    """Keep the features that occur in several items, the most frequent ones.

    Args:
        bag: features of n items, for example of all unlabelled ones.
        min_count: fewest items a feature occurs in.
        max_size: most features kept; equally frequent ones in the order of their ids.

    Returns:
        The vocabulary.

    Raises:
        ValueError: no feature occurs in `min_count` items.

    Example:
        >>> bag = hashed_ngrams(["red fox", "red hen", "hen"])
        >>> len(fit_vocabulary(bag).ids)  # "red", "red" at the start, "hen"
        3
    """
    present = np.asarray(bag.weights) > 0
    ids, counts = np.unique(np.asarray(bag.ids)[present], return_counts=True)
    ids, counts = ids[counts >= min_count], counts[counts >= min_count]
    if not len(ids):
        raise ValueError(f"no feature occurs in {min_count} of the {len(present)} items")
    kept = np.sort(np.argsort(-counts, kind="stable")[:max_size])
    idf = 1 + np.log((1 + len(present)) / (1 + counts[kept]))
    return Vocabulary(ids[kept].astype(np.int32), idf.astype(np.float32))


def select_features(
    bag: BagOfFeatures, vocabulary: Vocabulary, *, max_features: int = 96
) -> BagOfFeatures:
    """Keep an item's features that are in the vocabulary, numbered and weighted by it.

    Args:
        bag: features of n items.
        vocabulary: from `fit_vocabulary`.
        max_features: features kept of an item, those of the largest weight.

    Returns:
        `ids` int32[n, l], positions in the vocabulary, and `weights` float32[n, l] times the idf,
        scaled to unit length; an item without a known feature has weights of zero.

    Example:
        >>> bag = hashed_ngrams(["red fox", "red hen"])
        >>> select_features(bag, fit_vocabulary(bag)).ids.tolist()  # "red", "red" at the start
        [[0, 1], [0, 1]]
    """
    ids, weights = np.asarray(bag.ids), np.asarray(bag.weights)
    position = np.minimum(np.searchsorted(vocabulary.ids, ids), len(vocabulary.ids) - 1)
    weights = np.where(vocabulary.ids[position] == ids, weights * vocabulary.idf[position], 0)
    length = min(max_features, int(np.max(np.sum(weights > 0, axis=1), initial=1)))
    order = np.argsort(-weights, axis=1, kind="stable")[:, :length]
    weights = np.take_along_axis(weights, order, axis=1)
    ids = np.where(weights > 0, np.take_along_axis(position, order, axis=1), 0)
    return BagOfFeatures(ids.astype(np.int32), _unit_length(weights))


def _unit_length(weights: np.ndarray) -> np.ndarray:
    norm = np.sqrt(np.sum(weights**2, axis=1, keepdims=True))
    return (weights / np.maximum(norm, 1e-12)).astype(np.float32)
