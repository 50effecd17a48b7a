"""Which networks to train next, and how good a choice was.

Legend: n candidates, k to choose. A larger score is better: negate a loss.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.stats import norm
from jax.typing import ArrayLike

from metal_jax._core.checks import check_broadcast, check_known, real_array, real_jax_array

# Below this the difference of the closed form cancels; the fraction has converged at its start.
_TAIL = -3.0
_NUM_FRACTION_TERMS = 60


class Choice(NamedTuple):
    """The candidates to train, the best first.

    Attributes:
        chosen: int64[c], their numbers, c at most k: fewer where fewer fit the limit.
        mean: float64[c], their predicted scores.
        std: float64[c], the standard deviations of those.
        seconds: float64[c], predicted; NaN where no times were given.
    """

    chosen: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    seconds: np.ndarray


def search(
    mean: ArrayLike,
    std: ArrayLike,
    k: int,
    *,
    seconds: ArrayLike | None = None,
    seconds_limit: float = math.inf,
) -> Choice:
    """The predicted best k among the candidates that are predicted to fit the limit.

    Args:
        mean: float[n], predicted scores; NaN ones are never chosen.
        std: float[n], their standard deviations.
        k: how many.
        seconds: float[n], predicted training times, needed for a limit.
        seconds_limit: the longest time that fits.

    Returns:
        The choice; of equal scores the first candidates.

    Raises:
        ValueError: shapes do not match, an infinite score, a negative deviation, k is below 1, or
            a limit without times.

    Example:
        >>> search([0.7, 0.9, 0.8], [0.1, 0.1, 0.2], 2, seconds=[5, 50, 6], seconds_limit=10).chosen
        array([2, 0])
    """
    mean, std = _scores("mean", mean), _floats("std", std)
    check_known("std", ~(std < 0), "0 or more, or NaN")
    times = _times(seconds, seconds_limit, len(mean))
    _check(k, mean, std, times)
    score = _score(mean, times, seconds_limit)
    index = np.argsort(-score, kind="stable")[:k]
    index = index[score[index] > -np.inf]
    shown = np.full(len(mean), np.nan) if seconds is None else times
    return Choice(index, mean[index], std[index], shown[index])


def log_expected_improvement(mean: ArrayLike, std: ArrayLike, best: ArrayLike) -> jax.Array:
    """Logarithm of `expected_improvement`: orders candidates that all seem hopeless.

    With z = (mean - best) / std and t = -z, log h(z) = log(phi(z) + z Phi(z)) is computed far
    below the best as log phi(t) + log f - log(t + f) from the continued fraction
    f = 1 / (t + 2 / (t + 3 / ...)) of Mills' ratio 1 / (t + f), without a difference that cancels
    (the problem: Ament et al., 2023, Unexpected improvements to expected improvement, section 4).

    Args:
        mean: float[...], predicted scores.
        std: float[...], their standard deviations, 0 or more.
        best: float[...], the best score so far.

    Returns:
        float[...]; -inf where std is 0 and the mean is not above the best.

    Raises:
        ValueError: shapes that do not broadcast, no real numbers, or a negative std, if it is not
            traced.

    Example:
        >>> far, near = log_expected_improvement([0.0, 9.0], [1.0, 1.0], 10.0).tolist()
        >>> far < near < 0
        True
    """
    named = {"mean": mean, "std": std, "best": best}
    mean, std, best = (real_jax_array(name, x).astype(float) for name, x in named.items())
    check_broadcast(mean=mean, std=std, best=best)
    check_known("std", ~(std < 0), "0 or more")
    certain = std <= 0
    # No branch that is not taken divides by 0 or overflows, so gradients stay finite.
    z = (mean - best) / jnp.where(certain, 1, std)
    is_tail = z < _TAIL
    near = jnp.where(is_tail, 0, z)
    of_near = jnp.log(norm.pdf(near) + near * norm.cdf(near))
    t = jnp.where(is_tail, -z, -_TAIL)
    terms = jnp.arange(_NUM_FRACTION_TERMS, 0, -1, dtype=t.dtype)
    fraction, _ = jax.lax.scan(lambda f, term: (term / (t + f), None), jnp.zeros_like(t), terms)
    of_tail = norm.logpdf(t) + jnp.log(fraction) - jnp.log(t + fraction)
    uncertain = jnp.where(is_tail, of_tail, of_near) + jnp.log(jnp.where(certain, 1, std))
    gain = mean - best
    of_certain = jnp.where(gain > 0, jnp.log(jnp.where(gain > 0, gain, 1)), -jnp.inf)
    return jnp.where(certain, of_certain, uncertain)


def expected_improvement(mean: ArrayLike, std: ArrayLike, best: ArrayLike) -> jax.Array:
    """The mean of max(score - best, 0) for a normal score.

    Args:
        mean: float[...], predicted scores.
        std: float[...], their standard deviations, 0 or more.
        best: float[...], the best score so far.

    Returns:
        float[...]. Far below the best it underflows to 0: see `log_expected_improvement`.

    Raises:
        ValueError: as `log_expected_improvement`.

    Example:
        >>> [f"{x:.4f}" for x in expected_improvement([0.9, 0.7], [0.0, 0.1], 0.8)]
        ['0.1000', '0.0083']
    """
    return jnp.exp(log_expected_improvement(mean, std, best))


def top_k_overlap(
    predicted: ArrayLike,
    true: ArrayLike,
    k: int,
    *,
    predicted_seconds: ArrayLike | None = None,
    seconds: ArrayLike | None = None,
    seconds_limit: float = math.inf,
) -> float:
    """Share of the true best k that is among the predicted best k, under a time limit.

    Chosen are the predicted best k among the networks whose predicted time fits; the true best k
    are those among the networks that truly fit, all that tie with the k-th included. A chosen
    network that does not truly fit is a miss, and so is a place that nothing is chosen for.
    Predictions that tie for the last places share them: the result is the mean over their orders.

    Args:
        predicted: float[n], predicted scores; NaN ones are never chosen.
        true: float[n], true scores; networks with NaN are left out.
        k: how many are chosen.
        predicted_seconds: float[n], needed for a limit.
        seconds: float[n], true times, needed for a limit.
        seconds_limit: the longest time that fits.

    Returns:
        From 0 to 1: divided by k, or by the number that truly fit if that is less; NaN if none
        fits.

    Raises:
        ValueError: shapes do not match, an infinite score, k is below 1, or a limit without times.

    Example:
        >>> top_k_overlap([0.9, 0.8, 0.1, 0.2], [0.5, 0.9, 0.8, 0.1], 2)
        0.5
    """
    score, value = _judged(predicted, true, k, predicted_seconds, seconds, seconds_limit)
    num_best = min(k, int(np.sum(value > -np.inf)))
    if num_best == 0:
        return math.nan
    is_best = value >= np.sort(value)[-num_best]
    sure, tied, places = _chosen(score, k)
    share = places / max(int(tied.sum()), 1)
    hits = np.sum(is_best[sure]) + share * np.sum(is_best[tied])
    return min(float(hits) / num_best, 1.0)


def regret(
    predicted: ArrayLike,
    true: ArrayLike,
    k: int,
    *,
    predicted_seconds: ArrayLike | None = None,
    seconds: ArrayLike | None = None,
    seconds_limit: float = math.inf,
) -> float:
    """How far the best of the chosen k stays below the true best, under a time limit.

    Chosen as in `top_k_overlap`; the best is that of the networks that truly fit. A chosen network
    that does not truly fit counts for nothing; if none of the chosen fits, the regret is that of
    having got the worst network that does. Ties among the predictions: the mean over their orders.

    Args:
        predicted: float[n], predicted scores; NaN ones are never chosen.
        true: float[n], true scores; networks with NaN are left out.
        k: how many are chosen.
        predicted_seconds: float[n], needed for a limit.
        seconds: float[n], true times, needed for a limit.
        seconds_limit: the longest time that fits.

    Returns:
        0 or more, in units of the score; NaN if no network truly fits.

    Raises:
        ValueError: shapes do not match, an infinite score, k is below 1, or a limit without times.

    Example:
        >>> round(regret([0.9, 0.8, 0.1], [0.5, 0.7, 0.8], 2), 3)
        0.1
    """
    score, value = _judged(predicted, true, k, predicted_seconds, seconds, seconds_limit)
    fitting = value[value > -np.inf]
    if not len(fitting):
        return math.nan
    sure, tied, places = _chosen(score, k)
    floor = max([fitting.min(), *value[sure]])
    # The best of `places` drawn from the tied: the j-th best of them is it if it is drawn and the
    # j better ones are not.
    ranked = np.maximum(np.sort(value[tied])[::-1], floor)
    total = math.comb(len(ranked), places)
    chances = [math.comb(len(ranked) - j - 1, places - 1) / total for j in range(len(ranked))]
    found = float(np.dot(chances, ranked)) if places else float(floor)
    return max(float(fitting.max()) - found, 0.0)


def _judged(
    predicted: ArrayLike,
    true: ArrayLike,
    k: int,
    predicted_seconds: ArrayLike | None,
    seconds: ArrayLike | None,
    seconds_limit: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true scores, -inf where the time does not fit; without unknown networks."""
    predicted, true = _scores("predicted", predicted), _scores("true", true)
    predicted_times = _times(predicted_seconds, seconds_limit, len(predicted))
    times = _times(seconds, seconds_limit, len(predicted))
    _check(k, predicted, true, predicted_times, times)
    known = ~np.isnan(true)
    return (
        _score(predicted, predicted_times, seconds_limit)[known],
        _score(true, times, seconds_limit)[known],
    )


def _chosen(score: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Masks of what is surely among the best k and what ties for the remaining places."""
    candidates = score[score > -np.inf]
    if len(candidates) <= k:
        return score > -np.inf, np.zeros(len(score), bool), 0
    last = np.sort(candidates)[-k]
    sure, tied = score > last, score == last
    return sure, tied, k - int(sure.sum())


def _score(value: np.ndarray, times: np.ndarray, seconds_limit: float) -> np.ndarray:
    fits = ~np.isnan(value) & (times <= seconds_limit)
    return np.where(fits, value, -np.inf)


def _times(seconds: ArrayLike | None, seconds_limit: float, num: int) -> np.ndarray:
    if seconds is None:
        if seconds_limit < math.inf:
            raise ValueError(f"got seconds_limit={seconds_limit} without times to compare")
        return np.zeros(num)
    return _floats("seconds", seconds)


def _floats(name: str, values: ArrayLike) -> np.ndarray:
    array = np.asarray(real_array(name, values), np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name}: got shape {array.shape}, expected [n]")
    return array


def _scores(name: str, values: ArrayLike) -> np.ndarray:
    array = _floats(name, values)
    check_known(name, ~np.isinf(array), "finite or NaN")
    return array


def _check(k: int, *arrays: np.ndarray) -> None:
    lengths = {len(array) for array in arrays}
    if len(lengths) > 1 or k < 1:
        raise ValueError(f"got lengths {sorted(lengths)} and k={k}, expected one length and k >= 1")
