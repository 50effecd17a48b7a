"""LFs that vote on several roots of a forest: one LF for each root inside a fit, one LF outside.

The roots of a forest are independent given the votes, so to a fit an LF that votes for nodes of two
roots, for one here and for the other there, is two LFs. Each of them abstains where the LF votes on
the other root. What a fit says of them is joined again (`_result`).

Legend: `n` items, `m` LFs, `p` (LF, root) pairs, `r` roots, `N` label nodes.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.label_model._votes import count_by_lf
from metal_jax.labeling import ABSTAIN, Columns
from metal_jax.task_tree import TaskTree

Votes = TypeVar("Votes", np.ndarray, jax.Array)


class LFRoots(NamedTuple):
    """The LFs of a fit: (LF, root) pairs, sorted by LF and then root.

    Attributes:
        lf: int[p]; every LF has a pair, with root 0 if it never votes.
        root: int[p], position in `tree.roots`.
        num_votes: float[p], the pair's votes in the fit.
        num_lfs: m.
    """

    lf: np.ndarray
    root: np.ndarray
    num_votes: np.ndarray
    num_lfs: int

    @property
    def several(self) -> bool:
        """Whether any LF votes on several roots."""
        return len(self.lf) > self.num_lfs

    def split_columns(self, columns: Columns, tree: TaskTree) -> Columns:
        """Columns of LFs as columns of pairs, in the same order."""
        pair = np.zeros((self.num_lfs, len(tree.roots)), np.int32)
        pair[self.lf, self.root] = np.arange(len(self.lf))
        return Columns(
            pair[columns.lf, tree.node_root[columns.symbol]], columns.symbol, len(self.lf)
        )

    def join_columns(self, columns: Columns) -> Columns:
        """Columns of pairs as columns of LFs, in the same order."""
        return Columns(self.lf[columns.lf].astype(np.int32), columns.symbol, self.num_lfs)

    def split_votes(self, votes: Votes, tree: TaskTree) -> Votes:
        """Votes of LFs, hard int[n, m] or soft float[n, m, N], as votes of pairs; traced or not."""
        if not self.several:
            return votes
        xp: Any = jnp if isinstance(votes, jax.Array) else np
        alone = np.bincount(self.lf)[self.lf] == 1  # unknown votes stay as they are
        if votes.ndim == 3:
            own = alone[:, None] | (tree.node_root == self.root[:, None])
            return xp.where(own, votes[:, self.lf], 0)
        votes = votes[:, self.lf]
        root = xp.asarray(tree.node_root)[xp.maximum(votes, 0)]
        own = alone | (votes < 0) | (root == self.root)
        return xp.where(own, votes, ABSTAIN).astype(votes.dtype)

    def split_edges(self, edges: np.ndarray) -> np.ndarray:
        """Edges int[e, 2] of LFs as edges of pairs, on every root that both LFs vote on.

        Raises:
            ValueError: two LFs that vote, but on no common root.
        """
        split = []
        for i, j in edges.tolist():
            of_i, of_j = np.flatnonzero(self.lf == i), np.flatnonzero(self.lf == j)
            common = [(a, b) for a in of_i for b in of_j if self.root[a] == self.root[b]]
            if not common and self.num_votes[of_i].any() and self.num_votes[of_j].any():
                raise ValueError(
                    f"edges: ({i}, {j}): the LFs vote on different roots of the forest"
                )
            split += common
        return np.asarray(split, np.int64).reshape(-1, 2)


def lf_roots(votes: np.ndarray, tree: TaskTree) -> LFRoots:
    """Which LFs vote on which roots.

    Args:
        votes: int[n, m] or float[n, m, N] from `checked_votes`.
        tree: the task tree.

    Returns:
        The pairs.

    Example:
        >>> tree = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})
        >>> pairs = lf_roots(np.array([[0, 1], [2, -1]]), tree)
        >>> pairs.split_votes(np.array([[0, 1], [2, -1]]), tree).tolist()
        [[0, -1, 1], [-1, 2, -1]]
    """
    if votes.ndim == 3:
        by_node = votes.sum(axis=0)
    else:
        if len(tree.roots) == 1:  # nothing to tell apart: only how often each LF votes
            number = np.arange(votes.shape[1])
            count = count_by_lf(votes >= 0).astype(float)
            return LFRoots(number, np.zeros_like(number), count, len(number))
        item, lf = np.nonzero(votes >= 0)
        cell = lf * tree.num_nodes + votes[item, lf]
        by_node = np.bincount(cell, minlength=votes.shape[1] * tree.num_nodes)
        by_node = by_node.reshape(-1, tree.num_nodes)
    return _pairs(by_node, tree)


def lf_roots_of_columns(columns: Columns, num_votes: np.ndarray, tree: TaskTree) -> LFRoots:
    """As `lf_roots`, from the number of votes of each column, float[d]."""
    by_node = np.zeros((columns.num_lfs, tree.num_nodes))
    by_node[columns.lf, columns.symbol] = num_votes
    return _pairs(by_node, tree)


def _pairs(by_node: np.ndarray, tree: TaskTree) -> LFRoots:
    in_root = tree.node_root[:, None] == np.arange(len(tree.roots))
    by_root = by_node @ in_root
    votes_on = by_root > 0
    votes_on[~votes_on.any(axis=1), 0] = True
    lf, root = np.nonzero(votes_on)
    return LFRoots(lf, root, by_root[lf, root], len(by_root))


def check_one_root(votes: np.ndarray, tree: TaskTree) -> None:
    """Raise where an LF votes on several roots; for what cannot tell them apart."""
    pairs = lf_roots(votes, tree)
    if pairs.several:
        lf = int(np.flatnonzero(np.bincount(pairs.lf) > 1)[0])
        names = [tree.tasks[tree.roots[r]].name for r in pairs.root[pairs.lf == lf]]
        raise ValueError(f"votes: LF {lf} votes on roots {names}; give it one column for each")
