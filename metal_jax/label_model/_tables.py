r"""Conditional-independence models in one form: log tables of votes given the leaf state.

Every model whose LFs vote independently given the truth is a prior over leaf states and, for each
LF, a table :math:`P(\text{vote} \mid Y)`. All families of this package fit such tables, and all
questions (posterior, LF accuracies, why) are asked of the tables:

.. math:: \log P(Y = y \mid \lambda) = \log p_y + \sum_j \log P(\lambda_j \mid y) - \log Z.

The roots of a forest are independent given the votes, so they share the leaf axis: a column's
entries are 0 on the leaves of other roots, and each root is normalised on its own.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `s` leaf states, `N` label nodes.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax.label_model._vote_sums import leaf_scores
from metal_jax.label_model._votes import checked_votes, votes_by_lf
from metal_jax.labeling import NOT_ASKED, Columns, column_ids
from metal_jax.labeling._matrix import plain_votes
from metal_jax.task_tree import TaskTree, log_normalise_roots


class ConditionalTables(NamedTuple):
    """Log-probabilities of votes given leaf states.

    Attributes:
        log_prior: float[s], log class balance over leaf states; normalised in each root.
        log_vote: float[d, s], `log P(LF votes for this node | Y = leaf)`.
        log_abstain: float[m, s], `log P(LF abstains | Y = leaf)`; zeros where abstains are
            ignored.
    """

    log_prior: jax.Array
    log_vote: jax.Array
    log_abstain: jax.Array

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """See `log_posterior`."""
        return _of_checked(self, votes, columns, tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        """The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s]."""
        pushes = vote_log_likelihood(self, votes, columns)
        return jnp.broadcast_to(self.log_prior, (len(pushes), tree.num_leaves)), pushes

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """See `tables_lf_accuracy`."""
        return tables_lf_accuracy(self, columns, tree)


def vote_log_likelihood(tables: ConditionalTables, votes: ArrayLike, columns: Columns) -> jax.Array:
    """Each LF's log-likelihood of its vote: what it contributes to the log-posterior.

    Args:
        tables: the model.
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked (contributes nothing); or soft
            votes float[n, m, N], which contribute the mean over what they say.
        columns: what the rows of `tables.log_vote` stand for (closed over, not traced).

    Returns:
        float[n, m, s].

    Raises:
        ValueError: another number of LFs, or values that are neither node ids nor shares.

    Example:
        >>> columns = Columns(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2)
        >>> log_vote = jnp.log(jnp.array([[0.9, 0.2], [0.1, 0.8], [0.6, 0.4], [0.4, 0.6]]))
        >>> tables = ConditionalTables(jnp.log(jnp.full(2, 0.5)), log_vote, jnp.zeros((2, 2)))
        >>> shares = vote_log_likelihood(tables, np.array([[0, -1]]), columns)
        >>> print(np.asarray(jnp.exp(shares[0])).round(2))
        [[0.9 0.2]
         [1.  1. ]]
    """
    if np.ndim(votes) == 3:
        shares = plain_votes(votes)
        widest = int(columns.symbol.max(initial=0))
        if shares.shape[1] != columns.num_lfs or shares.shape[2] <= widest:
            raise ValueError(
                f"votes: got shape {shares.shape}, expected [n items, {columns.num_lfs} LFs, at "
                f"least {widest + 1} nodes]"
            )
        silent = jnp.asarray(1 - shares.sum(axis=-1, keepdims=True), tables.log_abstain.dtype)
        return votes_by_lf(shares, columns, tables.log_vote) + silent * tables.log_abstain
    codes = column_ids(votes, columns)
    votes = jnp.asarray(votes)
    rows = tables.log_vote[jnp.maximum(codes, 0)]
    abstains = ((votes != NOT_ASKED) & (votes < 0))[..., None]
    return jnp.where((codes >= 0)[..., None], rows, jnp.where(abstains, tables.log_abstain, 0))


def log_posterior(
    tables: ConditionalTables, votes: ArrayLike, columns: Columns, tree: TaskTree
) -> jax.Array:
    """Log-posterior over leaf states, by log-sum-exp throughout.

    Args:
        tables: the model.
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked; or soft votes float[n, m, N].
        columns: what the rows of `tables.log_vote` stand for.
        tree: the task tree.

    Returns:
        float[n, s]; the exponentials sum to one over the leaves of each root. For task marginals
        `P(Y_t = v)` see `task_tree.node_logsumexp`.

    Raises:
        ValueError: another number of LFs; as `checked_votes`, unless the votes are traced.

    Example:
        >>> columns = Columns(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2)
        >>> log_vote = jnp.log(jnp.array([[0.9, 0.2], [0.1, 0.8], [0.6, 0.4], [0.4, 0.6]]))
        >>> tables = ConditionalTables(jnp.log(jnp.full(2, 0.5)), log_vote, jnp.zeros((2, 2)))
        >>> votes = np.array([[0, -1], [1, 1]])
        >>> log_probs = log_posterior(tables, votes, columns, TaskTree.single(2))
        >>> print(np.asarray(jnp.exp(log_probs)).round(2))
        [[0.82 0.18]
         [0.08 0.92]]
    """
    checked = votes if isinstance(votes, Tracer) else checked_votes(votes, tree)
    return _of_checked(tables, checked, columns, tree)


def _of_checked(
    tables: ConditionalTables, votes: ArrayLike, columns: Columns, tree: TaskTree
) -> jax.Array:
    votes = jnp.asarray(votes)
    check_shape("votes", votes, (*votes.shape[:1], columns.num_lfs, *votes.shape[2:]))
    log_prior, log_vote, log_abstain = map(jnp.asarray, tables)
    places = jnp.asarray(columns.lf), jnp.asarray(columns.symbol)
    return _log_posterior(votes, *places, log_prior, log_vote, _silence(log_abstain), tree)


@functools.partial(jax.jit, static_argnames="tree")
def _log_posterior(
    votes: jax.Array,
    lf: jax.Array,
    symbol: jax.Array,
    log_prior: jax.Array,
    log_vote: jax.Array,
    silence: jax.Array | None,
    tree: TaskTree,
) -> jax.Array:
    scores = leaf_scores(votes, lf, symbol, log_vote, tree, silence)
    return log_normalise_roots(tree, log_prior + scores)  # up to a constant of each root


def _silence(log_abstain: jax.Array) -> jax.Array | None:
    """`log_abstain`, or None where abstains are known to say nothing."""
    try:
        says_nothing = not np.asarray(log_abstain).any()
    except jax.errors.TracerArrayConversionError:
        return log_abstain
    return None if says_nothing else log_abstain


def tables_lf_accuracy(tables: ConditionalTables, columns: Columns, tree: TaskTree) -> jax.Array:
    """For each LF the probability that its vote covers the truth, given that it votes.

    Args:
        tables: the model.
        columns: what the rows of `tables.log_vote` stand for.
        tree: the task tree.

    Returns:
        float[m]; NaN for an LF without any column.

    Example:
        >>> columns = Columns(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), 2)
        >>> log_vote = jnp.log(jnp.array([[0.9, 0.2], [0.1, 0.8], [0.6, 0.4], [0.4, 0.6]]))
        >>> tables = ConditionalTables(jnp.log(jnp.full(2, 0.5)), log_vote, jnp.zeros((2, 2)))
        >>> print(np.asarray(tables_lf_accuracy(tables, columns, TaskTree.single(2))).round(2))
        [0.85 0.6 ]
    """
    joint = jnp.exp(tables.log_vote + tables.log_prior)
    joint = jnp.where(column_root_mask(columns, tree), joint, 0)
    right = jnp.sum(jnp.where(tree.covers[columns.symbol], joint, 0), axis=-1)
    lf, m = jnp.asarray(columns.lf), columns.num_lfs
    correct = jax.ops.segment_sum(right, lf, m)
    return correct / jax.ops.segment_sum(jnp.sum(joint, axis=-1), lf, m)


def column_root_mask(columns: Columns, tree: TaskTree) -> np.ndarray:
    """bool[d, s], the leaves that belong to the same root as each column's node."""
    leaf_root = tree.node_root[tree.leaf_nodes]
    return tree.node_root[columns.symbol][:, None] == leaf_root
