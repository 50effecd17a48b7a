"""JSON from anybody, with a bound on its nesting."""

from __future__ import annotations

import json
import re
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
