"""Checks of shapes, dtypes and settings: ValueError with what was got and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


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


def check_broadcast(**arrays: Any) -> None:
    """Raise unless the shapes of the named arrays broadcast against each other."""
    try:
        np.broadcast_shapes(*(tuple(array.shape) for array in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"got shapes {shapes}, which do not broadcast") from None


def check_integer(name: str, array) -> None:
    """Raise unless `array` holds integers."""
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise ValueError(f"{name}: got dtype {array.dtype}, expected integers")


def host_array(name: str, values: Any) -> np.ndarray:
    """`np.asarray`, whose error names the argument when rows have different lengths."""
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name}: got no array: {error}") from error


def real_array(name: str, values: Any) -> np.ndarray | jax.Array:
    """The values as an array of booleans, integers or floats; traced ones stay as they are.

    Args:
        name: of the argument.
        values: array or nested sequence of numbers.

    Returns:
        On the host, unless it was on a device or is traced.

    Raises:
        ValueError: rows of different lengths, text, objects or complex numbers.

    Example:
        >>> real_array("weights", [1, 2.5])
        array([1. , 2.5])
    """
    if isinstance(values, jax.Array):
        array = values
    elif isinstance(values, list | tuple) and _any_traced(values):
        array = jnp.asarray(values)
    else:
        array = host_array(name, values)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (np.bool_, np.integer, np.floating)):
        raise ValueError(f"{name}: got dtype {array.dtype}, expected real numbers")
    return array


def _any_traced(values: Any) -> bool:
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(values))


def real_jax_array(name: str, values: Any) -> jax.Array:
    """`real_array` in the types of JAX, of 32 bits unless x64 is on; no integer wraps round."""
    array = real_array(name, values)
    if isinstance(array, np.ndarray) and array.size and array.dtype.kind in "iu":
        limits = np.iinfo(jax.dtypes.canonicalize_dtype(array.dtype))
        if array.min() < limits.min or array.max() > limits.max:
            array = array.astype(float)
    return jnp.asarray(array)


def check_known(name: str, sound: Any, expected: str) -> None:
    """Raise unless all of `sound` holds; of traced values nothing is known, and nothing raised.

    Args:
        name: of the argument.
        sound: bool[...], what each entry must fulfil.
        expected: what that is.
    """
    if isinstance(sound, Tracer) or np.all(sound):
        return
    place = tuple(int(i) for i in np.argwhere(~np.asarray(sound))[0])
    where = f"entry {list(place)}" if place else "the value"
    raise ValueError(f"{name}: {where} is not {expected}")


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
