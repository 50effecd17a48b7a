"""What each labelling function does on a set of items: the table that guides LF writing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.intervals import share_text, wilson_interval
from metal_jax.labeling._matrix import compatible, validate
from metal_jax.task_tree import TaskTree


class LFSummary(NamedTuple):
    """One labelling function's record; shares are of all n items.

    Attributes:
        name: the LF's name.
        polarity: the labels that it votes for, as "task=label".
        coverage: share of items on which it votes.
        overlaps: share on which it and another LF of the same root vote.
        conflicts: share on which it and another LF of the same root cannot both be right.
        num_correct: votes that cover the gold node; None without gold.
        num_incorrect: votes that contradict it; None without gold. Votes finer than a gold node
            that is only known coarsely count as neither.
        accuracy: correct / judged votes; None without gold, NaN without judged votes.
        coverage_interval: 95 % interval of the coverage, of items drawn like these (Wilson, 1927).
        overlaps_interval: of the overlaps.
        conflicts_interval: of the conflicts.
        accuracy_interval: of the accuracy; None and NaN as there.
    """

    name: str
    polarity: tuple[str, ...]
    coverage: float
    overlaps: float
    conflicts: float
    num_correct: int | None
    num_incorrect: int | None
    accuracy: float | None
    coverage_interval: tuple[float, float]
    overlaps_interval: tuple[float, float]
    conflicts_interval: tuple[float, float]
    accuracy_interval: tuple[float, float] | None


def summarise_lfs(
    votes: ArrayLike,
    tree: TaskTree,
    *,
    lf_names: Sequence[str] | None = None,
    gold: ArrayLike | None = None,
) -> list[LFSummary]:
    """Polarity, coverage, overlaps, conflicts and, given gold, accuracy of every LF.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        tree: the task tree.
        lf_names: m names; by default the column numbers.
        gold: int[n] node ids, the deepest known node of each item, -1 unknown; or int[n, r] for a
            forest with r roots. Used for judging only.

    Returns:
        One record for each LF, in column order.

    Raises:
        ValueError: as `validate`, or gold of another length.

    Example:
        >>> table = summarise_lfs([[0, 1], [0, -1]], TaskTree.single(2), gold=[0, 1])
        >>> table[0].coverage, table[0].conflicts, table[0].accuracy
        (1.0, 0.5, 0.5)
    """
    matrix = validate(votes, tree, lf_names=lf_names)
    n, m = matrix.shape
    names = [str(j) for j in range(m)] if lf_names is None else list(lf_names)
    voted = matrix >= 0
    nodes = np.maximum(matrix, 0)
    on_path = compatible(tree)
    same_root = tree.node_root[:, None] == tree.node_root

    # Votes of an item for each node, then how many of them share a root or contradict.
    cast = np.zeros((n, tree.num_nodes), np.float32)
    np.add.at(cast, (np.nonzero(voted)[0], nodes[voted]), 1)
    others = np.take_along_axis(cast @ same_root.astype(np.float32), nodes, axis=1) > 1.5
    clashes = np.take_along_axis(cast @ (~on_path).astype(np.float32), nodes, axis=1) > 0.5

    right = wrong = None
    if gold is not None:
        right, wrong = _judge(matrix, tree, np.asarray(gold))
    table = []
    for j in range(m):
        symbols = np.unique(nodes[voted[:, j], j])
        correct = incorrect = accuracy = accuracy_interval = None
        if right is not None and wrong is not None:
            correct, incorrect = int(right[:, j].sum()), int(wrong[:, j].sum())
            judged = correct + incorrect
            accuracy = correct / judged if judged else float("nan")
            accuracy_interval = _interval(accuracy, judged)
        coverage, overlap, conflict = (
            float((voted[:, j] & flags).mean()) for flags in (True, others[:, j], clashes[:, j])
        )
        table.append(
            LFSummary(
                name=names[j],
                polarity=tuple("=".join(tree.node_names[u]) for u in symbols),
                coverage=coverage,
                overlaps=overlap,
                conflicts=conflict,
                num_correct=correct,
                num_incorrect=incorrect,
                accuracy=accuracy,
                coverage_interval=_interval(coverage, n),
                overlaps_interval=_interval(overlap, n),
                conflicts_interval=_interval(conflict, n),
                accuracy_interval=accuracy_interval,
            )
        )
    return table


def _interval(share: float, count: int) -> tuple[float, float]:
    low, high = wilson_interval(share, count).tolist()
    return low, high


def _judge(matrix: np.ndarray, tree: TaskTree, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """bool[n, m] twice: votes that cover their root's gold node, and votes that contradict it."""
    gold = gold[:, None] if gold.ndim == 1 else gold
    if gold.ndim != 2 or len(gold) != len(matrix):
        raise ValueError(f"gold: got shape {gold.shape}, expected [{len(matrix)}]")
    right = np.zeros(matrix.shape, bool)
    wrong = np.zeros(matrix.shape, bool)
    nodes = np.maximum(matrix, 0)
    spans = tree.node_leaves
    on_path = compatible(tree)
    for column in gold.T:
        truth = np.maximum(column, 0)[:, None]
        known = (matrix >= 0) & (column >= 0)[:, None]
        known &= tree.node_root[nodes] == tree.node_root[truth]
        covers = (spans[nodes, 0] <= spans[truth, 0]) & (spans[truth, 1] <= spans[nodes, 1])
        right |= known & covers
        wrong |= known & ~on_path[nodes, truth]
    return right, wrong


def format_summary(table: Sequence[LFSummary]) -> str:
    """The records as a plain-text table.

    Args:
        table: from `summarise_lfs`.

    Returns:
        One line for the header and one for each LF; coverage and accuracy with their 95 %
        intervals.

    Example:
        >>> from metal_jax.task_tree import TaskTree
        >>> table = summarise_lfs(np.array([[0, -1], [1, 1]]), TaskTree.single(2))
        >>> len(format_summary(table).splitlines())
        3
    """
    judged = any(row.accuracy is not None for row in table)
    header = ["LF", "polarity", "coverage", "overlaps", "conflicts"]
    header += ["correct", "incorrect", "accuracy"] if judged else []
    rows = [header]
    for row in table:
        cells = [row.name, ", ".join(row.polarity) or "-"]
        cells.append(share_text(row.coverage, row.coverage_interval))
        cells += [f"{share:.3f}" for share in (row.overlaps, row.conflicts)]
        if judged:
            cells += [str(row.num_correct), str(row.num_incorrect)]
            cells.append(share_text(row.accuracy, row.accuracy_interval))
        rows.append(cells)
    widths = [max(len(cells[i]) for cells in rows) for i in range(len(header))]

    def line(cells: list[str]) -> str:
        aligned = [
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(aligned).rstrip()

    return "\n".join(line(cells) for cells in rows)
