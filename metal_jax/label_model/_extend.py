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
from metal_jax.label_model._class_balance import node_masses
from metal_jax.label_model._dawid_skene_prior import abstain_rates, dirichlet_prior
from metal_jax.label_model._dawid_skene_steps import e_step, m_step, vote_data
from metal_jax.label_model._detectors import copy_weights, detector_statistics
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._lf_roots import check_one_root
from metal_jax.label_model._mixture_params import MixtureConfig, MixtureParams
from metal_jax.label_model._mixture_program import level_lifts
from metal_jax.label_model._mixture_steps import ANNOTATOR, node_levels
from metal_jax.label_model._result import FitResult, posterior
from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.label_model._votes import fired_matrix
from metal_jax.labeling import Columns, used_columns, validate
from metal_jax.task_tree import TaskTree, log_normalise_roots

_NUM_ITERATIONS = 50


def add_lfs(
    result: FitResult, votes: ArrayLike, *, config: MixtureConfig = MixtureConfig()
) -> FitResult:
    """Extend a fit to more LFs.

    Args:
        result: a fit of m LFs, of the default model (with full tables) or of one with
            `ConditionalTables`.
        votes: int[n, m'] node ids on any items, the m known LFs first, in their order.
        config: settings of the fit, if they were not the default ones: the prior on tables (for a
            fit with `ConditionalTables` too), `annotator`, and the `copy_shrinkage` of detectors.
            A new detector's precision is counted on the posterior of the known LFs, so that the
            other constants of the pair model play no part.

    Returns:
        A fit of m' LFs: `posterior`, `explain` and all else work as on a fit of all of them.

    Raises:
        ValueError: as `labeling.validate`, no new LFs, none of which votes, another family, or an
            LF that votes on several roots.

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
    check_one_root(matrix, tree)
    if result.lf_roots is not None:
        raise ValueError("cannot extend a fit in which an LF votes on several roots: refit instead")
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
        params = _with_tables(result.params, matrix[:, known:], new, q, result, config)
    elif isinstance(result.params, MixtureParams) and result.params.log_vote.ndim == 2:
        params = _with_mixture(result.params, matrix, columns, q, result, config)
    else:
        raise ValueError(f"cannot extend a fit of method {result.method!r}: refit instead")
    return result._replace(params=params, columns=columns)


def _with_tables(
    params: ConditionalTables,
    votes: np.ndarray,
    new: Columns,
    q: jnp.ndarray,
    result: FitResult,
    config: MixtureConfig,
) -> ConditionalTables:
    """Dawid-Skene rows for the new LFs; their abstains count if those of the others do."""
    tree = result.tree
    informative = bool((np.asarray(params.log_abstain) != 0).any())
    prior = dirichlet_prior(
        new,
        tree,
        abstain_rates(votes, None) * informative,
        accuracy=config.prior_accuracy,
        votes=config.prior_votes,
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
    params: MixtureParams,
    matrix: np.ndarray,
    columns: Columns,
    q: jnp.ndarray,
    result: FitResult,
    config: MixtureConfig,
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
    kinds = annotator_probability(rate * n, columns, tree)[known:]
    if config.annotator is not None:
        kinds = np.full_like(kinds, config.annotator)
    annotator = np.concatenate([params.annotator, kinds])
    node_mass = node_masses(result.class_balance, tree)
    part = Columns(lf[rows] - known, columns.symbol[rows], columns.num_lfs - known)
    prior = annotator_prior(
        part,
        tree,
        accuracy=np.full(part.num_lfs, config.prior_accuracy),
        votes=config.prior_votes,
        balance_items=1.0,
    )
    added = d + np.flatnonzero(annotator[lf[rows]] < ANNOTATOR)
    old = len(params.detector_columns)
    chosen = np.concatenate([params.detector_columns, added])
    detectors = Columns(lf[chosen], columns.symbol[chosen], columns.num_lfs)
    fired = np.asarray(fired_matrix(matrix, columns, chosen), float)
    levels = node_levels(part, tree)

    def copies_given(precision: np.ndarray) -> np.ndarray:
        """float[h, e, e], from float[h, d'] for the new columns."""
        found = []
        for level, own in zip(node_levels(detectors, tree), precision, strict=True):
            stats = detector_statistics(
                fired.T @ fired,
                n,
                level,
                np.bincount(lf, rate * n, columns.num_lfs)[detectors.lf],
                1 - annotator[detectors.lf],
                node_mass,
                tree,
            )
            fitted = np.concatenate([params.precision, own])[chosen]
            fitted = jnp.asarray(fitted, params.log_vote.dtype)
            found.append(copy_weights(fitted, stats, config.detectors.copy_shrinkage))
        return np.array(found, float)

    pseudo_right = config.prior_votes * config.prior_accuracy

    def own_precision(counts: np.ndarray) -> np.ndarray:
        """float[h, d'], that the truth lies under the column's ancestor of each level."""
        covered = np.array([(counts * tree.covers[at.symbol]).sum(axis=1) for at in levels])
        return (covered + pseudo_right) / (total + config.prior_votes)

    counts = cast.T @ np.asarray(q, float)  # [d', s]
    copies = copies_given(own_precision(counts))
    # Where a detector that it copies has fired, the new one says nothing that is not known.
    news = cast.copy()
    repeated = (fired[:, :old, None] * copies[-1, :old, old:]).max(axis=1, initial=0)
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
        lift = _lifts(own, levels, node_mass, tree)
        push = share * log_vote + (1 - share) * lift.sum(axis=0)
        updated = log_normalise_roots(tree, jnp.asarray(log_q + news @ push))
        counts = cast.T @ np.exp(np.asarray(updated, float))
        log_vote, own = table(counts), own_precision(counts)
    lift, copies = np.zeros((len(levels), len(chosen), tree.num_leaves)), copies_given(own)
    lift[:, old:] = _lifts(own, levels, node_mass, tree)[:, added - d]
    lift[:, :old], copies[:, :old, :old] = params.log_lift, params.copies
    dtype = params.log_vote.dtype
    return params._replace(
        annotator=jnp.asarray(annotator, dtype),
        log_vote=jnp.concatenate([params.log_vote, jnp.asarray(log_vote, dtype)]),
        detector_columns=jnp.asarray(chosen, jnp.int32),
        log_lift=jnp.asarray(lift, dtype),
        copies=jnp.asarray(copies, dtype),
        precision=jnp.asarray(np.concatenate([params.precision, own[-1]]), dtype),
        rate=jnp.asarray(rate, dtype),
    )


def _lifts(
    precision: np.ndarray, levels: list[Columns], node_mass: np.ndarray, tree: TaskTree
) -> np.ndarray:
    """float64[h, d', s], see `level_lifts`."""
    dtype = jnp.result_type(float)
    symbol = np.array([level.symbol for level in levels])
    lift, _ = level_lifts(
        jnp.asarray(precision, dtype),
        jnp.asarray(node_mass[symbol], dtype),
        jnp.asarray(tree.covers[symbol]),
        jnp.asarray(column_root_mask(levels[0], tree)),
    )
    return np.array(lift, float)
