r"""MACE: annotators who either know the truth or spam.

For each vote LF j knows the label with probability :math:`\theta_j` and copies it; otherwise it
draws a label from a strategy of its own, whatever the truth:

.. math:: P(v \mid y) = \theta_j \frac{[v \text{ covers } y]}{R_{jy}} + (1 - \theta_j)\, \xi_{jv}

(Hovy, Berg-Kirkpatrick, Vaswani & Hovy, "Learning Whom to Trust with MACE", NAACL 2013, section 2),
with :math:`R_{jy}` the labels on the path to y among those of the tasks that the LF votes on: 1 for
a single task. The strategy is over all labels of those tasks. So a MACE model is a set of
conditional tables. A missing vote says nothing, so an LF that only ever says one thing (a keyword)
is best explained as a spammer: posteriors of such votes are far too flat, though their order may
be good. The class balance is given, by default uniform as in the paper.

Fit. EM: of the expected votes for v the share
:math:`\theta_j / (\theta_j + R_{jy} (1 - \theta_j) \xi_{jv})` on covered leaves was known, the
rest was spam; counts plus pseudo-counts a, normalised, are the new parameters (`method="em"`, the
mode under a Dirichlet(1 + a) prior), or the geometric means
:math:`\exp(\psi(N + a) - \psi(\sum (N + a)))` of their Dirichlet posteriors (`method="vb"`,
variational Bayes, under the Beta(1/2, 1/2) and Dirichlet(10) priors of crowd-kit 1.4.2). The
objective, a log-posterior or the variational lower bound, never falls. It has several maxima, so it
is run from several random starts at once.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states, `r` restarts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_positive
from metal_jax.label_model._choices import choice_columns, choices
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._dawid_skene_steps import VoteData, e_step, vote_data
from metal_jax.label_model._gold import checked_supervision
from metal_jax.label_model._lf_roots import lf_roots
from metal_jax.label_model._mace_em import (
    MaceDirichlets,
    MacePrior,
    Method,
    mace_log_prior,
    mace_m_step,
    mace_tables,
)
from metal_jax.label_model._result import FitResult, em_result, join_lfs
from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.label_model._votes import checked_votes, vote_columns
from metal_jax.labeling import Columns
from metal_jax.task_tree import TaskTree

_AGREEMENT = 0.99  # share of items labelled alike for a restart to count as agreeing


@dataclasses.dataclass(frozen=True)
class MaceConfig:
    """Settings of `fit_mace`.

    Attributes:
        method: "vb" (variational Bayes) or "em" (posterior mode); see the module's text.
        competence_prior: pseudo-counts (known, spammed) of each LF's competence under "vb".
        strategy_prior: pseudo-count of each label of an LF's strategy under "vb".
        smoothing: pseudo-count under "em", shared by the labels that an LF chooses among.
        initial_noise: restarts start from weights drawn from U(1, 1 + this), normalised.
        num_restarts: r.
        max_steps: most EM iterations.
        tolerance: stop when an iteration moves no item's posterior, and no LF's competence (which
            matters where gold labels hold the posterior), by more than this.
    """

    method: Method = "vb"
    competence_prior: tuple[float, float] = (0.5, 0.5)
    strategy_prior: float = 10.0
    smoothing: float = 0.01
    initial_noise: float = 0.5
    num_restarts: int = 10
    max_steps: int = 500
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        if self.method not in ("em", "vb"):
            raise ValueError(f"method: got {self.method!r}, expected 'em' or 'vb'")
        check_positive(self, "competence_prior", "strategy_prior", "smoothing")
        check_positive(self, "num_restarts", "max_steps")
        if self.initial_noise < 0:
            raise ValueError(f"initial_noise: got {self.initial_noise}, expected at least 0")


class MaceParams(NamedTuple):
    """Parameters of MACE.

    Attributes:
        tables: the model of votes given the leaf state. Under "vb" they hold the geometric means
            that variational inference works with, so an LF's entries sum to a little less than one.
        competence: float[m], theta in the paper, the probability that a vote is known rather than
            spam; the posterior mean under "vb".
        strategy: float[d], xi in the paper, what the LF says when it spams.
    """

    tables: ConditionalTables
    competence: jax.Array
    strategy: jax.Array

    @property
    def log_prior(self) -> jax.Array:
        """float[s], log class balance."""
        return self.tables.log_prior

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s], as of the tables."""
        return self.tables.log_posterior(votes, columns, tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        """float[n, s], float[n, m, s], as of the tables."""
        return self.tables.contributions(votes, columns, tree)

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], known votes and lucky spam; NaN for an LF that never voted."""
        return self.tables.lf_accuracy(columns, tree)


def mace_prior(columns: Columns, tree: TaskTree, config: MaceConfig) -> MacePrior:
    """The pseudo-counts of a config.

    Args:
        columns: all labels of the tasks that each LF votes on.
        tree: the task tree.
        config: settings.

    Returns:
        The prior, in the default float dtype.
    """
    counts = choices(columns, tree)
    if config.method == "vb":
        competence = np.tile(config.competence_prior, (columns.num_lfs, 1))
        strategy = np.full(columns.num_columns, config.strategy_prior)
    else:
        smoothing = config.smoothing / np.maximum(counts.total, 1)
        competence = np.stack([smoothing, smoothing], axis=1)
        strategy = smoothing[columns.lf]
    known = tree.covers[columns.symbol] / np.maximum(counts.right[columns.lf], 1)
    dtype = jnp.result_type(float)
    return MacePrior(
        jnp.asarray(competence, dtype),
        jnp.asarray(strategy, dtype),
        jnp.asarray(known, dtype),
        jnp.asarray(column_root_mask(columns, tree)),
    )


class _MaceState(NamedTuple):
    log_q: jax.Array
    params: MaceDirichlets
    counts: MaceDirichlets
    change: jax.Array
    num_steps: jax.Array
    trace: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "config"))
def _run_em(
    key: jax.Array,
    log_balance: jax.Array,
    data: VoteData,
    prior: MacePrior,
    *,
    tree: TaskTree,
    config: MaceConfig,
) -> _MaceState:
    """EM from one random start for each restart; every array has a leading axis r."""
    lf, (m, d) = data.lf_of_column, (len(prior.competence), len(prior.strategy))
    dtype = log_balance.dtype

    def expect(params: MaceDirichlets) -> tuple[jax.Array, jax.Array]:
        return e_step(mace_tables(params, log_balance, lf, prior), data, tree)

    def body(state: _MaceState) -> _MaceState:
        tables = mace_tables(state.params, log_balance, lf, prior)
        params, counts = mace_m_step(state.log_q, state.params, tables, data, prior, config.method)
        log_q, evidence = expect(params)
        objective = evidence + mace_log_prior(params, counts, lf, prior, config.method)
        pairs = (log_q, state.log_q), (params.competence, state.params.competence)
        change = jnp.max(jnp.stack([jnp.max(jnp.abs(jnp.exp(a) - jnp.exp(b))) for a, b in pairs]))
        trace = state.trace.at[state.num_steps].set(objective)
        return _MaceState(log_q, params, counts, change, state.num_steps + 1, trace)

    def run(key: jax.Array) -> _MaceState:
        k_competence, k_strategy = jax.random.split(key)
        top = 1 + config.initial_noise
        weight = jax.random.uniform(k_competence, (m, 2), dtype, 1, top)
        label = jax.random.uniform(k_strategy, (d,), dtype, 1, top)
        params = MaceDirichlets(
            jnp.log(weight / jnp.sum(weight, axis=1, keepdims=True)),
            jnp.log(label / jax.ops.segment_sum(label, lf, m)[lf]),
        )
        log_q, _ = expect(params)
        counts = MaceDirichlets(prior.competence, prior.strategy)
        infinity = jnp.asarray(jnp.inf, dtype)
        trace = jnp.full(config.max_steps, jnp.nan, dtype)
        state = _MaceState(log_q, params, counts, infinity, jnp.int32(0), trace)
        return jax.lax.while_loop(
            lambda s: (s.num_steps < config.max_steps) & ~(s.change <= config.tolerance),
            body,
            state,
        )

    return jax.vmap(run)(jax.random.split(key, config.num_restarts))


def fit_mace(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: MaceConfig = MaceConfig(),
    *,
    key: jax.Array,
    gold: ArrayLike | None = None,
    item_weights: ArrayLike | None = None,
) -> FitResult:
    """Fit MACE by variational Bayes or EM; the best of several random starts.

    Args:
        votes: int[n, m] node ids, negative = no vote, which says nothing; or soft votes
            float[n, m, N], see `checked_votes`.
        tree: the task tree.
        class_balance: float[s], kept fixed; uniform by default, as in the paper.
        config: settings.
        key: a `jax.random.key`, consumed by the random starts.
        gold: int[n] node ids, -1 = unknown: what is known of some items (see `gold_mask`). Only
            the fit sees it: `posterior` of the same votes does not know the gold labels.
        item_weights: float[n], not negative; a whole number counts as that many copies.

    Returns:
        The fit of the best restart, with `MaceParams`; `status` tells how many restarts found the
        same labels. `objective_trace` never falls.

    Raises:
        ValueError: as `checked_votes`, no votes, a bad class balance, or a bad gold label or weight
            (names the item).

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 200, 8, tree)
        >>> fit_mace(data.votes, tree, key=jax.random.key(1)).params.competence.shape
        (8,)
    """
    matrix = checked_votes(votes, tree)
    rows, known = checked_supervision(gold, item_weights, len(matrix), tree).present()
    pairs = lf_roots(matrix, tree)
    matrix = pairs.split_votes(matrix, tree)[rows]
    columns = choice_columns(vote_columns(matrix), tree)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    dtype = jnp.result_type(float)
    log_balance = jnp.log(jnp.asarray(checked_class_balance(class_balance, tree), dtype))
    prior = mace_prior(columns, tree, config)
    data = vote_data(matrix, columns, **known._asdict())
    states = _run_em(key, log_balance, data, prior, tree=tree, config=config)
    objective = np.asarray(states.trace)[np.arange(config.num_restarts), states.num_steps - 1]
    best = int(np.argmax(objective))
    state: _MaceState = jax.tree.map(lambda x: x[best], states)
    same = [
        jnp.argmax(states.log_q[..., span], -1) == jnp.argmax(state.log_q[:, span], -1)
        for span in tree.root_leaves
    ]
    share = jnp.mean(jnp.stack(same), axis=(0, 2))  # of labels alike, for each restart
    num_agreeing = int(jnp.sum(share >= _AGREEMENT))
    lf = data.lf_of_column
    total = jax.ops.segment_sum(state.counts.strategy, lf, columns.num_lfs)[lf]
    params = MaceParams(
        mace_tables(state.params, log_balance, lf, prior),
        state.counts.competence[:, 0] / jnp.sum(state.counts.competence, axis=1),
        state.counts.strategy / total,
    )
    result = em_result("mace", params, columns, tree, state, config.tolerance)
    return join_lfs(result, pairs)._replace(
        status=f"{result.status}; {num_agreeing} of {config.num_restarts} restarts agree",
        num_restarts=config.num_restarts,
        restarts_agreeing=num_agreeing,
    )
