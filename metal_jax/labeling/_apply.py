"""Applying labelling functions to items."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from metal_jax.labeling._functions import (
    ABSTAIN,
    Item,
    LabelingFunction,
    Votes,
    resolve_votes,
)
from metal_jax.labeling._matrix import narrowest_integers
from metal_jax.task_tree import TaskTree


class AppliedVotes(NamedTuple):
    """What `apply` returns.

    Attributes:
        votes: int[n, m] label matrix of node ids, -1 = abstain, in the narrowest dtype.
        lf_names: the m names, in column order; `name[task]` for each task of an LF of several.
        num_errors: int64[m], items on which the column's LF raised (with `on_error="abstain"`).
    """

    votes: np.ndarray
    lf_names: tuple[str, ...]
    num_errors: np.ndarray


class LabelingFunctionError(RuntimeError):
    """A labelling function raised, or returned something that is no vote; names LF and item."""


def apply(
    lfs: Sequence[LabelingFunction],
    items: Iterable[Item],
    tree: TaskTree,
    *,
    on_error: Literal["raise", "abstain"] = "raise",
    on_progress: Callable[[int], None] | None = None,
) -> AppliedVotes:
    """Run every labelling function on every item.

    Args:
        lfs: labelling functions with unique names; m columns, one for each of their tasks.
        items: n items, read once, in order.
        tree: the task tree whose labels they vote for.
        on_error: what to do when an LF raises or returns no label of the tree: raise an error that
            names the LF and the item, or count it and take the vote as an abstain.
        on_progress: called with the number of items done, after each item.

    Returns:
        The label matrix, the LF names and the errors of each LF.

    Raises:
        ValueError: no LFs, two with one name, an unknown task, an LF with two tasks of one root, or
            no items.
        LabelingFunctionError: with `on_error="raise"`, at the first failing vote.

    Example:
        >>> from metal_jax.labeling import keyword_lf
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> lfs = [keyword_lf("goal", "topic", "sport", ["goal"]),
        ...        keyword_lf("price", "topic", "trade", ["price", "market"])]
        >>> apply(lfs, ["a late goal", "the market fell", "rain"], tree).votes.tolist()
        [[0, -1], [-1, 1], [-1, -1]]
    """
    names = [lf.name for lf in lfs]
    if not names:
        raise ValueError("no labelling functions were given")
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two labelling functions are called {name!r}")
    for lf in lfs:
        roots = [tree.node_root[tree.task_nodes[tree.task_index(task)][0]] for task in lf.tasks]
        if len(set(roots)) < len(roots):
            raise ValueError(
                f"LF {lf.name!r}: the tasks {list(lf.tasks)} are not of different roots; give it "
                "the upper one, votes may lie beneath it"
            )
    if on_error not in ("raise", "abstain"):
        raise ValueError(f"on_error: got {on_error!r}, expected 'raise' or 'abstain'")

    # An LF returns few distinct labels: resolve each once.
    known: list[dict[Hashable, tuple[int, ...]]] = [{} for _ in lfs]
    num_errors = np.zeros(len(lfs), np.int64)
    rows: list[list[int]] = []
    for row, item in enumerate(items):
        votes: list[int] = []
        for column, lf in enumerate(lfs):
            try:
                returned = lf(item)
                key = _hashable(returned)
                nodes = known[column].get(key)
                if nodes is None:
                    nodes = known[column][key] = resolve_votes(lf, returned, tree)
            except Exception as error:
                if on_error == "raise":
                    raise LabelingFunctionError(
                        f"LF {lf.name!r} failed on item {row}: {type(error).__name__}: {error}"
                    ) from error
                num_errors[column] += 1
                nodes = (ABSTAIN,) * len(lf.tasks)
            votes.extend(nodes)
        rows.append(votes)
        if on_progress is not None:
            on_progress(row + 1)
    if not rows:
        raise ValueError("no items were given")
    return AppliedVotes(
        narrowest_integers(np.asarray(rows)),
        tuple(name for lf in lfs for name in lf.column_names),
        np.repeat(num_errors, [len(lf.tasks) for lf in lfs]),
    )


def _hashable(returned: Votes) -> Hashable:
    """Equal for equal votes; a list never equals a pair."""
    if isinstance(returned, Mapping):
        return ("mapping", *returned.items())
    return ("list", *returned) if isinstance(returned, list) else (returned,)
