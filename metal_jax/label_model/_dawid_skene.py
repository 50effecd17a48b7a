r"""Dawid-Skene by EM: a full table of votes given the truth for each LF.

E-step :math:`q_i(y) \propto p_y \prod_j P(\lambda_{ij} \mid y)`; M-step: expected counts plus a
Dirichlet prior (Dawid & Skene, 1979). The prior of an LF's votes given y is centred on a one-coin
table: with probability `prior_accuracy` the vote covers y. Cost of an iteration: two products with
the indicator matrix, O(n d s) dense or O(votes s) sparse.

Abstains can be *ignored*, as for crowds where a missing vote means that nobody asked (the tables
are then conditional on voting), or *informative*: one more symbol with its own probability given y,
as for keyword LFs, whose silence says something. Entries "never asked" (-2) are always ignored.

Legend: `n` items, `m` LFs, `d` used (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._incidence import Incidence, incidence
from metal_jax.label_model._majority import majority_vote
from metal_jax.label_model._result import FitResult
from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.labeling import NOT_ASKED, Columns, column_ids, used_columns, validate
from metal_jax.task_tree import TaskTree, log_normalise_roots


@dataclasses.dataclass(frozen=True)
class DawidSkeneConfig:
    """Settings of `fit_dawid_skene`.

    Attributes:
        informative_abstains: take an abstain as evidence; see the module's text.
        prior_accuracy: centre of the prior on each LF's table, in (0, 1).
        prior_votes: strength of that prior, in votes for each leaf state; positive.
        balance_items: strength of the uniform prior on the class balance, in items for each leaf.
        max_steps: most EM iterations.
        tolerance: stop when an iteration moves no item's posterior by more than this. (The
            log-posterior itself is a sum over items, too coarse in float32 to stop by.)
    """

    informative_abstains: bool = True
    prior_accuracy: float = 0.7
    prior_votes: float = 1.0
    balance_items: float = 1.0
    max_steps: int = 500
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if not 0 < self.prior_accuracy < 1:
            raise ValueError(f"prior_accuracy: got {self.prior_accuracy}, expected (0, 1)")
        if self.prior_votes <= 0 or self.balance_items <= 0:
            raise ValueError("prior_votes and balance_items: expected positive numbers")
        if self.max_steps < 1:
            raise ValueError(f"max_steps: got {self.max_steps}, expected at least 1")


class DirichletPrior(NamedTuple):
    """Pseudo-counts of the tables, and which entries exist.

    Attributes:
        vote: float[d, s], 0 on the leaves of other roots.
        abstain: float[m, s], 0 where abstains are ignored.
        balance: float[s].
    """

    vote: jax.Array
    abstain: jax.Array
    balance: jax.Array


class VoteData(NamedTuple):
    """Votes as operators.

    Attributes:
        votes: the indicator matrix [n, d].
        not_asked: the indicator [n, m] of entries "never asked"; None when there are none.
        lf_of_column: int32[d].
    """

    votes: Incidence
    not_asked: Incidence | None
    lf_of_column: jax.Array


def e_step(
    tables: ConditionalTables, data: VoteData, tree: TaskTree
) -> tuple[jax.Array, jax.Array]:
    """Posterior over leaf states and the log-likelihood of the votes.

    Args:
        tables: the current parameters.
        data: the votes.
        tree: the task tree (static).

    Returns:
        `log_q` float[n, s], normalised in each root, and float[] the log-likelihood.
    """
    # Everyone abstains; then correct where a vote was cast or nobody asked.
    silence = tables.log_prior + jnp.sum(tables.log_abstain, axis=0)
    score = silence + data.votes.apply(tables.log_vote - tables.log_abstain[data.lf_of_column])
    if data.not_asked is not None:
        score = score - data.not_asked.apply(tables.log_abstain)
    log_q = log_normalise_roots(tree, score)
    first_leaf = np.asarray([span.start for span in tree.root_leaves])
    return log_q, jnp.sum((score - log_q)[:, first_leaf])


def m_step(
    log_q: jax.Array, data: VoteData, prior: DirichletPrior, tree: TaskTree
) -> ConditionalTables:
    """The tables that maximise the expected log-posterior.

    Args:
        log_q: float[n, s], posterior over leaf states.
        data: the votes.
        prior: pseudo-counts.
        tree: the task tree (static).

    Returns:
        The tables.
    """
    q = jnp.exp(log_q)
    mass = jnp.sum(q, axis=0)
    m, lf = prior.abstain.shape[0], data.lf_of_column
    exists = prior.vote > 0
    votes = data.votes.transpose_apply(q) * exists
    silent = mass - jax.ops.segment_sum(votes, lf, m)
    if data.not_asked is not None:
        silent = silent - data.not_asked.transpose_apply(q)
    counted = prior.abstain > 0  # nowhere when abstains are ignored
    silent = jnp.where(counted, jnp.maximum(silent, 0) + prior.abstain, 0)
    votes = votes + prior.vote
    total = jnp.maximum(silent + jax.ops.segment_sum(votes, lf, m), jnp.finfo(q.dtype).tiny)
    return ConditionalTables(
        log_prior=log_normalise_roots(tree, jnp.log(mass + prior.balance)),
        log_vote=jnp.log(jnp.where(exists, votes / total[lf], 1)),
        log_abstain=jnp.log(jnp.where(counted, silent / total, 1)),
    )


def log_prior_density(tables: ConditionalTables, prior: DirichletPrior) -> jax.Array:
    """Log-density of the tables under the Dirichlet prior, up to a constant; float[]."""
    return (
        jnp.sum(prior.vote * tables.log_vote)
        + jnp.sum(prior.abstain * tables.log_abstain)
        + jnp.sum(prior.balance * tables.log_prior)
    )


class _EMState(NamedTuple):
    log_q: jax.Array
    tables: ConditionalTables
    change: jax.Array
    num_steps: jax.Array
    trace: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "fixed_balance", "max_steps"))
def _run_em(
    log_q: jax.Array,
    log_balance: jax.Array,
    data: VoteData,
    prior: DirichletPrior,
    tolerance: float,
    *,
    tree: TaskTree,
    fixed_balance: bool,
    max_steps: int,
) -> _EMState:
    """EM from a starting posterior until no item's moves by more than `tolerance`."""

    def maximise(log_q: jax.Array) -> ConditionalTables:
        tables = m_step(log_q, data, prior, tree)
        return tables._replace(log_prior=log_balance) if fixed_balance else tables

    def body(state: _EMState) -> _EMState:
        tables = maximise(state.log_q)
        log_q, evidence = e_step(tables, data, tree)
        change = jnp.max(jnp.abs(jnp.exp(log_q) - jnp.exp(state.log_q)))
        objective = evidence + log_prior_density(tables, prior)
        trace = state.trace.at[state.num_steps].set(objective)
        return _EMState(log_q, tables, change, state.num_steps + 1, trace)

    def unfinished(state: _EMState) -> jax.Array:
        return (state.num_steps < max_steps) & ~(state.change <= tolerance)

    infinity = jnp.asarray(jnp.inf, log_q.dtype)
    trace = jnp.full(max_steps, jnp.nan, log_q.dtype)
    state = _EMState(log_q, maximise(log_q), infinity, jnp.int32(0), trace)
    return jax.lax.while_loop(unfinished, body, state)


def dirichlet_prior(
    columns: Columns,
    tree: TaskTree,
    abstain_rate: np.ndarray,
    *,
    accuracy: float,
    votes: float,
    balance_items: float,
) -> DirichletPrior:
    """One-coin Dirichlet prior: with probability `accuracy` a vote covers the truth.

    Args:
        columns: the used columns.
        tree: the task tree.
        abstain_rate: float[m], the prior share of abstains; 0 where they are ignored.
        accuracy: see above; where all symbols of an LF are right, or all wrong, they share evenly.
        votes: pseudo-votes of each LF for each leaf state.
        balance_items: pseudo-items of each leaf state.

    Returns:
        The pseudo-counts; an LF's sum to `votes` on each leaf of its root.
    """
    covered = tree.covers[columns.symbol].astype(float)
    other = column_root_mask(columns, tree) - covered

    def by_lf(values: np.ndarray) -> np.ndarray:
        total = np.zeros((columns.num_lfs, tree.num_leaves))
        np.add.at(total, columns.lf, values)
        return total

    num_right, num_wrong = by_lf(covered)[columns.lf], by_lf(other)[columns.lf]
    right = np.where(num_wrong > 0, accuracy, 1.0) / np.maximum(num_right, 1)
    wrong = np.where(num_right > 0, 1 - accuracy, 1.0) / np.maximum(num_wrong, 1)
    mean = covered * right + other * wrong
    in_root = by_lf(mean) > 0
    return DirichletPrior(
        vote=jnp.asarray(votes * (1 - abstain_rate[columns.lf, None]) * mean),
        abstain=jnp.asarray(votes * abstain_rate[:, None] * in_root),
        balance=jnp.full(tree.num_leaves, balance_items),
    )


def fit_dawid_skene(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: DawidSkeneConfig = DawidSkeneConfig(),
) -> FitResult:
    """Fit Dawid-Skene tables by EM, from the majority vote.

    Deterministic: no key is needed.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree; every leaf state has its own column in the tables.
        class_balance: float[s], kept fixed; None estimates it along with the tables.
        config: settings.

    Returns:
        The fit; `objective_trace` is the log-posterior, which never falls.

    Raises:
        ValueError: as `labeling.validate`, all abstains, or a bad class balance.

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 1000, 8, tree)
        >>> fit_dawid_skene(data.votes, tree).converged
        True
    """
    matrix = validate(votes, tree)
    columns = used_columns(matrix)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    balance = checked_class_balance(class_balance, tree)
    data = vote_data(matrix, columns)
    cast = np.bincount(columns.lf, minlength=columns.num_lfs) > 0
    rate = (matrix == -1).sum(0) / np.maximum((matrix != NOT_ASKED).sum(0), 1)
    # An LF that never abstains has no abstain symbol; one that never votes has nothing to say.
    rate = np.where(cast & config.informative_abstains, rate, 0)
    prior = dirichlet_prior(
        columns,
        tree,
        rate,
        accuracy=config.prior_accuracy,
        votes=config.prior_votes,
        balance_items=config.balance_items,
    )
    start = jnp.log(0.99 * majority_vote(matrix, tree) + 0.01 * balance.astype(np.float32))
    dtype = jnp.result_type(float)
    state = _run_em(
        start.astype(dtype),
        jnp.log(jnp.asarray(balance, dtype)),
        data,
        jax.tree.map(lambda x: jnp.asarray(x, dtype), prior),
        config.tolerance,
        tree=tree,
        fixed_balance=class_balance is not None,
        max_steps=config.max_steps,
    )
    num_steps = int(state.num_steps)
    converged = bool(state.change <= config.tolerance)
    return FitResult(
        method="dawid_skene",
        params=state.tables,
        columns=columns,
        tree=tree,
        converged=converged,
        status="converged: the posterior stopped moving"
        if converged
        else "stopped at max_steps before converging",
        num_steps=num_steps,
        objective_trace=np.asarray(state.trace[:num_steps]),
    )


def vote_data(matrix: np.ndarray, columns: Columns) -> VoteData:
    """The operators of a validated label matrix."""
    asked = matrix != NOT_ASKED
    nobody = None
    if not asked.all():
        codes = np.where(asked, -1, np.arange(matrix.shape[1]))
        nobody = incidence(codes, matrix.shape[1])
    codes = np.asarray(column_ids(matrix, columns))
    return VoteData(incidence(codes, columns.num_columns), nobody, jnp.asarray(columns.lf))
