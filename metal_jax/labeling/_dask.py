"""Labelling functions on a Dask cluster; needs the extra `distributed`.

Each partition is one task of Dask's graph: a worker that dies loses only what it was doing, and the
scheduler gives that to another. Results are put together by partition number, so nothing is lost or
doubled.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from metal_jax.labeling._apply import AppliedVotes
from metal_jax.labeling._apply_blocks import (
    FAILED,
    Block,
    LabelingFunctionError,
    check_lfs,
    label_block,
    num_columns,
)
from metal_jax.labeling._digests import item_digest
from metal_jax.labeling._functions import ABSTAIN, Item, LabelingFunction, VoteResolver
from metal_jax.labeling._matrix import narrowest_integers
from metal_jax.task_tree import TaskTree


def apply_dask(
    lfs: Sequence[LabelingFunction],
    items: Any,
    tree: TaskTree,
    *,
    on_error: Literal["raise", "abstain"] = "raise",
) -> AppliedVotes:
    """Run every labelling function on every item of a Dask collection, on Dask's workers.

    It runs on the current `dask.distributed.Client`, or else on Dask's default scheduler. Equal
    items of one partition are labelled once, and equal items of any get the same votes: those of
    the first. Functions may be closures, as Dask sends them by value.

    There is no `on_progress` and no `cache` as `apply` has them: Dask's dashboard and
    `dask.diagnostics.ProgressBar` show how far it is, and every call runs all functions again.

    Args:
        lfs: labelling functions with unique names; m columns, one for each of their tasks.
        items: n items: a `dask.bag.Bag` of items, or a `dask.dataframe` whose rows are items, as
            mappings from column name to value.
        tree: the task tree whose labels they vote for.
        on_error: what to do when an LF raises or returns no label of the tree, as in `apply`.

    Returns:
        The votes in the order of the partitions, as `apply` gives them.

    Raises:
        ImportError: without Dask.
        ValueError: as `apply`, or something else than a Dask collection.
        LabelingFunctionError: with `on_error="raise"`, the first failing vote.
    """
    try:
        from dask.base import compute  # pyright: ignore[reportMissingImports]
        from dask.delayed import delayed  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("apply_dask needs Dask: pip install 'metal-jax[distributed]'") from error

    check_lfs(lfs, tree, on_error)
    if not hasattr(items, "to_delayed"):
        raise ValueError(f"items: got {type(items).__name__}, expected a Dask bag or data frame")
    # An LF is taken apart: Dask finds a decorated function by value, but not under its name.
    parts = [(lf.name, lf.task, lf.function, lf.version) for lf in lfs]
    run = delayed(_label_partition, pure=False)
    tasks = [run(parts, tree, partition) for partition in items.to_delayed()]
    results: Sequence[tuple[np.ndarray, list[bytes | None]]] = compute(*tasks)
    votes, digests = [], []
    for own, keys in results:
        votes.append(own)
        digests += keys
    if not digests:
        raise ValueError("no items were given")
    matrix = np.concatenate(votes)[_first_rows(digests)]
    failed = matrix == FAILED
    if on_error == "raise" and failed.any():
        _raise_first(lfs, items, tree, int(np.argwhere(failed)[0][0]), [len(v) for v in votes])
    return AppliedVotes(
        narrowest_integers(np.where(failed, ABSTAIN, matrix)),
        tuple(name for lf in lfs for name in lf.column_names),
        failed.sum(axis=0, dtype=np.int64),
    )


def _label_partition(
    parts: list[tuple[Any, ...]], tree: TaskTree, partition: Any
) -> tuple[np.ndarray, list[bytes | None]]:
    """Votes int32[p, columns] and digests of a partition's items; runs on a worker."""
    lfs = [LabelingFunction(*part) for part in parts]
    items = list(_items(partition))
    digests = [item_digest(item) for item in items]
    if not items:
        return np.empty((0, num_columns(lfs)), np.int32), []
    first = _first_rows(digests)
    rows = np.unique(first)
    block = Block([items[row] for row in rows], rows.tolist(), [])
    votes = label_block(lfs, VoteResolver(lfs, tree), block, raising=False)
    return votes[np.searchsorted(rows, first)], digests


def _items(partition: Any) -> Iterable[Item]:
    """The items of a bag's partition, or of a data frame."""
    return partition.to_dict("records") if hasattr(partition, "to_dict") else partition


def _first_rows(digests: Sequence[bytes | None]) -> np.ndarray:
    """int64[n], for each item the row of the first that equals it."""
    known: dict[bytes, int] = {}
    return np.array(
        [row if key is None else known.setdefault(key, row) for row, key in enumerate(digests)],
        np.int64,
    )


def _raise_first(
    lfs: Sequence[LabelingFunction], items: Any, tree: TaskTree, row: int, sizes: list[int]
) -> None:
    """Let the LF fail once more, here, where the error can be told in full."""
    ends = np.cumsum(sizes)
    number = int(np.searchsorted(ends, row, side="right"))
    partition = list(_items(items.to_delayed()[number].compute()))
    item = partition[row - (ends[number] - sizes[number])]
    label_block(lfs, VoteResolver(lfs, tree), Block([item], [row], []), raising=True)
    raise LabelingFunctionError(f"an LF failed on item {row} on a worker, but not here")
