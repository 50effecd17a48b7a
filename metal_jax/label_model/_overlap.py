r"""The MeTaL objective: conditional vote rates from overlap statistics alone.

With :math:`\mu_{cy} = P(\text{vote } c \mid Y = y)` and independent LFs,
:math:`O_{cc'} = \sum_y p_y \mu_{cy} \mu_{c'y}` for columns of different LFs and
:math:`O_{cc} = \sum_y p_y \mu_{cy}`. The objective

.. math:: \|(O - \mu P \mu^\top)_\Omega\|_F^2 + \|\mu p - \operatorname{diag} O\|^2
    + \|D (\mu - \mu_0)\|_F^2

is fitted by gradient descent; its cost does not depend on the number of items. (Ratner et al.,
"Training Complex Models with Multi-Task Weak Supervision", AAAI 2019, section 4, eq. 3-5. They use
SGD with momentum; L-BFGS needs a tenth of the time.)

**Not identified for three or more leaf states.** The first two terms are unchanged by
:math:`\mu \to \mu P^{1/2} R P^{-1/2}` for every orthogonal R that fixes :math:`\sqrt p`, a family
of (s-1)(s-2)/2 dimensions; only the start and the third term choose among its members. A likelihood
model (`fit_dawid_skene`) does not have this freedom.

Legend: `d` used (LF, node) columns, `m` LFs, `s` leaf states. `mu` in the paper is
`conditional_rates` here.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_shape
from metal_jax._core.minimise import STATUS, MinimiseConfig, MinimiseResult, minimise
from metal_jax._core.numerics import safe_log
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._result import FitResult
from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.labeling import Columns, OverlapStatistics
from metal_jax.task_tree import TaskTree


@dataclasses.dataclass(frozen=True)
class OverlapConfig:
    """Settings of `fit_overlap`; the defaults hold for any data set.

    Attributes:
        minimise: solver and its stopping rule. `paper_sgd()` gives the paper's.
        precision: prior probability that a vote is right; float, or one for each LF.
        l2: weight of the pull towards the prior rates; float, or one for each LF.
        ignore_abstains: whether the posterior takes an abstain as no evidence (as Snorkel does)
            rather than as a vote with its own probability.
    """

    minimise: MinimiseConfig = MinimiseConfig()
    precision: float | tuple[float, ...] = 0.7
    l2: float | tuple[float, ...] = 1e-3
    ignore_abstains: bool = True


def paper_sgd(num_steps: int = 500) -> MinimiseConfig:
    """Full-batch SGD as in snorkel-metal: learning rate 0.01, momentum 0.9, no early stop."""
    return MinimiseConfig(
        method="sgd", max_steps=num_steps, gradient_tolerance=0.0, stall_tolerance=0.0
    )


def overlap_objective(
    conditional_rates: jax.Array,
    overlaps: jax.Array,
    class_balance: jax.Array,
    off_block: jax.Array,
    prior_rates: jax.Array,
    l2: jax.Array,
) -> jax.Array:
    """The MeTaL loss; pure, jit-able, differentiable.

    Args:
        conditional_rates: float[d, s], `P(vote | Y)`, the unknown.
        overlaps: float[d, d], observed `O`.
        class_balance: float[s].
        off_block: bool or float[d, d], which entries of `O` count: pairs of different,
            conditionally independent LFs.
        prior_rates: float[d, s].
        l2: float[d], weight of the pull to `prior_rates`.

    Returns:
        float[], the loss.

    Example:
        >>> mu = jnp.array([[0.8, 0.2], [0.6, 0.1]])
        >>> p = jnp.array([0.5, 0.5])
        >>> O = mu @ jnp.diag(p) @ mu.T + jnp.diag(mu @ p - jnp.diag(mu @ jnp.diag(p) @ mu.T))
        >>> float(overlap_objective(mu, O, p, 1 - jnp.eye(2), mu, jnp.zeros(2))) < 1e-10
        True
    """
    weighted = conditional_rates * class_balance
    pairs = jnp.matmul(weighted, conditional_rates.T, precision=jax.lax.Precision.HIGHEST)
    residual = jnp.where(off_block, overlaps - pairs, 0)
    rates = jnp.sum(weighted, axis=-1) - jnp.diagonal(overlaps)
    pull = l2[:, None] * (conditional_rates - prior_rates)
    # Sums of squares, not squared norms: the gradient of a norm at 0 is NaN.
    return jnp.sum(residual**2) + jnp.sum(rates**2) + jnp.sum(pull**2)


def prior_conditional_rates(
    vote_rates: ArrayLike,
    class_balance: ArrayLike,
    columns: Columns,
    tree: TaskTree,
    precision: ArrayLike = 0.7,
) -> np.ndarray:
    """Where the fit starts: each LF votes at its rate and is right with probability `precision`.

    `P(c | y) = rate * precision / P(node)` on the leaves that the node covers (the paper's start)
    and `rate * (1 - precision) / (1 - P(node))` elsewhere, so that the rate is met exactly.

    Args:
        vote_rates: float[d].
        class_balance: float[s].
        columns: the columns.
        tree: the task tree.
        precision: float[] or float[m].

    Returns:
        float[d, s], clipped to [0, 1].
    """
    rates, balance = np.asarray(vote_rates)[:, None], np.asarray(class_balance)
    covered = tree.covers[columns.symbol]
    inside = covered @ balance
    trust = np.broadcast_to(np.asarray(precision, float), (columns.num_lfs,))[columns.lf]
    right = np.divide(trust, inside, out=np.zeros_like(inside), where=inside > 0)
    outside = 1 - inside
    wrong = np.divide(1 - trust, outside, out=np.zeros_like(outside), where=outside > 1e-9)
    mean = np.where(covered, right[:, None], wrong[:, None]) * rates
    return np.clip(mean, 0, 1) * column_root_mask(columns, tree)


@functools.partial(jax.jit, static_argnames="config")
def _solve(
    start: jax.Array, own_root: jax.Array, observed: tuple[jax.Array, ...], config: MinimiseConfig
) -> MinimiseResult:
    def objective(rates: jax.Array) -> jax.Array:
        return overlap_objective(jnp.where(own_root, rates, 0), *observed)

    return minimise(objective, start, config)


def fit_overlap(
    statistics: OverlapStatistics,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: OverlapConfig = OverlapConfig(),
) -> FitResult:
    """Fit conditional vote rates to overlap statistics (MeTaL's label model).

    Deterministic: no key is needed, the start is the prior.

    Args:
        statistics: from `labeling.overlap_statistics`.
        tree: the task tree. The roots of a forest are fitted together; pairs of LFs on different
            roots do not enter the objective.
        class_balance: float[s] over leaf states, summing to one in each root; uniform by default.
        config: settings.

    Returns:
        The fit; `result.objective_trace` is the loss.

    Raises:
        ValueError: a class balance of the wrong length, negative, or not summing to one; per-LF
            settings of the wrong length; no votes.
    """
    columns = statistics.columns
    if not columns.num_columns:
        raise ValueError("statistics: every LF abstains on every item; there is nothing to fit")
    balance = checked_class_balance(class_balance, tree)
    overlaps = statistics.overlaps()
    l2 = _per_lf("l2", config.l2, columns)
    precision = _per_lf("precision", config.precision, columns)
    prior = prior_conditional_rates(np.diag(overlaps), balance, columns, tree, precision)
    root = tree.node_root[columns.symbol]
    off_block = (columns.lf[:, None] != columns.lf) & (root[:, None] == root)
    observed = (
        jnp.asarray(overlaps),
        jnp.asarray(balance),
        jnp.asarray(off_block),
        jnp.asarray(prior),
        jnp.asarray(l2[columns.lf]),
    )
    start, observed = jax.tree.map(_as_float, (jnp.asarray(prior), observed))
    own_root = jnp.asarray(column_root_mask(columns, tree))
    solution = _solve(start, own_root, observed, config.minimise)
    tables = rates_to_tables(
        solution.params, balance, columns, tree, ignore_abstains=config.ignore_abstains
    )
    num_steps = int(solution.num_steps)
    return FitResult(
        method="overlap",
        params=tables,
        columns=columns,
        tree=tree,
        converged=bool(solution.converged),
        status=STATUS[int(solution.status)],
        num_steps=num_steps,
        objective_trace=np.asarray(solution.objective_trace[: num_steps + 1]),
    )


def _as_float(x: jax.Array) -> jax.Array:
    """Boolean masks stay, everything else takes the default float dtype."""
    return x if x.dtype == bool else x.astype(jnp.result_type(float))


def _per_lf(name: str, value: float | tuple[float, ...], columns: Columns) -> np.ndarray:
    array = np.asarray(value, float)
    if array.ndim:
        check_shape(name, array, (columns.num_lfs,))
    return np.broadcast_to(array, (columns.num_lfs,))


def rates_to_tables(
    conditional_rates: ArrayLike,
    class_balance: ArrayLike,
    columns: Columns,
    tree: TaskTree,
    *,
    ignore_abstains: bool,
) -> ConditionalTables:
    """Log tables from fitted rates, which need not be probabilities after least squares.

    Args:
        conditional_rates: float[d, s].
        class_balance: float[s].
        columns: the columns.
        tree: the task tree.
        ignore_abstains: leave `log_abstain` at zero.

    Returns:
        The tables; rates are clipped at a hundredth of the column's mean rate from below (a zero
        from least squares means "small", not "impossible") and scaled where an LF's sum over one.
    """
    rates = jnp.asarray(conditional_rates)
    mean = jnp.sum(rates * jnp.asarray(class_balance, rates.dtype), axis=-1, keepdims=True)
    rates = jnp.clip(rates, jnp.maximum(mean, 1e-6) * 0.01, 1.0)
    lf = jnp.asarray(columns.lf)
    total = jax.ops.segment_sum(rates, lf, columns.num_lfs)
    rates = rates / jnp.maximum(total, 1.0)[lf]
    total = jax.ops.segment_sum(rates, lf, columns.num_lfs)
    own_root = jnp.asarray(column_root_mask(columns, tree))
    votes_there = jax.ops.segment_max(own_root.astype(jnp.int32), lf, columns.num_lfs) > 0
    log_abstain = jnp.where(votes_there, jnp.log(jnp.maximum(1 - total, 1e-6)), 0)
    return ConditionalTables(
        log_prior=safe_log(jnp.asarray(class_balance, rates.dtype)),
        log_vote=jnp.where(own_root, jnp.log(rates), 0),
        log_abstain=jnp.zeros_like(log_abstain) if ignore_abstains else log_abstain,
    )
