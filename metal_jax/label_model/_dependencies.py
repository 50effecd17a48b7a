r"""Label model with known dependencies between LFs: an inverse-form start, then EM over cliques.

The votes factorise given the truth over a junction tree of the dependency graph (`_graph`),

.. math:: \log P(y \mid \lambda) = \log p_y + \sum_C \log P(\lambda_C \mid y)
    - \sum_S \log P(\lambda_S \mid y) - \log Z.

It starts from the rates that the inverse of the overlaps gives (`_inverse_form`), each connected
component counted as one vote. Then EM: the E-step is the posterior above, the M-step takes expected
clique counts plus hyper-Dirichlet pseudo-counts (Dawid & Lauritzen, 1993: products of the LFs'
one-coin priors, the same total for each clique, so that cliques agree on their separators). It
settles what second moments leave open for three or more leaf states (`_overlap`). Entries "never
asked" (-2) are summed out clique by clique, which is exact for LFs in a single clique.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `s` leaf states, `e` edges, `f` factors
(cliques and separators), `w` most members of a factor, `r` rows (cells of all factors).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_positive
from metal_jax._core.minimise import MinimiseConfig
from metal_jax._core.numerics import safe_log
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._cliques import (
    CliqueTables,
    clique_rows,
    count_symbols,
    vote_symbols,
)
from metal_jax.label_model._dawid_skene_prior import dirichlet_prior
from metal_jax.label_model._graph import (
    FactorLayout,
    checked_edges,
    components,
    factor_layout,
    junction_tree,
)
from metal_jax.label_model._incidence import Incidence, incidence
from metal_jax.label_model._inverse_form import inverse_form_rates
from metal_jax.label_model._lf_roots import lf_roots
from metal_jax.label_model._rates import rates_to_tables
from metal_jax.label_model._result import FitResult, em_result, join_lfs
from metal_jax.label_model._tables import log_posterior
from metal_jax.labeling import NOT_ASKED, Columns, overlap_statistics, used_columns, validate
from metal_jax.task_tree import TaskTree, log_normalise_roots


@dataclasses.dataclass(frozen=True)
class DependencyConfig:
    """Settings of `fit_with_dependencies`.

    Attributes:
        informative_abstains: take an abstain as a vote of its own; else as "never asked".
        prior_accuracy: centre of the prior on each LF's table, in (0, 1).
        prior_votes: strength of the prior, in items for each clique and leaf state.
        balance_items: strength of the uniform prior on the class balance, in items for each leaf.
        max_steps: most EM iterations.
        tolerance: stop when an iteration moves no item's posterior by more than this.
        max_cells: most cells in the table of a clique.
        ridge: added to the overlaps, in units of each column's vote rate.
        l2: weight of the inverse form's pull towards the prior rates.
        minimise: solver of the inverse form.
    """

    informative_abstains: bool = True
    prior_accuracy: float = 0.7
    prior_votes: float = 1.0
    balance_items: float = 1.0
    max_steps: int = 500
    tolerance: float = 1e-4
    max_cells: int = 65_536
    ridge: float = 0.1
    l2: float = 1e-3
    minimise: MinimiseConfig = MinimiseConfig(max_steps=200)

    def __post_init__(self) -> None:
        if not 0 < self.prior_accuracy < 1:
            raise ValueError(f"prior_accuracy: got {self.prior_accuracy}, expected (0, 1)")
        check_positive(self, "prior_votes", "balance_items", "ridge", "max_steps")


class _Cells(NamedTuple):
    """Items and pseudo-counts as cells of factors.

    Attributes:
        votes: indicator [n, r] of the rows that items select.
        sign: float[r], of each row's factor.
        prior: float[r, s] pseudo-counts, marginals included; 0 on the leaves of other roots.
        prior_balance: float[s].
        complete: bool[r].
        row_factor: int32[r].
        source: int32[q] and `target`, see `FactorLayout`.
        target: int32[q].
        clique_pair: bool[q], pairs within cliques.
    """

    votes: Incidence
    sign: jax.Array
    prior: jax.Array
    prior_balance: jax.Array
    complete: jax.Array
    row_factor: jax.Array
    source: jax.Array
    target: jax.Array
    clique_pair: jax.Array


class _EMState(NamedTuple):
    log_q: jax.Array
    log_prior: jax.Array
    log_table: jax.Array
    change: jax.Array
    num_steps: jax.Array
    trace: jax.Array


def _m_step(log_q: jax.Array, log_table: jax.Array, cells: _Cells) -> jax.Array:
    """float[r, s]: expected clique counts plus pseudo-counts, and all their marginals."""
    source, target, num_rows = cells.source, cells.target, len(cells.sign)
    complete = cells.complete[:, None]
    counts = cells.votes.transpose_apply(jnp.exp(log_q))
    # A count of a row with unknown members is spread over the rows that it sums up.
    spread = counts[target] * jnp.exp(log_table[source] - log_table[target])
    spread = jnp.where(cells.clique_pair[:, None], spread, 0)
    counts = jax.ops.segment_sum(spread, source, num_rows)
    counts = jnp.where(complete & (cells.prior > 0), counts + cells.prior, 0)
    total = jax.ops.segment_sum(counts, cells.row_factor, num_rows)[cells.row_factor]
    table = jnp.where(total > 0, counts / jnp.where(total > 0, total, 1), 0)
    table = jax.ops.segment_sum(table[source], target, num_rows)
    return jnp.where(cells.prior > 0, safe_log(table), 0)


@functools.partial(jax.jit, static_argnames=("tree", "fixed_balance", "max_steps"))
def _run_em(
    log_q: jax.Array,
    log_balance: jax.Array,
    cells: _Cells,
    tolerance: float,
    *,
    tree: TaskTree,
    fixed_balance: bool,
    max_steps: int,
) -> _EMState:
    """EM from a starting posterior until no item's moves by more than `tolerance`."""
    first_leaf = np.asarray([span.start for span in tree.root_leaves])
    prior_weight = jnp.where(cells.complete, cells.sign, 0)[:, None] * cells.prior

    def maximise(log_q: jax.Array, log_table: jax.Array) -> tuple[jax.Array, jax.Array]:
        mass = jnp.sum(jnp.exp(log_q), axis=0) + cells.prior_balance
        balance = log_balance if fixed_balance else log_normalise_roots(tree, jnp.log(mass))
        return balance, _m_step(log_q, log_table, cells)

    def body(state: _EMState) -> _EMState:
        log_prior, log_table = maximise(state.log_q, state.log_table)
        score = log_prior + cells.votes.apply(cells.sign[:, None] * log_table)
        log_q = log_normalise_roots(tree, score)
        change = jnp.max(jnp.abs(jnp.exp(log_q) - jnp.exp(state.log_q)))
        objective = jnp.sum((score - log_q)[:, first_leaf]) + jnp.sum(prior_weight * log_table)
        objective = objective + jnp.sum(cells.prior_balance * log_prior)
        trace = state.trace.at[state.num_steps].set(objective)
        return _EMState(log_q, log_prior, log_table, change, state.num_steps + 1, trace)

    def unfinished(state: _EMState) -> jax.Array:
        return (state.num_steps < max_steps) & ~(state.change <= tolerance)

    infinity = jnp.asarray(jnp.inf, log_q.dtype)
    trace = jnp.full(max_steps, jnp.nan, log_q.dtype)
    table = jnp.where(cells.prior > 0, safe_log(cells.prior), 0)
    state = _EMState(log_q, log_balance, table, infinity, jnp.int32(0), trace)
    return jax.lax.while_loop(unfinished, body, state)


def fit_with_dependencies(
    votes: ArrayLike,
    tree: TaskTree,
    edges: ArrayLike | Sequence[tuple[int, int]],
    class_balance: ArrayLike | None = None,
    config: DependencyConfig = DependencyConfig(),
) -> FitResult:
    """Fit a label model whose LFs may depend on each other given the truth.

    Deterministic: no key is needed.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree.
        edges: int[e, 2] pairs of LFs, known or from `discover_dependencies`. Give all pairs of a
            group that shares more than pairs say, such as three LFs reading one list of words. LFs
            that vote on several roots are linked on each root that both vote on.
        class_balance: float[s], kept fixed; None starts from a uniform one and estimates it.
        config: settings.

    Returns:
        The fit, with `CliqueTables`; `objective_trace` is the log-posterior, which never falls
        (except by rounding, or where linked LFs were never asked).

    Raises:
        ValueError: as `labeling.validate`, all abstains, a bad class balance, an unknown LF, a
            self-loop, a repeated edge, an edge between LFs of different roots, or a clique with too
            many cells.

    Example:
        >>> votes = np.array([[0, 0, 0, -1], [1, 1, -1, 1], [1, 1, 0, 1], [0, 0, 0, 0]] * 10)
        >>> result = fit_with_dependencies(votes, TaskTree.single(2), [(0, 1)])
        >>> result.params.sign.tolist()
        [1, 1, 1]
    """
    matrix = validate(votes, tree)
    pairs = lf_roots(matrix, tree)
    linked = pairs.split_edges(checked_edges(edges, pairs.num_lfs))
    matrix = pairs.split_votes(matrix, tree)
    columns = used_columns(matrix)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    balance = checked_class_balance(class_balance, tree)
    num_symbols, abstain_symbol = count_symbols(matrix, columns, config.informative_abstains)
    layout = factor_layout(junction_tree(linked, columns.num_lfs), num_symbols, config.max_cells)

    dtype = jnp.result_type(float)
    rates = inverse_form_rates(
        overlap_statistics(matrix, columns),
        tree,
        components(linked, columns.num_lfs),
        balance,
        ridge=config.ridge,
        l2=config.l2,
        solver=config.minimise,
    )
    start = _one_vote_a_component(rates, balance, matrix, columns, tree, linked, config)
    tables = CliqueTables(
        log_prior=jnp.log(jnp.asarray(balance, dtype)),
        log_table=jnp.zeros((len(layout.row_factor), tree.num_leaves), dtype),
        members=jnp.asarray(layout.members),
        strides=jnp.asarray(layout.strides),
        start=jnp.asarray(layout.start),
        sign=jnp.asarray(layout.sign),
        num_symbols=jnp.asarray(num_symbols),
        abstain_symbol=jnp.asarray(abstain_symbol),
    )
    symbols = vote_symbols(matrix, columns, num_symbols, abstain_symbol)
    prior = _pseudo_counts(matrix, columns, tree, layout, num_symbols, config)
    state = _run_em(
        start.astype(dtype),
        tables.log_prior,
        _Cells(
            votes=incidence(np.asarray(clique_rows(tables, symbols)), len(layout.row_factor)),
            sign=jnp.asarray(layout.sign[layout.row_factor], dtype),
            prior=jnp.asarray(prior, dtype),
            prior_balance=jnp.full(tree.num_leaves, config.balance_items, dtype),
            complete=jnp.asarray(layout.complete),
            row_factor=jnp.asarray(layout.row_factor),
            source=jnp.asarray(layout.source),
            target=jnp.asarray(layout.target),
            clique_pair=jnp.arange(len(layout.source)) < layout.num_clique_pairs,
        ),
        config.tolerance,
        tree=tree,
        fixed_balance=class_balance is not None,
        max_steps=config.max_steps,
    )
    tables = tables._replace(log_prior=state.log_prior, log_table=state.log_table)
    result = em_result("dependencies", tables, columns, tree, state, config.tolerance)
    return join_lfs(result, pairs)


def _one_vote_a_component(
    rates: np.ndarray,
    balance: np.ndarray,
    votes: np.ndarray,
    columns: Columns,
    tree: TaskTree,
    edges: np.ndarray,
    config: DependencyConfig,
) -> jax.Array:
    """float[n, s], log-posterior of independent LFs, weighted by one over their component."""
    tables = rates_to_tables(
        rates, balance, columns, tree, ignore_abstains=not config.informative_abstains
    )
    group = components(edges, columns.num_lfs)
    weight = 1 / np.bincount(group, minlength=columns.num_lfs)[group][:, None]
    weight = jnp.asarray(weight, tables.log_vote.dtype)
    return log_posterior(
        tables._replace(
            log_vote=weight[columns.lf] * tables.log_vote, log_abstain=weight * tables.log_abstain
        ),
        votes,
        columns,
        tree,
    )


def _pseudo_counts(
    votes: np.ndarray,
    columns: Columns,
    tree: TaskTree,
    layout: FactorLayout,
    num_symbols: np.ndarray,
    config: DependencyConfig,
) -> np.ndarray:
    """float[r, s]: products of the LFs' one-coin priors, `prior_votes` for each factor and leaf."""
    asked = np.maximum((votes != NOT_ASKED).sum(axis=0), 1)
    rate = (votes == -1).sum(axis=0) / asked * config.informative_abstains
    num_votes = np.bincount(columns.lf, minlength=columns.num_lfs)
    rate[num_votes == 0] = 0
    flat = dirichlet_prior(
        columns, tree, rate, accuracy=config.prior_accuracy, votes=1.0, balance_items=1.0
    )
    by_symbol = np.zeros((columns.num_lfs, num_symbols.max() + 1, tree.num_leaves))
    first = np.searchsorted(columns.lf, np.arange(columns.num_lfs))
    by_symbol[columns.lf, np.arange(columns.num_columns) - first[columns.lf]] = flat.vote
    silent = rate > 0
    by_symbol[silent, num_votes[silent]] = np.asarray(flat.abstain)[silent]
    by_symbol[num_votes == 0, 0] = 1
    in_root = by_symbol.sum(axis=1)
    by_symbol[np.arange(columns.num_lfs), num_symbols] = in_root  # unknown: the sum of the others
    prior = np.full((len(layout.row_factor), tree.num_leaves), config.prior_votes)
    offset = np.arange(len(layout.row_factor)) - layout.start[layout.row_factor]
    for i in range(layout.members.shape[1]):
        lf, stride = layout.members[layout.row_factor, i], layout.strides[layout.row_factor, i]
        vote = offset // np.maximum(stride, 1) % (num_symbols[lf] + 1)
        prior *= np.where((stride > 0)[:, None], by_symbol[lf, vote], 1)
    return prior
