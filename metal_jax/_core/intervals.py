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


def share_text(share: float | None, interval: tuple[float, float] | None) -> str:
    """A share with its interval, short enough for a column of a table.

    Args:
        share: 0 to 1; NaN or None where it is not known.
        interval: its ends; None likewise.

    Returns:
        Two decimals, three of a share below a tenth; "-" where it is not known.

    Example:
        >>> share_text(0.42, (0.379, 0.462)), share_text(0.004, (0.001, 0.0149))
        ('.42 (.38-.46)', '.004 (.001-.015)')
    """
    if share is None or interval is None or share != share:
        return "-"
    digits = 2 if share >= 0.1 else 3
    text, low, high = (f"{x:.{digits}f}".removeprefix("0") for x in (share, *interval))
    return f"{text} ({low}-{high})"
