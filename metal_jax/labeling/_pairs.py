"""Pairs of labelling functions: how often both vote, and how often they contradict each other.

Legend: `m` LFs, `d` used (LF, node) columns.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from metal_jax.labeling._matrix import compatible
from metal_jax.labeling._overlaps import OverlapStatistics
from metal_jax.task_tree import TaskTree


class LFPairs(NamedTuple):
    """Counts of items for each pair of LFs; whole numbers, unless the votes were soft.

    Attributes:
        overlaps: [m, m], items on which both vote on the same root; the diagonal counts votes.
        conflicts: [m, m], items on which their votes cannot both be right.
        num_items: n.
    """

    overlaps: np.ndarray
    conflicts: np.ndarray
    num_items: int

    def conflict_rates(self) -> np.ndarray:
        """float64[m, m], the share of conflicts among the overlaps; NaN where there are none."""
        with np.errstate(invalid="ignore"):
            return np.where(self.overlaps > 0, self.conflicts / self.overlaps, np.nan)


def lf_pairs(statistics: OverlapStatistics, tree: TaskTree) -> LFPairs:
    """Overlap and conflict matrices of labelling functions.

    Votes for a node and for one above it do not conflict: both may be right.

    Args:
        statistics: from `overlap_statistics`, of any number of items.
        tree: the task tree that the votes are nodes of.

    Returns:
        The counts of all pairs.

    Raises:
        ValueError: a vote is no node of the tree.

    Example:
        >>> from metal_jax.labeling import overlap_statistics
        >>> votes = np.array([[0, 1], [0, 0], [1, -1]])
        >>> pairs = lf_pairs(overlap_statistics(votes), TaskTree.single(2))
        >>> pairs.overlaps.tolist(), pairs.conflicts.tolist()
        ([[3, 2], [2, 2]], [[0, 1], [1, 0]])
    """
    columns = statistics.columns
    if len(columns.symbol) and columns.symbol.max() >= tree.num_nodes:
        raise ValueError(
            f"statistics: got votes for node {columns.symbol.max()}, the tree has {tree.num_nodes}"
        )
    root = tree.node_root[columns.symbol]
    clash = ~compatible(tree)[np.ix_(columns.symbol, columns.symbol)]
    together = np.where(root[:, None] == root, statistics.counts, 0)

    def by_lf(counts: np.ndarray) -> np.ndarray:
        found = np.zeros((columns.num_lfs, columns.num_lfs), counts.dtype)
        np.add.at(found, (columns.lf[:, None], columns.lf), counts)
        return found

    return LFPairs(by_lf(together), by_lf(together * clash), statistics.num_items)
