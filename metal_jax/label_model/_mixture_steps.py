"""Steps of the default model's fit, from host-side evidence to what the kernels take.

Legend: as in `_mixture`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.minimise import MinimiseResult
from metal_jax.label_model._annotators import (
    AnnotatorData,
    AnnotatorPrior,
    annotator_prior,
    relation_prior,
)
from metal_jax.label_model._class_balance import balance_pseudo_items
from metal_jax.label_model._detectors import (
    detector_statistics,
    fit_detectors,
)
from metal_jax.label_model._incidence import Incidence
from metal_jax.label_model._mixture_params import MixtureConfig, MixtureParams, detector_score
from metal_jax.label_model._relations import (
    relation_incidence,
    relation_mass,
)
from metal_jax.label_model._tables import column_root_mask
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree, node_sum

ANNOTATOR = 0.99  # above this an LF's detector score is too small to matter, and left out


class Evidence(NamedTuple):
    """What the detectors' fit is made from, on the host but for `fired` float[n, e]."""

    columns: Columns
    counts: np.ndarray
    annotator: np.ndarray
    chosen: np.ndarray
    fired: jax.Array
    weights: np.ndarray
    known: np.ndarray | None
    trust: np.ndarray


def annotator_problem(
    matrix: np.ndarray,
    operator: Incidence,
    evidence: Evidence,
    params: MixtureParams,
    tree: TaskTree,
    config: MixtureConfig,
) -> tuple[AnnotatorData, AnnotatorPrior, jax.Array | None]:
    """What the annotators are fitted to; with tied tables also how votes spread in a relation."""
    columns, known, dtype = evidence.columns, evidence.known, jnp.result_type(float)
    lf = jnp.asarray(columns.lf)
    weight = params.annotator[lf][:, None]
    offset = detector_score(params, evidence.fired, lf)
    accuracy = np.where(np.isnan(evidence.trust), config.prior_accuracy, evidence.trust)
    balance = np.exp(np.asarray(params.log_prior, float))
    strength = {"votes": config.prior_votes, "balance_items": config.balance_items}
    log_spread = None
    if matrix.ndim == 3 or columns.num_columns * tree.num_leaves <= config.max_table:
        votes = operator
        own_root = column_root_mask(columns, tree)
        covered = tree.covers[columns.symbol]
        prior = annotator_prior(columns, tree, balance, accuracy=accuracy, **strength)
    else:
        votes = relation_incidence(matrix, columns, tree)
        mass = relation_mass(evidence.counts, columns, tree)
        log_spread = jnp.asarray(np.log(np.where(mass > 0, mass, 1)), dtype)
        lf = jnp.repeat(jnp.arange(columns.num_lfs), votes.num_relations)
        weight = params.annotator[lf][:, None]
        own_root = (mass > 0).reshape(-1, tree.num_leaves)
        on_path = np.arange(votes.num_relations) == tree.depth
        covered = np.tile(on_path[:, None], (columns.num_lfs, tree.num_leaves))
        offset = offset - votes.apply(weight * log_spread.reshape(own_root.shape))
        prior = relation_prior(
            mass, balance, tree, accuracy=accuracy, pooled=config.pooled_votes, **strength
        )
    data = AnnotatorData(
        votes=votes,
        lf=lf,
        own_root=jnp.asarray(own_root),
        covered=jnp.asarray(covered, dtype),
        weight=weight,
        offset=offset if known is None else jnp.where(known, offset, -jnp.inf),
        item_weights=jnp.asarray(evidence.weights[:, None], dtype),
        known=None if known is None else jnp.asarray(_decided(known, tree)),
    )
    return data, prior, log_spread


def _decided(known: np.ndarray, tree: TaskTree) -> np.ndarray:
    """bool[n, s], leaves of roots on which gold says something about the item."""
    parts = [
        np.broadcast_to(~known[:, span].all(axis=1, keepdims=True), known[:, span].shape)
        for span in tree.root_leaves
    ]
    return np.concatenate(parts, axis=1)


def balance_with_gold(
    balance: np.ndarray, known: np.ndarray, weights: np.ndarray, items: float, tree: TaskTree
) -> np.ndarray:
    """The prior balance plus the gold labels, an inner node's spread over its leaves."""
    spread = known * balance
    spread = spread * _decided(known, tree)
    result = balance_pseudo_items(balance, items, tree)
    for span in tree.root_leaves:
        share = spread[:, span] / np.maximum(spread[:, span].sum(1, keepdims=True), 1e-12)
        result[span] += weights @ share
        result[span] /= result[span].sum()
    return result


def checked_accuracy(accuracy: ArrayLike | None, num_lfs: int) -> np.ndarray:
    """float[m], NaN where nothing is said."""
    if accuracy is None:
        return np.full(num_lfs, np.nan)
    trust = np.asarray(accuracy, float)
    check_shape("accuracy", trust, (num_lfs,))
    bad = (trust <= 0) | (trust >= 1)
    if bad.any():
        lf = int(np.flatnonzero(bad)[0])
        raise ValueError(f"accuracy: LF {lf}: got {trust[lf]}, expected a number in (0, 1) or NaN")
    return trust


def detector_params(
    evidence: Evidence, class_balance: np.ndarray, tree: TaskTree, config: MixtureConfig
) -> tuple[MixtureParams, MinimiseResult | None]:
    """Parameters with the detectors' part filled in; None when no LF can be a detector."""
    columns, chosen, annotator = evidence.columns, evidence.chosen, evidence.annotator
    total = evidence.weights.sum()
    d, dtype = columns.num_columns, jnp.result_type(float)
    part = Columns(columns.lf[chosen], columns.symbol[chosen], columns.num_lfs)
    node_mass = np.asarray(node_sum(tree, class_balance), float)
    precision = np.zeros(d)
    copies, solution = jnp.zeros((0, 0), dtype), None
    if len(chosen):
        by_lf = np.bincount(columns.lf, evidence.counts, columns.num_lfs)
        stats = detector_statistics(
            np.asarray(_overlaps(evidence.fired, jnp.asarray(evidence.weights, dtype))),
            total,
            part,
            by_lf[part.lf],
            1 - annotator[part.lf],
            node_mass,
            tree,
            right_wrong=_gold_counts(evidence, part, tree),
            trust=evidence.trust[part.lf],
        )
        num_groups = int(stats.group.max()) + 1
        fitted = fit_detectors(
            stats, config.detectors, num_groups=num_groups, config=config.minimise
        )
        precision[chosen] = fitted.precision
        copies, solution = fitted.copies, fitted.solution
    lift = log_lift(precision[chosen], part, node_mass, tree)
    params = MixtureParams(
        log_prior=jnp.asarray(np.log(class_balance), dtype),
        annotator=jnp.asarray(annotator, dtype),
        log_vote=jnp.zeros((d, tree.num_leaves), dtype),
        detector_columns=jnp.asarray(chosen, jnp.int32),
        log_lift=jnp.asarray(lift, dtype),
        copies=copies,
        correlation=jnp.zeros((), dtype),
        precision=jnp.asarray(precision, dtype),
        rate=jnp.asarray(evidence.counts / total, dtype),
    )
    return params, solution


def _gold_counts(evidence: Evidence, part: Columns, tree: TaskTree) -> np.ndarray | None:
    """float[2, e], weighted gold items on which each column was right and wrong."""
    if evidence.known is None:
        return None
    rows = np.flatnonzero(~evidence.known.all(axis=1))
    under = np.asarray(node_sum(tree, evidence.known[rows].astype(np.float32)))[:, part.symbol]
    root = [evidence.known[rows][:, span].sum(1) for span in tree.root_leaves]
    everywhere = np.stack(root, axis=1)[:, tree.node_root[part.symbol]]
    fired = np.asarray(evidence.fired)[rows] * evidence.weights[rows, None]
    # Gold above the node of the vote decides nothing.
    return np.stack([(fired * (under == everywhere)).sum(0), (fired * (under == 0)).sum(0)])


@jax.jit
def _overlaps(fired: jax.Array, weights: jax.Array) -> jax.Array:
    """float[e, e], weighted co-firing counts."""
    return jnp.matmul((fired * weights[:, None]).T, fired, precision=jax.lax.Precision.HIGHEST)


def log_lift(
    precision: np.ndarray, columns: Columns, node_mass: np.ndarray, tree: TaskTree
) -> np.ndarray:
    """float[e, s], `log P(leaf | vote) / P(leaf)`: one value under the node, one elsewhere."""
    mass = node_mass[columns.symbol]
    inside = np.log(precision / mass)
    with np.errstate(divide="ignore", invalid="ignore"):
        outside = np.log((1 - precision) / (1 - mass))
    outside = np.where(np.isfinite(outside), outside, 0)  # a node without an outside
    lift = np.where(tree.covers[columns.symbol], inside[:, None], outside[:, None])
    return lift * column_root_mask(columns, tree)


def column_precision(
    params: MixtureParams, log_spread: jax.Array | None, columns: Columns, tree: TaskTree
) -> jax.Array:
    """float[d]: annotators' by Bayes' rule from their tables, detectors' as fitted, averaged."""
    if log_spread is None:
        joint = jnp.exp(params.log_vote + params.log_prior) * column_root_mask(columns, tree)
        covered = jnp.sum(joint * tree.covers[columns.symbol], axis=-1) / jnp.sum(joint, -1)
    else:  # tied: one for all votes of an LF
        on_path = jnp.exp(params.log_vote[:, -1] + log_spread[:, -1] + params.log_prior)
        own = tree.node_root[tree.leaf_nodes] == tree.node_root[columns.symbol][:, None]
        covered = jnp.sum(on_path[columns.lf] * own, axis=-1)
    annotator = params.annotator[columns.lf]
    return annotator * covered + (1 - annotator) * params.precision
