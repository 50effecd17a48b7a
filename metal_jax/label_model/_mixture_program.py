"""The default model's fit on the device: one compiled program, from statistics to parameters.

Legend: as in `_mixture`.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from metal_jax._core.minimise import MinimiseConfig, MinimiseResult
from metal_jax.label_model._annotators import (
    AnnotatorData,
    AnnotatorPrior,
    AnnotatorState,
    draw_from_prior,
    fit_annotators,
)
from metal_jax.label_model._detectors import DetectorPrior, DetectorStatistics, fit_detectors
from metal_jax.label_model._mixture_params import detector_score
from metal_jax.task_tree import TaskTree

_AGREEMENT = 0.99  # share of items labelled alike for a restart to count as agreeing


class DetectorData(NamedTuple):
    """What the detectors' part of the fit sees.

    Attributes:
        stats: the pair model's input, for each level of the tree.
        fired: float[n, e], their votes.
        weight: float[e], probability that the column's LF is a detector.
        own_root: bool[e, s], leaves of the column's root.
        covered: bool[h, e, s], leaves beneath the column's node, or its ancestor of the level.
    """

    stats: tuple[DetectorStatistics, ...]
    fired: jax.Array
    weight: jax.Array
    own_root: jax.Array
    covered: jax.Array


class Constants(NamedTuple):
    """Settings that are numbers: another choice compiles nothing."""

    detectors: DetectorPrior
    correlation_scale: float
    tolerance: float


class DetectorFit(NamedTuple):
    """The detectors' parameters, as in `MixtureParams`, and the minimiser's report."""

    precision: jax.Array
    log_lift: jax.Array
    copies: jax.Array
    solution: MinimiseResult


class MixtureFit(NamedTuple):
    """The program's result.

    Attributes:
        detectors: None without any.
        state: the annotators' last state.
        precision: float[d], of annotators' votes by Bayes' rule; tied, float[m].
        correlation: float[], scaled.
        restarts_agreeing: int32[].
    """

    detectors: DetectorFit | None
    state: AnnotatorState
    precision: jax.Array
    correlation: jax.Array
    restarts_agreeing: jax.Array


@functools.partial(
    jax.jit, static_argnames=("tree", "max_steps", "fixed_balance", "num_restarts", "minimise")
)
def fit_mixture(
    detectors: DetectorData | None,
    annotators: AnnotatorData,
    prior: AnnotatorPrior,
    log_spread: jax.Array | None,
    log_balance: jax.Array,
    constants: Constants,
    key: jax.Array | None,
    *,
    tree: TaskTree,
    max_steps: int,
    fixed_balance: bool,
    num_restarts: int,
    minimise: MinimiseConfig,
) -> MixtureFit:
    """Fit detectors, then annotators beside them, then what follows from both.

    Args:
        detectors: None when no LF can be one.
        annotators: its offset holds what gold rules out; detectors' scores are added to it here.
        prior: of the annotators' tables.
        log_spread: float[m, R, s], of tied tables.
        log_balance: float[s], where the class balance starts.
        constants: see `Constants`.
        key: consumed by restarts.
        tree: the task tree (static).
        max_steps: most EM iterations (static).
        fixed_balance: keep the class balance (static).
        num_restarts: restarts, if there is a key (static).
        minimise: solver of the pair model (static).

    Returns:
        The fit.
    """
    offset, fitted = annotators.offset, None
    if detectors is not None:
        fitted = _fit_detectors(detectors, constants.detectors, tree, minimise)
        offset = offset + detector_score(
            detectors.fired, fitted.copies, detectors.weight[:, None] * fitted.log_lift
        )
    if log_spread is not None:
        spread = log_spread.reshape(annotators.own_root.shape)
        offset = offset - annotators.votes.apply(annotators.weight * spread)
    run = functools.partial(
        fit_annotators,
        annotators._replace(offset=offset),
        prior,
        log_balance,
        constants.tolerance,
        tree=tree,
        max_steps=max_steps,
        fixed_balance=fixed_balance,
    )
    state, correlation = run()
    agreeing = jnp.int32(0)
    if key is not None and num_restarts:

        def agrees(restart: jax.Array) -> jax.Array:
            again, _ = run(draw_from_prior(restart, prior))
            same = [
                jnp.argmax(again.log_q[:, span], axis=1) == jnp.argmax(state.log_q[:, span], axis=1)
                for span in tree.root_leaves
            ]
            return jnp.mean(jnp.stack(same), dtype=offset.dtype) >= _AGREEMENT

        restarts = jax.random.split(key, num_restarts)
        agreeing = jnp.sum(jax.lax.map(agrees, restarts), dtype=jnp.int32)
    joint = jnp.exp(state.log_vote + state.log_prior) * annotators.own_root
    right, total = jnp.sum(joint * annotators.covered, axis=1), jnp.sum(joint, axis=1)
    if log_spread is not None:  # tied: one for all votes of an LF
        m = log_spread.shape[0]
        right, total = (jax.ops.segment_sum(x, annotators.lf, m) for x in (right, total))
    return MixtureFit(
        fitted,
        state,
        right / jnp.where(total > 0, total, 1),
        jnp.clip(constants.correlation_scale * correlation, 0, 1),
        agreeing,
    )


def _fit_detectors(
    data: DetectorData, prior: DetectorPrior, tree: TaskTree, minimise: MinimiseConfig
) -> DetectorFit:
    num_groups = sum(len(tree.task_nodes[root]) for root in tree.roots)
    stats = jax.tree.map(lambda *levels: jnp.stack(levels), *data.stats)
    fitted = jax.lax.map(
        lambda level: fit_detectors(level, prior, num_groups=num_groups, config=minimise), stats
    )
    lift, precision = level_lifts(fitted.precision, stats.mass, data.covered, data.own_root)
    return DetectorFit(precision, lift, fitted.copies, fitted.solution)


def level_lifts(
    precision: jax.Array, mass: jax.Array, covered: jax.Array, own_root: jax.Array
) -> tuple[jax.Array, jax.Array]:
    r"""What a detector's vote says at each level of the tree, given the levels above.

    With :math:`r_h(y) = P_h(y \mid \text{vote}) / p_y` by the pair model of level h, which has one
    value under the vote's ancestor of that level and one elsewhere, level h adds
    :math:`\log r_h(y) / \bar r_h` under the ancestor of the level above, :math:`\bar r_h` being the
    mean of :math:`r_h` there, and nothing elsewhere. For a single task this is :math:`\log r_0`.

    Args:
        precision: float[h, e], for the ancestor of each level.
        mass: float[h, e], class balance of the ancestors.
        covered: bool[h, e, s], leaves beneath them.
        own_root: bool[e, s], leaves of the columns' roots.

    Returns:
        float[h, e, s], whose sum over levels is `log P(leaf | vote) / P(leaf)`; and float[e], the
        probability that the truth lies under the column's own node.
    """
    outside = (1 - precision) / jnp.where(mass < 1, 1 - mass, 1)
    above = jnp.concatenate([jnp.ones_like(mass[:1]), mass[:-1]])
    under = precision + outside * (above - mass)  # of the ancestor of the level above
    under = under.at[0].set(1)
    inside_ratio = precision / mass * above / under
    outside_ratio = outside * above / under
    exists = (mass < above) & (outside_ratio > 0)  # something under it but not under the next
    inside = jnp.log(inside_ratio)
    outside = jnp.where(exists, jnp.log(jnp.where(exists, outside_ratio, 1)), 0)
    reach = jnp.concatenate([own_root[None], covered[:-1]])
    lift = jnp.where(covered, inside[..., None], outside[..., None]) * reach
    return lift, jnp.prod(precision / under, axis=0)
