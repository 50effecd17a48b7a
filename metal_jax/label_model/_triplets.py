r"""Triplets: conditional vote rates in closed form, without iteration.

For a node u of the tree let Y = +1 on the leaves beneath it and -1 elsewhere, with
:math:`\pi = P(Y = 1)`, and let :math:`\lambda_i` be +1 where LF i votes for u or beneath it, -1
where it votes for a node that excludes u, and 0 otherwise. For three LFs that are independent given
Y **and whose** :math:`E[\lambda_i \mid Y]` **is proportional to** Y (Fu et al., "Fast and
Three-rious: Speeding Up Weak Supervision with Triplet Methods", ICML 2020, section 3.2, eq. 2),

.. math:: E[\lambda_i Y] E[\lambda_j Y] = E[\lambda_i \lambda_j], \qquad
    |E[\lambda_i Y]| = \sqrt{|M_{ij} M_{ik} / M_{jk}|}, \quad M_{ij} = E[\lambda_i \lambda_j].

An LF that only ever votes one class breaks the condition. Centred moments do without it: for any
two variables that are independent given Y,

.. math:: \operatorname{Cov}(a_i, \lambda_j) = \pi (1 - \pi)\, \Delta_i \Delta_j, \qquad
    \Delta_i = E[a_i \mid Y = 1] - E[a_i \mid Y = -1],

so that with :math:`a_i` the indicator of one (LF, node) column the same quotient gives
:math:`\sqrt{\pi (1 - \pi)}\, |\Delta_i|`, and the column's own rate the rest. For two leaf states
this is exact whatever the LFs' error rates and abstains. For more it is one versus rest: a column
has one rate beneath its node and one elsewhere, exact when LFs confuse the other classes evenly.
The sign of :math:`\Delta_i` is that of the covariance with the sum of the other votes: LFs are
better than chance on average.

The cost is O(m^3) for each used node, whatever the number of items.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `e` targets, `s` leaf states.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._lf_roots import lf_roots_of_columns
from metal_jax.label_model._rates import prior_conditional_rates, rates_to_tables
from metal_jax.label_model._result import FitResult, join_lfs
from metal_jax.label_model._triplet_moments import (
    Aggregate,
    centred_rates,
    signed_rates,
    triplet_magnitudes,
)
from metal_jax.label_model._votes import checked_votes
from metal_jax.labeling import Columns, OverlapStatistics, overlap_statistics
from metal_jax.task_tree import TaskTree


@dataclasses.dataclass(frozen=True)
class TripletConfig:
    """Settings of `fit_triplets`.

    Attributes:
        moments: "centred" (covariances, for any LF) or "signed" (the paper's, which needs
            `E[vote | Y]` proportional to Y and an abstain that says nothing).
        items: "all", an abstain being a vote of 0, or "both_vote": moments over the items on which
            both LFs vote, as for crowds, where who was asked has nothing to do with the truth.
        aggregate: "median" or "mean" over the pairs (j, k), or "weighted": the least-squares
            solution, in which a pair counts by the square of `M_jk`.
        significance: a pair is left out when its moment is within so many standard errors of 0.
        asymmetry_limit: an LF whose `balance_asymmetry` is above breaks the paper's condition.
        precision: prior probability that a vote is right, for columns without any triplet.
        ignore_abstains: whether the posterior takes an abstain as no evidence.
    """

    moments: Literal["centred", "signed"] = "centred"
    items: Literal["all", "both_vote"] = "all"
    aggregate: Aggregate = "weighted"
    significance: float = 3.0
    asymmetry_limit: float = 0.5
    precision: float = 0.7
    ignore_abstains: bool = True

    def __post_init__(self) -> None:
        allowed = {
            "moments": ("centred", "signed"),
            "items": ("all", "both_vote"),
            "aggregate": ("median", "mean", "weighted"),
        }
        for name, values in allowed.items():
            if (value := getattr(self, name)) not in values:
                raise ValueError(f"{name}: got {value!r}, expected one of {values}")
        if self.significance < 0:
            raise ValueError(f"significance: got {self.significance}, expected at least 0")


def balance_asymmetry(
    conditional_rates: ArrayLike, class_balance: ArrayLike, columns: Columns, tree: TaskTree
) -> np.ndarray:
    r"""How far each LF is from :math:`E[\lambda \mid Y] \propto Y`, given its conditional rates.

    :math:`|e_+ + e_-| / |e_+ - e_-|` with :math:`e_\pm = E[\lambda \mid Y = \pm 1]`, Y being a leaf
    that the LF votes for against the rest; the worst over such leaves. It is 0 under the condition,
    and at least 1 for an LF that only ever votes one way.

    Args:
        conditional_rates: float[d, s].
        class_balance: float[s].
        columns: the columns.
        tree: the task tree.

    Returns:
        float64[m]; NaN for an LF without votes, infinite for one that ignores Y.
    """
    rates, balance = np.asarray(conditional_rates, float), np.asarray(class_balance, float)
    worst = np.full(columns.num_lfs, np.nan)
    for leaf, node in enumerate(tree.leaf_nodes):
        sign = _signs(columns, tree, int(node))
        inside = np.bincount(columns.lf, sign * rates[:, leaf], columns.num_lfs)
        mean = np.bincount(columns.lf, sign * (rates @ balance), columns.num_lfs)
        voted = np.bincount(columns.lf, sign > 0, columns.num_lfs) > 0
        with np.errstate(divide="ignore", invalid="ignore"):
            outside = (mean - balance[leaf] * inside) / (1 - balance[leaf])
            ratio = np.abs(inside + outside) / np.abs(inside - outside)
        worst = np.where(voted, np.fmax(worst, ratio), worst)
    return worst


def fit_triplets(
    votes: OverlapStatistics | ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: TripletConfig = TripletConfig(),
) -> FitResult:
    """Fit conditional vote rates by triplets, in closed form.

    Columns without a triplet (fewer than three LFs, or moments that do not stand out from noise)
    keep the rates of `prior_conditional_rates`. `status` counts them, and names the LFs that break
    the condition of the signed moments.

    Args:
        votes: statistics from `labeling.overlap_statistics`, or int[n, m] node ids, negative = no
            vote, or soft votes float[n, m, N].
        tree: the task tree.
        class_balance: float[s] over leaf states, summing to one in each root; uniform by default.
        config: settings.

    Returns:
        The fit, without steps or trace; `converged` is False when no column has a triplet.

    Raises:
        ValueError: no votes, or a bad class balance.

    Example:
        >>> import jax
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 10_000, 8, tree)
        >>> result = fit_triplets(data.votes, tree)
        >>> truth = data.conditionals[result.columns.lf, result.columns.symbol]
        >>> bool(np.abs(np.exp(result.params.log_vote) - truth).mean() < 0.01)
        True
    """
    given = isinstance(votes, OverlapStatistics)
    statistics = votes if given else overlap_statistics(checked_votes(votes, tree))
    votes_cast = np.diag(statistics.counts)
    pairs = lf_roots_of_columns(statistics.columns, votes_cast, tree)
    columns = pairs.split_columns(statistics.columns, tree)
    statistics = statistics._replace(columns=columns)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    balance = checked_class_balance(class_balance, tree)
    rates, missing = _solve(statistics, tree, balance, config)
    centred = dataclasses.replace(config, moments="centred")
    free = rates if config == centred else _solve(statistics, tree, balance, centred)[0]
    asymmetry = balance_asymmetry(free, balance, columns, tree)
    unbalanced = np.flatnonzero(asymmetry > config.asymmetry_limit)
    ignored = config.ignore_abstains
    tables = rates_to_tables(rates, balance, columns, tree, ignore_abstains=ignored)
    result = FitResult(
        method="triplets",
        params=tables,
        columns=columns,
        tree=tree,
        converged=not missing.all(),
        status=_status(config, np.unique(pairs.lf[unbalanced]), missing, statistics.columns),
        num_steps=0,
        objective_trace=np.zeros(0),
    )
    return join_lfs(result, pairs)


def _status(
    config: TripletConfig, unbalanced: np.ndarray, missing: np.ndarray, columns: Columns
) -> str:
    parts = [f"closed form from {config.moments} moments"]
    if len(unbalanced):
        shown = ", ".join([*map(str, unbalanced[:10]), "..."][: len(unbalanced)])
        needed = "which these moments need" if config.moments == "signed" else "not needed here"
        parts.append(
            f"E[vote | Y] is not proportional to Y ({needed}) for {len(unbalanced)} of "
            f"{columns.num_lfs} LFs: {shown}"
        )
    if missing.any():
        parts.append(
            f"{missing.sum()} of {columns.num_columns} columns have no triplet and keep the prior "
            f"precision {config.precision}"
        )
    return "; ".join(parts)


def _signs(columns: Columns, tree: TaskTree, node: int) -> np.ndarray:
    """float[d]: +1 for a vote at or beneath the node, -1 for one that excludes it, else 0."""
    covers = tree.covers[columns.symbol]
    beneath = ~(covers & ~tree.covers[node]).any(axis=1)
    excludes = ~(covers & tree.covers[node]).any(axis=1)
    same_root = tree.node_root[columns.symbol] == tree.node_root[node]
    return (beneath.astype(float) - excludes) * same_root


class _Counts(NamedTuple):
    """Numbers of items, for all nodes alike."""

    pairs: np.ndarray  # [d, d], both columns fire
    with_lf: np.ndarray  # [d, m], the column fires and the LF votes
    together: np.ndarray  # [m, m], both LFs vote
    lf_of_column: np.ndarray  # [d, m], one-hot
    num_items: int


def _solve(
    statistics: OverlapStatistics, tree: TaskTree, balance: np.ndarray, config: TripletConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Rates float64[d, s], and bool[d] which columns have no triplet."""
    columns, pairs = statistics.columns, statistics.counts.astype(float)
    m, n = columns.num_lfs, statistics.num_items
    one_hot = np.eye(m)[columns.lf]
    with_lf = pairs @ one_hot
    counts = _Counts(pairs, with_lf, one_hot.T @ with_lf, one_hot, n)
    rate, vote_rate = np.diag(pairs) / n, np.diag(counts.together) / n
    rates = prior_conditional_rates(rate, balance, columns, tree, config.precision)
    missing = np.ones(columns.num_columns, bool)
    for node in np.unique(columns.symbol):
        covered = tree.covers[node]
        mass = float(balance[covered].sum())
        if mass > 1 - 1e-9:
            continue
        here = np.flatnonzero(columns.symbol == node)
        lf = columns.lf[here]
        sign = _signs(columns, tree, int(node))
        moments = _node_moments(counts, sign, here, lf, config)
        inputs = (jnp.asarray(array, jnp.result_type(float)) for array in moments)
        size = np.asarray(triplet_magnitudes(*inputs, aggregate=config.aggregate), float)[lf]
        agreement = np.sum(moments[0] * moments[1], axis=1)[lf]
        size = np.where(agreement < 0, -size, size)
        scale = vote_rate[lf] if config.items == "both_vote" else np.ones(len(here))
        if config.moments == "centred":
            solved = centred_rates(size, rate[here] / scale, mass)
        else:
            side = [np.bincount(columns.lf, rate * (sign == v), m)[lf] / scale for v in (1, -1)]
            size = np.clip(size, -(side[0] + side[1]), side[0] + side[1])
            share = rate[here] / scale / side[0]  # of the votes +1, those for this very node
            solved = [share * p for p in signed_rates(size, side[0], side[1], mass)]
        inside, outside = (np.clip(np.asarray(p, float) * scale, 0, 1)[:, None] for p in solved)
        in_root = tree.node_root[tree.leaf_nodes] == tree.node_root[node]
        found = np.isfinite(size)
        rates[here[found]] = (np.where(covered, inside, outside) * in_root)[found]
        missing[here[found]] = False
    return rates, missing


def _node_moments(
    counts: _Counts, sign: np.ndarray, here: np.ndarray, lf: np.ndarray, config: TripletConfig
) -> tuple[np.ndarray, ...]:
    """Input of `triplet_magnitudes` for one node; a row for each LF's column at that node."""
    m, rate = len(counts.together), np.diag(counts.pairs)
    signed = counts.lf_of_column * sign[:, None]
    column_vote = counts.pairs @ signed  # [d, m], sums of a_c lambda_j
    # Sums over the items that count for the pair: [row's LF or column, other LF].
    if config.items == "both_vote":
        size, square = counts.together, 1.0
        vote_sum = counts.lf_of_column.T @ column_vote  # of lambda_j where LF i votes
        fires = counts.with_lf[here]
    else:
        size = np.full((m, m), float(counts.num_items))
        vote_sum = np.broadcast_to(rate @ signed, (m, m))
        fires = rate[here, None]
        voted = rate @ np.abs(signed) / counts.num_items
        square = voted[:, None] * voted
    in_root = np.asarray(signed.any(axis=0), float)
    size = size * in_root[:, None] * in_root * (1 - np.eye(m))
    items = np.maximum(size, 1)
    reference = signed.T @ column_vote / items
    if config.moments == "signed":
        rows = reference[lf]
    else:
        reference = reference - vote_sum * vote_sum.T / items**2
        rows = column_vote[here] / items[lf] - fires * vote_sum[lf] / items[lf] ** 2
    pair_weight = size * (np.abs(reference) > config.significance * np.sqrt(square / items))
    targets, target_weight = np.zeros((m, m)), np.zeros((m, m))
    targets[lf], target_weight[lf] = rows, size[lf]
    largest = max(size.max(), 1.0)  # weights are relative: keep float32 in range
    return targets, target_weight / largest, reference, pair_weight / largest
