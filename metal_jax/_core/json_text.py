"""JSON from anybody: a bound on its nesting, and checksums."""

from __future__ import annotations

import json
import re
import zlib
from typing import Any

MAX_DEPTH = 100

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def parse_json(text: str) -> Any:
    """`json.loads` with a bound on nesting.

    Args:
        text: JSON; NaN and Infinity are let through.

    Returns:
        The value.

    Raises:
        ValueError: not JSON, or nested more than `MAX_DEPTH` deep.

    Example:
        >>> parse_json('{"a": [1, 2]}')
        {'a': [1, 2]}
    """
    if text.count("[") + text.count("{") > MAX_DEPTH:
        depth = 0
        for match in _BRACKETS.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
            if depth > MAX_DEPTH:
                raise ValueError(f"nested more than {MAX_DEPTH} deep at character {match.start()}")
    return json.loads(text)


def json_checksum(value: Any) -> str:
    """A checksum of a JSON value, the same however it was written down.

    Args:
        value: plain JSON.

    Returns:
        The checksum.

    Example:
        >>> json_checksum({"a": 1, "b": (2.5,)}) == json_checksum({"b": [2.5], "a": 1})
        True
    """
    return f"crc32 {zlib.crc32(json.dumps(value, sort_keys=True).encode()):08x}"
