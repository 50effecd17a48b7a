"""The steps of Dawid-Skene's EM, on votes as operators; the model is told in `_dawid_skene`.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.checks import check_shape, real_array, real_jax_array
from metal_jax.label_model._dawid_skene_prior import (
    DirichletPrior,
    TiedEntries,
    pool_counts,
)
from metal_jax.label_model._incidence import Incidence, incidence
from metal_jax.label_model._tables import ConditionalTables
from metal_jax.label_model._votes import vote_incidence
from metal_jax.labeling import NOT_ASKED, Columns
from metal_jax.task_tree import TaskTree, log_normalise_roots


class VoteData(NamedTuple):
    """Votes as operators, and what else is known of the items.

    Attributes:
        votes: the indicator matrix [n, d]; fractions for soft votes, which count as such.
        not_asked: the indicator [n, m] of entries "never asked"; None when there are none.
        lf_of_column: int32[d].
        possible: bool[n, s], the leaf states that gold labels leave open; None for all.
        weight: float[n], the weight of each item; None for ones.
    """

    votes: Incidence
    not_asked: Incidence | None
    lf_of_column: jax.Array
    possible: jax.Array | None = None
    weight: jax.Array | None = None


def vote_data(
    matrix: np.ndarray,
    columns: Columns,
    *,
    possible: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> VoteData:
    """The operators of votes.

    Args:
        matrix: int[n, m] or float[n, m, N] from `checked_votes`.
        columns: the columns.
        possible: bool[n, s] from `gold_mask`; None for all.
        weight: float[n]; None for ones.

    Returns:
        The data of `e_step` and `m_step`.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes = np.array([[0, -1], [1, 1]])
        >>> vote_data(votes, used_columns(votes)).votes.apply(jnp.eye(3)).tolist()
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]]
    """
    nobody = None
    if matrix.ndim == 2 and (matrix == NOT_ASKED).any():
        codes = np.where(matrix == NOT_ASKED, np.arange(columns.num_lfs), -1)
        nobody = incidence(codes, columns.num_lfs)
    return VoteData(
        vote_incidence(matrix, columns),
        nobody,
        jnp.asarray(columns.lf),
        None if possible is None else jnp.asarray(possible),
        None if weight is None else jnp.asarray(weight, jnp.result_type(float)),
    )


def e_step(
    tables: ConditionalTables, data: VoteData, tree: TaskTree
) -> tuple[jax.Array, jax.Array]:
    """Posterior over leaf states and the log-likelihood of the votes (and gold labels).

    Args:
        tables: the current parameters.
        data: the votes.
        tree: the task tree (static).

    Returns:
        `log_q` float[n, s], normalised in each root, and float[] the log-likelihood.

    Raises:
        ValueError: tables of another shape or type.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes, tree = np.array([[0], [1], [0]]), TaskTree.single(2)
        >>> columns = used_columns(votes)
        >>> table = jnp.log(jnp.array([[0.9, 0.2], [0.1, 0.8]]))  # P(vote | class)
        >>> tables = ConditionalTables(jnp.log(jnp.array([0.5, 0.5])), table, jnp.zeros((1, 2)))
        >>> log_q, _ = e_step(tables, vote_data(votes, columns), tree)
        >>> print(np.asarray(jnp.exp(log_q)[0]).round(2))
        [0.82 0.18]
    """
    d, m = len(data.lf_of_column), tables.log_abstain.shape[0]
    for name, shape in (("log_prior", ()), ("log_vote", (d,)), ("log_abstain", (m,))):
        table = real_array(name, getattr(tables, name))
        check_shape(name, table, (*shape, tree.num_leaves))
    # Everyone abstains; then correct where a vote was cast or nobody asked.
    silence = tables.log_prior + jnp.sum(tables.log_abstain, axis=0)
    score = silence + data.votes.apply(tables.log_vote - tables.log_abstain[data.lf_of_column])
    if data.not_asked is not None:
        score = score - data.not_asked.apply(tables.log_abstain)
    if data.possible is not None:
        score = jnp.where(data.possible, score, -jnp.inf)
    evidence = jnp.stack(
        [jax.nn.logsumexp(score[:, span], axis=-1) for span in tree.root_leaves], axis=-1
    )
    log_q = score - evidence[:, tree.node_root[tree.leaf_nodes]]
    evidence = jnp.sum(evidence, axis=-1)
    return log_q, jnp.sum(evidence if data.weight is None else data.weight * evidence)


def m_step(
    log_q: jax.Array,
    data: VoteData,
    prior: DirichletPrior,
    tree: TaskTree,
    tied: TiedEntries | None = None,
) -> ConditionalTables:
    """The tables that maximise the expected log-posterior.

    Args:
        log_q: float[n, s], posterior over leaf states.
        data: the votes.
        prior: pseudo-counts.
        tree: the task tree (static).
        tied: entries that share a parameter; None for none.

    Returns:
        The tables.

    Raises:
        ValueError: a `log_q` of another shape or type.

    Example:
        >>> from metal_jax.label_model import dirichlet_prior
        >>> from metal_jax.labeling import used_columns
        >>> votes, tree = np.array([[0], [1], [0]]), TaskTree.single(2)
        >>> columns = used_columns(votes)
        >>> prior = dirichlet_prior(
        ...     columns, tree, np.zeros(1), accuracy=0.5, votes=1e-6, balance_items=1e-6
        ... )
        >>> log_q = jnp.log(jnp.array([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]))
        >>> tables = m_step(log_q, vote_data(votes, columns), prior, tree)
        >>> print(np.asarray(jnp.exp(tables.log_vote)[0]).round(2))
        [0.8 0. ]
    """
    log_q = real_jax_array("log_q", log_q)
    check_shape("log_q", log_q, (data.votes.num_items, tree.num_leaves))
    q = jnp.exp(log_q)
    if data.weight is not None:
        q = q * data.weight[:, None]
    mass = jnp.sum(q, axis=0)
    m, lf = prior.abstain.shape[0], data.lf_of_column
    exists = prior.vote > 0
    votes = jnp.where(exists, data.votes.transpose_apply(q), 0)
    silent = mass - jax.ops.segment_sum(votes, lf, m)
    if data.not_asked is not None:
        silent = silent - data.not_asked.transpose_apply(q)
    counted = prior.abstain > 0  # nowhere when abstains are ignored
    silent = jnp.where(counted, jnp.maximum(silent, 0) + prior.abstain, 0)
    votes = votes + prior.vote
    voted = jax.ops.segment_sum(votes, lf, m)
    if tied is not None:
        votes = pool_counts(votes, voted[lf], tied)
    total = jnp.maximum(silent + voted, jnp.finfo(q.dtype).tiny)
    return ConditionalTables(
        log_prior=log_normalise_roots(tree, jnp.log(mass + prior.balance)),
        log_vote=jnp.log(jnp.where(exists, votes / total[lf], 1)),
        log_abstain=jnp.log(jnp.where(counted, silent / total, 1)),
    )
