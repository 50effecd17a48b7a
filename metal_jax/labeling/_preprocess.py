"""Preprocessors: work on an item that several labelling functions share, done once."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable
from typing import Any

from metal_jax.labeling._digests import item_digest
from metal_jax.labeling._functions import Item


class Preprocessor:
    """A function of an item that remembers its last values.

    All labelling functions see an item before any of them sees the next. So one remembered value is
    enough for one call per item, and nothing is hashed: the last item is known by its identity.
    What a preprocessor returns is the same object for every caller, so preprocessors of
    preprocessors are remembered too. Nobody may change the item or the value.

    Args:
        function: item -> anything; an exception is remembered like a value.
        name: for messages.
        remember: how many items' values to keep. More than one costs a hash of the item for each
            call; they outlast `apply`, so that LFs may be edited without doing the work again.
        version: as in `LabelingFunction`: a word for what the function does now, for the cache.

    Example:
        >>> words = Preprocessor(str.split, name="words")
        >>> words("a late goal") is words("a late goal")
        True
    """

    def __init__(
        self,
        function: Callable[[Item], Any],
        *,
        name: str,
        remember: int = 1,
        version: str | None = None,
    ) -> None:
        """Start without any value."""
        if remember < 1:
            raise ValueError(
                f"preprocessor {name!r}: remember: got {remember}, expected at least 1"
            )
        self.function = function
        self.name = name
        self.remember = remember
        self.version = version
        self._last: tuple[Item, tuple[Any, Exception | None]] | None = None
        self._known: collections.OrderedDict[Hashable, tuple[Any, Exception | None]]
        self._known = collections.OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy in another process starts without values."""
        return _rebuild, (self.function, self.name, self.remember, self.version)

    def __call__(self, item: Item) -> Any:
        """The value of an item, made now or remembered."""
        last = self._last  # read once: another thread may replace it
        if last is None or last[0] is not item:
            last = self._last = (item, self._look_up(item))
        value, error = last[1]
        if error is not None:
            raise error
        return value

    def _look_up(self, item: Item) -> tuple[Any, Exception | None]:
        digest = item_digest(item) if self.remember > 1 else None
        if digest is None:
            return self._run(item)
        found = self._known.pop(digest, None)
        found = self._known[digest] = self._run(item) if found is None else found
        while len(self._known) > self.remember:
            self._known.popitem(last=False)
        return found

    def _run(self, item: Item) -> tuple[Any, Exception | None]:
        try:
            return self.function(item), None
        except Exception as error:
            return None, error


def _rebuild(
    function: Callable[[Item], Any], name: str, remember: int, version: str | None
) -> Preprocessor:
    return Preprocessor(function, name=name, remember=remember, version=version)


def preprocessor(
    *, name: str | None = None, remember: int = 1, version: str | None = None
) -> Callable[[Callable[[Item], Any]], Preprocessor]:
    """Decorator that makes a `Preprocessor` of a plain function.

    Labelling functions call it themselves: `words(item)` in their body, or `text=headline` in a
    ready-made one.

    Args:
        name: for messages; by default the function's.
        remember: see `Preprocessor`.
        version: see `Preprocessor`.

    Returns:
        The decorator.

    Raises:
        ValueError: `remember` is less than 1.

    Example:
        >>> from metal_jax.labeling import ABSTAIN, labeling_function
        >>> @preprocessor()
        ... def words(item):
        ...     return item["text"].lower().split()
        >>> @labeling_function(task="topic")
        ... def names_a_goal(item):
        ...     return "sport" if "goal" in words(item) else ABSTAIN
        >>> names_a_goal({"text": "A late goal"})
        'sport'
    """

    def wrap(function: Callable[[Item], Any]) -> Preprocessor:
        own_name = name or getattr(function, "__name__", "preprocessor")
        return Preprocessor(function, name=own_name, remember=remember, version=version)

    return wrap
