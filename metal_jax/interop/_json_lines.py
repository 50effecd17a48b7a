"""What goes into files of JSON, with the values of data frames in it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np


def json_line(record: Any, where: str) -> str:
    """A record as JSON on one line, NumPy's scalars as their values.

    Args:
        record: what may come from a data frame.
        where: which record it is, for the message.

    Returns:
        The line, without its end.

    Raises:
        ValueError: no JSON; NaN and infinity are none either.

    Example:
        >>> json_line({"stars": np.int64(3)}, "item 0")
        '{"stars": 3}'
    """
    try:
        return json.dumps(record, allow_nan=False, default=_scalar)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{where}: {error}") from error


def _scalar(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
