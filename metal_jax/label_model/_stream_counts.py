"""The first pass over streamed votes: how often LFs vote together, and a sample of the items."""

from __future__ import annotations

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


def count_stream(
    votes: Iterable[ArrayLike],
    tree: TaskTree,
    sample_items: int,
    mesh: Mesh | None,
    say: OnProgress,
) -> tuple[OverlapStatistics, Sample]:
    """Overlap statistics and a sample of the items of all processes.

    Args:
        votes: batches int[b, m] of this process.
        tree: the task tree.
        sample_items: of all processes.
        mesh: devices of this process; None for one.
        say: told of progress.

    Returns:
        The statistics over the columns that are used, and the sample.

    Raises:
        ValueError: votes that `validate` rejects, or none.
    """
    total: OverlapStatistics | None = None
    columns, rows, stride, seen = None, [], 1, 0
    own_items = -(-sample_items // jax.process_count())
    size = batch_size(votes)
    for batch in votes:
        try:
            batch = validate(batch, tree)
        except ValueError as error:
            raise ValueError(f"batch that begins with item {seen}: {error}") from None
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
    return OverlapStatistics(columns, total.counts[np.ix_(used, used)], total.num_items), sample


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
