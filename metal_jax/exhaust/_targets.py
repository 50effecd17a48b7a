"""What is predicted of a run.

Names of targets, `<role>` one of train, validation, test and `<metric>` the run's own name:

- `<role>/<metric>`: the best value over the epochs; the largest of an accuracy, the smallest of a
  loss (the curve's `goal`, or its name, tells which);
- `<role>/<metric>@<epoch>`: the value at that epoch;
- `overfitting/<metric>`: train - held-out value at the epoch of the best held-out value;
- `overfitting/<metric>@<epoch>`: the same difference at that epoch;
- `seconds`: training time; predict its logarithm;
- `seconds_to_best/<metric>`: training time until the best held-out value; predict its logarithm.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

import numpy as np

from metal_jax.exhaust._records import ROLES, Curve, Run

_NAME = re.compile(
    r"(?P<what>train|validation|test|overfitting|seconds_to_best)/(?P<metric>[^@]+)"
    r"(?:@(?P<epoch>[1-9]\d{0,8}))?"
)
_MAX = re.compile(r"acc|precision|recall|f1|auc|bleu|score|iou|reward|psnr|ssim|r2")
_MIN = re.compile(r"loss|error|perplexity|ppl|entropy|mae|mse|nll|bits|time|seconds")


def target(
    run: Run,
    name: str,
    epochs_seen: int = 0,
    *,
    held_out: str = "validation",
    seconds_limit: float = math.inf,
) -> float:
    """One number of a run that a predictor is to predict.

    A run that has not gone past `epochs_seen` epochs has nothing left to predict: NaN. Values are
    of the whole run, epochs already seen included; seconds are those that remain.

    Args:
        run: the run.
        name: see the top of this module.
        epochs_seen: how many epochs the predictor has seen.
        held_out: role whose best epoch counts for overfitting and seconds_to_best.
        seconds_limit: only epochs that end within this many seconds of training count for best
            values, overfitting and seconds_to_best.

    Returns:
        The value; NaN where the run does not tell.

    Raises:
        ValueError: the name is no target, or its metric's goal is unknown.

    Example:
        >>> from metal_jax.exhaust import curve
        >>> run = Run("a", metrics={"train": {"accuracy": curve([0.5, 0.8, 1.0])},
        ...                         "validation": {"accuracy": curve([0.4, 0.7, 0.6])}})
        >>> target(run, "validation/accuracy"), round(target(run, "overfitting/accuracy"), 3)
        (0.7, 0.1)
    """
    if held_out not in ROLES:
        raise ValueError(f"got held_out={held_out!r:.60}, expected one of {ROLES}")
    if name == "seconds":
        if run.total_seconds is not None and epochs_seen == 0:
            return run.total_seconds
        return _remaining(run, num_epochs(run), epochs_seen)
    match = _NAME.fullmatch(name)
    if match is None or (match["epoch"] and match["what"] == "seconds_to_best"):
        raise ValueError(
            f"got target {name!r:.60}, expected 'seconds' or '<what>/<metric>[@<epoch>]'"
        )
    what, metric = match["what"], match["metric"]
    role = what if what in ROLES else held_out
    found = run.metrics.get(role, {}).get(metric)
    if found is None or num_epochs(run) <= epochs_seen:
        return math.nan
    epoch = int(match["epoch"]) if match["epoch"] else best_epoch(run, role, metric, seconds_limit)
    if epoch is None:
        return math.nan
    if what == "seconds_to_best":
        return _remaining(run, epoch, epochs_seen)
    value = _value_at(found, epoch)
    if what == "overfitting":
        train = run.metrics.get("train", {}).get(metric)
        value = (_value_at(train, epoch) if train is not None else math.nan) - value
    return value


def targets(runs: Iterable[Run], name: str, epochs_seen: int = 0, **options) -> np.ndarray:
    """`target` of many runs.

    Args:
        runs: n runs.
        name: which target.
        epochs_seen: how many epochs the predictor has seen.
        **options: of `target`.

    Returns:
        float64[n], NaN where missing.

    Raises:
        ValueError: as `target`.

    Example:
        >>> accuracy = Curve((0.5, 0.8, 0.7), (1, 2, 3), "max")
        >>> run = Run("a", metrics={"validation": {"accuracy": accuracy}})
        >>> targets([run, Run("b")], "validation/accuracy").tolist()
        [0.8, nan]
    """
    return np.array([target(run, name, epochs_seen, **options) for run in runs], np.float64)


def is_log_modelled(name: str) -> bool:
    """Whether a target is positive and spans magnitudes, so that its logarithm is predicted.

    Args:
        name: a target.

    Returns:
        True for seconds.

    Example:
        >>> is_log_modelled("seconds"), is_log_modelled("validation/accuracy")
        (True, False)
    """
    return name.startswith("seconds")


def goal(name: str, curve: Curve | None = None) -> str:
    """Whether more or less of a metric is better.

    Args:
        name: the metric's name.
        curve: whose declared goal comes first.

    Returns:
        "max" or "min".

    Raises:
        ValueError: neither the curve nor the name tells.

    Example:
        >>> goal("top5_accuracy"), goal("loss")
        ('max', 'min')
    """
    if curve is not None and curve.goal is not None:
        return curve.goal
    more, less = _MAX.search(name.lower()), _MIN.search(name.lower())
    if (more is None) == (less is None):
        raise ValueError(f"metric {name!r:.60}: its name does not tell its goal, declare it")
    return "max" if more else "min"


def num_epochs(run: Run) -> int:
    """The last epoch of which the run tells anything.

    Args:
        run: the run.

    Returns:
        0 for a run without metrics or times.

    Example:
        >>> num_epochs(Run("a", seconds=(1.0, 1.5)))
        2
    """
    last = [
        curve.epochs[-1] for named in run.metrics.values() for curve in named.values() if curve[0]
    ]
    return max([len(run.seconds), *last])


def best_epoch(run: Run, role: str, metric: str, seconds_limit: float = math.inf) -> int | None:
    """The first epoch of the best value.

    Args:
        run: the run.
        role: train, validation or test.
        metric: its name.
        seconds_limit: only epochs that end within this time.

    Returns:
        The epoch, None where every value is missing or none ends in time.

    Raises:
        ValueError: neither the curve nor the name tells whether more of the metric is better.

    Example:
        >>> accuracy = Curve((0.5, 0.8, 0.7), (1, 2, 3), "max")
        >>> run = Run("a", metrics={"validation": {"accuracy": accuracy}})
        >>> best_epoch(run, "validation", "accuracy")
        2
    """
    curve = run.metrics.get(role, {}).get(metric)
    if curve is None:
        return None
    sign = 1 if goal(metric, curve) == "max" else -1
    elapsed = elapsed_seconds(run) if seconds_limit < math.inf else None
    best, found = -math.inf, None
    for epoch, value in zip(curve.epochs, curve.values, strict=True):
        # A comparison with NaN is false: epochs of unknown time or value do not count.
        in_time = elapsed is None or (epoch <= len(elapsed) and elapsed[epoch - 1] <= seconds_limit)
        if in_time and sign * value > best:
            best, found = sign * value, epoch
    return found


def elapsed_seconds(run: Run) -> np.ndarray:
    """Seconds of training by the end of epoch 1, 2, ...

    Where only the total is known, epochs are taken to last equally long.

    Args:
        run: the run.

    Returns:
        float64[epochs]; NaN from the first epoch on whose time is missing.

    Example:
        >>> elapsed_seconds(Run("a", seconds=(1.0, 1.5))).tolist()
        [1.0, 2.5]
    """
    if run.seconds:
        return np.cumsum(np.asarray(run.seconds, np.float64))
    epochs = num_epochs(run)
    if run.total_seconds is None or epochs == 0:
        return np.full(epochs, np.nan)
    return run.total_seconds * np.arange(1, epochs + 1) / epochs


def _remaining(run: Run, epoch: int, epochs_seen: int) -> float:
    """Seconds from the end of the epochs seen to the end of `epoch`."""
    elapsed = elapsed_seconds(run)
    if len(elapsed) <= epochs_seen or epoch > len(elapsed) or epoch < 1:
        return math.nan
    seen = elapsed[epochs_seen - 1] if epochs_seen else 0.0
    if epoch == len(elapsed) and run.total_seconds is not None:
        return max(float(run.total_seconds - seen), 0.0)
    return max(float(elapsed[epoch - 1] - seen), 0.0)


def _value_at(curve: Curve, epoch: int) -> float:
    return dict(zip(curve.epochs, curve.values, strict=True)).get(epoch, math.nan)
