"""What the training runs left out say of an ensemble's members, and the members' joint prediction.

Legend: r training runs, n runs, m members, t targets. Locations and scales are standardised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metal_jax.exhaust._predictor_training import PredictorConfig

_SHARPNESS = 8
_LEAST_ERROR = 1e-6
_LEAST_LEFT = 0.25
_SHARES = np.linspace(0, 1, 21)


class Judged(NamedTuple):
    """What the runs left out say, target by target.

    Attributes:
        member_weights: t tuples of m numbers that sum to one, how much each member counts.
        member_scales: t tuples of m positive numbers, by which the scale that a member predicts is
            multiplied: what it has learnt by heart it takes for better known than it is.
        curve_share: t numbers in [0, 1], how much the regression on first epochs counts.
        scores: t sorted tuples: |error| / that scale, of the training runs left out.
        score_weights: t tuples: of each of them, the weight of the member that left the run out.
    """

    member_weights: tuple[tuple[float, ...], ...]
    member_scales: tuple[tuple[float, ...], ...]
    curve_share: tuple[float, ...]
    scores: tuple[tuple[float, ...], ...]
    score_weights: tuple[tuple[float, ...], ...]


class Joint(NamedTuple):
    """What the members say together.

    Attributes:
        location: float64[n, t].
        quantiles: float64[t], half an interval, in widths.
        error: float64[t], root mean square error, in widths.
        width: float64[n, t].
    """

    location: np.ndarray
    quantiles: np.ndarray
    error: np.ndarray
    width: np.ndarray


def judge_members(
    location: np.ndarray,
    scale: np.ndarray,
    values: np.ndarray,
    expected: np.ndarray | None,
    part: np.ndarray,
    config: PredictorConfig,
) -> Judged:
    """Weights, scales and scores of the members, from the runs that each left out.

    A score is |error| / scale, both of the member that did not see the run. How far the members
    disagree is no part of the scale: the others have seen the run and agree on its value, so that
    their distance to the one that has not would be the very error judged.

    Args:
        location: float64[m, r, t or more].
        scale: float64[m, r, t or more], positive.
        values: float64[r, t]; NaN where missing.
        expected: float64[r, t], by the regression on first epochs without the run; None for none.
        part: int[r], the member that left a run out.
        config: settings.
    """
    runs, num = np.arange(len(part)), values.shape[1]
    own, width = (x[part, runs, :num] for x in (location, scale))
    judged = []
    for j in range(num):
        known = np.isfinite(values[:, j])
        left_by, left = part[known], (values - own)[known, j]
        weights = member_weights(np.abs(left), left_by, config.member_rate)
        share = 0.0
        if expected is not None:
            other = (values - expected)[known, j]
            errors = [np.abs(left + x * (other - left)) @ weights[left_by] for x in _SHARES]
            share = float(_SHARES[np.argmin(errors)])
            left = left + share * (other - left)
        found = np.abs(left) / width[known, j]
        factor = np.maximum(_mean_by_rate(found, left_by, config.member_rate), _LEAST_ERROR)
        found = found / factor[left_by]
        order = np.argsort(found)
        rows = (tuple(x.tolist()) for x in (found[order], weights[left_by][order]))
        judged.append((tuple(weights.tolist()), tuple(factor.tolist()), share, *rows))
    return Judged(*zip(*judged, strict=True))


def join_members(
    judged: Judged,
    location: np.ndarray,
    scale: np.ndarray,
    expected: np.ndarray | None,
    coverage: float,
) -> Joint:
    """The members' weighted mean, averaged with what is expected from the first epochs.

    Args:
        judged: of t targets.
        location: float64[m, n, t].
        scale: float64[m, n, t], positive.
        expected: float64[n, t]; None without first epochs.
        coverage: share of true values that the intervals are to hold.
    """
    if expected is not None:
        location = location + np.array(judged.curve_share) * (expected - location)
    scale = scale * np.array(judged.member_scales).T[:, None]
    weights = np.array(judged.member_weights).T[:, None]
    middle = np.sum(weights * location, 0)
    spread = np.sum(weights * (location - middle) ** 2, 0)
    scale = np.sum(weights * scale, 0)
    scored = list(zip(judged.scores, judged.score_weights, strict=True))
    quantiles = np.array([conformal_quantile(*each, coverage) for each in scored])
    squares = np.array([np.average(np.square(scores), weights=w) for scores, w in scored])
    # The scores are errors of single members, whose mean is better: its squared error is theirs
    # less their spread (Krogh and Vedelsby 1995, equation 6), here by the error they expect.
    left = 1 - spread / np.maximum(squares * scale**2, _LEAST_ERROR)
    width = scale * np.sqrt(np.maximum(left, _LEAST_LEFT))
    return Joint(middle, quantiles, np.sqrt(squares), width)


def member_weights(error: np.ndarray, part: np.ndarray, member_rate: np.ndarray) -> np.ndarray:
    """float[m] in proportion to a power of 1 / mean error of all members of the same rate."""
    mean = _mean_by_rate(error, part, member_rate)
    weights = np.maximum(mean, _LEAST_ERROR) ** -_SHARPNESS
    return weights / weights.sum()


def _mean_by_rate(values: np.ndarray, part: np.ndarray, member_rate: np.ndarray) -> np.ndarray:
    """float[m], for each member the mean over the runs left out by all members of the same rate."""
    rate = member_rate[part]
    count = np.bincount(rate, minlength=member_rate.max() + 1)
    total = np.bincount(rate, values, minlength=len(count))
    # A rate that nothing is known of counts as a middling one.
    return np.where(count > 0, total / np.maximum(count, 1), values.mean())[member_rate]


def conformal_quantile(scores: Sequence[float], weights: Sequence[float], coverage: float) -> float:
    """The finite-sample quantile of split conformal prediction; the largest score at most.

    Weighted as in Barber et al. 2023 (Conformal prediction beyond exchangeability, section 3), the
    judged run counting like an average one.
    """
    reached = np.cumsum(weights)
    reached /= reached[-1] * (1 + 1 / len(scores))
    place = int(np.searchsorted(reached, coverage - 1e-12))
    return scores[min(place, len(scores) - 1)]
