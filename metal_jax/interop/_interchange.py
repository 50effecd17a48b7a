"""Columns of frames that speak the data frame interchange protocol, read from their buffers.

The protocol (https://data-apis.org/dataframe-protocol) hands out pointers to memory, so nothing of
the frame's library is imported. It is being retired: Polars 2 removed it, pandas 3 warns. Frames
whose columns can be had by name are read that way instead, see `_frames`.
"""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import numpy as np

_INT, _UINT, _FLOAT, _BOOL, _STRING, _DATETIME, _CATEGORICAL = 0, 1, 2, 20, 21, 22, 23
_NON_NULLABLE, _USE_NAN, _USE_SENTINEL, _USE_BITMASK, _USE_BYTEMASK = range(5)
_KINDS = {_INT: "i", _UINT: "u", _FLOAT: "f", _BOOL: "u", _CATEGORICAL: "i"}


def interchange_columns(frame: Any) -> dict[str, list[Any]]:
    """The columns as lists of plain values, None where missing.

    Args:
        frame: an object with `__dataframe__`.

    Returns:
        Column name -> values.

    Raises:
        ValueError: a column of dates, or of a kind that the protocol does not know; names it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the protocol's retirement
        table = frame.__dataframe__(allow_copy=True)
        return {
            str(name): [
                value
                for chunk in table.get_column_by_name(name).get_chunks()
                for value in _values(chunk, str(name))
            ]
            for name in table.column_names()
        }


def _values(column: Any, name: str) -> list[Any]:
    kind, bits = int(column.dtype[0]), int(column.dtype[1])
    if kind == _CATEGORICAL:
        about = column.describe_categorical
        labels = _values(about["categories"], name)
        codes = _numbers(column, _type_of(column.get_buffers()["data"][1], name))
        values: list[Any] = [labels[code] if 0 <= code < len(labels) else None for code in codes]
    elif kind == _STRING:
        values = _strings(column)
    else:
        values = _numbers(column, _type(kind, bits, name)).tolist()
        if kind == _BOOL:
            values = [bool(value) for value in values]
    missing = _missing(column, values)
    return [None if gone else value for value, gone in zip(values, missing, strict=True)]


def _type(kind: int, bits: int, name: str) -> np.dtype:
    if kind not in _KINDS or (kind == _BOOL and bits == 1):
        raise ValueError(f"column {name!r}: its type (kind {kind}, {bits} bits) is not supported")
    return np.dtype(f"{_KINDS[kind]}{bits // 8}")


def _type_of(dtype: tuple[Any, ...], name: str) -> np.dtype:
    return _type(int(dtype[0]), int(dtype[1]), name)


def _numbers(column: Any, dtype: np.dtype) -> np.ndarray:
    """The column's part of its data buffer."""
    return _read(column.get_buffers()["data"][0], dtype, column.offset, column.size())


def _read(buffer: Any, dtype: np.dtype, start: int, count: int) -> np.ndarray:
    if count == 0:
        return np.empty(0, dtype)
    memory = ctypes.string_at(buffer.ptr + start * dtype.itemsize, count * dtype.itemsize)
    return np.frombuffer(memory, dtype)


def _strings(column: Any) -> list[str]:
    buffers = column.get_buffers()
    offset_buffer, offset_type = buffers["offsets"]
    ends = _read(offset_buffer, _type_of(offset_type, ""), column.offset, column.size() + 1)
    data, _ = buffers["data"]
    content = ctypes.string_at(data.ptr, int(ends[-1])) if ends[-1] else b""
    return [
        content[start:stop].decode("utf-8")
        for start, stop in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _missing(column: Any, values: list[Any]) -> list[bool]:
    """Which values are missing, by whatever means the column marks them."""
    how, mark = column.describe_null
    how, size = int(how), column.size()
    if how == _USE_NAN:
        return [value != value for value in values]
    if how == _USE_SENTINEL:
        codes = values
        if int(column.dtype[0]) == _CATEGORICAL:  # the mark is a code, already None
            return [value is None for value in values]
        return [code == mark for code in codes]
    if how in (_USE_BITMASK, _USE_BYTEMASK):
        validity = column.get_buffers()["validity"]
        if validity is None:
            return [False] * size
        start = column.offset
        if how == _USE_BYTEMASK:
            flags = _read(validity[0], np.dtype("u1"), start, size)
        else:
            packed = _read(validity[0], np.dtype("u1"), start // 8, (start % 8 + size + 7) // 8)
            flags = np.unpackbits(packed, bitorder="little")[start % 8 : start % 8 + size]
        return (flags == mark).tolist()
    return [False] * size
