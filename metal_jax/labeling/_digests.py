"""Digests of items, by which equal ones are known."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metal_jax.labeling._functions import Item

_SIZE = 16  # bytes
_BY_REPR = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)


def item_digest(item: Item) -> bytes | None:
    """A hash of an item's value, equal for equal items and, in practice, for no others.

    Args:
        item: anything made of strings, numbers, dates, bytes, None, lists, tuples, mappings,
            dataclasses and numeric arrays.

    Returns:
        16 bytes, or None where it holds something else.

    Example:
        >>> item_digest({"text": "a"}) == item_digest({"text": "a"}) != item_digest({"text": "b"})
        True
        >>> item_digest(object()) is None
        True
    """
    parts: list[bytes] = []
    try:
        encode(item, parts.append)
    except (TypeError, RecursionError):
        return None
    return digest_of(parts)


def digest_of(parts: list[bytes]) -> bytes:
    """16 bytes of hash of the parts in their order."""
    return hashlib.blake2b(b"".join(parts), digest_size=_SIZE).digest()


def encode(value: Any, put: Callable[[bytes], None]) -> None:
    """Write a value so that different values, or values of different types, differ."""
    kind = type(value)
    if issubclass(kind, str):
        content = value.encode("utf-8", "surrogatepass")
        put(b"s%d:" % len(content))
        put(content)
    elif kind is int:
        put(b"i%x;" % value)
    elif value is None or kind in (bool, float):
        put(f"{kind.__name__}{value!r};".encode())
    elif kind in _BY_REPR:
        put(f"{kind.__qualname__}{value!r};".encode())
    elif kind is bytes:
        put(b"b%d:" % len(value))
        put(value)
    elif isinstance(value, Mapping):
        put(f"{kind.__qualname__}{len(value)}{{".encode())
        for key, content in value.items():
            encode(key, put)
            encode(content, put)
    elif isinstance(value, list | tuple):
        put(f"{kind.__qualname__}{len(value)}[".encode())
        for content in value:
            encode(content, put)
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSUmM":
        array = np.asarray(value)
        put(f"array{array.dtype.str}{array.shape}:".encode())
        put(array.tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        encode((kind.__qualname__, [(name, getattr(value, name)) for name in fields]), put)
    else:
        raise TypeError(f"cannot hash a {kind.__qualname__}")
