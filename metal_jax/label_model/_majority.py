"""Majority vote: every vote counts the same, ties are split."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from metal_jax.label_model._vote_sums import vote_tallies
from metal_jax.label_model._votes import checked_votes
from metal_jax.task_tree import TaskTree, path_sum, subtree_sum

_FEW_NODES = 32  # so many comparisons with all votes are faster than picking cells one by one


def majority_vote(votes: ArrayLike, tree: TaskTree) -> jax.Array:
    """Majority vote down the tree, as a distribution over leaf states.

    At each task the labels with the most votes, at them or beneath them, share the probability of
    the label above equally; without a vote all labels do. A coarse vote thus supports all leaves
    beneath it, and a fine one also the labels above it. For a single task this is the usual
    majority vote, with ties split rather than drawn.

    Args:
        votes: int[n, m] node ids, negative = no vote; or soft votes float[n, m, N], counted as
            fractions.
        tree: the task tree.

    Returns:
        float32[n, s]; sums to one over the leaves of each root.

    Raises:
        ValueError: as `checked_votes`, unless the votes are traced.

    Example:
        >>> majority_vote(jnp.array([[0, 0, 1], [0, 1, -1]]), TaskTree.single(2)).tolist()
        [[1.0, 0.0], [0.5, 0.5]]
    """
    traced = isinstance(votes, Tracer)
    return _majority_vote(votes if traced else jnp.asarray(checked_votes(votes, tree)), tree)


@functools.partial(jax.jit, static_argnames="tree")
def _majority_vote(votes: jax.Array, tree: TaskTree) -> jax.Array:
    n, nobody = votes.shape[0], tree.num_nodes
    if votes.ndim == 3:
        return _share_out(subtree_sum(tree, jnp.sum(votes, axis=1)), tree)
    if nobody <= _FEW_NODES:
        return _share_out(subtree_sum(tree, vote_tallies(votes, nobody)), tree)
    # The nodes on the path to each node, padded with a dummy; the last row is "no vote".
    paths = np.full((tree.num_nodes + 1, tree.depth), nobody, np.int32)
    for node in range(tree.num_nodes):
        path = (*tree.ancestors(node), node)
        paths[node, : len(path)] = path

    def add(total: jax.Array, vote: jax.Array) -> tuple[jax.Array, None]:
        nodes = jnp.asarray(paths)[jnp.where(vote < 0, nobody, vote)]
        return total.at[jnp.arange(n)[:, None], nodes].add(1), None

    start = jnp.zeros((n, tree.num_nodes + 1), jnp.float32)
    support, _ = jax.lax.scan(add, start, votes.T.astype(jnp.int32))
    return _share_out(support, tree)


def _share_out(support: jax.Array, tree: TaskTree) -> jax.Array:
    """float[n, s], from the votes at or beneath each node float[n, N or more]."""
    shares = []
    for level in tree.levels:
        count = jnp.where(level.mask, support[:, level.nodes], -1)
        best = count == jnp.max(count, axis=-1, keepdims=True)
        best = best.astype(jnp.float32)
        share = best / jnp.sum(best, axis=-1, keepdims=True)
        shares.append(share[:, level.mask])
    log_share = jnp.log(jnp.concatenate(shares, axis=-1))
    return jnp.exp(path_sum(tree, log_share)[:, tree.leaf_nodes])
