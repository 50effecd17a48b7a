r"""GLAD: annotators of different ability on items of different difficulty.

The vote of LF j on item i is right with a probability of its own,

.. math:: P(\text{right}) = \sigma(\alpha_j \beta_i), \qquad \alpha_j \sim N(1, 1), \quad
    \log \beta_i \sim N(1, 1),

with the ability :math:`\alpha_j` (negative for an adversary) and the easiness :math:`\beta_i > 0`;
errors are spread evenly over the wrong labels (Whitehill, Ruvolo, Wu, Bergsma & Movellan, "Whose
Vote Should Count More", NIPS 2009, sections 2-3; the priors are those of crowd-kit 1.4.2). On a
task tree a vote is right on the leaves that its node covers, and an LF chooses among the labels of
the tasks that it votes on (`_choices`): right labels share :math:`\sigma`, wrong ones
:math:`1 - \sigma`. A missing vote says nothing. The class balance is given, by default uniform.

Fit. MAP of abilities and easinesses by EM. The expected log-likelihood of a vote that is right with
posterior probability r is :math:`(r - \tfrac12) x - \log 2\cosh(x/2)`, :math:`x = \alpha\beta`.
The M-step maximises the quadratic minorant
:math:`-\log 2\cosh(x/2) \ge -\lambda(\xi) x^2 + c`, :math:`\lambda(\xi) = \tanh(\xi/2) / 4\xi`,
which touches at :math:`x = \pm\xi` (Jaakkola & Jordan, 2000): in closed form for the abilities,
then by one-dimensional Newton steps for the easinesses. So the log-posterior never falls, and where
EM rests its gradient is zero.

Posterior. The easiness of an item is integrated out over its prior by Gauss-Hermite quadrature, for
all items alike: the posterior is a function of the item's votes, whether or not it was in the fit.

**Not for keyword LFs.** Few LFs vote on an item there, and most of an item's evidence is how easy
it is said to be: the mode calls outvoted LFs adversaries (negative abilities), and labels worse
than majority vote. Accuracy on the open sets of LFs, fitted to the items that it is judged on:

=========  ========  ==========  =====
set        majority  2 EM steps  mode
=========  ========  ==========  =====
agnews     .827      .839        .666
tennis     .885      .891        .891
openi_cxr  .816      .791        .638
semeval    .767      .710        .710
trec       .629      .609        .668
youtube    .841      .845        .901
hausa      .474      .464        .254
=========  ========  ==========  =====

crowd-kit 1.4.2 reports the middle column (openi_cxr: the mode), since its stopping rule ends EM
after two steps: it watches the expected log-likelihood, which an E-step lowers. Let go on, it
comes to the same mode (agnews: log-posterior -1166.03 and abilities as here to three digits).
`max_steps=2` stops as it does.

Legend: `n` items, `m` LFs, `d` (LF, node) columns, `s` leaf states, `v` votes, `g` quadrature
points.
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
from metal_jax.label_model._choices import choice_columns
from metal_jax.label_model._class_balance import checked_class_balance
from metal_jax.label_model._glad_em import (
    GladData,
    GladPrior,
    covered_and_log_share,
    glad_data,
    glad_e_step,
    glad_log_posterior,
    glad_log_prior_density,
    glad_m_step,
    quadrature,
)
from metal_jax.label_model._gold import checked_supervision
from metal_jax.label_model._result import FitResult, em_result
from metal_jax.labeling import Columns, column_ids, used_columns, validate
from metal_jax.task_tree import TaskTree


@dataclasses.dataclass(frozen=True)
class GladConfig:
    """Settings of `fit_glad`.

    Attributes:
        ability_mean: mean of the normal prior on abilities.
        ability_scale: its standard deviation.
        log_easiness_mean: mean of the normal prior on log-easinesses.
        log_easiness_scale: its standard deviation.
        max_steps: most EM iterations.
        tolerance: stop when an iteration moves no item's posterior, and no LF's chance to be right
            (which matters where gold labels hold the posterior), by more than this.
    """

    ability_mean: float = 1.0
    ability_scale: float = 1.0
    log_easiness_mean: float = 1.0
    log_easiness_scale: float = 1.0
    max_steps: int = 1000
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        check_positive(self, "ability_scale", "log_easiness_scale", "max_steps")


class GladParams(NamedTuple):
    """Parameters of GLAD.

    Attributes:
        log_prior: float[s], log class balance.
        ability: float[m], alpha in the paper; the prior mean for an LF that never voted.
        log_easiness: float[n], log beta of the items of the fit; the prior mean without a vote.
        prior: the priors; that of the easiness stands for the items to come.
    """

    log_prior: jax.Array
    ability: jax.Array
    log_easiness: jax.Array
    prior: GladPrior

    def log_posterior(self, votes: ArrayLike, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[n, s], the easiness of each item integrated out."""
        data = glad_data(votes, columns, tree)
        return glad_log_posterior(self.log_prior, self.ability, data, self.prior, tree)

    def contributions(
        self, votes: ArrayLike, columns: Columns, tree: TaskTree
    ) -> tuple[jax.Array, jax.Array]:
        r"""The prior's and each LF's share in the log-posterior: float[n, s], float[n, m, s].

        Given y, an LF's share is its log-likelihood averaged over the item's easiness given the
        votes, :math:`\rho(\beta \mid y)`; what the votes say of the easiness,
        :math:`-KL(\rho \| \text{prior})`, counts with the class balance. They add up exactly.
        """
        codes = np.asarray(column_ids(votes, columns))
        covered, log_share = covered_and_log_share(columns, tree)
        voted = (codes >= 0)[..., None]
        dtype = self.ability.dtype
        sign = jnp.asarray(np.where(covered, 1, -1)[codes], dtype)
        offset = jnp.asarray(log_share[codes], dtype)
        points, log_weights = quadrature(self.prior)

        def pushes(log_easiness: jax.Array) -> jax.Array:
            x = sign * (self.ability * jnp.exp(log_easiness))[:, None]
            return jnp.where(voted, jax.nn.log_sigmoid(x) + offset, 0)

        by_point = jax.vmap(pushes)(points)  # [g, n, m, s]
        total = jnp.sum(by_point, axis=2) + log_weights[:, None, None]
        average = jnp.einsum("gns,gnms->nms", jax.nn.softmax(total, axis=0), by_point)
        remainder = jax.nn.logsumexp(total, axis=0) - jnp.sum(average, axis=1)
        return self.log_prior + remainder, average

    def lf_accuracy(self, columns: Columns, tree: TaskTree) -> jax.Array:
        """float[m], probability that a vote is right, averaged over the prior of the easiness."""
        del tree
        points, log_weights = quadrature(self.prior)
        right = jax.nn.sigmoid(self.ability[:, None] * jnp.exp(points))
        votes = np.bincount(columns.lf, minlength=columns.num_lfs) > 0
        return jnp.where(votes, jnp.sum(right * jnp.exp(log_weights), axis=-1), jnp.nan)


class _GladState(NamedTuple):
    log_q: jax.Array
    ability: jax.Array
    log_easiness: jax.Array
    change: jax.Array
    num_steps: jax.Array
    trace: jax.Array


@functools.partial(jax.jit, static_argnames=("tree", "max_steps"))
def _run_em(
    ability: jax.Array,
    log_easiness: jax.Array,
    log_prior: jax.Array,
    data: GladData,
    prior: GladPrior,
    tolerance: float,
    *,
    tree: TaskTree,
    max_steps: int,
) -> _GladState:
    """EM until no item's posterior moves by more than `tolerance`."""

    def body(state: _GladState) -> _GladState:
        ability, log_easiness = glad_m_step(
            state.log_q, state.ability, state.log_easiness, data, prior, tree
        )
        log_q, evidence = glad_e_step(ability, log_easiness, log_prior, data, tree)
        objective = evidence + glad_log_prior_density(ability, log_easiness, data, prior)
        pairs = (
            (jnp.exp(log_q), jnp.exp(state.log_q)),
            (jax.nn.sigmoid(ability), jax.nn.sigmoid(state.ability)),
        )
        change = jnp.max(jnp.stack([jnp.max(jnp.abs(a - b)) for a, b in pairs]))
        trace = state.trace.at[state.num_steps].set(objective)
        return _GladState(log_q, ability, log_easiness, change, state.num_steps + 1, trace)

    log_q, _ = glad_e_step(ability, log_easiness, log_prior, data, tree)
    infinity = jnp.asarray(jnp.inf, log_prior.dtype)
    trace = jnp.full(max_steps, jnp.nan, log_prior.dtype)
    state = _GladState(log_q, ability, log_easiness, infinity, jnp.int32(0), trace)
    return jax.lax.while_loop(
        lambda s: (s.num_steps < max_steps) & ~(s.change <= tolerance), body, state
    )


def fit_glad(
    votes: ArrayLike,
    tree: TaskTree,
    class_balance: ArrayLike | None = None,
    config: GladConfig = GladConfig(),
    *,
    gold: ArrayLike | None = None,
    item_weights: ArrayLike | None = None,
) -> FitResult:
    """Fit GLAD by EM from the prior means. Deterministic: no key is needed.

    Args:
        votes: int[n, m] node ids, negative = no vote, which says nothing.
        tree: a task tree of one root.
        class_balance: float[s], kept fixed; uniform by default.
        config: settings.
        gold: int[n] node ids, -1 = unknown: what is known of some items (see `gold_mask`). Only
            the fit sees it: `posterior` of the same votes does not know the gold labels.
        item_weights: float[n], not negative; a whole number counts as that many copies. An item of
            weight 0 gets an easiness, but counts for nothing.

    Returns:
        The fit, with `GladParams`; `objective_trace` is the log-posterior of abilities and
        easinesses up to a constant, which never falls.

    Raises:
        ValueError: as `labeling.validate`, no votes, a bad class balance, gold label or weight
            (names the item), or a forest.

    Example:
        >>> from metal_jax.labeling import synthetic_votes
        >>> tree = TaskTree.single(2)
        >>> data = synthetic_votes(jax.random.key(0), 200, 8, tree)
        >>> fit_glad(data.votes, tree).params.ability.shape
        (8,)
    """
    if len(tree.roots) > 1:
        raise ValueError(
            f"fit_glad: got a forest of {len(tree.roots)} roots, expected one root: an item has "
            "one difficulty; fit each root on its own"
        )
    matrix = validate(votes, tree)
    known = checked_supervision(gold, item_weights, len(matrix), tree)
    columns = choice_columns(used_columns(matrix[known.present()[0]]), tree)
    if not columns.num_columns:
        raise ValueError("votes: every LF abstains on every item; there is nothing to fit")
    dtype = jnp.result_type(float)
    log_prior = jnp.log(jnp.asarray(checked_class_balance(class_balance, tree), dtype))
    prior = GladPrior(
        *(
            jnp.asarray(x, dtype)
            for x in (
                config.ability_mean,
                config.ability_scale,
                config.log_easiness_mean,
                config.log_easiness_scale,
            )
        )
    )
    state = _run_em(
        jnp.full(columns.num_lfs, prior.ability_mean),
        jnp.full(len(matrix), prior.log_easiness_mean),
        log_prior,
        glad_data(matrix, columns, tree, **known._asdict()),
        prior,
        config.tolerance,
        tree=tree,
        max_steps=config.max_steps,
    )
    params = GladParams(log_prior, state.ability, state.log_easiness, prior)
    return em_result("glad", params, columns, tree, state, config.tolerance)
