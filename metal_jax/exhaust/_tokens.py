"""Architectures as padded arrays, for networks that read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from metal_jax.exhaust._architecture import Architecture, layers
from metal_jax.exhaust._layer_kinds import SIZES, describe

PADDING, UNKNOWN = 0, 1
_SCHEMA = 1


class Vocabulary(NamedTuple):
    """Which layer kind has which id: 0 is padding, 1 any kind not listed, 2 the first listed.

    Attributes:
        kinds: layer kinds, in the order of their ids.
    """

    kinds: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.kinds) + 2

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"schema": _SCHEMA, "kinds": list(self.kinds), "sizes": list(SIZES)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Vocabulary:
        """The reverse of `to_json`.

        Args:
            record: parsed JSON.

        Returns:
            The vocabulary.

        Raises:
            ValueError: another schema, or values in another order than this version's.
        """
        if record.get("schema") != _SCHEMA or record.get("sizes") != list(SIZES):
            raise ValueError(
                f"got schema {record.get('schema')!r:.60} with sizes {record.get('sizes')!r:.200}, "
                f"expected schema {_SCHEMA} with {list(SIZES)}"
            )
        kinds = record.get("kinds")
        if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
            raise ValueError(f"kinds: got {kinds!r:.60}, expected a list of texts")
        return cls(tuple(kinds))


class Tokens(NamedTuple):
    """Architectures as arrays; h = 9 values a layer, named in `Vocabulary.to_json()["sizes"]`.

    Attributes:
        ids: int32[n, l], 0 at padding.
        values: float32[n, l, h]: log2 of counts (channels, kernel, stride, ...), rates as they
            are; 0 where a layer has none.
        mask: bool[n, l], True at layers.
    """

    ids: np.ndarray
    values: np.ndarray
    mask: np.ndarray


def build_vocabulary(architectures: Iterable[Architecture], min_count: int = 1) -> Vocabulary:
    """The layer kinds of a training set, the most frequent first.

    Args:
        architectures: of the training runs only; what others add is unknown to the predictor.
        min_count: kinds seen less often stay unknown.

    Returns:
        The vocabulary.

    Example:
        >>> from metal_jax.exhaust import Layer
        >>> build_vocabulary([[Layer("conv"), Layer("pool"), Layer("conv")]]).kinds
        ('conv', 'pool')
    """
    counts = Counter(
        describe(layer).kind for architecture in architectures for layer in layers(architecture)
    )
    ranked = sorted(counts, key=lambda kind: (-counts[kind], kind))
    return Vocabulary(tuple(kind for kind in ranked if counts[kind] >= min_count))


def tokenise(
    architectures: Sequence[Architecture], vocabulary: Vocabulary, length: int | None = None
) -> Tokens:
    """Architectures as padded arrays; graphs in topological order.

    Args:
        architectures: n of them.
        vocabulary: of the training set.
        length: l; by default that of the longest.

    Returns:
        The arrays.

    Raises:
        ValueError: an architecture is longer than `length`.

    Example:
        >>> from metal_jax.exhaust import read_layer_string
        >>> net = read_layer_string("C(64,3,1) SM(10)")
        >>> tokenise([net], build_vocabulary([net]), 3).ids.tolist()
        [[2, 3, 0]]
    """
    sequences = [layers(architecture) for architecture in architectures]
    longest = max((len(sequence) for sequence in sequences), default=0)
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"got an architecture of {longest} layers, expected at most {length}")
    ids_of = {kind: i for i, kind in enumerate(vocabulary.kinds, start=UNKNOWN + 1)}
    ids = np.full((len(sequences), length), PADDING, np.int32)
    values = np.zeros((len(sequences), length, len(SIZES)), np.float32)
    for i, sequence in enumerate(sequences):
        for j, layer in enumerate(sequence):
            found = describe(layer)
            ids[i, j] = ids_of.get(found.kind, UNKNOWN)
            values[i, j] = found.sizes
    return Tokens(ids, values, ids != PADDING)
