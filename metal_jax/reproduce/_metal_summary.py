"""What a record of `run_metal` says: the gap recovered, the gains, the worth in hand labels."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from metal_jax.reproduce._metal import MULTI_TASK
from metal_jax.reproduce._metal_scores import MEAN


def summarise_metal(record: dict[str, Any]) -> dict[str, float]:
    """The honest measure first, then the paper's two gains, from a record of `run_metal`.

    Args:
        record: from `run_metal`.

    Returns:
        From accuracies averaged over tasks, on all test items:

        - `"gap_recovered"`, the percentage of the gap between majority vote and the all-gold
          network that the multi-task network closes; NaN where all gold labels do not beat the
          vote, absent without that row;
        - `"over_lfs"`, multi-task network minus majority vote, in points;
        - `"over_supervised_<size>"`, the same over the supervised network on so many hand labels;
        - each also with `" + votes"`, both networks reading votes;
        - `"catch_up"`, the number of hand labels at which the supervised network first equals the
          multi-task network, interpolated on the logarithm of the number; the smallest number
          tried where it does at once, infinite where it never does; absent without such rows.

    Example:
        >>> accuracy = {"LFs, majority vote": 0.5, MULTI_TASK: 0.75, "all gold labels": 1.0}
        >>> rows = {row: {"all": {MEAN: [mean]}} for row, mean in accuracy.items()}
        >>> rows[f"{MULTI_TASK} + votes"] = rows[MULTI_TASK]
        >>> summarise_metal({"rows": rows})["gap_recovered"]
        50.0
    """

    def mean(row: str) -> float:
        return 100 * float(np.mean(record["rows"][row]["all"][MEAN]))

    lfs = mean("LFs, majority vote")
    shares, gains = {}, {}
    for suffix in ("", " + votes"):
        ours, ceiling = mean(f"{MULTI_TASK}{suffix}"), f"all gold labels{suffix}"
        if ceiling in record["rows"]:
            gap = mean(ceiling) - lfs
            share = 100 * (ours - lfs) / gap if gap > 0 else float("nan")
            shares[f"gap_recovered{suffix}"] = share
        gains[f"over_lfs{suffix}"] = ours - lfs
        for size, row in _supervised_rows(record, suffix or " labels").items():
            gains[f"over_supervised_{size}{suffix}"] = ours - mean(row)
    curve = {size: mean(row) for size, row in _supervised_rows(record, " labels").items()}
    worth = {"catch_up": _first_reaching(curve, mean(MULTI_TASK))} if curve else {}
    return shares | gains | worth


def _supervised_rows(record: dict[str, Any], ending: str) -> dict[int, str]:
    """Number of hand labels -> row, in the order of the numbers."""
    found = {}
    for row in record["rows"]:
        if match := re.fullmatch(rf"supervised, (\d+){re.escape(ending)}", row):
            found[int(match[1])] = row
    return dict(sorted(found.items()))


def _first_reaching(curve: dict[int, float], goal: float) -> float:
    """Where a curve over a logarithmic axis, linear between its points, first reaches the goal."""
    points = list(curve.items())
    if points[0][1] >= goal:
        return float(points[0][0])
    for (size, value), (next_size, next_value) in zip(points, points[1:], strict=False):
        if next_value >= goal:
            part = (goal - value) / (next_value - value)
            return size * (next_size / size) ** part
    return math.inf
