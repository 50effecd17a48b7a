"""Checks of shapes, dtypes and settings: ValueError with what was got and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def check_last_axis(name: str, array, size: int) -> None:
    """Raise unless `array` has a last axis of `size`."""
    if array.ndim < 1 or array.shape[-1] != size:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}, expected [..., {size}]")


def check_rank(name: str, array, rank: int) -> None:
    """Raise unless `array` has `rank` axes."""
    if array.ndim != rank:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}, expected {rank} axes")


def check_shape(name: str, array, shape: tuple[int, ...]) -> None:
    """Raise unless `array` has exactly `shape`."""
    if tuple(array.shape) != shape:
        raise ValueError(f"{name}: got shape {tuple(array.shape)}, expected {shape}")


def check_integer(name: str, array) -> None:
    """Raise unless `array` holds integers."""
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name}: got dtype {array.dtype}, expected integers")


def check_positive(settings: Any, *names: str) -> None:
    """Raise unless every named setting, or all of its entries, are positive."""
    for name in names:
        value = getattr(settings, name)
        if not np.all(np.asarray(value) > 0):
            raise ValueError(f"{name}: got {value}, expected a positive number")


def check_texts(name: str, texts: Sequence[str]) -> None:
    """Raise unless `texts` is a sequence of strings; one string is a sequence of letters."""
    if isinstance(texts, str):
        raise ValueError(f"{name}: got one string, expected a sequence of strings")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"{name}: item {i} is {type(text).__name__}, expected a string")


def leaf_types(tree: Any) -> dict[str, str]:
    """Name of each leaf of a pytree -> its dtype and shape, to name how trees differ."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{x.dtype}{list(x.shape)}"
        for path, x in jax.tree.leaves_with_path(tree)
    }
