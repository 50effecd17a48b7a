"""The work of `apply` on a block of items, in whatever process it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from metal_jax.labeling._functions import ABSTAIN, Item, LabelingFunction, VoteResolver
from metal_jax.task_tree import TaskTree

FAILED = -3
"""Stands in a block for the vote of an LF that raised; an abstain in the end."""


class LabelingFunctionError(RuntimeError):
    """A labelling function raised, or returned something that is no vote; names LF and item."""


class Block(NamedTuple):
    """Different items that are labelled, sent to a worker and cached together.

    Attributes:
        items: the items.
        rows: the first row of each among all items.
        digests: their digests, None for an item without one.
    """

    items: list[Item]
    rows: list[int]
    digests: list[bytes | None]


def check_lfs(lfs: Sequence[LabelingFunction], tree: TaskTree, on_error: str) -> None:
    """Raise ValueError, or TypeError, unless the LFs can be applied together."""
    if not isinstance(lfs, Sequence):
        raise TypeError(f"lfs: got a {type(lfs).__name__}, expected a list of LFs")
    for number, lf in enumerate(lfs):
        if not isinstance(lf, LabelingFunction):
            raise TypeError(
                f"lfs: number {number} is a {type(lf).__name__}, expected a LabelingFunction; "
                "labeling_function(task=...) makes one of a function"
            )
    if not lfs:
        raise ValueError("no labelling functions were given")
    seen: set[str] = set()
    for lf in lfs:
        if lf.name in seen:
            raise ValueError(f"two labelling functions are called {lf.name!r}")
        seen.add(lf.name)
        for name in lf.column_names if lf.column_names != (lf.name,) else ():
            if name in seen:
                raise ValueError(f"LF {lf.name!r}: its column {name!r} is called as another LF is")
            seen.add(name)
        roots = [tree.node_root[tree.task_nodes[tree.task_index(task)][0]] for task in lf.tasks]
        if len(set(roots)) < len(roots):
            raise ValueError(
                f"LF {lf.name!r}: the tasks {list(lf.tasks)} are not of different roots; give it "
                "the upper one, votes may lie beneath it"
            )
    if on_error not in ("raise", "abstain"):
        raise ValueError(f"on_error: got {on_error!r}, expected 'raise' or 'abstain'")


def num_columns(lfs: Sequence[LabelingFunction]) -> int:
    """How many columns of votes the LFs have."""
    return sum(len(lf.tasks) for lf in lfs)


def label_block(
    lfs: Sequence[LabelingFunction],
    resolver: VoteResolver,
    block: Block,
    *,
    raising: bool,
    after_item: Callable[[int, list[int]], None] | None = None,
) -> np.ndarray:
    """Run LFs on the items of a block, all of them on an item before the next.

    Args:
        lfs: the labelling functions.
        resolver: of these LFs.
        block: the items, b of them.
        raising: raise at the first failure, or write `FAILED`.
        after_item: called with the number of items done, and the positions of the LFs that failed.

    Returns:
        int32[b, columns] node ids, `ABSTAIN` or `FAILED`.

    Raises:
        LabelingFunctionError: an LF failed, and `raising`.
    """
    votes = np.full((len(block.items), num_columns(lfs)), ABSTAIN, np.int32)
    for done, (item, row) in enumerate(zip(block.items, block.rows, strict=True)):
        column, failed = 0, []
        for number, lf in enumerate(lfs):
            end = column + len(lf.tasks)
            try:
                votes[done, column:end] = resolver(number, lf(item))
            except (Exception, SystemExit) as error:  # sys.exit in an LF is its failure
                if raising:
                    raise LabelingFunctionError(
                        f"LF {lf.name!r} failed on item {row}: {type(error).__name__}: {error}"
                    ) from error
                votes[done, column:end] = FAILED
                failed.append(number)
            column = end
        if after_item is not None:
            after_item(done + 1, failed)
    return votes
