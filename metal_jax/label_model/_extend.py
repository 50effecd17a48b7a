"""One more LF, or one more worker, without a refit.

EM over the new LFs alone: the old ones keep their parameters, and what they say of the items, their
posterior, is the prior of the new ones' E-step. Items on which no known LF votes teach nothing and
are left out. Right for a few new LFs among many; refit when they are a good part of the evidence.

Legend: `n` items, `m` LFs known, `m'` after, `d` (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._annotators import annotator_prior
from metal_jax.label_model._dawid_skene import e_step, m_step, vote_data
from metal_jax.label_model._dawid_skene_prior import abstain_rates, dirichlet_prior
from metal_jax.label_model._detectors import DetectorPrior, copy_weights, detector_statistics
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._mixture_params import MixtureParams, fired_matrix
from metal_jax.label_model._mixture_steps import ANNOTATOR, log_lift
from metal_jax.label_model._result import FitResult, posterior
from metal_jax.label_model._tables import ConditionalTables
from metal_jax.labeling import Columns, used_columns, validate
from metal_jax.task_tree import log_normalise_roots, node_sum

_PRIOR_ACCURACY = 0.7
_PRIOR_VOTES = 2.0
_NUM_ITERATIONS = 50


def add_lfs(result: FitResult, votes: ArrayLike) -> FitResult:
    """Extend a fit to more LFs.

    Args:
        result: a fit of m LFs, of the default model (with full tables) or of one with
            `ConditionalTables`.
        votes: int[n, m'] node ids on any items, the m known LFs first, in their order.

    Returns:
        A fit of m' LFs: `posterior`, `explain` and all else work as on a fit of all of them.

    Raises:
        ValueError: as `labeling.validate`, no new LFs, none of which votes, or another family.

    Example:
        >>> from metal_jax.label_model import fit
        >>> from metal_jax.task_tree import TaskTree
        >>> votes = np.array([[0, 0, -1, 0], [1, -1, 1, 1], [0, 1, 0, 0], [-1, 1, 1, 1]] * 10)
        >>> result = fit(votes[:, :3], TaskTree.single(2))
        >>> posterior(add_lfs(result, votes), [[-1, -1, -1, 1]]).argmax(1).tolist()
        [1]
    """
    tree, known = result.tree, result.columns.num_lfs
    matrix = validate(votes, tree)
    m = matrix.shape[1]
    if m <= known:
        raise ValueError(f"votes: got {m} LFs, expected more than the {known} of the fit")
    new = used_columns(matrix[:, known:])
    if not new.num_columns:
        raise ValueError("votes: none of the new LFs votes on any item")
    matrix = matrix[(matrix[:, :known] >= 0).any(axis=1)]
    if not len(matrix):
        raise ValueError("votes: the known LFs vote on no item; there is nothing to compare with")
    q = posterior(result, matrix[:, :known])
    columns = Columns(
        np.concatenate([result.columns.lf, new.lf + known]),
        np.concatenate([result.columns.symbol, new.symbol]),
        m,
    )
    if isinstance(result.params, ConditionalTables):
        params = _with_tables(result.params, matrix[:, known:], new, q, result)
    elif isinstance(result.params, MixtureParams) and result.params.log_vote.ndim == 2:
        params = _with_mixture(result.params, matrix, columns, q, result)
    else:
        raise ValueError(f"cannot extend a fit of method {result.method!r}: refit instead")
    return result._replace(params=params, columns=columns)


def _with_tables(
    params: ConditionalTables, votes: np.ndarray, new: Columns, q: jnp.ndarray, result: FitResult
) -> ConditionalTables:
    """Dawid-Skene rows for the new LFs; their abstains count if those of the others do."""
    tree = result.tree
    informative = bool((np.asarray(params.log_abstain) != 0).any())
    prior = dirichlet_prior(
        new,
        tree,
        abstain_rates(votes, None) * informative,
        accuracy=_PRIOR_ACCURACY,
        votes=_PRIOR_VOTES,
        balance_items=1.0,
    )
    data, log_q = vote_data(votes, new), jnp.log(q)
    rows = m_step(log_q, data, prior, tree)
    for _ in range(_NUM_ITERATIONS):
        likelihood, _ = e_step(rows._replace(log_prior=jnp.zeros_like(rows.log_prior)), data, tree)
        rows = m_step(log_normalise_roots(tree, log_q + likelihood), data, prior, tree)
    return params._replace(
        log_vote=jnp.concatenate([params.log_vote, rows.log_vote]),
        log_abstain=jnp.concatenate([params.log_abstain, rows.log_abstain]),
    )


def _with_mixture(
    params: MixtureParams, matrix: np.ndarray, columns: Columns, q: jnp.ndarray, result: FitResult
) -> MixtureParams:
    """Kind, table and precision of each new LF, and whom it copies."""
    tree, n = result.tree, len(matrix)
    d, known = result.columns.num_columns, result.columns.num_lfs
    lf = columns.lf
    rows = slice(d, columns.num_columns)
    data = vote_data(matrix[:, known:], used_columns(matrix[:, known:]))
    cast = np.asarray(data.votes.apply(jnp.eye(columns.num_columns - d)), float)  # [n, d']
    total = cast.sum(axis=0)
    rate = np.concatenate([params.rate, total / n])
    kinds = np.asarray(annotator_probability(rate * n, columns, tree), float)[known:]
    annotator = np.concatenate([params.annotator, kinds])
    balance = result.class_balance
    node_mass = np.asarray(node_sum(tree, jnp.asarray(balance)), float)
    part = Columns(lf[rows] - known, columns.symbol[rows], columns.num_lfs - known)
    prior = annotator_prior(
        part,
        tree,
        balance,
        accuracy=np.full(part.num_lfs, _PRIOR_ACCURACY),
        votes=_PRIOR_VOTES,
        balance_items=1.0,
    )
    added = d + np.flatnonzero(annotator[lf[rows]] < ANNOTATOR)
    old = len(params.detector_columns)
    chosen = np.concatenate([params.detector_columns, added])
    detectors = Columns(lf[chosen], columns.symbol[chosen], columns.num_lfs)
    fired = np.asarray(fired_matrix(matrix, columns, chosen), float)

    def copies_given(precision: np.ndarray) -> np.ndarray:
        stats = detector_statistics(
            fired.T @ fired,
            n,
            detectors,
            np.bincount(lf, rate * n, columns.num_lfs)[detectors.lf],
            1 - annotator[detectors.lf],
            node_mass,
            tree,
        )
        fitted = jnp.asarray(precision[chosen], params.log_vote.dtype)
        return np.array(copy_weights(fitted, stats, DetectorPrior().copy_shrinkage), float)

    def own_precision(counts: np.ndarray) -> np.ndarray:
        covered = (counts * tree.covers[part.symbol]).sum(axis=1)
        return (covered + _PRIOR_VOTES * _PRIOR_ACCURACY) / (total + _PRIOR_VOTES)

    counts = cast.T @ np.asarray(q, float)  # [d', s]
    copies = copies_given(np.concatenate([params.precision, own_precision(counts)]))
    # Where a detector that it copies has fired, the new one says nothing that is not known.
    news = cast.copy()
    repeated = (fired[:, :old, None] * copies[:old, old:]).max(axis=1, initial=0)
    news[:, added - d] *= 1 - repeated
    pseudo, other = np.asarray(prior.vote, float), np.asarray(prior.other, float)
    share = kinds[part.lf][:, None]
    log_q = np.log(np.maximum(np.asarray(q, float), 1e-30))

    def table(counts: np.ndarray) -> np.ndarray:
        votes = np.where(pseudo > 0, counts + pseudo, 0)
        by_lf = other.copy()
        np.add.at(by_lf, part.lf, votes)
        return np.log(np.where(pseudo > 0, votes / by_lf[part.lf], 1))

    log_vote, own = table(counts), own_precision(counts)
    for _ in range(_NUM_ITERATIONS):
        push = share * log_vote + (1 - share) * log_lift(own, part, node_mass, tree)
        updated = log_normalise_roots(tree, jnp.asarray(log_q + news @ push))
        counts = cast.T @ np.exp(np.asarray(updated, float))
        log_vote, own = table(counts), own_precision(counts)
    precision = np.concatenate([params.precision, own])
    lift = log_lift(precision[chosen], detectors, node_mass, tree)
    lift[:old] = params.log_lift
    copies = copies_given(precision)
    copies[:old, :old] = params.copies
    dtype = params.log_vote.dtype
    return params._replace(
        annotator=jnp.asarray(annotator, dtype),
        log_vote=jnp.concatenate([params.log_vote, jnp.asarray(log_vote, dtype)]),
        detector_columns=jnp.asarray(chosen, jnp.int32),
        log_lift=jnp.asarray(lift, dtype),
        copies=jnp.asarray(copies, dtype),
        precision=jnp.asarray(precision, dtype),
        rate=jnp.asarray(rate, dtype),
    )
