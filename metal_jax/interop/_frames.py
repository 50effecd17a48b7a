"""Data frames of any library as plain columns, without importing the library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from metal_jax.interop._interchange import interchange_columns

_MISSING = ("NAType", "NaTType")  # pandas' own; neither equals itself


def frame_columns(frame: Any, columns: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """The columns of a data frame as lists of plain Python values.

    Args:
        frame: a pandas or Polars data frame, a Hugging Face `datasets.Dataset`, a `pyarrow.Table`,
            anything with `__dataframe__` (the data frame interchange protocol), a mapping from
            column names to values, or a list of rows that are mappings.
        columns: which columns; all by default.

    Returns:
        Column name, as text -> its n values, None where missing.

    Raises:
        ValueError: something else (a lazy frame too), a missing column, two columns whose names are
            the same text, or columns of different lengths.

    Example:
        >>> frame_columns([{"text": "a goal", "stars": 5}, {"text": "rain"}])
        {'text': ['a goal', 'rain'], 'stars': [5, None]}
    """
    found = _columns(frame, columns)
    if columns is not None:
        for name in columns:
            if name not in found:
                raise ValueError(f"frame: no column {name!r}; there are {list(found)}")
        found = {name: found[name] for name in columns}
    lengths = {name: len(values) for name, values in found.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"frame: columns of different lengths {lengths}")
    return found


def frame_items(frame: Any, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a data frame as items for labelling functions.

    Args:
        frame: as in `frame_columns`.
        columns: which columns an item has; all by default.

    Returns:
        n mappings from column name to value, None where missing.

    Raises:
        ValueError: as `frame_columns`.

    Example:
        >>> frame_items({"text": ["a goal", "rain"], "stars": [5, float("nan")]})
        [{'text': 'a goal', 'stars': 5}, {'text': 'rain', 'stars': None}]
    """
    found = frame_columns(frame, columns)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


def _columns(frame: Any, wanted: Sequence[str] | None) -> dict[str, list[Any]]:
    if isinstance(frame, Mapping):
        return _columns_by_name(frame, frame, wanted)
    if isinstance(frame, Sequence) and not isinstance(frame, str | bytes):
        return _columns_of_rows(frame)
    if type(frame).__name__ == "LazyFrame":
        raise ValueError("frame: got a LazyFrame, which has no values yet; call .collect() first")
    names = getattr(frame, "column_names", None)  # datasets, pyarrow
    names = getattr(frame, "columns", None) if names is None else names  # pandas, Polars
    if names is not None and not callable(names) and hasattr(frame, "__getitem__"):
        return _columns_by_name(frame, names, wanted)
    if hasattr(frame, "__dataframe__"):
        return interchange_columns(frame)
    raise ValueError(
        f"frame: got {type(frame).__name__}, expected a data frame, a mapping of columns or a list "
        "of rows"
    )


def _columns_by_name(
    table: Any, names: Iterable[Any], wanted: Sequence[str] | None
) -> dict[str, list[Any]]:
    """The wanted columns; names need be no strings, pandas has numbers and tuples."""
    return {
        text: _plain(table[name], text)
        for text, name in columns_by_text(names).items()
        if wanted is None or text in wanted
    }


def columns_by_text(names: Iterable[Any]) -> dict[str, Any]:
    """The name behind each text; ValueError if one text stands for two columns."""
    found: dict[str, Any] = {}
    for name in names:
        if str(name) in found:
            raise ValueError(f"frame: two columns are called {str(name)!r}")
        found[str(name)] = name
    return found


def _columns_of_rows(rows: Sequence[Any]) -> dict[str, list[Any]]:
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ValueError(f"frame: row {number} is a {type(row).__name__}, expected a mapping")
        names.update(dict.fromkeys(row))
    return {
        text: _plain([row.get(name) for row in rows], text)
        for text, name in columns_by_text(names).items()
    }


def _plain(values: Any, name: str) -> list[Any]:
    """Values as Python has them."""
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise ValueError(f"frame: column {name!r} is a {type(values).__name__}, expected values")
    if isinstance(values, Mapping) or hasattr(values, "column_names"):
        raise ValueError(f"frame: {name!r} is a table itself; choose one, such as one split")
    for method in ("tolist", "to_list", "to_pylist"):  # numpy and pandas, Polars, pyarrow
        if hasattr(values, method):
            values = getattr(values, method)()
            break
    return [plain_value(value) for value in values]


def plain_value(value: Any) -> Any:
    """A cell as Python has it: NumPy's scalars as their values, None where it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if type(value).__name__ in _MISSING or (isinstance(value, float) and value != value):
        return None
    return value
