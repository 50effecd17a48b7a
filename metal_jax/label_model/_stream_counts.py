"""The first pass over streamed votes: how often LFs vote together, a sample, and a checksum."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax._core.processes import gather_arrays
from metal_jax.label_model._stream_passes import of_one_shape
from metal_jax.labeling import (
    Columns,
    OverlapStatistics,
    VoteStream,
    merge_statistics,
    overlap_statistics,
    union_columns,
    used_columns,
    validate,
)
from metal_jax.task_tree import TaskTree

_MAX_COLUMNS = 1024  # up to here all (LF, node) pairs are counted, without looking for used ones

OnProgress = Callable[[str, int], None]
"""`on_progress(what is done, items of this process so far)`, after each batch."""


class Sample(NamedTuple):
    """Items that stand for all: int[r, m] votes, and float[r] how many items each stands for."""

    votes: np.ndarray
    weights: np.ndarray


class VotesSum:
    """A checksum of votes in their order, whatever their integers and batches are.

    Args:
        tree: the task tree.
    """

    def __init__(self, tree: TaskTree) -> None:
        self._dtype = vote_dtype(tree)
        self._items = self._crc = 0

    def add(self, batch: np.ndarray) -> None:
        """The next items, int[b, m], validated."""
        self._items += len(batch)
        self._crc = zlib.crc32(np.ascontiguousarray(batch, self._dtype).data, self._crc)

    def of_all(self) -> str:
        """Of the items of all processes."""
        parts = gather_arrays({"sum": np.asarray(str(self))})
        return ", ".join(str(part["sum"]) for part in parts)

    def __str__(self) -> str:
        return f"{self._items} items crc32 {self._crc:08x}"


def sum_stream(votes: Iterable[ArrayLike], tree: TaskTree, say: OnProgress) -> str:
    """The checksum that `count_stream` gives, without counting."""
    found, seen = VotesSum(tree), 0
    for batch in votes:
        batch = _validated(batch, tree, seen)
        found.add(batch)
        seen += len(batch)
        say("comparing votes", seen)
    return found.of_all()


def count_stream(
    votes: Iterable[ArrayLike],
    tree: TaskTree,
    sample_items: int,
    mesh: Mesh | None,
    say: OnProgress,
) -> tuple[OverlapStatistics, Sample, str]:
    """Overlap statistics, a sample and a checksum of the items of all processes.

    Args:
        votes: batches int[b, m] of this process.
        tree: the task tree.
        sample_items: of all processes.
        mesh: devices of this process; None for one.
        say: told of progress.

    Returns:
        The statistics over the columns that are used, the sample, and the `VotesSum`.

    Raises:
        ValueError: votes that `validate` rejects, or none.
    """
    total: OverlapStatistics | None = None
    columns, rows, stride, seen = None, [], 1, 0
    checksum = VotesSum(tree)
    own_items = -(-sample_items // jax.process_count())
    size = batch_size(votes)
    for batch in votes:
        batch = _validated(batch, tree, seen)
        checksum.add(batch)
        m = batch.shape[1]
        if columns is None and m * tree.num_nodes <= _MAX_COLUMNS:
            lf, symbol = np.divmod(np.arange(m * tree.num_nodes, dtype=np.int32), tree.num_nodes)
            columns = Columns(lf, symbol, m)
        elif m * tree.num_nodes > _MAX_COLUMNS:
            used = used_columns(batch)
            columns = used if columns is None else union_columns(columns, used)
        (filled,) = of_one_shape([batch], size, vote_dtype(tree))
        part = overlap_statistics(filled, columns, mesh=mesh)._replace(num_items=len(batch))
        total = part if total is None else merge_statistics(total, part)
        rows.append(batch[-seen % stride :: stride].copy())  # a view would keep the whole batch
        seen += len(batch)
        while sum(map(len, rows)) >= 2 * own_items:
            rows, stride = [np.concatenate(rows)[::2]], 2 * stride
        say("counting votes", seen)
    if total is None:
        raise ValueError("votes: got no batches")
    own = np.concatenate(rows)
    sample = Sample(own, np.full(len(own), seen / len(own)))
    parts = [
        statistics_from_arrays(arrays)
        for arrays in gather_arrays(statistics_to_arrays(total, sample))
    ]
    total = parts[0][0]
    for other, _ in parts[1:]:
        total = merge_statistics(total, other)
    sample = Sample(
        np.concatenate([part.votes for _, part in parts]),
        np.concatenate([part.weights for _, part in parts]),
    )
    used = np.flatnonzero(np.diag(total.counts))
    columns = Columns(total.columns.lf[used], total.columns.symbol[used], total.columns.num_lfs)
    statistics = OverlapStatistics(columns, total.counts[np.ix_(used, used)], total.num_items)
    return statistics, sample, checksum.of_all()


def _validated(batch: ArrayLike, tree: TaskTree, first: int) -> np.ndarray:
    try:
        return validate(batch, tree)
    except ValueError as error:
        raise ValueError(f"batch that begins with item {first}: {error}") from None


def statistics_to_arrays(statistics: OverlapStatistics, sample: Sample) -> dict[str, np.ndarray]:
    """Arrays by name, for a file or another process."""
    columns = statistics.columns
    return {
        "lf": columns.lf,
        "symbol": columns.symbol,
        "num_lfs": np.asarray(columns.num_lfs),
        "counts": statistics.counts,
        "num_items": np.asarray(statistics.num_items),
        "sample": sample.votes,
        "sample_weights": sample.weights,
    }


def statistics_from_arrays(
    arrays: dict[str, np.ndarray],
) -> tuple[OverlapStatistics, Sample]:
    """The inverse of `statistics_to_arrays`."""
    columns = Columns(arrays["lf"], arrays["symbol"], int(arrays["num_lfs"]))
    statistics = OverlapStatistics(columns, arrays["counts"], int(arrays["num_items"]))
    return statistics, Sample(arrays["sample"], arrays["sample_weights"])


def vote_dtype(tree: TaskTree) -> type:
    """The type that all batches are given, whatever nodes occur in them."""
    return np.int8 if tree.num_nodes <= 127 else np.int32


def batch_size(votes: Any) -> int:
    """The largest batch of a stream; of other iterables that of a look at all of them."""
    if isinstance(votes, VoteStream):
        return min(votes.batch_items, votes.num_items)
    return max(map(_num_items, votes), default=0)


def _num_items(batch: Any) -> int:
    shape = np.shape(batch)
    if len(shape) != 2:
        raise ValueError(f"votes: got a batch of shape {shape}, expected [items, LFs]")
    return shape[0]
