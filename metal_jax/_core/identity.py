"""What tells pytrees of arrays, and values of JSON, apart."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def checksums(params: Any) -> dict[str, str]:
    """Name of each leaf -> its checksum; without those that no process has whole."""
    return {
        name: checksum_of(np.asarray(jax.random.key_data(x) if _is_key(x) else x))
        for name, x in _leaves(params)
        if getattr(x, "is_fully_addressable", True)
    }


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def plain_json(name: str, value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, keys as text."""
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{name}: expected plain JSON: {error}") from error


def checksum_of(array: np.ndarray) -> str:
    """Dtype, shape and checksum of the bytes."""
    return f"{array.dtype}{list(array.shape)} crc32 {zlib.crc32(array.tobytes()):08x}"


def kind_of(checksum: str) -> str:
    """Dtype and shape."""
    return checksum.partition("]")[0]


def flat_json(value: Any, name: str = "") -> dict[str, Any]:
    """Path -> value of each leaf of a JSON value; nothing for what is empty."""
    if not isinstance(value, dict | list):
        return {name: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    flat = {}
    for key, entry in items:
        flat |= flat_json(entry, f"{name}.{key}" if name else str(key))
    return flat


def first_difference(
    saved: Mapping[str, Any], wanted: Mapping[str, Any], verb: str = "saved"
) -> str:
    """The first name whose values differ, and how; empty if there is none."""
    for name in sorted(wanted.keys() | saved.keys()):
        if wanted.get(name) != saved.get(name):
            return (
                f"{name}: {verb} {saved.get(name, 'nothing')}, "
                f"expected {wanted.get(name, 'nothing')}"
            )
    return ""


def shapes_of(tree: Any) -> dict[str, str]:
    """Name of each leaf -> its dtype and shape."""
    return {name: f"{x.dtype}{list(x.shape)}" for name, x in _leaves(tree)}


def _leaves(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree, is_leaf=lambda x: hasattr(x, "shape"))
    return [(jax.tree_util.keystr(path, simple=True, separator="."), x) for path, x in leaves]
