"""Slicing functions: programs that say which items belong to a part of the data that matters.

Legend: `n` items, `S` slices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from metal_jax.labeling._functions import Item


@dataclasses.dataclass(frozen=True)
class SlicingFunction:
    """A named subset of the items, defined by a program (Chen et al., NeurIPS 2019, section 3).

    Attributes:
        name: unique among the slices that are applied together.
        function: item -> whether it belongs.
    """

    name: str
    function: Callable[[Item], bool]

    def __call__(self, item: Item) -> bool:
        """Whether an item belongs to the slice."""
        return self.function(item)


def slicing_function(
    *, name: str | None = None
) -> Callable[[Callable[[Item], bool]], SlicingFunction]:
    """Decorator that makes a slicing function of a plain function.

    Args:
        name: the slice's name; by default the function's.

    Returns:
        The decorator.

    Example:
        >>> @slicing_function()
        ... def short(item):
        ...     return len(item) < 10
        >>> short.name, short("a goal")
        ('short', True)
    """

    def wrap(function: Callable[[Item], bool]) -> SlicingFunction:
        return SlicingFunction(name or function.__name__, function)

    return wrap


class AppliedSlices(NamedTuple):
    """What `apply_slices` returns.

    Attributes:
        membership: bool[n, S].
        names: the S names, in column order.
        num_errors: int64[S], items on which the function raised (with `on_error="outside"`).
    """

    membership: np.ndarray
    names: tuple[str, ...]
    num_errors: np.ndarray


class SlicingFunctionError(RuntimeError):
    """A slicing function raised, or returned something that is no truth value; names the item."""


def apply_slices(
    slices: Sequence[SlicingFunction],
    items: Iterable[Item],
    *,
    on_error: Literal["raise", "outside"] = "raise",
) -> AppliedSlices:
    """Run every slicing function on every item.

    Args:
        slices: slicing functions with unique names.
        items: n items, read once, in order.
        on_error: what to do when a function raises or returns no boolean: raise an error that names
            slice and item, or count it and leave the item outside.

    Returns:
        The membership matrix.

    Raises:
        ValueError: no slices, two with one name, or no items.
        SlicingFunctionError: with `on_error="raise"`, at the first failure.

    Example:
        >>> short = SlicingFunction("short", lambda item: len(item) < 7)
        >>> apply_slices([short], ["a goal", "the market"]).membership.tolist()
        [[True], [False]]
    """
    names = tuple(one.name for one in slices)
    if not names:
        raise ValueError("no slicing functions were given")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two slicing functions are called {name!r}")
    if on_error not in ("raise", "outside"):
        raise ValueError(f"on_error: got {on_error!r}, expected 'raise' or 'outside'")
    num_errors = np.zeros(len(slices), np.int64)
    rows = []
    for row, item in enumerate(items):
        inside = []
        for column, one in enumerate(slices):
            try:
                found = one(item)
                if not isinstance(found, bool | np.bool_):
                    raise TypeError(f"got {found!r}, expected True or False")
            except Exception as error:
                if on_error == "raise":
                    raise SlicingFunctionError(
                        f"slice {one.name!r} failed on item {row}: {type(error).__name__}: {error}"
                    ) from error
                num_errors[column] += 1
                found = False
            inside.append(bool(found))
        rows.append(inside)
    if not rows:
        raise ValueError("no items were given")
    return AppliedSlices(np.asarray(rows), names, num_errors)
