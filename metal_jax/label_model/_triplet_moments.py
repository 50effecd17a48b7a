"""Kernels of the triplet method: from moments to rates; see `_triplets` for the mathematics.

Legend: `m` LFs, `e` targets.
"""

from __future__ import annotations

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

Aggregate = Literal["median", "mean", "weighted"]


@functools.partial(jax.jit, static_argnames="aggregate")
def triplet_magnitudes(
    targets: jax.Array,
    target_weight: jax.Array,
    reference: jax.Array,
    pair_weight: jax.Array,
    aggregate: Aggregate = "median",
) -> jax.Array:
    r"""The quotient :math:`\sqrt{|t_j t_k / M_{jk}|}`, joined over all pairs (j, k).

    Args:
        targets: float[e, m], moment of each target with each LF's signed vote.
        target_weight: float[e, m], 0 where there is no such moment (above all the target's own
            LF); for "weighted" the number of items behind it.
        reference: float[m, m], symmetric, moments of the signed votes with each other.
        pair_weight: float[m, m], 0 where a pair is left out (above all the diagonal); for
            "weighted" the number of items behind it.
        aggregate: see `TripletConfig`; static. Memory is O(m^2) for each.

    Returns:
        float[e], NaN for a target without a pair, and for "weighted" also where the signs
        contradict each other so that the least-squares square is not positive.

    Example:
        >>> a = jnp.array([0.8, 0.6, 0.4])  # E[vote * Y]
        >>> apart = 1 - jnp.eye(3)
        >>> triplet_magnitudes(a[:, None] * a, apart, a[:, None] * a, apart).round(3).tolist()
        [0.800000011920929, 0.6000000238418579, 0.4000000059604645]
    """
    if aggregate == "weighted":
        product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
        weighted = target_weight * targets
        above = jnp.sum(product(weighted, pair_weight * reference) * weighted, axis=-1)
        below = product(target_weight, pair_weight * reference**2) * target_weight
        below = jnp.sum(below, axis=-1)
        usable = (above > 0) & (below > 0)
        square = jnp.where(usable, above, 1) / jnp.where(usable, below, 1)
        return jnp.where(usable, jnp.sqrt(square), jnp.nan)

    upper = np.triu(np.ones(reference.shape, bool), 1)
    divides = (pair_weight > 0) & (reference != 0) & upper

    def one(target: tuple[jax.Array, jax.Array]) -> jax.Array:
        moment, weight = target
        usable = divides & (weight[:, None] > 0) & (weight > 0)
        product = jnp.where(usable, jnp.abs(moment[:, None] * moment), 1)
        quotient = product / jnp.where(usable, jnp.abs(reference), 1)
        positive = quotient > 0  # the square root has no gradient at 0
        roots = jnp.where(positive, jnp.sqrt(jnp.where(positive, quotient, 1)), 0)
        count = jnp.sum(usable, dtype=jnp.int32)
        if aggregate == "mean":
            total = jnp.sum(jnp.where(usable, roots, 0)) / jnp.maximum(count, 1)
        else:
            ordered = jnp.sort(jnp.where(usable, roots, jnp.inf).ravel())
            middle = jnp.stack([jnp.maximum(count - 1, 0) // 2, count // 2])
            total = jnp.mean(jnp.where(count > 0, ordered[middle], 0))
        return jnp.where(count > 0, total, jnp.nan)

    return jax.lax.map(one, (targets, target_weight))


def centred_rates(
    scaled_difference: ArrayLike, rate: ArrayLike, mass: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""Conditional rates of a column from :math:`\sqrt{\pi (1 - \pi)}\, \Delta` and its rate.

    Args:
        scaled_difference: float[...], signed.
        rate: float[...], `P(vote)`.
        mass: float[...], `pi = P(Y = 1)`.

    Returns:
        `P(vote | Y = 1)` and `P(vote | Y = -1)`, float[...]; not clipped.

    Example:
        >>> inside, outside = centred_rates(0.5 * (0.4 - 0.1), 0.25, 0.5)
        >>> round(float(inside), 6), round(float(outside), 6)
        (0.4, 0.1)
    """
    difference, rate = jnp.asarray(scaled_difference), jnp.asarray(rate)
    odds = jnp.sqrt((1 - jnp.asarray(mass)) / mass)
    return rate + odds * difference, rate - difference / odds


def signed_rates(
    correlation: ArrayLike, positive: ArrayLike, negative: ArrayLike, mass: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    r"""Conditional rates of the vote +1 from :math:`a = E[\lambda Y]` (Fu et al., appendix B).

    With vote rates :math:`q_+, q_-` and :math:`\rho = P(\lambda Y = 1) = (a + q_+ + q_-) / 2`,
    an abstain that is independent of Y gives :math:`P(\lambda = 1, Y = 1) =
    (\rho - q_- + \pi (q_+ + q_-)) / 2`.

    Args:
        correlation: float[...], `a`.
        positive: float[...], rate of the vote +1.
        negative: float[...], rate of the vote -1.
        mass: float[...], `pi = P(Y = 1)`.

    Returns:
        `P(vote = 1 | Y = 1)` and `P(vote = 1 | Y = -1)`, float[...]; not clipped.

    Example:
        >>> inside, outside = signed_rates(0.6, 0.5, 0.5, 0.5)
        >>> round(float(inside), 6), round(float(outside), 6)
        (0.8, 0.2)
    """
    a, plus, minus, mass = (jnp.asarray(x) for x in (correlation, positive, negative, mass))
    joint = ((a + plus + minus) / 2 - minus + mass * (plus + minus)) / 2
    return joint / mass, (plus - joint) / (1 - mass)
