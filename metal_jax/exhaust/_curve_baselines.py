"""Baselines that have seen the first epochs of a run: last value, power law, SVR on the curve.

Of every curve, the training runs' too, only the epochs seen are read (`first_epochs`). Legend:
n runs, e epochs seen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_known, check_rank, check_shape, real_array
from metal_jax.exhaust._features import build_features, features
from metal_jax.exhaust._records import Curve, Run
from metal_jax.exhaust._regressors import fit_predict
from metal_jax.exhaust._targets import goal, num_epochs, targets

CURVE_BASELINES = ("last_value", "power_law", "svr")

_POWERS = np.geomspace(0.05, 4.0, 40)
_NUM_REWEIGHTINGS = 10
_HUBER = 1.345
_CURVE_WEIGHT = 3


def first_epochs(run: Run, epochs_seen: int) -> Run:
    """The run as it was after its first epochs: later values, times and its end are left out.

    Args:
        run: the run.
        epochs_seen: how many epochs, 0 for an untrained network.

    Returns:
        The run with shorter curves.

    Example:
        >>> from metal_jax.exhaust import curve
        >>> run = Run("a", metrics={"test": {"accuracy": curve([0.1, 0.6], epochs=[5, 10])}})
        >>> first_epochs(run, 7).metrics["test"]["accuracy"].values
        (0.1,)
    """

    def cut(curve: Curve) -> Curve:
        num = sum(epoch <= epochs_seen for epoch in curve.epochs)
        return curve._replace(values=curve.values[:num], epochs=curve.epochs[:num])

    metrics = {
        role: {name: cut(curve) for name, curve in named.items()}
        for role, named in run.metrics.items()
    }
    return run._replace(
        metrics=metrics,
        seconds=run.seconds[:epochs_seen],
        total_seconds=None,
        status=None,
        extra={},
    )


def predict_from_curve(
    name: str,
    train_runs: Sequence[Run],
    values: ArrayLike,
    test_runs: Sequence[Run],
    *,
    target_name: str,
    epochs_seen: int,
    seed: int,
    held_out: str = "validation",
    last_epoch: int | None = None,
) -> np.ndarray:
    """Predict a metric or the overfitting of runs whose first epochs were seen.

    - "last_value": the target of the part seen: the best value so far, or of a target `@epoch`
      the last value up to it.
    - "power_law": a - b t^-c through each curve, at the target's epoch or the last one; never
      worse than the best so far, and within the training runs' range. The last value where fewer
      than four epochs were seen or the curve does not rise and flatten (fall, for a loss).
    - "svr": on the curve, its first and second differences, and the features of the architecture
      (Baker et al., 2018, Accelerating neural architecture search using performance prediction,
      section 3); settings by cross-validation. Needs scikit-learn.

    Args:
        name: one of `CURVE_BASELINES`.
        train_runs: r runs.
        values: float[r], their targets; those that are not finite are left out.
        test_runs: n runs.
        target_name: `<role>/<metric>[@<epoch>]` or `overfitting/<metric>[@<epoch>]`.
        epochs_seen: how many epochs of every run are read, 1 or more.
        seed: of what is drawn at random.
        held_out: the role that overfitting compares with.
        last_epoch: how long runs are; by default the longest training run's number of epochs.

    Returns:
        float64[n]; the training runs' mean where a run has no value yet, NaN where those have
        none either.

    Raises:
        ValueError: the name or the target is unknown, or shapes do not match.
        ImportError: "svr" without scikit-learn.

    Example:
        >>> from metal_jax.exhaust import Curve
        >>> curves = {"a": (0.5, 0.6), "b": (0.5, 0.7)}
        >>> runs = [
        ...     Run(name, metrics={"validation": {"accuracy": Curve(values, (1, 2), "max")}})
        ...     for name, values in curves.items()
        ... ]
        >>> predict_from_curve(
        ...     "last_value", runs[:1], [0.6], runs[1:],
        ...     target_name="validation/accuracy", epochs_seen=1, seed=0,
        ... ).tolist()
        [0.5]
    """
    if name not in CURVE_BASELINES:
        raise ValueError(f"got baseline {name!r:.60}, expected one of {CURVE_BASELINES}")
    values = np.asarray(values, np.float64)
    if values.shape != (len(train_runs),) or epochs_seen < 1:
        raise ValueError(
            f"got values {values.shape} and epochs_seen={epochs_seen}, "
            f"expected [{len(train_runs)}] and 1 or more"
        )
    asked = _parse(target_name, held_out)
    known = np.isfinite(values)
    if last_epoch is None:
        last_epoch = max((num_epochs(run) for run in train_runs), default=epochs_seen)
    train = [
        first_epochs(run, epochs_seen)
        for run, is_known in zip(train_runs, known, strict=True)
        if is_known
    ]
    test = [first_epochs(run, epochs_seen) for run in test_runs]
    values = values[known]
    if name == "svr" and train:
        inputs, others, weights = _inputs(train, test, asked, epochs_seen)
        return fit_predict("svr", inputs, values, others, seed, weights=weights)
    if name == "power_law":
        found = _extrapolate(test, asked, epochs_seen, asked.epoch or last_epoch)
        if train:
            found = np.clip(found, values.min(), values.max())
    else:
        found = _last_value(test, asked, epochs_seen)
    return np.where(np.isfinite(found), found, values.mean() if train else np.nan)


def fit_power_law(curves: ArrayLike, epochs: ArrayLike) -> tuple[np.ndarray, ...]:
    """Fit a - b t^-c to many curves at once: least squares, outliers weighted down.

    For each of 40 exponents, a and b follow from weighted linear least squares; the exponent with
    the smallest error is taken, the weights are Huber's of its residuals, and so on, ten times.

    Args:
        curves: float[n, e]; NaN where missing.
        epochs: float[e], positive.

    Returns:
        a, b and c, each float64[n]; NaN where fewer than four values are there.

    Raises:
        ValueError: shapes do not match, or an epoch is not positive.

    Example:
        >>> epochs = np.arange(1, 9)
        >>> fit_power_law([0.9 - 0.5 / epochs], epochs)[0].round(1).tolist()
        [0.9]
    """
    curves = np.asarray(real_array("curves", curves), np.float64)
    epochs = np.asarray(real_array("epochs", epochs), np.float64)
    check_rank("epochs", epochs, 1)
    check_shape("curves", curves, (*curves.shape[:1], len(epochs)))
    check_known("epochs", np.isfinite(epochs) & (epochs > 0), "positive")
    there = np.isfinite(curves)
    filled = np.where(there, curves, 0.0)
    basis = -(epochs ** -_POWERS[:, None])
    weights = there.astype(np.float64)
    rows = np.arange(len(curves))
    a = b = np.full(len(curves), np.nan)
    best = np.zeros(len(curves), int)
    enough = there.sum(1) >= 4
    for _ in range(_NUM_REWEIGHTINGS):
        total = np.maximum(weights.sum(1), 1e-12)[:, None]
        mean_value = (weights * filled).sum(1, keepdims=True) / total
        mean_basis = weights @ basis.T / total
        centred = basis[None] - mean_basis[..., None]
        rest = (filled - mean_value)[:, None, :]
        square = np.einsum("ne,nce->nc", weights, centred**2)
        slope = np.einsum("ne,nce->nc", weights, centred * rest) / np.maximum(square, 1e-12)
        residuals = rest - slope[..., None] * centred
        error = np.einsum("ne,nce->nc", weights, residuals**2)
        best = error.argmin(1)
        b = slope[rows, best]
        a = mean_value[:, 0] - b * mean_basis[rows, best]
        residual = np.where(there, np.abs(residuals[rows, best]), np.nan)
        spread = 1.4826 * np.nanmedian(np.where(enough[:, None], residual, 0.0), 1) + 1e-12
        huber = np.minimum(1.0, _HUBER * spread[:, None] / np.maximum(residual, 1e-12))
        weights = np.where(there, huber, 0.0)
    return tuple(np.where(enough, found, np.nan) for found in (a, b, _POWERS[best]))


class _Asked(NamedTuple):
    """A target: its name and epoch, and the curves that it is made of."""

    name: str
    epoch: int | None
    metric: str
    roles: tuple[str, ...]
    held_out: str


def _parse(name: str, held_out: str) -> _Asked:
    match = re.fullmatch(
        r"(?P<name>(?P<what>train|validation|test|overfitting)/(?P<metric>[^@]+))"
        r"(@(?P<epoch>[1-9]\d{0,8}))?",
        name,
    )
    if match is None:
        raise ValueError(
            f"got target {name!r:.60}, expected '<role>/<metric>[@<epoch>]' or "
            "'overfitting/<metric>[@<epoch>]'"
        )
    roles = ("train", held_out) if match["what"] == "overfitting" else (match["what"],)
    epoch = int(match["epoch"]) if match["epoch"] else None
    return _Asked(match["name"], epoch, match["metric"], roles, held_out)


def _last_value(runs: Sequence[Run], asked: _Asked, epochs_seen: int) -> np.ndarray:
    """The target of what was seen; of a target at an epoch, the last value up to it."""
    if asked.epoch is None:
        return targets(runs, asked.name, held_out=asked.held_out)
    curves = [_curves(runs, role, asked.metric, epochs_seen) for role in asked.roles]
    return _last(curves[0] if len(curves) == 1 else curves[0] - curves[1], asked.epoch)


def _extrapolate(runs: Sequence[Run], asked: _Asked, epochs_seen: int, epoch: int) -> np.ndarray:
    """The power law at `epoch`, of each curve that the target is made of."""
    epochs = np.arange(1, epochs_seen + 1)
    parts = []
    for role in asked.roles:
        curves = _curves(runs, role, asked.metric, epochs_seen)
        sign = _sign(runs, role, asked.metric)
        last = _last(curves, epoch)
        a, b, c = fit_power_law(curves, epochs)
        found = a - b * float(epoch) ** -c
        found = np.where(np.isfinite(found) & (sign * b > 0), found, last)
        parts.append(last if epoch <= epochs_seen else found)
    if len(parts) == 2:
        return parts[0] - parts[1]
    if asked.epoch is not None:
        return parts[0]
    sign = _sign(runs, asked.roles[0], asked.metric)
    return sign * np.fmax(sign * parts[0], sign * _last_value(runs, asked, epochs_seen))


def _inputs(
    train: Sequence[Run], test: Sequence[Run], asked: _Asked, epochs_seen: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Curves with their differences, the features of the architecture and settings; weights.

    However many columns either has, the curve weighs three times as much as the architecture.
    """
    columns = build_features(train)
    found = []
    for runs in (train, test):
        parts = [features(runs, columns)]
        for role in asked.roles:
            curves = carried_forward(_curves(runs, role, asked.metric, epochs_seen))
            parts += [curves, np.diff(curves, 1), np.diff(curves, 2)]
        found.append(np.concatenate(parts, 1))
    inputs, others = found
    # Before the first value: as in the mean training run.
    there = np.isfinite(inputs)
    mean = np.where(there, inputs, 0).sum(0) / np.maximum(there.sum(0), 1)
    is_feature = np.arange(len(mean)) < len(columns.names)
    share = np.where(is_feature, _CURVE_WEIGHT * is_feature.sum(), (~is_feature).sum())
    weights = np.sqrt(len(mean) / share)
    return np.where(there, inputs, mean), np.where(np.isfinite(others), others, mean), weights


def _curves(runs: Sequence[Run], role: str, metric: str, epochs_seen: int) -> np.ndarray:
    """The values by epoch, float64[n, e]; NaN where missing or infinite."""
    found = np.full((len(runs), epochs_seen), np.nan)
    for i, run in enumerate(runs):
        curve = run.metrics.get(role, {}).get(metric)
        if curve is not None and curve.epochs:
            found[i, np.array(curve.epochs) - 1] = curve.values
    return np.where(np.isfinite(found), found, np.nan)


def _last(curves: np.ndarray, epoch: int) -> np.ndarray:
    """The last value that is there, no later than `epoch`."""
    return carried_forward(curves[:, :epoch])[:, -1]


def carried_forward(curves: np.ndarray) -> np.ndarray:
    """Missing values become the last one before them."""
    places = np.where(np.isfinite(curves), np.arange(curves.shape[1]), 0)
    return np.take_along_axis(curves, np.maximum.accumulate(places, 1), 1)


def _sign(runs: Sequence[Run], role: str, metric: str) -> int:
    """+1 where more is better, -1 where less is."""
    found = (run.metrics.get(role, {}).get(metric) for run in runs)
    curve = next((curve for curve in found if curve is not None), None)
    return 1 if goal(metric, curve) == "max" else -1
