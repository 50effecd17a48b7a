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
t of an item's votes, and 50 pseudo-items a leaf: coverage by detectors does not say how frequent a
class is, votes of annotators do.

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

from metal_jax._core.minimise import STATUS, MinimiseConfig, MinimiseResult
from metal_jax.label_model._annotators import AnnotatorData, annotator_prior, fit_annotators
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._detectors import detector_statistics, fit_detectors
from metal_jax.label_model._incidence import Incidence, incidence
from metal_jax.label_model._kinds import annotator_probability
from metal_jax.label_model._result import FitResult
from metal_jax.label_model._tables import column_root_mask
from metal_jax.labeling import Columns, column_ids, overlap_counts, used_columns, validate
from metal_jax.task_tree import TaskTree, log_normalise_roots, node_sum

_ANNOTATOR = 0.99  # above this an LF's detector score is too small to matter, and left out


@dataclasses.dataclass(frozen=True)
class MixtureConfig:
    """Settings of the default model; one set for all data.

    Attributes:
        prior_accuracy: centre of the prior on annotators' tables.
        prior_votes: its strength, in votes for each leaf.
        balance_items: strength of the prior on the class balance, in items for each leaf.
        correlation_scale: multiplier of the residual correlation; 0 leaves posteriors as sharp as
            the model makes them.
        max_steps: most EM iterations.
        tolerance: stop EM when an iteration moves no item's posterior by more than this.
        minimise: solver of the detectors' pair model.
    """

    prior_accuracy: float = 0.7
    prior_votes: float = 2.0
    balance_items: float = 50.0
    correlation_scale: float = 9.0
    max_steps: int = 200
    tolerance: float = 1e-4
    minimise: MinimiseConfig = MinimiseConfig(max_steps=150)


class MixtureParams(NamedTuple):
    """Parameters of the default model.

    Attributes:
        log_prior: float[s], log class balance.
        annotator: float[m], probability that the LF is an annotator.
        log_vote: float[d, s], annotators' log tables, not yet weighted by `annotator`.
        detector_columns: int32[e], columns with a detector score.
        log_lift: float[e, s], `log P(leaf | vote) / P(leaf)`, not yet weighted.
        copies: float[e, e], how far one column repeats another.
        correlation: float[], intra-item correlation of annotators' errors.
        precision: float[d], `P(truth lies under the node | vote)`.
        rate: float[d], share of items with this vote.
    """

    log_prior: jax.Array
    annotator: jax.Array
    log_vote: jax.Array
    detector_columns: jax.Array
    log_lift: jax.Array
    copies: jax.Array
    correlation: jax.Array
    precision: jax.Array
    rate: jax.Array

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s] log-posterior over leaf states."""
        operator, fired = _operators(self, votes, columns)
        return _log_posterior(self, operator, fired, jnp.asarray(columns.lf), tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        """The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s]."""
        operator, fired = _operators(self, votes, columns)
        lf = jnp.asarray(columns.lf)
        codes = column_ids(votes, columns)
        position = (
            jnp.full(columns.num_columns, -1)
            .at[self.detector_columns]
            .set(jnp.arange(len(self.detector_columns)))
        )
        weight = self.annotator[lf][:, None]
        pushes = (weight * self.log_vote)[codes]
        if len(self.detector_columns):
            counted = 1 / (1 + fired @ self.copies)
            at = position[codes]
            share = jnp.take_along_axis(counted, jnp.maximum(at, 0), axis=1)
            lift = (1 - weight[self.detector_columns]) * self.log_lift
            pushes = pushes + jnp.where((at >= 0)[..., None], share[..., None] * lift[at], 0)
        pushes = jnp.where((codes >= 0)[..., None], pushes, 0)
        temperature = _temperature(self, operator.apply(weight))
        return self.log_prior / temperature, pushes / temperature[..., None]

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], probability that an LF's vote covers the truth; NaN without votes."""
        lf, m = jnp.asarray(columns.lf), columns.num_lfs
        right = jax.ops.segment_sum(self.precision * self.rate, lf, m)
        return right / jax.ops.segment_sum(self.rate, lf, m)


@functools.partial(jax.jit, static_argnames="tree")
def _log_posterior(
    params: MixtureParams, operator: Incidence, fired: jax.Array, lf: jax.Array, tree: TaskTree
) -> jax.Array:
    """The posterior of the module's text; `fired` float[n, e] are the detectors' votes."""
    weight = params.annotator[lf][:, None]
    score = params.log_prior + operator.apply(weight * params.log_vote)
    score = score + _detector_score(params, fired, lf)
    depth = operator.apply(weight)
    return log_normalise_roots(tree, score / _temperature(params, depth))


def _temperature(params: MixtureParams, depth: jax.Array) -> jax.Array:
    return 1 + params.correlation * jnp.maximum(depth - 1, 0)


def _detector_score(params: MixtureParams, fired: jax.Array, lf: jax.Array) -> jax.Array:
    """float[n, s], copies discounted."""
    precision = jax.lax.Precision.HIGHEST
    counted = fired / (1 + jnp.matmul(fired, params.copies, precision=precision))
    detector = 1 - params.annotator[lf[params.detector_columns]]
    lift = detector[:, None] * params.log_lift
    return jnp.matmul(counted, lift, precision=precision)


def fit(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MixtureConfig = MixtureConfig(),
) -> FitResult:
    """Fit the default label model. No gold label enters, and nothing needs setting.

    Deterministic: no key is needed, the model starts at its prior.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked (the model treats both alike).
        tree: the task tree.
        class_balance: float[s], kept fixed if given. Otherwise every label of a task is a priori
            equally likely, detectors leave it at that, and annotators' votes update it.
        config: settings.

    Returns:
        The fit; `objective_trace` is the log-likelihood of the annotators' votes over EM.

    Raises:
        ValueError: as `labeling.validate`, all abstains, or a bad class balance.

    Example:
        >>> from metal_jax.label_model import posterior
        >>> votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
        >>> result = fit(votes, TaskTree.single(2))
        >>> posterior(result, votes[:4]).argmax(1).tolist()
        [0, 1, 0, 1]
    """
    matrix = validate(votes, tree)
    columns = used_columns(matrix)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    dtype = jnp.result_type(float)
    balance = checked_class_balance(class_balance, tree)
    codes = np.asarray(column_ids(matrix, columns))
    counts = np.bincount(codes[codes >= 0], minlength=columns.num_columns)
    annotator = np.asarray(annotator_probability(counts, columns, tree), float)
    params, solution = _fit_detectors(codes, counts, columns, annotator, balance, tree, config)

    lf = jnp.asarray(columns.lf)
    fired = _fired(codes, np.asarray(params.detector_columns), columns.num_columns)
    data = AnnotatorData(
        votes=incidence(codes, columns.num_columns),
        lf=lf,
        own_root=jnp.asarray(column_root_mask(columns, tree)),
        covered=jnp.asarray(tree.covers[columns.symbol], dtype),
        weight=params.annotator[lf][:, None],
        offset=_detector_score(params, fired, lf),
    )
    prior = annotator_prior(
        columns,
        tree,
        balance,
        accuracy=config.prior_accuracy,
        votes=config.prior_votes,
        balance_items=config.balance_items,
    )
    state, correlation = fit_annotators(
        data,
        prior,
        params.log_prior,
        config.tolerance,
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=class_balance is not None,
    )
    params = params._replace(
        log_prior=state.log_prior,
        log_vote=state.log_vote,
        correlation=jnp.clip(config.correlation_scale * correlation, 0, 1),
    )
    params = params._replace(precision=_column_precision(params, columns, tree))
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
    )


def _fit_detectors(
    codes: np.ndarray,
    counts: np.ndarray,
    columns: Columns,
    annotator: np.ndarray,
    class_balance: np.ndarray,
    tree: TaskTree,
    config: MixtureConfig,
) -> tuple[MixtureParams, MinimiseResult | None]:
    """Parameters with the detectors' part filled in; None when no LF can be a detector."""
    n, d, dtype = len(codes), columns.num_columns, jnp.result_type(float)
    chosen = np.flatnonzero(annotator[columns.lf] < _ANNOTATOR)
    part = Columns(columns.lf[chosen], columns.symbol[chosen], columns.num_lfs)
    node_mass = np.asarray(node_sum(tree, class_balance), float)
    precision = np.zeros(d)
    copies, solution = jnp.zeros((0, 0), dtype), None
    if len(chosen):
        positions = jnp.asarray(_positions(codes, chosen, d))
        stats = detector_statistics(
            np.asarray(_counts(positions, len(chosen))),
            n,
            part,
            np.bincount(columns.lf, counts, columns.num_lfs)[part.lf],
            1 - annotator[part.lf],
            node_mass,
            tree,
        )
        num_groups = int(stats.group.max()) + 1
        fitted = fit_detectors(stats, num_groups=num_groups, config=config.minimise)
        precision[chosen] = fitted.precision
        copies, solution = fitted.copies, fitted.solution
    log_lift = _log_lift(precision[chosen], part, node_mass, tree)
    params = MixtureParams(
        log_prior=jnp.asarray(np.log(class_balance), dtype),
        annotator=jnp.asarray(annotator, dtype),
        log_vote=jnp.zeros((d, tree.num_leaves), dtype),
        detector_columns=jnp.asarray(chosen, jnp.int32),
        log_lift=jnp.asarray(log_lift, dtype),
        copies=copies,
        correlation=jnp.zeros((), dtype),
        precision=jnp.asarray(precision, dtype),
        rate=jnp.asarray(counts / n, dtype),
    )
    return params, solution


_counts = jax.jit(overlap_counts, static_argnums=1)


def _positions(codes: np.ndarray, chosen: np.ndarray, num_columns: int) -> np.ndarray:
    """Codes renumbered to the chosen columns, -1 elsewhere."""
    position = np.full(num_columns + 1, -1, np.int32)  # last entry: no vote
    position[chosen] = np.arange(len(chosen))
    return position[codes]


def _operators(
    params: MixtureParams, votes: ArrayLike, columns: Columns
) -> tuple[Incidence, jax.Array]:
    """All votes as an operator, and the detectors' as a matrix."""
    codes = np.asarray(column_ids(votes, columns))
    chosen = np.asarray(params.detector_columns)
    return incidence(codes, columns.num_columns), _fired(codes, chosen, columns.num_columns)


def _fired(codes: np.ndarray, chosen: np.ndarray, num_columns: int) -> jax.Array:
    """float[n, e], the detectors' votes."""
    operator = incidence(_positions(codes, chosen, num_columns), len(chosen), dense=True)
    return operator.apply(jnp.eye(len(chosen)))


def _log_lift(
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


def _column_precision(params: MixtureParams, columns: Columns, tree: TaskTree) -> jax.Array:
    """float[d]: annotators' by Bayes' rule from their tables, detectors' as fitted, averaged."""
    joint = jnp.exp(params.log_vote + params.log_prior) * column_root_mask(columns, tree)
    covered = jnp.sum(joint * tree.covers[columns.symbol], axis=-1)
    annotator = params.annotator[columns.lf]
    return annotator * covered / jnp.sum(joint, -1) + (1 - annotator) * params.precision
