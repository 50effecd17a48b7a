"""Keys derived from names, so that random values do not depend on the order of a tree."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import jax
import numpy as np


def _hashes(names: Sequence[str]) -> np.ndarray:
    """uint32[n], the same in every process."""
    return np.array([zlib.crc32(name.encode()) for name in names], np.uint32)


def name_key(key: jax.Array, *names: str) -> jax.Array:
    """The key of a name, such as `("encoder", task)`: folded name by name."""
    for value in _hashes(names):
        key = jax.random.fold_in(key, value)
    return key


def name_keys(key: jax.Array, names: Sequence[tuple[str, ...]]) -> jax.Array:
    """`name_key` of n names of equal length.

    Args:
        key: folded, not consumed.
        names: n tuples of strings.

    Returns:
        n keys.
    """
    keys = key
    fold = jax.vmap(jax.random.fold_in, (None, 0))
    for part in zip(*names, strict=True):
        keys = fold(keys, _hashes(part))
        fold = jax.vmap(jax.random.fold_in)
    return keys
