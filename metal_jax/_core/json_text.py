"""JSON from anybody: a bound on its nesting, names that are there twice, and checksums."""

from __future__ import annotations

import json
import re
import zlib
from collections import Counter
from typing import Any

MAX_DEPTH = 100

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[{]|[\]}]', re.DOTALL)


def parse_json(text: str, *, unique_names: bool = False) -> Any:
    """`json.loads` with a bound on nesting.

    Args:
        text: JSON; NaN and Infinity are let through.
        unique_names: refuse an object with two entries of one name, of which Python keeps the last.

    Returns:
        The value.

    Raises:
        ValueError: not JSON (`json.JSONDecodeError`), nested more than `MAX_DEPTH` deep, or a name
            that is there twice.

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
    return json.loads(text, object_pairs_hook=_unique if unique_names else None)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        name, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the name {name!r} appears twice in one object")
    return content


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
