r"""The default label model: annotators and detectors in one posterior.

Votes come from two kinds of LFs that need opposite treatment of a missing vote. With
:math:`t_j` the probability that LF j is an annotator (`_kinds`), the log-posterior of an item is

.. math:: \log q(y) = \frac1T \Bigl[\log p_y + \sum_j t_j \log \theta_j(v_j \mid y)
    + \sum_j (1 - t_j)\, c_j \log \frac{P(y \mid \text{vote}_j)}{p_y}\Bigr] - \log Z.

**Detectors** speak through their precision :math:`P(y \mid \text{vote})`, learnt from pairwise
overlaps (`_detectors`); silence is no evidence on an item, since a class without LFs would absorb
every item that nobody explains. A vote that repeats others for the same node is discounted by
:math:`c_j = 1 / (1 + \sum_{j'} D_{j'j})` over the copies that fired.

**Annotators** speak through Dawid-Skene tables :math:`\theta`, fitted by MAP-EM with the detectors'
score as a fixed offset: Dirichlet prior of 2 votes a leaf around a one-coin table of accuracy 0.7.
The class balance is updated with items weighted by :math:`\omega^3`, :math:`\omega` being the mean
t of an item's votes, and 5 pseudo-items for each ordered pair of leaves: coverage by detectors does
not say how frequent a class is, votes of annotators do.

**Temperature.** Errors of annotators on one item are correlated, because items differ in
difficulty. With :math:`\rho` the intra-item correlation of their residuals and d the annotators'
votes on the item, :math:`T = 1 + \rho\, (d - 1)`, the design effect of a cluster sample (Kish,
1965). It changes no label of a posterior, only how sure it is. The residuals are taken under the
model's own, too confident posterior, which hides most of the correlation; nine times the raw
moment undoes that on the open crowds (a constant read off real data, see the benchmark).

One setting for all data: no gold label and no threshold on a statistic of the votes enters.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `e` columns of possible detectors, `s`
leaf states, `N` label nodes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.minimise import STATUS, MinimiseConfig, MinimiseResult
from metal_jax.label_model._annotators import (
    AnnotatorData,
    AnnotatorPrior,
    annotator_prior,
    draw_from_prior,
    fit_annotators,
    relation_prior,
)
from metal_jax.label_model._class_balance import balance_pseudo_items, checked_class_balance
from metal_jax.label_model._detectors import (
    DetectorPrior,
    detector_statistics,
    fit_detectors,
)
from metal_jax.label_model._gold import checked_item_weights, gold_mask
from metal_jax.label_model._incidence import Incidence
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._mixture_params import MixtureParams, detector_score, fired_matrix
from metal_jax.label_model._relations import (
    relation_incidence,
    relation_mass,
)
from metal_jax.label_model._result import FitResult
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._votes import (
    checked_votes,
    vote_columns,
    vote_incidence,
)
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree, node_sum

_AGREEMENT = 0.99  # share of items labelled alike for a restart to count as agreeing
ANNOTATOR = 0.99  # above this an LF's detector score is too small to matter, and left out


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """Settings of the default model; one set for all data.

    Attributes:
        prior_accuracy: centre of the prior on annotators' tables.
        prior_votes: its strength, in votes for each leaf.
        balance_items: strength of the prior on the class balance, in items for each ordered pair
            of leaves.
        max_table: most entries of the annotators' full tables, (LF, node) pairs x leaves; beyond
            it, in large trees, they are tied (`_relations`).
        pooled_votes: in tied tables, how strongly an LF's entries at one leaf are drawn to those
            at all leaves together, in votes.
        correlation_scale: multiplier of the residual correlation; 0 leaves posteriors as sharp as
            the model makes them.
        num_restarts: restarts, if `fit` is given a key.
        max_steps: most EM iterations.
        tolerance: stop EM when an iteration moves no item's posterior by more than this.
        detectors: constants of the detectors' pair model.
        annotator: fixes the probability that an LF is an annotator, where you know what your LFs
            are: 1 for a crowd; None infers it for each LF.
        minimise: solver of the detectors' pair model.
    """

    prior_accuracy: float = 0.7
    prior_votes: float = 2.0
    balance_items: float = 5.0
    max_table: int = 2**22
    pooled_votes: float = 10.0
    correlation_scale: float = 9.0
    num_restarts: int = 5
    max_steps: int = 500
    tolerance: float = 1e-4
    detectors: DetectorPrior = DetectorPrior()
    annotator: float | None = None
    minimise: MinimiseConfig = MinimiseConfig(max_steps=150)


def fit(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MixtureConfig = MixtureConfig(),
    *,
    gold: ArrayLike | None = None,
    item_weights: ArrayLike | None = None,
    accuracy: ArrayLike | None = None,
    key: jax.Array | None = None,
) -> FitResult:
    """Fit the default label model. No gold label is needed, and nothing needs setting.

    Deterministic: it starts at its prior. A key only adds restarts, as a check.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked (the model treats both alike), or
            soft votes float[n, m, N], see `checked_votes`.
        tree: the task tree.
        class_balance: float[s], kept fixed if given. Otherwise every label of a task is a priori
            equally likely, detectors leave it at that, and annotators' votes and gold update it.
        config: settings.
        gold: int[n] node ids, -1 = unknown, the truth for some items, drawn like the rest; see
            `gold_mask`. It enters the likelihood of the annotators' tables, the detectors'
            precisions and the class balance. `posterior(..., gold=)` imposes it on the labels.
        item_weights: float[n], how often each item counts.
        accuracy: float[m], prior accuracy of each LF where you trust some more than others; NaN
            where you do not know.
        key: consumed by restarts of EM from tables drawn from the prior; the result counts how many
            of them agree with it. None for no restarts.

    Returns:
        The fit; `objective_trace` is the log-likelihood of the annotators' votes over EM.

    Raises:
        ValueError: as `labeling.validate`, all abstains, a bad class balance, gold, weights or
            accuracies.

    Example:
        >>> from metal_jax.label_model import posterior
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> result = fit(votes, TaskTree.single(2))
        >>> posterior(result, votes[:4]).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    matrix = checked_votes(votes, tree)
    columns = vote_columns(matrix)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    n, dtype = len(matrix), jnp.result_type(float)
    weights = np.ones(n) if item_weights is None else checked_item_weights(item_weights, n)
    known = None if gold is None else gold_mask(gold, tree)
    if known is not None:
        check_shape("gold", known, (n, tree.num_leaves))
    balance = checked_class_balance(class_balance, tree)
    if known is not None and class_balance is None:
        balance = _balance_with_gold(balance, known, weights, config.balance_items, tree)
    trust = _checked_accuracy(accuracy, columns.num_lfs)

    operator = vote_incidence(matrix, columns)
    weight_column = jnp.asarray(weights[:, None], dtype)
    counts = np.asarray(operator.transpose_apply(weight_column)[:, 0], float)
    annotator = np.asarray(annotator_probability(counts, columns, tree), float)
    if config.annotator is not None:
        annotator = np.full_like(annotator, config.annotator)
    chosen = np.flatnonzero(annotator[columns.lf] < ANNOTATOR)
    fired = fired_matrix(matrix, columns, chosen)
    evidence = _Evidence(columns, counts, annotator, chosen, fired, weights, known, trust)
    params, solution = _fit_detectors(evidence, balance, tree, config)

    data, prior, log_spread = _annotator_problem(matrix, operator, evidence, params, tree, config)
    run = functools.partial(
        fit_annotators,
        data,
        prior,
        params.log_prior,
        config.tolerance,
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=class_balance is not None,
    )
    state, correlation = run()
    agreeing = 0
    keys = [] if key is None else list(jax.random.split(key, config.num_restarts))
    for restart in keys:
        again, _ = run(draw_from_prior(restart, prior))
        same = [
            jnp.argmax(again.log_q[:, span], axis=1) == jnp.argmax(state.log_q[:, span], axis=1)
            for span in tree.root_leaves
        ]
        agreeing += bool(jnp.mean(jnp.stack(same)) >= _AGREEMENT)
    params = params._replace(
        log_prior=state.log_prior,
        log_vote=state.log_vote
        if log_spread is None
        else state.log_vote.reshape(log_spread.shape) - log_spread,
        correlation=jnp.clip(config.correlation_scale * correlation, 0, 1),
    )
    params = params._replace(precision=_column_precision(params, log_spread, columns, tree))
    converged, status = bool(state.change <= config.tolerance), "converged"
    if not converged:
        status = "annotators: stopped at max_steps before the posterior came to rest"
    if solution is not None and not solution.converged:
        converged, status = False, f"detectors: {STATUS[int(solution.status)]}"
    num_steps = int(state.num_steps)
    return FitResult(
        method="mixture",
        params=params,
        columns=columns,
        tree=tree,
        converged=converged,
        status=status,
        num_steps=num_steps,
        objective_trace=np.asarray(state.trace[:num_steps]),
        num_restarts=len(keys),
        restarts_agreeing=agreeing,
    )


def _annotator_problem(
    matrix: np.ndarray,
    operator: Incidence,
    evidence: _Evidence,
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


class _Evidence(NamedTuple):
    """What the detectors' fit is made from, on the host but for `fired` float[n, e]."""

    columns: Columns
    counts: np.ndarray
    annotator: np.ndarray
    chosen: np.ndarray
    fired: jax.Array
    weights: np.ndarray
    known: np.ndarray | None
    trust: np.ndarray


def _decided(known: np.ndarray, tree: TaskTree) -> np.ndarray:
    """bool[n, s], leaves of roots on which gold says something about the item."""
    parts = [
        np.broadcast_to(~known[:, span].all(axis=1, keepdims=True), known[:, span].shape)
        for span in tree.root_leaves
    ]
    return np.concatenate(parts, axis=1)


def _balance_with_gold(
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


def _checked_accuracy(accuracy: ArrayLike | None, num_lfs: int) -> np.ndarray:
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


def _fit_detectors(
    evidence: _Evidence, class_balance: np.ndarray, tree: TaskTree, config: MixtureConfig
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


def _gold_counts(evidence: _Evidence, part: Columns, tree: TaskTree) -> np.ndarray | None:
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


def _column_precision(
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
