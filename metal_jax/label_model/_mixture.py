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

from metal_jax._core.minimise import STATUS, MinimiseConfig
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


class _Prior(NamedTuple):
    """Dirichlet pseudo-counts: vote [d, s], other [m, s] (labels never used), balance [s]."""

    vote: jax.Array
    other: jax.Array
    balance: jax.Array


def annotator_prior(columns: Columns, tree: TaskTree, accuracy: float, votes: float):
    """One-coin pseudo-counts over all labels of the tasks that an LF votes on.

    Args:
        columns: the used columns.
        tree: the task tree.
        accuracy: probability of a vote for a node above or at the truth.
        votes: pseudo-votes of each LF for each leaf.

    Returns:
        float[d, s] for used columns, float[m, s] for the labels of the same tasks never used.
    """
    m, s = columns.num_lfs, tree.num_leaves
    task = tree.node_task[columns.symbol]
    on_task = np.zeros((m, tree.num_tasks), bool)
    on_task[columns.lf, task] = True
    # Labels of each task that lie on, and off, the path to each leaf.
    size = np.array([len(t.labels) for t in tree.tasks])
    active = tree.node_task_labels[tree.leaf_nodes].T >= 0  # [t, s]
    leaf_root = tree.node_root[tree.leaf_nodes]
    task_root = tree.node_root[[nodes[0] for nodes in tree.task_nodes]]
    own = task_root[:, None] == leaf_root
    num_right = on_task @ (active & own).astype(float)
    num_wrong = on_task @ ((size[:, None] - active) * own).astype(float)
    right = np.where(num_wrong > 0, accuracy, 1.0) / np.maximum(num_right, 1)
    wrong = np.where(num_right > 0, 1 - accuracy, 1.0) / np.maximum(num_wrong, 1)
    covered = tree.covers[columns.symbol]
    mean = np.where(covered, right[columns.lf], wrong[columns.lf])
    mean = mean * column_root_mask(columns, tree)
    used = np.zeros((m, s))
    np.add.at(used, columns.lf, mean)
    in_root = num_right + num_wrong > 0
    return votes * mean, votes * np.maximum(in_root - used, 0)


class _EMState(NamedTuple):
    log_q: jax.Array
    log_vote: jax.Array
    log_prior: jax.Array
    change: jax.Array
    count: jax.Array
    trace: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "max_steps", "fixed_balance"))
def _fit_annotators(
    operator: Incidence,
    lf: jax.Array,
    own_root: jax.Array,
    covered: jax.Array,
    annotator: jax.Array,
    offset: jax.Array,
    prior: _Prior,
    log_balance: jax.Array,
    tolerance: float,
    correlation_scale: float,
    *,
    tree: TaskTree,
    max_steps: int,
    fixed_balance: bool,
) -> tuple[_EMState, jax.Array]:
    """MAP-EM of the annotators' tables and the class balance, then the residual correlation."""
    m = annotator.shape[0]
    weight = annotator[lf][:, None]
    leaf_root = tree.node_root[tree.leaf_nodes]
    roots = np.asarray([span.start for span in tree.root_leaves])
    in_root = own_root[:, roots].astype(offset.dtype)  # [d, roots]
    num_votes = operator.apply(in_root)
    share = operator.apply(weight * in_root) / jnp.maximum(num_votes, 1)
    balance_weight = (share**3)[:, leaf_root]

    def tables(counts: jax.Array) -> jax.Array:
        counts = counts * own_root + prior.vote
        total = jax.ops.segment_sum(counts, lf, m) + prior.other
        share = counts / jnp.where(own_root, total[lf], 1)
        return jnp.log(jnp.where(own_root, share, 1))

    def expect(log_vote: jax.Array, log_prior: jax.Array) -> tuple[jax.Array, jax.Array]:
        score = operator.apply(weight * log_vote) + offset + log_prior
        log_q = log_normalise_roots(tree, score)
        return log_q, jnp.sum((score - log_q)[:, roots])

    def body(state: _EMState) -> _EMState:
        q = jnp.exp(state.log_q)
        log_vote = tables(operator.transpose_apply(q))
        log_prior = log_balance
        if not fixed_balance:
            mass = jnp.sum(balance_weight * q, axis=0) + prior.balance
            log_prior = log_normalise_roots(tree, jnp.log(mass))
        log_q, evidence = expect(log_vote, log_prior)
        change = jnp.max(jnp.abs(jnp.exp(log_q) - q))
        trace = state.trace.at[state.count].set(evidence)
        return _EMState(log_q, log_vote, log_prior, change, state.count + 1, trace)

    start = tables(jnp.zeros_like(prior.vote))
    log_q, _ = expect(start, log_balance)
    infinity = jnp.asarray(jnp.inf, offset.dtype)
    trace = jnp.full(max_steps, jnp.nan, offset.dtype)
    state = _EMState(log_q, start, log_balance, infinity, jnp.int32(0), trace)
    state = jax.lax.while_loop(
        lambda s: (s.count < max_steps) & ~(s.change <= tolerance), body, state
    )
    raw = _residual_correlation(operator, lf, weight, state, covered)
    return state, jnp.clip(correlation_scale * raw, 0, 1)


def _residual_correlation(
    operator: Incidence, lf: jax.Array, weight: jax.Array, state: _EMState, covered: jax.Array
) -> jax.Array:
    """Correlation within items of "this vote is right" beyond what the tables say; float[]."""
    q = jnp.exp(state.log_q)
    right = jax.ops.segment_sum(jnp.exp(state.log_vote) * covered, lf, lf.shape[0])[lf]
    residual = weight * (covered - right)
    spread = weight * jnp.sqrt(jnp.clip(right * (1 - right), 0))

    def pairs(table: jax.Array) -> jax.Array:
        return jnp.sum(q * (operator.apply(table) ** 2 - operator.apply(table**2)))

    return pairs(residual) / jnp.maximum(pairs(spread), 1e-9)


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
    n, dtype = len(matrix), jnp.result_type(float)
    balance = checked_class_balance(class_balance, tree)
    codes = np.asarray(column_ids(matrix, columns))
    counts = np.bincount(codes[codes >= 0], minlength=columns.num_columns)
    annotator = np.asarray(annotator_probability(counts, columns, tree), float)

    chosen = np.flatnonzero(annotator[columns.lf] < _ANNOTATOR)
    part = Columns(columns.lf[chosen], columns.symbol[chosen], columns.num_lfs)
    node_mass = np.asarray(node_sum(tree, balance), float)
    precision = np.zeros(columns.num_columns)
    converged, status = True, STATUS[0]
    log_lift = np.zeros((0, tree.num_leaves))
    copies = jnp.zeros((0, 0), dtype)
    if len(chosen):
        overlaps = np.asarray(
            jax.jit(overlap_counts, static_argnums=1)(
                jnp.asarray(_positions(codes, chosen, columns.num_columns)), len(chosen)
            )
        )
        lf_counts = np.bincount(columns.lf, counts, columns.num_lfs)[part.lf]
        stats = detector_statistics(
            overlaps, n, part, lf_counts, 1 - annotator[part.lf], node_mass, tree
        )
        num_groups = int(stats.group.max()) + 1
        detectors = fit_detectors(stats, num_groups=num_groups, config=config.minimise)
        precision[chosen] = detectors.precision
        copies = detectors.copies
        log_lift = _log_lift(precision[chosen], part, node_mass, tree)
        converged = bool(detectors.solution.converged)
        status = STATUS[int(detectors.solution.status)]

    prior = annotator_prior(columns, tree, config.prior_accuracy, config.prior_votes)
    scale = np.zeros(tree.num_leaves)
    for span in tree.root_leaves:
        scale[span] = span.stop - span.start
    prior = _Prior(*prior, config.balance_items * scale * balance)
    params = MixtureParams(
        log_prior=np.log(balance),
        annotator=annotator,
        log_vote=np.zeros((columns.num_columns, tree.num_leaves)),
        detector_columns=chosen.astype(np.int32),
        log_lift=log_lift,
        copies=copies,
        correlation=np.zeros(()),
        precision=precision,
        rate=counts / n,
    )
    params, prior = jax.tree.map(
        lambda x: jnp.asarray(x) if x.dtype == np.int32 else jnp.asarray(x, dtype), (params, prior)
    )
    operator = incidence(codes, columns.num_columns)
    lf = jnp.asarray(columns.lf)
    fired = _fired(codes, chosen, columns.num_columns)
    state, correlation = _fit_annotators(
        operator,
        lf,
        jnp.asarray(column_root_mask(columns, tree)),
        jnp.asarray(tree.covers[columns.symbol], dtype),
        params.annotator,
        _detector_score(params, fired, lf),
        prior,
        params.log_prior,
        config.tolerance,
        config.correlation_scale,
        tree=tree,
        max_steps=config.max_steps,
        fixed_balance=class_balance is not None,
    )
    params = params._replace(
        log_prior=state.log_prior, log_vote=state.log_vote, correlation=correlation
    )
    params = params._replace(precision=_column_precision(params, columns, tree))
    num_steps = int(state.count)
    if not state.change <= config.tolerance:
        converged, status = False, "stopped at max_steps before the posterior came to rest"
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
