"""Which network is judged in which fold, the same for every method."""

from __future__ import annotations

import jax
import numpy as np


def fold_of(num: int, num_folds: int, key: jax.Array) -> np.ndarray:
    """Deal shuffled networks into folds whose sizes differ by at most one.

    Folds go by network: runs of one architecture under several seeds must share a number.

    Args:
        num: n, how many networks.
        num_folds: how many folds.
        key: consumed; the same key gives the same folds on every machine.

    Returns:
        int64[n], the fold in which each network is judged.

    Raises:
        ValueError: fewer than two folds, or more folds than networks.

    Example:
        >>> np.bincount(fold_of(11, 5, jax.random.key(0))).tolist()
        [3, 2, 2, 2, 2]
    """
    if not 2 <= num_folds <= num:
        raise ValueError(f"got {num_folds} folds of {num} networks, expected 2 to {num}")
    fold = np.empty(num, np.int64)
    fold[np.asarray(jax.random.permutation(key, num))] = np.arange(num) % num_folds
    return fold
