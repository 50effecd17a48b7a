"""The host's part of the default model's fit: statistics and shapes for `_mixture_program`.

Columns are made for a `bucket` of sizes, so that few programs serve all matrices. Legend: as in
`_mixture`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from metal_jax._core.minimise import STATUS
from metal_jax._core.sharding import spread_items
from metal_jax.label_model._annotators import (
    AnnotatorData,
    AnnotatorPrior,
    annotator_prior,
    relation_prior,
)
from metal_jax.label_model._class_balance import label_pseudo_items, log_balance_of, node_masses
from metal_jax.label_model._detectors import detector_statistics
from metal_jax.label_model._incidence import spread_incidence
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._mixture_params import MixtureConfig, MixtureParams
from metal_jax.label_model._mixture_program import DetectorData, MixtureFit
from metal_jax.label_model._relations import relation_incidence, relation_mass
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._votes import (
    bucket,
    fired_matrix,
    pad_to,
    to_device,
    vote_columns,
    vote_counts,
    vote_incidence,
)
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

ANNOTATOR = 0.99  # above this an LF's detector score is too small to matter, and left out


class Evidence(NamedTuple):
    """What is known of items and LFs, on the host.

    Attributes:
        votes: int[n, m] or float[n, m, N], checked.
        columns: the used columns.
        counts: float[d], weighted votes of each column.
        annotator: float[m], probability that the LF is an annotator.
        chosen: int[e], columns of possible detectors.
        weights: float[n].
        known: bool[n, s], leaves that gold leaves open; None without any.
        trust: float[m], prior accuracies, NaN = none.
    """

    votes: np.ndarray
    columns: Columns
    counts: np.ndarray
    annotator: np.ndarray
    chosen: np.ndarray
    weights: np.ndarray
    known: np.ndarray | None
    trust: np.ndarray


def gather_evidence(
    votes: np.ndarray,
    weights: np.ndarray,
    known: np.ndarray | None,
    trust: np.ndarray,
    tree: TaskTree,
    config: MixtureConfig,
) -> Evidence:
    """Columns, counts and kinds of checked votes."""
    columns = vote_columns(votes)
    counts = vote_counts(votes, columns, weights)
    return evidence_of_counts(votes, weights, columns, counts, known, trust, tree, config)


def evidence_of_counts(
    votes: np.ndarray,
    weights: np.ndarray,
    columns: Columns,
    counts: np.ndarray,
    known: np.ndarray | None,
    trust: np.ndarray,
    tree: TaskTree,
    config: MixtureConfig,
) -> Evidence:
    """Kinds of LFs from their counts; the votes may be a sample of those that were counted."""
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    annotator = annotator_probability(counts, columns, tree)
    if config.annotator is not None:
        annotator = np.full_like(annotator, config.annotator)
    return Evidence(
        votes=votes,
        columns=columns,
        counts=counts,
        annotator=annotator,
        chosen=np.flatnonzero(annotator[columns.lf] < ANNOTATOR),
        weights=weights,
        known=known,
        trust=trust,
    )


def annotator_problem(
    evidence: Evidence, tree: TaskTree, config: MixtureConfig
) -> tuple[AnnotatorData, AnnotatorPrior, np.ndarray | None]:
    """What the annotators are fitted to; with tied tables also how votes spread in a relation."""
    columns, known = evidence.columns, evidence.known
    matrix, s = evidence.votes, tree.num_leaves
    accuracy = np.where(np.isnan(evidence.trust), config.prior_accuracy, evidence.trust)
    strength = {"votes": config.prior_votes, "balance_items": config.balance_items}
    log_spread = None
    if matrix.ndim == 3 or columns.num_columns * s <= config.max_table:
        width = bucket(columns.num_columns)
        votes = vote_incidence(matrix, columns, width)
        lf = pad_to(columns.lf, width)
        own_root = pad_to(column_root_mask(columns, tree), width)
        covered = pad_to(tree.covers[columns.symbol], width)
        prior = annotator_prior(columns, tree, accuracy=accuracy, width=width, **strength)
    else:
        votes = relation_incidence(matrix, columns, tree)
        mass = relation_mass(evidence.counts, columns, tree)
        log_spread = np.log(np.where(mass > 0, mass, 1))
        lf = np.repeat(np.arange(columns.num_lfs, dtype=np.int32), votes.num_relations)
        own_root = (mass > 0).reshape(-1, s)
        on_path = np.arange(votes.num_relations) == tree.depth
        covered = np.tile(on_path[:, None], (columns.num_lfs, s))
        prior = relation_prior(
            mass, tree, accuracy=accuracy, pooled=config.pooled_votes, **strength
        )
    data = AnnotatorData(
        votes=votes,
        lf=to_device(lf, np.int32),
        own_root=to_device(own_root, bool),
        covered=to_device(covered),
        weight=to_device(evidence.annotator[lf][:, None]),
        offset=to_device(
            np.zeros((len(matrix), s)) if known is None else np.where(known, 0, -np.inf)
        ),
        item_weights=to_device(evidence.weights[:, None]),
        known=None if known is None else to_device(decided_leaves(known, tree), bool),
    )
    return data, prior, log_spread


def decided_leaves(known: np.ndarray, tree: TaskTree) -> np.ndarray:
    """bool[n, s], leaves of roots on which gold says something about the item."""
    parts = [
        np.broadcast_to(~known[:, span].all(axis=1, keepdims=True), known[:, span].shape)
        for span in tree.root_leaves
    ]
    return np.concatenate(parts, axis=1)


def balance_with_gold(
    balance: np.ndarray, evidence: Evidence, items: float, tree: TaskTree
) -> np.ndarray:
    """The prior plus the gold labels, an inner node's spread over its leaves.

    Where the fit starts, and what detectors are measured by; EM counts the gold labels anew.
    """
    if evidence.known is None:
        return balance
    spread = evidence.known * balance * decided_leaves(evidence.known, tree)
    gold = np.zeros(tree.num_leaves)
    for span in tree.root_leaves:
        share = spread[:, span] / np.maximum(spread[:, span].sum(1, keepdims=True), 1e-12)
        gold[span] = evidence.weights @ share
    pseudo = label_pseudo_items(items, tree)
    return np.exp(np.asarray(log_balance_of(to_device(gold), to_device(pseudo), tree), float))


def detector_data(
    evidence: Evidence,
    class_balance: np.ndarray,
    tree: TaskTree,
    overlaps: np.ndarray | None = None,
) -> DetectorData | None:
    """What the detectors are fitted to; None when no LF can be one.

    `overlaps` float[d, d] are those of all columns, where the votes are a sample.
    """
    columns, chosen = evidence.columns, evidence.chosen
    if not len(chosen):
        return None
    part = Columns(columns.lf[chosen], columns.symbol[chosen], columns.num_lfs)
    width = bucket(len(chosen))
    fired = fired_matrix(evidence.votes, columns, chosen, width)
    own = fired[:, : len(chosen)]
    if overlaps is None:
        overlaps = own.T @ (own * evidence.weights[:, None].astype(own.dtype))
    else:
        overlaps = overlaps[np.ix_(chosen, chosen)]
    by_lf = np.bincount(columns.lf, evidence.counts, columns.num_lfs)
    levels = node_levels(part, tree)
    stats = tuple(
        detector_statistics(
            overlaps,
            evidence.weights.sum(),
            level,
            by_lf[part.lf],
            1 - evidence.annotator[part.lf],
            node_masses(class_balance, tree),
            tree,
            right_wrong=_gold_counts(evidence, own, level, tree),
            # What is believed of an LF, is believed of the nodes that it names.
            trust=np.where(level.symbol == part.symbol, evidence.trust[part.lf], np.nan),
            width=width,
        )
        for level in levels
    )
    covered = np.stack([pad_to(tree.covers[level.symbol], width) for level in levels])
    return DetectorData(
        stats=stats,
        fired=to_device(fired, fired.dtype),
        weight=to_device(pad_to(1 - evidence.annotator[part.lf], width)),
        own_root=to_device(pad_to(column_root_mask(part, tree), width), bool),
        covered=to_device(covered, bool),
    )


def spread_evidence(
    data: AnnotatorData, detectors: DetectorData | None, num_items: int, mesh: Mesh
) -> tuple[AnnotatorData, DetectorData | None]:
    """The problem with its items spread over a mesh; padding has no weight and no votes."""
    votes = spread_incidence(data.votes, num_items, mesh)
    spread = spread_items(data._replace(votes=()), num_items, mesh)._replace(votes=votes)
    if detectors is not None:
        fired = spread_items(detectors.fired, num_items, mesh)
        rest = jax.device_put(detectors._replace(fired=()), NamedSharding(mesh, PartitionSpec()))
        detectors = rest._replace(fired=fired)
    return spread, detectors


def node_levels(columns: Columns, tree: TaskTree) -> list[Columns]:
    """The columns with their nodes' ancestors at each depth, where they lie deeper than that."""
    symbol, levels = columns.symbol, []
    for depth in range(tree.depth - 1, -1, -1):
        symbol = np.where(tree.node_depth[symbol] > depth, tree.node_parent[symbol], symbol)
        levels.append(columns._replace(symbol=symbol))
    return levels[::-1]


def _gold_counts(
    evidence: Evidence, fired: np.ndarray, part: Columns, tree: TaskTree
) -> np.ndarray | None:
    """float[2, e], weighted gold items on which each column was right and wrong."""
    if evidence.known is None:
        return None
    rows = np.flatnonzero(~evidence.known.all(axis=1))
    known = evidence.known[rows].astype(float)
    under = (known @ tree.covers.T)[:, part.symbol]
    root = [known[:, span].sum(1) for span in tree.root_leaves]
    everywhere = np.stack(root, axis=1)[:, tree.node_root[part.symbol]]
    fired = fired[rows] * evidence.weights[rows, None]
    # Gold above the node of the vote decides nothing.
    return np.stack([(fired * (under == everywhere)).sum(0), (fired * (under == 0)).sum(0)])


def convergence(
    fitted: MixtureFit, change: float, tolerance: float, limit: str
) -> tuple[bool, str]:
    """Whether both parts of a fit came to rest, and the sentence that says so or names the part.

    Args:
        fitted: the program's result; its annotators' state is not looked at.
        change: of the annotators' posterior in the last step.
        tolerance: the largest change at rest.
        limit: the setting that stopped the annotators if they are not.
    """
    converged, status = change <= tolerance, "converged"
    if not converged:
        status = f"annotators: stopped at {limit} before the posterior came to rest"
    if fitted.detectors is not None:
        at_rest = np.asarray(fitted.detectors.solution.converged)
        if not at_rest.all():
            reason = STATUS[int(fitted.detectors.solution.status[int(at_rest.argmin())])]
            converged, status = False, f"detectors: {reason}"
    return converged, status


def mixture_params(
    fitted: MixtureFit, evidence: Evidence, log_spread: np.ndarray | None, tree: TaskTree
) -> MixtureParams:
    """The parameters of the used columns, out of the padded arrays of the program."""
    columns, chosen = evidence.columns, evidence.chosen
    d, e, state = columns.num_columns, len(chosen), fitted.state
    log_vote, covered = np.asarray(state.log_vote), np.asarray(fitted.precision)
    if log_spread is None:
        log_vote, covered = log_vote[:d], covered[:d]
    else:
        log_vote, covered = log_vote.reshape(log_spread.shape) - log_spread, covered[columns.lf]
    log_lift, copies = np.zeros((tree.depth, 0, tree.num_leaves)), np.zeros((tree.depth, 0, 0))
    detected = np.zeros(d)
    if fitted.detectors is not None:
        log_lift = np.asarray(fitted.detectors.log_lift)[:, :e]
        copies = np.asarray(fitted.detectors.copies)[:, :e, :e]
        detected[chosen] = np.asarray(fitted.detectors.precision)[:e]
    annotator = evidence.annotator[columns.lf]
    return MixtureParams(
        log_prior=state.log_prior,
        annotator=to_device(evidence.annotator),
        log_vote=to_device(log_vote),
        detector_columns=to_device(chosen, np.int32),
        log_lift=to_device(log_lift),
        copies=to_device(copies),
        correlation=fitted.correlation,
        precision=to_device(annotator * covered + (1 - annotator) * detected),
        rate=to_device(evidence.counts / evidence.weights.sum()),
    )
