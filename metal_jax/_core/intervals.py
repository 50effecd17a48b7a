"""Intervals of estimated shares."""

from __future__ import annotations

import statistics

import numpy as np
from numpy.typing import ArrayLike


def wilson_interval(share: ArrayLike, count: ArrayLike, *, level: float = 0.95) -> np.ndarray:
    """Score interval of a binomial share (Wilson, "Probable inference", JASA 1927).

    Args:
        share: float[...], the observed share.
        count: float[...], of how many.
        level: of the interval.

    Returns:
        float64[..., 2], within [0, 1]; NaN where the count is 0.

    Example:
        >>> wilson_interval(0.5, 10).round(3).tolist()
        [0.237, 0.763]
    """
    share, count = np.asarray(share, float), np.asarray(count, float)
    z = statistics.NormalDist().inv_cdf((1 + level) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
        half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + (z / count) ** 2 / 4)
    # Exactly, where rounding would leave a little.
    low = np.where((share == 0) & (count > 0), 0, centre - half)
    high = np.where((share == 1) & (count > 0), 1, centre + half)
    return np.clip(np.stack([low, high], axis=-1), 0, 1)
