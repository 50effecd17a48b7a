"""Steps of a protocol that takes long: who is told of them, and who may keep what they made."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

OnProgress = Callable[[str, int, int], None]
"""Called with the name of a step before it starts, the steps done so far, and those in all."""

Arrays = Mapping[str, np.ndarray]

Remember = Callable[[str, Callable[[], Arrays]], Arrays]
"""Called with the name of a step and what makes its arrays: gives them, made now or earlier."""


def no_progress(step: str, done: int, total: int) -> None:
    """Tell nobody."""
    del step, done, total


def make_again(name: str, make: Callable[[], Arrays]) -> Arrays:
    """Remember nothing."""
    del name
    return make()
