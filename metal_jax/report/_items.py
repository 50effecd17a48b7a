"""Tables of items: which rows they show, and texts that come again and again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metal_jax.labeling import Span

LFSpans = Mapping[int, Sequence[tuple[int, Span]]]
"""Item -> LF and the part of the item's text that made it vote, of each such part."""

LONGEST_TEXT = 1200
"""Characters of an item's text that a table holds."""


def shown_rows(num_items: int, most: int, key: np.ndarray) -> np.ndarray:
    """Rows of the items that are shown, by a key; of more than `most` evenly spaced ones."""
    rows = np.arange(num_items)
    if num_items > most:
        rows = np.unique(np.linspace(0, num_items - 1, most).round().astype(int))
    return rows[np.argsort(key[rows], kind="stable")]


class Words:
    """Numbers of texts that come again and again."""

    def __init__(self) -> None:
        """Start with none."""
        self.texts: list[str] = []
        self._places: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """The number of a text, the same whenever it comes."""
        place = self._places.setdefault(text, len(self.texts))
        if place == len(self.texts):
            self.texts.append(text)
        return place
