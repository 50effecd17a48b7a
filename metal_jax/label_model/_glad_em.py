"""Kernels of GLAD; see `_glad` for the model.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states, `v` votes, `g` quadrature
points.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._choices import choices
from metal_jax.label_model._incidence import SparseIncidence, incidence
from metal_jax.labeling import Columns, column_ids
from metal_jax.task_tree import TaskTree, log_normalise_roots, node_sum, path_sum

_NUM_QUADRATURE_POINTS = 21
_NUM_NEWTON_STEPS = 10
_NUM_SWEEPS = 4  # of an M-step: cheaper than as many EM iterations


class GladPrior(NamedTuple):
    """Normal priors.

    Attributes:
        ability_mean: float[].
        ability_scale: float[], standard deviation.
        log_easiness_mean: float[].
        log_easiness_scale: float[], standard deviation.
    """

    ability_mean: jax.Array
    ability_scale: jax.Array
    log_easiness_mean: jax.Array
    log_easiness_scale: jax.Array


class GladData(NamedTuple):
    """The votes, one by one.

    Attributes:
        votes: the indicator matrix [n, d]; its entries are the v votes.
        lf: int32[v], the LF of each vote.
        node: int32[v], the node that each vote is for.
        offset: float[n, s], what the numbers of right and wrong labels contribute.
        possible: bool[n, s], the leaf states that gold labels leave open; None for all.
        weight: float[n], the weight of each item; None for ones.
    """

    votes: SparseIncidence
    lf: jax.Array
    node: jax.Array
    offset: jax.Array
    possible: jax.Array | None = None
    weight: jax.Array | None = None

    def weighted(self, values: jax.Array) -> jax.Array:
        """Values float[n] times the weights of the items."""
        return values if self.weight is None else self.weight * values


def glad_data(
    votes: ArrayLike,
    columns: Columns,
    tree: TaskTree,
    *,
    possible: np.ndarray | None = None,
    weight: np.ndarray | None = None,
) -> GladData:
    """The votes in the form that the kernels take.

    Args:
        votes: int[n, m] node ids, negative = no vote; on the host.
        columns: the columns; votes without one are ignored.
        tree: the task tree.
        possible: bool[n, s] from `gold_mask`; None for all.
        weight: float[n]; None for ones.

    Returns:
        The data.
    """
    codes = np.asarray(column_ids(votes, columns))
    operator = incidence(codes, columns.num_columns, dense=False)
    assert isinstance(operator, SparseIncidence)
    _, log_share = covered_and_log_share(columns, tree)
    return GladData(
        operator,
        jnp.asarray(columns.lf)[operator.column],
        jnp.asarray(columns.symbol)[operator.column],
        operator.apply(jnp.asarray(log_share, jnp.result_type(float))),
        None if possible is None else jnp.asarray(possible),
        None if weight is None else jnp.asarray(weight, jnp.result_type(float)),
    )


def glad_score(
    ability: jax.Array, log_easiness: jax.Array, data: GladData, tree: TaskTree
) -> jax.Array:
    """Log-likelihood of each item's votes given its leaf state.

    Args:
        ability: float[m].
        log_easiness: float[n].
        data: the votes.
        tree: the task tree (static).

    Returns:
        float[n, s].
    """
    item, n = data.votes.item, data.votes.num_items
    x = ability[data.lf] * jnp.exp(log_easiness)[item]
    # Every vote wrong; then a vote raises the leaves beneath its node by its log-odds.
    wrong = jax.ops.segment_sum(-jax.nn.softplus(x), item, n, indices_are_sorted=True)
    raised = jnp.zeros((n, tree.num_nodes), x.dtype).at[item, data.node].add(x)
    return wrong[:, None] + path_sum(tree, raised)[:, tree.leaf_nodes] + data.offset


def glad_e_step(
    ability: jax.Array,
    log_easiness: jax.Array,
    log_prior: jax.Array,
    data: GladData,
    tree: TaskTree,
) -> tuple[jax.Array, jax.Array]:
    """Posterior over leaf states given the easinesses, and the log-likelihood of votes and gold.

    Args:
        ability: float[m].
        log_easiness: float[n].
        log_prior: float[s], log class balance.
        data: the votes.
        tree: the task tree (static), of one root.

    Returns:
        `log_q` float[n, s] and float[] the log-likelihood.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes, tree = np.array([[0, 0], [1, 0], [0, 1]]), TaskTree.single(2)
        >>> data = glad_data(votes, used_columns(votes), tree)
        >>> log_q, _ = glad_e_step(jnp.array([2.0, 0.5]), jnp.zeros(3), jnp.zeros(2), data, tree)
        >>> log_q.argmax(axis=1).tolist()  # the abler LF decides
        [0, 1, 0]
    """
    score = log_prior + glad_score(ability, log_easiness, data, tree)
    if data.possible is not None:
        score = jnp.where(data.possible, score, -jnp.inf)
    evidence = jax.nn.logsumexp(score, axis=-1)
    return score - evidence[:, None], jnp.sum(data.weighted(evidence))


def glad_m_step(
    log_q: jax.Array,
    ability: jax.Array,
    log_easiness: jax.Array,
    data: GladData,
    prior: GladPrior,
    tree: TaskTree,
) -> tuple[jax.Array, jax.Array]:
    """Abilities and easinesses that raise the expected log-posterior; see the module's text.

    An item of weight w is w items with one and the same easiness, which they would have anyway.

    Args:
        log_q: float[n, s], posterior over leaf states.
        ability: float[m], the current abilities.
        log_easiness: float[n], the current log-easinesses.
        data: the votes.
        prior: the priors.
        tree: the task tree (static).

    Returns:
        The new abilities and log-easinesses.

    Example:
        >>> from metal_jax.labeling import used_columns
        >>> votes, tree = np.array([[0, 0], [1, 0], [0, 1]]), TaskTree.single(2)
        >>> data = glad_data(votes, used_columns(votes), tree)
        >>> prior = GladPrior(*(jnp.ones(()) for _ in range(4)))
        >>> log_q = jnp.log(jnp.array([[0.9, 0.1], [0.1, 0.9], [0.9, 0.1]]))
        >>> ability, _ = glad_m_step(log_q, jnp.ones(2), jnp.zeros(3), data, prior, tree)
        >>> bool(ability[0] > ability[1])
        True
    """
    item, lf = data.votes.item, data.lf
    right = node_sum(tree, jnp.exp(log_q))[item, data.node] - 0.5
    precision = prior.ability_scale**-2

    def by_lf(values: jax.Array) -> jax.Array:
        if data.weight is not None:
            values = data.weight[item] * values
        return jax.ops.segment_sum(values, lf, len(ability))

    def by_item(values: jax.Array) -> jax.Array:
        return jax.ops.segment_sum(values, item, len(log_easiness), indices_are_sorted=True)

    def sweep(_: int, params: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        ability, log_easiness = params
        easiness = jnp.exp(log_easiness)[item]
        curvature = _half_curvature(ability[lf] * easiness)
        ability = (by_lf(right * easiness) + prior.ability_mean * precision) / (
            by_lf(2 * curvature * easiness**2) + precision
        )
        of_vote = ability[lf]
        curvature = _half_curvature(of_vote * easiness)
        linear, quadratic = by_item(right * of_vote), by_item(curvature * of_vote**2)
        return ability, _best_log_easiness(log_easiness, linear, quadratic, prior)

    return jax.lax.fori_loop(0, _NUM_SWEEPS, sweep, (ability, log_easiness))


def _half_curvature(x: jax.Array) -> jax.Array:
    """`tanh(x / 2) / 4x`, 1/8 at zero."""
    small = jnp.abs(x) < 1e-3
    safe = jnp.where(small, 1, x)
    return jnp.where(small, 0.125, jnp.tanh(safe / 2) / (4 * safe))


def _best_log_easiness(
    start: jax.Array, linear: jax.Array, quadratic: jax.Array, prior: GladPrior
) -> jax.Array:
    """Raise `linear e^b - quadratic e^(2b) + log N(b)` for each item; never below the start."""
    mean, precision = prior.log_easiness_mean, prior.log_easiness_scale**-2

    def value(b: jax.Array) -> jax.Array:
        return linear * jnp.exp(b) - quadratic * jnp.exp(2 * b) - precision * (b - mean) ** 2 / 2

    def step(_: int, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        b, scale = carry
        first, second = linear * jnp.exp(b), quadratic * jnp.exp(2 * b)
        slope = first - 2 * second - precision * (b - mean)
        concave = 4 * second + precision - first  # the Newton step where this is positive
        concave = jnp.maximum(concave, precision)
        moved = b + scale * jnp.clip(slope / concave, -1, 1)
        better = value(moved) > value(b)
        return jnp.where(better, moved, b), jnp.where(better, 1, scale / 2)

    return jax.lax.fori_loop(0, _NUM_NEWTON_STEPS, step, (start, jnp.ones_like(start)))[0]


def glad_log_prior_density(
    ability: jax.Array, log_easiness: jax.Array, data: GladData, prior: GladPrior
) -> jax.Array:
    """Log-density of the parameters under their priors, up to a constant; float[]."""
    first = (ability - prior.ability_mean) / prior.ability_scale
    second = (log_easiness - prior.log_easiness_mean) / prior.log_easiness_scale
    return -(jnp.sum(first**2) + jnp.sum(data.weighted(second**2))) / 2


def covered_and_log_share(columns: Columns, tree: TaskTree) -> tuple[np.ndarray, np.ndarray]:
    """bool[d, s] whether a vote is right, float[d, s] `-log` how many labels share its mass."""
    covered = tree.covers[columns.symbol]
    counts = choices(columns, tree)
    sharing = np.where(covered, counts.right[columns.lf], counts.wrong[columns.lf])
    return covered, -np.log(np.maximum(sharing, 1))


def quadrature(prior: GladPrior) -> tuple[jax.Array, jax.Array]:
    """Gauss-Hermite points and log-weights of the prior of log-easiness; float[g] each."""
    points, weights = np.polynomial.hermite_e.hermegauss(_NUM_QUADRATURE_POINTS)
    dtype = prior.log_easiness_mean.dtype
    log_weights = jnp.asarray(np.log(weights / weights.sum()), dtype)
    return (
        prior.log_easiness_mean + prior.log_easiness_scale * jnp.asarray(points, dtype),
        log_weights,
    )


@functools.partial(jax.jit, static_argnames="tree")
def glad_log_posterior(
    log_prior: jax.Array, ability: jax.Array, data: GladData, prior: GladPrior, tree: TaskTree
) -> jax.Array:
    """Log-posterior over leaf states, the easiness of each item integrated out.

    Args:
        log_prior: float[s], log class balance.
        ability: float[m].
        data: the votes.
        prior: for the prior of the easiness.
        tree: the task tree (static).

    Returns:
        float[n, s].
    """
    n = data.votes.num_items

    def add(total: jax.Array, point: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        log_easiness, log_weight = point
        score = glad_score(ability, jnp.full(n, log_easiness), data, tree)
        return jnp.logaddexp(total, score + log_weight), None

    # One point at a time: memory stays O(n s).
    start = jnp.full((n, tree.num_leaves), -jnp.inf, ability.dtype)
    total, _ = jax.lax.scan(add, start, quadrature(prior))
    return log_normalise_roots(tree, log_prior + total)
