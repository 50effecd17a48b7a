"""Applying labelling functions to items."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from metal_jax.labeling._apply_blocks import (
    FAILED,
    Block,
    check_lfs,
    label_block,
    num_columns,
)
from metal_jax.labeling._apply_cache import VoteCache
from metal_jax.labeling._apply_workers import Job, run_in_pool
from metal_jax.labeling._digests import item_digest
from metal_jax.labeling._functions import ABSTAIN, Item, LabelingFunction, VoteResolver
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


class ApplyProgress(NamedTuple):
    """How far `apply` has come.

    Attributes:
        num_items: items read and labelled so far, duplicates included.
        num_calls: calls of LFs that were made for them.
        num_cached: calls that were saved because the cache knew the vote.
        num_errors: LF name -> failures so far, of those with any.
        seconds: since the start.
    """

    num_items: int
    num_calls: int
    num_cached: int
    num_errors: dict[str, int]
    seconds: float

    @property
    def items_per_second(self) -> float:
        """Mean rate since the start."""
        return self.num_items / max(self.seconds, 1e-9)


def apply(
    lfs: Sequence[LabelingFunction],
    items: Iterable[Item],
    tree: TaskTree,
    *,
    on_error: Literal["raise", "abstain"] = "raise",
    on_progress: Callable[[ApplyProgress], None] | None = None,
    workers: int = 1,
    cache: str | os.PathLike[str] | None = None,
    block_size: int = 1024,
) -> AppliedVotes:
    """Run every labelling function on every item.

    Equal items are labelled once: the LFs run on the first, and the others get its votes. (Items
    that are made of anything but plain data and numeric arrays are all taken for different.) The
    result is the same for any number of workers, with a cache or without, of LFs that always give
    an item the same vote; those that failed on an item are asked again, whatever the cache knows.

    Args:
        lfs: labelling functions with unique names; m columns, one for each of their tasks.
        items: n items, read once, in order; nobody may change one that was given.
        tree: the task tree whose labels they vote for.
        on_error: what to do when an LF raises or returns no label of the tree: raise an error that
            names the LF and the item, or count it and take the vote as an abstain.
        on_progress: called after each new item, with workers or a full cache after each block.
        workers: processes that run the LFs, started anew; 1 = in this one. Functions must then
            stand at the top level of a module, and items must be what `multiprocessing` can send.
        cache: a folder of votes by LF and items, see `lf_digest`. A changed LF runs again, the
            others do not; blocks that were done when a run was interrupted are not done again.
        block_size: different items that are sent to a worker and kept in the cache together.

    Returns:
        The label matrix, the LF names and the errors of each LF.

    Raises:
        ValueError: no LFs, two with one name, an unknown task, an LF with two tasks of one root, no
            items, items that are one text or a data frame, an item that was given before with
            other content, an LF that cannot be sent to a worker or cached, or an item that cannot
            be cached.
        TypeError: `lfs` is no list of LFs.
        LabelingFunctionError: with `on_error="raise"`, at the first failing vote.
        RuntimeError: a worker process ended by itself.
        OSError: the cache cannot be written.

    Example:
        >>> from metal_jax.labeling import keyword_lf
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> lfs = [keyword_lf("goal", "topic", "sport", ["goal"]),
        ...        keyword_lf("price", "topic", "trade", ["price", "market"])]
        >>> apply(lfs, ["a late goal", "the market fell", "rain"], tree).votes.tolist()
        [[0, -1], [-1, 1], [-1, -1]]
    """
    check_lfs(lfs, tree, on_error)
    # Of the class, since asking a lazy frame itself for its columns makes it look them up.
    if isinstance(items, Mapping | str | bytes) or hasattr(type(items), "columns"):
        raise ValueError(
            f"items: got {type(items).__name__}, expected items one after the other; "
            "interop.frame_items makes them of a data frame"
        )
    for name, value in (("workers", workers), ("block_size", block_size)):
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    store = None if cache is None else VoteCache(cache, lfs, tree)
    raising = on_error == "raise"
    place: list[int] = []  # of each item's votes among those of the different items
    meter = _Meter(lfs, on_progress)
    jobs = (
        _job(block, lfs, store, raising)
        for block in _blocks(items, place, block_size, hashable=store is not None)
    )
    if workers > 1:
        results = run_in_pool(lfs, tree, jobs, workers=workers, raising=raising)
    else:
        results = _run_here(lfs, tree, jobs, raising, meter)
    starts = np.cumsum([0, *(len(lf.tasks) for lf in lfs)])
    done: list[np.ndarray] = []
    for job, found in results:
        retried: list[int] = []
        votes = np.empty((len(job.block.items), num_columns(lfs)), np.int32)
        at = 0
        for number in range(len(lfs)):
            columns = slice(starts[number], starts[number + 1])
            if number in job.known:
                votes[:, columns] = own = job.known[number]
                again = np.flatnonzero((own == FAILED).any(axis=1))
                if again.size:
                    own = own.copy()
                    own[again] = _run_again(lfs[number], tree, job.block, again)
                    votes[:, columns] = own
                    retried.append(len(again))
                    if store is not None and (own[again] != FAILED).any():
                        store.save(number, job.block, own)
                continue
            votes[:, columns] = own = found[:, at : at + len(lfs[number].tasks)]
            at += len(lfs[number].tasks)
            if store is not None:
                store.save(number, job.block, own)
        done.append(votes)
        meter.block(job, votes[:, starts[:-1]], sum(retried))
    if not place:
        raise ValueError("no items were given")
    matrix = np.concatenate(done)[place]
    failed = matrix == FAILED
    meter.end(len(place), failed[:, starts[:-1]])
    return AppliedVotes(
        narrowest_integers(np.where(failed, ABSTAIN, matrix)),
        tuple(name for lf in lfs for name in lf.column_names),
        failed.sum(axis=0, dtype=np.int64),
    )


def _blocks(
    items: Iterable[Item], place: list[int], size: int, *, hashable: bool
) -> Iterator[Block]:
    """The different items in blocks; writes to `place` which of them each item is."""
    known: dict[bytes, int] = {}
    block = Block([], [], [])
    num_different = 0
    before: tuple[Item, bytes | None] | None = None
    for row, item in enumerate(items):
        digest = item_digest(item)
        if before is not None and item is before[0] and digest != before[1]:
            raise ValueError(
                f"item {row}: the same {type(item).__name__} as item {row - 1}, with other "
                "content; give a new one for each item"
            )
        before = item, digest
        if digest is None and hashable:
            raise ValueError(
                f"item {row}: a {type(item).__name__} that is not plain data cannot be cached"
            )
        found = None if digest is None else known.get(digest)
        if found is None:
            found = num_different
            num_different += 1
            if digest is not None:
                known[digest] = found
            block.items.append(item)
            block.rows.append(row)
            block.digests.append(digest)
        place.append(found)
        if len(block.items) == size:
            yield block
            block = Block([], [], [])
    if block.items:
        yield block


def _job(
    block: Block, lfs: Sequence[LabelingFunction], store: VoteCache | None, raising: bool
) -> Job:
    known = {} if store is None else store.load(block)
    # A failure that is known of may have been the network's. Single ones are tried again in this
    # process, many where all the work is done; and those to be raised too, to be told in full.
    most = 0.0 if raising else 0.1
    known = {number: votes for number, votes in known.items() if (votes == FAILED).mean() <= most}
    return Job(block, tuple(j for j in range(len(lfs)) if j not in known), known)


def _run_again(lf: LabelingFunction, tree: TaskTree, block: Block, rows: np.ndarray) -> np.ndarray:
    """The votes int32[len(rows), tasks of the LF] on items of a block on which it failed before."""
    chosen = Block(
        [block.items[row] for row in rows],
        [block.rows[row] for row in rows],
        [block.digests[row] for row in rows],
    )
    return label_block([lf], VoteResolver([lf], tree), chosen, raising=False)


def _run_here(
    lfs: Sequence[LabelingFunction],
    tree: TaskTree,
    jobs: Iterable[Job],
    raising: bool,
    meter: _Meter,
) -> Iterator[tuple[Job, np.ndarray]]:
    ready: dict[tuple[int, ...], tuple[list[LabelingFunction], VoteResolver]] = {}
    for job in jobs:
        if job.missing not in ready:
            chosen = [lfs[number] for number in job.missing]
            ready[job.missing] = chosen, VoteResolver(chosen, tree)
        chosen, resolver = ready[job.missing]
        after_item = meter.item_of(job) if chosen and meter.wanted else None
        yield job, label_block(chosen, resolver, job.block, raising=raising, after_item=after_item)


class _Meter:
    """Counts what is done and tells it."""

    def __init__(
        self, lfs: Sequence[LabelingFunction], on_progress: Callable[[ApplyProgress], None] | None
    ) -> None:
        self._names = [lf.name for lf in lfs]
        self._tell = on_progress
        self._start = time.monotonic()
        self._calls = self._cached = 0
        self._errors = np.zeros(len(lfs), np.int64)
        self._last = -1

    @property
    def wanted(self) -> bool:
        return self._tell is not None

    def item_of(self, job: Job) -> Callable[[int, list[int]], None]:
        """What to call within a block; its last item is told with the block."""
        errors = self._errors.copy()

        def after_item(done: int, failed: list[int]) -> None:
            for position in failed:
                errors[job.missing[position]] += 1
            if done < len(job.block.items):
                self._say(job.block.rows[done - 1] + 1, done * len(job.missing), errors)

        return after_item

    def block(self, job: Job, first_columns: np.ndarray, num_retried: int) -> None:
        """A block is done; `first_columns` int[b, LFs] are its votes, one column for each LF."""
        size = len(job.block.items)
        self._calls += size * len(job.missing) + num_retried
        self._cached += size * len(job.known) - num_retried
        self._errors += (first_columns == FAILED).sum(axis=0)
        if self.wanted:
            self._say(job.block.rows[-1] + 1, 0, self._errors)

    def end(self, num_items: int, failed: np.ndarray) -> None:
        """All is done; `failed` bool[n, LFs], duplicates included."""
        if self.wanted and (num_items != self._last or failed.sum() != self._errors.sum()):
            self._say(num_items, 0, failed.sum(axis=0))

    def _say(self, num_items: int, calls: int, counts: np.ndarray) -> None:
        assert self._tell is not None
        self._last = num_items
        errors = {
            name: int(count) for name, count in zip(self._names, counts, strict=True) if count
        }
        seconds = time.monotonic() - self._start
        self._tell(ApplyProgress(num_items, self._calls + calls, self._cached, errors, seconds))
