r"""Dawid-Skene by EM: a table of votes given the truth for each LF.

E-step :math:`q_i(y) \propto p_y \prod_j P(\lambda_{ij} \mid y)`; M-step: expected counts plus a
Dirichlet prior (Dawid & Skene, 1979). The prior of an LF's votes given y is centred on a one-coin
table: with probability `prior_accuracy` the vote covers y. Cost of an iteration: two products with
the indicator matrix, O(n d s) dense or O(votes s) sparse.

Entries of a table can be tied, down to one accuracy for each LF (`tied_entries`): the expected
counts of tied entries are pooled before they are normalised, which is the exact M-step.

Abstains can be *ignored*, as for crowds where a missing vote means that nobody asked (the tables
are then conditional on voting), or *informative*: one more symbol with its own probability given y,
as for keyword LFs, whose silence says something. Entries "never asked" (-2) are always ignored.

Items can carry a gold label, which restricts their leaf states (and so counts in the likelihood),
and a weight, which counts as that many copies.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.typing import ArrayLike

from metal_jax._core.checks import check_positive
from metal_jax._core.sharding import off_mesh, spread_items
from metal_jax.label_model._choices import choice_columns
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._dawid_skene_prior import (
    DirichletPrior,
    TiedEntries,
    Tying,
    abstain_rates,
    dirichlet_prior,
    informative_lfs,
    log_prior_density,
    tied_entries,
)
from metal_jax.label_model._dawid_skene_steps import VoteData, e_step, m_step, vote_data
from metal_jax.label_model._gold import checked_accuracy, checked_supervision
from metal_jax.label_model._incidence import spread_incidence
from metal_jax.label_model._lf_roots import lf_roots
from metal_jax.label_model._majority import majority_vote
from metal_jax.label_model._result import FitResult, em_result, join_lfs
from metal_jax.label_model._tables import ConditionalTables
from metal_jax.label_model._votes import checked_votes, vote_columns
from metal_jax.task_tree import TaskTree, log_normalise_roots


@dataclasses.dataclass(frozen=True)
class DawidSkeneConfig:
    """Settings of `fit_dawid_skene`.

    Attributes:
        tying: what the votes of an LF may depend on, given that it votes: "full", a probability
            for each label and leaf; "class", an accuracy for each leaf, the errors spread evenly
            over the wrong labels; "one_coin", one accuracy. See `tied_entries`.
        all_labels: let each LF choose among all labels of the tasks that it votes on, not only
            among those that it ever used. Right for crowds, whose workers with few votes have used
            few labels; a keyword LF can say one thing only.
        informative_abstains: take an abstain as evidence, for all LFs or for each; see the
            module's text.
        prior_accuracy: centre of the prior on each LF's table, in (0, 1).
        prior_votes: strength of that prior, in votes for each leaf state; positive.
        balance_items: strength of the uniform prior on the class balance, in items for each leaf.
        max_steps: most EM iterations.
        tolerance: stop when an iteration moves no item's posterior by more than this. (The
            log-posterior itself is a sum over items, too coarse in float32 to stop by.)
    """

    tying: Tying = "full"
    all_labels: bool = False
    informative_abstains: bool | tuple[bool, ...] = True
    prior_accuracy: float = 0.7
    prior_votes: float = 1.0
    balance_items: float = 1.0
    max_steps: int = 500
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.tying not in ("full", "class", "one_coin"):
            raise ValueError(f"tying: got {self.tying!r}, expected 'full', 'class' or 'one_coin'")
        if not 0 < self.prior_accuracy < 1:
            raise ValueError(f"prior_accuracy: got {self.prior_accuracy}, expected (0, 1)")
        check_positive(self, "prior_votes", "balance_items", "max_steps")


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
    tied: TiedEntries | None,
    tolerance: float,
    *,
    tree: TaskTree,
    fixed_balance: bool,
    max_steps: int,
) -> _EMState:
    """EM from a starting posterior until no item's moves by more than `tolerance`."""

    def maximise(log_q: jax.Array) -> ConditionalTables:
        tables = m_step(log_q, data, prior, tree, tied)
        return tables._replace(log_prior=log_balance) if fixed_balance else tables

    def body(state: _EMState) -> _EMState:
        tables = maximise(state.log_q)
        log_q, evidence = e_step(tables, data, tree)
        change = jnp.abs(jnp.exp(log_q) - jnp.exp(state.log_q))
        if data.weight is not None:
            change = change * (data.weight > 0)[:, None]
        change = jnp.max(change)
        objective = evidence + log_prior_density(tables, prior)
        trace = state.trace.at[state.num_steps].set(objective)
        return _EMState(log_q, tables, change, state.num_steps + 1, trace)

    def unfinished(state: _EMState) -> jax.Array:
        return (state.num_steps < max_steps) & ~(state.change <= tolerance)

    infinity = jnp.asarray(jnp.inf, log_q.dtype)
    trace = jnp.full(max_steps, jnp.nan, log_q.dtype)
    state = _EMState(log_q, maximise(log_q), infinity, jnp.int32(0), trace)
    return jax.lax.while_loop(unfinished, body, state)


def fit_dawid_skene(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: DawidSkeneConfig = DawidSkeneConfig(),
    *,
    gold: ArrayLike | None = None,
    item_weights: ArrayLike | None = None,
    accuracy: ArrayLike | None = None,
    mesh: Mesh | None = None,
) -> FitResult:
    """Fit Dawid-Skene tables by EM, from the majority vote.

    Deterministic: no key is needed.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked; or soft votes float[n, m, N],
            see `checked_votes`.
        tree: the task tree; every leaf state has its own column in the tables.
        class_balance: float[s], kept fixed; None estimates it along with the tables.
        config: settings.
        gold: int[n] node ids, -1 = unknown: what is known of some items (see `gold_mask`). Only
            the fit sees it: `posterior` of the same votes does not know the gold labels.
        item_weights: float[n], not negative; a whole number counts as that many copies.
        accuracy: float[m] in (0, 1), what is believed of each LF: the centre of its prior, in place
            of `config.prior_accuracy`; NaN where nothing is.
        mesh: devices along an axis "data", over which the items are spread.

    Returns:
        The fit; `objective_trace` is the log-posterior, which never falls.

    Raises:
        ValueError: as `checked_votes`, all abstains, a bad class balance, gold label (names the
            item), weight (names the item) or accuracy (names the LF).

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 1000, 8, tree)
        >>> fit_dawid_skene(data.votes, tree).converged
        True
    """
    matrix = checked_votes(votes, tree)
    num_items, num_lfs = matrix.shape[:2]
    trust = checked_accuracy(accuracy, num_lfs, config.prior_accuracy)
    informative = informative_lfs(config.informative_abstains, num_lfs)
    rows, known = checked_supervision(gold, item_weights, num_items, tree).present()
    pairs = lf_roots(matrix, tree)
    matrix = pairs.split_votes(matrix, tree)[rows]
    columns = vote_columns(matrix)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    cast = np.bincount(columns.lf, minlength=columns.num_lfs) > 0
    if config.all_labels:
        columns = choice_columns(columns, tree)
    balance = checked_class_balance(class_balance, tree)
    prior = dirichlet_prior(
        columns,
        tree,
        # An LF that never abstains has no abstain symbol; one that never votes has nothing to say.
        np.where(cast & informative[pairs.lf], abstain_rates(matrix, known.weight), 0),
        accuracy=trust[pairs.lf],
        votes=config.prior_votes,
        balance_items=config.balance_items,
    )
    start = 0.99 * np.asarray(majority_vote(matrix, tree)) + 0.01 * balance
    if known.possible is not None:
        start = np.where(known.possible, start, 0)
    dtype = jnp.result_type(float)
    with np.errstate(divide="ignore"):
        log_start = jnp.asarray(np.log(start), dtype)
    log_q, data = (
        log_normalise_roots(tree, log_start),
        vote_data(matrix, columns, **known._asdict()),
    )
    if mesh is not None:
        log_q, data = _spread(log_q, data, len(matrix), mesh)
    state = _run_em(
        log_q,
        jnp.log(jnp.asarray(balance, dtype)),
        data,
        jax.tree.map(lambda x: jnp.asarray(x, dtype), prior),
        tied_entries(columns, tree, config.tying),
        config.tolerance,
        tree=tree,
        fixed_balance=class_balance is not None,
        max_steps=config.max_steps,
    )
    tables = off_mesh(state.tables, mesh)
    result = em_result("dawid_skene", tables, columns, tree, state, config.tolerance)
    return join_lfs(result, pairs)


def _spread(
    log_q: jax.Array, data: VoteData, num_items: int, mesh: Mesh
) -> tuple[jax.Array, VoteData]:
    """Items spread over a mesh; padding has no weight and no votes."""
    weight = jnp.ones(num_items, log_q.dtype) if data.weight is None else data.weight
    log_q, weight, possible = spread_items((log_q, weight[:, None], data.possible), num_items, mesh)
    if possible is not None:
        possible = possible | (weight == 0)
    nobody = data.not_asked
    return log_q, VoteData(
        spread_incidence(data.votes, num_items, mesh),
        None if nobody is None else spread_incidence(nobody, num_items, mesh),
        data.lf_of_column,
        possible,
        weight[:, 0],
    )
