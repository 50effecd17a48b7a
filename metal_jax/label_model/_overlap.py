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
of (s-1)(s-2)/2 dimensions; only the start and the third term choose among its members. They choose
well when LFs err evenly, however wrong the prior precision, and badly when all LFs share a habit
(mistaking one class for a certain other). Two remedies: overlaps of triples (`triples`), still a
summary of the votes; and a few EM steps of Dawid-Skene from the solution (`polish_steps`), which
need the votes and are the more accurate, being likelihood.

Legend: `n` items, `d` used (LF, node) columns, `m` LFs, `s` leaf states, `v` votes. `mu` in the
paper is `conditional_rates` here.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_known, check_shape, real_array
from metal_jax._core.minimise import STATUS, MinimiseConfig, MinimiseResult, minimise
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._dawid_skene_steps import VoteData, vote_data
from metal_jax.label_model._incidence import SparseIncidence
from metal_jax.label_model._lf_roots import LFRoots, lf_roots_of_columns
from metal_jax.label_model._moments import TripleStatistics, third_order_objective
from metal_jax.label_model._polish import polish_tables
from metal_jax.label_model._rates import (
    VoteList,
    column_blocks,
    listed_incidence,
    overlap_objective,
    overlap_objective_from_votes,
    prior_conditional_rates,
    rates_to_tables,
)
from metal_jax.label_model._result import FitResult, join_lfs
from metal_jax.label_model._tables import column_root_mask
from metal_jax.label_model._votes import to_device
from metal_jax.labeling import (
    Columns,
    OverlapStatistics,
    overlap_statistics,
    used_columns,
    validate,
)
from metal_jax.task_tree import TaskTree

# O is formed, without being asked for, while it has so many entries in all, and for each vote.
_MAX_OVERLAPS = 2**24
_MAX_PER_VOTE = 32


@dataclasses.dataclass(frozen=True)
class OverlapConfig:
    """Settings of `fit_overlap` and `fit_overlap_from_votes`; the defaults hold for any data set.

    Attributes:
        minimise: solver and its stopping rule. `paper_sgd()` gives the paper's.
        precision: prior probability that a vote is right; float, or one for each LF.
        l2: weight of the pull towards the prior rates; float, or one for each LF.
        ignore_abstains: whether the posterior takes an abstain as no evidence (as Snorkel does)
            rather than as a vote with its own probability.
        third_order: weight of the overlaps of triples, where they are given; at 1 their mean
            squared residual counts as much as that of the pairs.
        polish_steps: EM steps from the solution, with the class balance kept; needs the votes. Ten
            are plenty.
        form_overlaps: whether `fit_overlap_from_votes` minimises with O in memory; by default while
            it has at most 2^24 entries, and 32 for each vote: a step with few votes is faster
            without.
    """

    minimise: MinimiseConfig = MinimiseConfig()
    precision: float | tuple[float, ...] = 0.7
    l2: float | tuple[float, ...] = 1e-3
    ignore_abstains: bool = True
    third_order: float = 0.1
    polish_steps: int = 0
    form_overlaps: bool | None = None

    def __post_init__(self) -> None:
        if self.polish_steps < 0:
            raise ValueError(f"polish_steps: got {self.polish_steps}, expected at least 0")


def paper_sgd(num_steps: int = 500) -> MinimiseConfig:
    """Full-batch SGD as in snorkel-metal: learning rate 0.01, momentum 0.9, no early stop.

    Args:
        num_steps: how many.

    Returns:
        The settings, for `OverlapConfig`.

    Example:
        >>> OverlapConfig(minimise=paper_sgd(100)).minimise.max_steps
        100
    """
    return MinimiseConfig(
        method="sgd", max_steps=num_steps, gradient_tolerance=0.0, stall_tolerance=0.0
    )


@functools.partial(jax.jit, static_argnames="config")
def _solve(
    start: jax.Array, own_root: jax.Array, observed: tuple[jax.Array, ...], config: MinimiseConfig
) -> MinimiseResult:
    def objective(rates: jax.Array) -> jax.Array:
        return overlap_objective(jnp.where(own_root, rates, 0), *observed)

    return minimise(objective, start, config)


@functools.partial(jax.jit, static_argnames="config")
def _solve_with_triples(
    start: jax.Array,
    own_root: jax.Array,
    observed: tuple[jax.Array, ...],
    third: tuple[jax.Array, jax.Array, jax.Array],
    config: MinimiseConfig,
) -> MinimiseResult:
    weight, triple_overlaps, triples = third

    def objective(rates: jax.Array) -> jax.Array:
        rates = jnp.where(own_root, rates, 0)
        balance = observed[1]
        third_order = third_order_objective(rates, triple_overlaps, balance, triples)
        return overlap_objective(rates, *observed) + weight * third_order

    return minimise(objective, start, config)


@functools.partial(jax.jit, static_argnames="config")
def _solve_from_votes(
    start: jax.Array,
    own_root: jax.Array,
    votes: SparseIncidence,
    observed: tuple[jax.Array, ...],
    config: MinimiseConfig,
) -> MinimiseResult:
    def objective(rates: jax.Array) -> jax.Array:
        return overlap_objective_from_votes(jnp.where(own_root, rates, 0), votes, *observed)

    return minimise(objective, start, config)


class _Problem(NamedTuple):
    """What both forms of the objective share."""

    start: jax.Array
    own_root: jax.Array
    balance: np.ndarray
    l2: jax.Array


def _problem(
    vote_rates: np.ndarray,
    columns: Columns,
    pairs: LFRoots,
    tree: TaskTree,
    class_balance: ArrayLike | None,
    config: OverlapConfig,
) -> _Problem:
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    balance = checked_class_balance(class_balance, tree)
    l2 = _per_lf("l2", config.l2, pairs)
    precision = _per_lf("precision", config.precision, pairs)
    prior = prior_conditional_rates(vote_rates, balance, columns, tree, precision)
    dtype = jnp.result_type(float)
    return _Problem(
        to_device(prior, dtype),
        to_device(column_root_mask(columns, tree), bool),
        balance,
        to_device(l2[columns.lf], dtype),
    )


def fit_overlap(
    statistics: OverlapStatistics,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: OverlapConfig = OverlapConfig(),
    *,
    triples: TripleStatistics | None = None,
) -> FitResult:
    """Fit conditional vote rates to overlap statistics (MeTaL's label model).

    Deterministic: no key is needed, the start is the prior.

    Args:
        statistics: from `labeling.overlap_statistics`.
        tree: the task tree. The roots of a forest are fitted together; pairs of LFs on different
            roots do not enter the objective.
        class_balance: float[s] over leaf states, summing to one in each root; uniform by default.
        config: settings; `polish_steps` must be 0, as the votes are not here.
        triples: overlaps of triples of the same columns, from `triple_statistics`; the fit goes on
            from the solution without them.

    Returns:
        The fit; `result.objective_trace` is the loss.

    Raises:
        ValueError: a class balance of the wrong length, negative, or not summing to one; per-LF
            settings of the wrong length; no votes; polish steps.

    Example:
        >>> from metal_jax.labeling import overlap_statistics
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 1, 0]] * 5)
        >>> result = fit_overlap(overlap_statistics(votes), TaskTree.single(2))
        >>> result.method, result.params.log_vote.shape
        ('overlap', (6, 2))
    """
    if config.polish_steps:
        raise ValueError("polish_steps needs the votes: use fit_overlap_from_votes")
    counts, d = real_array("statistics.counts", statistics.counts), statistics.columns.num_columns
    check_shape("statistics.counts", counts, (d, d))
    check_known("statistics.counts", np.isfinite(counts) & (counts >= 0), "a number of items")
    overlaps = statistics.overlaps()
    pairs = lf_roots_of_columns(statistics.columns, np.diag(statistics.counts), tree)
    columns = pairs.split_columns(statistics.columns, tree)
    problem = _problem(np.diag(overlaps), columns, pairs, tree, class_balance, config)
    dtype = problem.start.dtype
    root = tree.node_root[columns.symbol]
    off_block = _off_block(columns, tree)
    observed = (
        to_device(overlaps, dtype),
        to_device(problem.balance, dtype),
        to_device(off_block, bool),
        problem.start,
        problem.l2,
    )
    solution = _solve(problem.start, problem.own_root, observed, config.minimise)
    if triples is not None and len(triples.triples):
        at = triples.triples
        at, third = (x[(root[at] == root[at[:, :1]]).all(axis=1)] for x in (at, triples.overlaps()))
        weight = jnp.asarray(config.third_order * off_block.sum(), dtype)
        more = (weight, jnp.asarray(third, dtype), jnp.asarray(at))
        solution = _solve_with_triples(
            solution.params, problem.own_root, observed, more, config.minimise
        )
    return join_lfs(_result(solution, problem.balance, columns, tree, config), pairs)


def fit_overlap_from_votes(
    votes: ArrayLike | VoteList,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: OverlapConfig = OverlapConfig(),
) -> FitResult:
    """The fit of `fit_overlap` straight from the votes: without the matrix of pairs, and polished.

    For 1,200 LFs x 56 classes that matrix would take 18 GB; `overlap_objective_from_votes` needs
    memory O((n + d) s) instead, and each step one pass over the votes.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked; or the votes as a list, where
            what is absent is an abstain.
        tree: the task tree.
        class_balance: float[s] over leaf states, summing to one in each root; uniform by default.
        config: settings.

    Returns:
        The fit. `objective_trace` is the loss, less a constant where O has over 2^24 entries or the
        votes came as a list; the polish is not part of it.

    Raises:
        ValueError: as `fit_overlap` and `labeling.validate`.

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 1000, 8, tree)
        >>> fit_overlap_from_votes(data.votes, tree, config=OverlapConfig(polish_steps=5)).method
        'overlap'
    """
    matrix, constant = None, 0.0
    if isinstance(votes, VoteList):
        listed = votes
    else:
        matrix = validate(votes, tree)
        used = used_columns(matrix)
        entries = used.num_columns**2
        fits = entries <= _MAX_OVERLAPS
        few = entries <= _MAX_PER_VOTE * np.count_nonzero(matrix >= 0)
        if fits and few if config.form_overlaps is None else config.form_overlaps:
            return _fit_formed(matrix, used, tree, class_balance, config)
        item, lf = np.nonzero(matrix >= 0)
        listed = VoteList(item, lf, matrix[item, lf], *matrix.shape)
        constant = _left_out(matrix, used, tree) if fits else constant
    operator, used = listed_incidence(listed, tree)
    counts = np.bincount(operator.column, minlength=used.num_columns)
    pairs = lf_roots_of_columns(used, counts, tree)
    columns = pairs.split_columns(used, tree)
    vote_rates = counts / listed.num_items
    problem = _problem(vote_rates, columns, pairs, tree, class_balance, config)
    dtype = problem.start.dtype
    observed = (
        to_device(vote_rates, dtype),
        to_device(column_blocks(columns), np.int32),
        to_device(problem.balance, dtype),
        problem.start,
        problem.l2,
    )
    solution = _solve_from_votes(
        problem.start, problem.own_root, operator, observed, config.minimise
    )
    solution = solution._replace(objective_trace=solution.objective_trace + constant)
    result = join_lfs(_result(solution, problem.balance, columns, tree, config), pairs)
    if not config.polish_steps:
        return result
    data = (
        VoteData(operator, None, jnp.asarray(columns.lf))
        if matrix is None
        else vote_data(pairs.split_votes(matrix, tree), columns)
    )
    return _polished(result, data, config)


def _off_block(columns: Columns, tree: TaskTree) -> np.ndarray:
    """bool[d, d], the pairs in the objective: of different LFs, on the same root."""
    root = tree.node_root[columns.symbol]
    return (columns.lf[:, None] != columns.lf) & (root[:, None] == root)


def _left_out(matrix: np.ndarray, columns: Columns, tree: TaskTree) -> float:
    """What `overlap_objective_from_votes` leaves out: the sum of the squares of those overlaps."""
    overlaps = overlap_statistics(matrix, columns).overlaps()
    return float(np.sum(overlaps**2, where=_off_block(columns, tree)))


def _fit_formed(
    matrix: np.ndarray,
    used: Columns,
    tree: TaskTree,
    class_balance: ArrayLike | None,
    config: OverlapConfig,
) -> FitResult:
    """`fit_overlap_from_votes` through the matrix of pairs."""
    statistics = overlap_statistics(matrix, used)
    unpolished = dataclasses.replace(config, polish_steps=0)
    result = fit_overlap(statistics, tree, class_balance, unpolished)
    if not config.polish_steps:
        return result
    pairs = lf_roots_of_columns(used, np.diag(statistics.counts), tree)
    data = vote_data(pairs.split_votes(matrix, tree), pairs.split_columns(used, tree))
    return _polished(result, data, config)


def _polished(result: FitResult, data: VoteData, config: OverlapConfig) -> FitResult:
    tables = polish_tables(result.params, data, result.tree, config.polish_steps)
    return result._replace(
        params=tables, status=f"{result.status}; then {config.polish_steps} EM steps"
    )


def _result(
    solution: MinimiseResult,
    balance: np.ndarray,
    columns: Columns,
    tree: TaskTree,
    config: OverlapConfig,
) -> FitResult:
    num_steps = int(solution.num_steps)
    return FitResult(
        method="overlap",
        params=rates_to_tables(
            solution.params, balance, columns, tree, ignore_abstains=config.ignore_abstains
        ),
        columns=columns,
        tree=tree,
        converged=bool(solution.converged),
        status=STATUS[int(solution.status)],
        num_steps=num_steps,
        objective_trace=np.asarray(solution.objective_trace)[: num_steps + 1],
    )


def _per_lf(name: str, value: float | tuple[float, ...], pairs: LFRoots) -> np.ndarray:
    """float[p], a setting of each LF for each (LF, root) pair."""
    array = np.asarray(value, float)
    if array.ndim:
        check_shape(name, array, (pairs.num_lfs,))
    return np.broadcast_to(array, (pairs.num_lfs,))[pairs.lf]
