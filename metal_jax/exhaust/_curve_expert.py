r"""Kernel ridge regression on the first epochs, which the LSTM ensemble is averaged with.

A few hundred curves of which a quarter is seen are little to train a recurrent network on and
plenty for a smooth function of the curve. Columns are the curves, their first and second
differences, and the hand-made features of architecture and settings; the kernel is Matérn's with
smoothness 3/2 (Rasmussen & Williams 2006, equation 4.17). Which curves count (the target's own or
all), how much the features do, the length scale, the ridge and whether the last value seen is
subtracted first are what predicts the training runs best when each is left out, in closed form
(ibid., equation 5.12, for the mean alone). Outliers count less, by Huber's weights. Both the
use of such a regression beside the LSTM and its settings are this library's choice.

Legend: r training runs, n runs, f columns, t targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from metal_jax.exhaust._curve_baselines import carried_forward, first_epochs
from metal_jax.exhaust._features import FeatureMap, build_features, features
from metal_jax.exhaust._predictor_inputs import InputMap, curve_table
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._targets import is_log_modelled

_CURVES_OVER_FEATURES = (1.0, 3.0, 10.0)
_LENGTHS = (0.5, 1.0, 2.0, 4.0, 8.0)
_RIDGES = 10.0 ** np.arange(-7.0, 1.5, 0.5)
_MAX_SELECTION = 600
_MAX_RUNS = 2000
_NUM_REWEIGHTINGS = 3
_HUBER = 1.345
_LARGEST = 10.0
_TINY = 1e-12


class CurveExpert(NamedTuple):
    """One regression a target.

    Attributes:
        features: the hand-made ones, the last of the f columns.
        mean: f numbers, of the training runs.
        std: f positive numbers.
        runs: float64[r, f], the training runs' standardised columns.
        scale: float64[t, f], what columns are multiplied by before distances are taken.
        coefficients: float64[t, r].
        intercept: float64[t].
        from_last: bool[t], whether the last value seen is added.
    """

    features: FeatureMap
    mean: np.ndarray
    std: np.ndarray
    runs: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercept: np.ndarray
    from_last: np.ndarray

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        arrays = {name: x.tolist() for name, x in self._asdict().items() if name != "features"}
        return arrays | {"features": list(self.features)}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> CurveExpert:
        """The reverse of `to_json`; KeyError where a field is missing."""
        arrays = {name: np.array(record[name]) for name in cls._fields if name != "features"}
        names, fill = (tuple(part) for part in record["features"])
        return cls(features=FeatureMap(names, fill), **arrays)


def fit_curve_expert(
    runs: Sequence[Run],
    names: Sequence[str],
    values: np.ndarray,
    last: np.ndarray,
    inputs: InputMap,
    held_out: str,
    rng: np.random.Generator,
) -> tuple[CurveExpert, np.ndarray]:
    """Fit the regressions.

    Args:
        runs: r runs.
        names: t targets.
        values: float64[r, t], in log where modelled so; NaN where missing.
        last: float64[r, t], the last value seen.
        inputs: which curves there are.
        held_out: role that overfitting compares with.
        rng: draws the runs to learn from where there are more than 2,000.

    Returns:
        The regressions, and float64[r, t]: what each predicts of a run from the others.
    """
    feature_map = build_features([first_epochs(run, inputs.epochs_seen) for run in runs])
    columns = _columns(runs, inputs, feature_map)
    mean = np.nan_to_num(_mean(columns))
    filled = np.where(np.isfinite(columns), columns, mean)
    std = filled.std(0)
    useful = std > 1e-9 * np.maximum(np.abs(filled).max(0), _TINY)
    std = np.where(useful, std, 1.0)
    rows = _standard(filled, mean, std)
    kept = rng.permutation(len(runs))[:_MAX_RUNS]
    scale, intercept = np.zeros((len(names), rows.shape[1])), np.zeros(len(names))
    coefficients = np.zeros((len(names), len(kept)))
    from_last = np.zeros(len(names), bool)
    left_out = np.empty((len(runs), len(names)))
    for j, name in enumerate(names):
        known = kept[np.isfinite(values[kept, j])]
        place = np.flatnonzero(np.isfinite(values[kept, j]))
        some = known[:_MAX_SELECTION]
        best: tuple[float, Any] = (np.inf, None)
        for weights in _column_weights(inputs, len(feature_map.names), name, held_out, useful):
            distances = _distances(rows[some] * weights, rows[some] * weights)
            for length in _LENGTHS:
                spectrum = np.linalg.eigh(_matern(distances / length**2))
                for is_last in (False, True):
                    target = values[some, j] - is_last * last[some, j]
                    error, ridge = _best_ridge(spectrum, _without_outliers(target))
                    if error < best[0]:
                        best = (error, (weights / length, is_last, ridge))
        scale[j], from_last[j], ridge = best[1]
        target = values[known, j] - from_last[j] * last[known, j]
        kernel = _matern(_distances(rows[known] * scale[j], rows[known] * scale[j]))
        coefficients[j, place], intercept[j], found = _solve(kernel, target, ridge)
        others = np.setdiff1d(np.arange(len(runs)), known)
        left_out[known, j] = found + from_last[j] * last[known, j]
        kernel = _matern(_distances(rows[others] * scale[j], rows[kept] * scale[j]))
        of_others = intercept[j] + kernel @ coefficients[j]
        left_out[others, j] = of_others + from_last[j] * last[others, j]
    expert = CurveExpert(
        feature_map, mean, std, rows[kept], scale, coefficients, intercept, from_last
    )
    return expert, left_out


def predict_curve_expert(
    expert: CurveExpert, runs: Sequence[Run], last: np.ndarray, inputs: InputMap
) -> np.ndarray:
    """Predict runs.

    Args:
        expert: of t targets.
        runs: n runs.
        last: float64[n, t], the last value seen.
        inputs: the map of the training runs.

    Returns:
        float64[n, t], in log where modelled so.
    """
    columns = _columns(runs, inputs, expert.features)
    filled = np.where(np.isfinite(columns), columns, expert.mean)
    rows = _standard(filled, expert.mean, expert.std)
    found = np.empty(last.shape)
    for j in range(last.shape[1]):
        scale = expert.scale[j]
        kernel = _matern(_distances(rows * scale, expert.runs * scale))
        found[:, j] = expert.intercept[j] + kernel @ expert.coefficients[j]
    return found + np.where(expert.from_last[: last.shape[1]], last, 0)


def _columns(runs: Sequence[Run], inputs: InputMap, feature_map: FeatureMap) -> np.ndarray:
    """float64[n, f]: for each curve its values and their differences, then the features."""
    seen = [first_epochs(run, inputs.epochs_seen) for run in runs]
    parts = []
    for name in inputs.curves:
        curve = carried_forward(curve_table(seen, name, inputs.epochs_seen))
        parts += [curve, np.diff(curve, 1), np.diff(curve, 2)]
    return np.concatenate([*parts, features(seen, feature_map)], 1)


def _column_weights(
    inputs: InputMap, num_features: int, name: str, held_out: str, useful: np.ndarray
) -> Iterator[np.ndarray]:
    """float64[f] each: squared distances are means over the curves' and the features' columns."""
    epochs = inputs.epochs_seen
    of_curve = np.repeat(inputs.curves, epochs + max(epochs - 1, 0) + max(epochs - 2, 0))
    own = np.isin(of_curve, _own_curves(name, held_out))
    is_feature = np.arange(len(of_curve) + num_features) >= len(of_curve)
    for curves in (own, np.ones(len(of_curve), bool)):
        is_curve = np.concatenate([curves, np.zeros(num_features, bool)]) & useful
        if not is_curve.any():
            continue
        for ratio in _CURVES_OVER_FEATURES:
            count = max(int((is_feature & useful).sum()), 1)
            square = is_curve / is_curve.sum() + (is_feature & useful) / (ratio * count)
            yield np.sqrt(square)


def _own_curves(name: str, held_out: str) -> list[str]:
    """The curves that a target is made of."""
    what, _, metric = name.partition("@")[0].partition("/")
    if is_log_modelled(name):
        return ["seconds"]
    roles = ("train", held_out) if what == "overfitting" else (what,)
    return [f"{role}/{metric}" for role in roles]


def _mean(columns: np.ndarray) -> np.ndarray:
    there = np.isfinite(columns)
    return np.where(there, columns, 0).sum(0) / np.maximum(there.sum(0), 1)


def _standard(columns: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    return np.clip((columns - mean) / std, -_LARGEST, _LARGEST)


def _distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared Euclidean, float64[n, r]."""
    squares = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return np.maximum(squares, 0)


def _matern(squared_distances: np.ndarray) -> np.ndarray:
    root = np.sqrt(3 * squared_distances)
    return (1 + root) * np.exp(-root)


def _spread(values: np.ndarray) -> float:
    """Standard deviation of most of them, by the median absolute value."""
    return 1.4826 * float(np.median(np.abs(values))) + _TINY


def _without_outliers(target: np.ndarray) -> np.ndarray:
    center = np.median(target)
    most = _LARGEST * _spread(target - center)
    return np.clip(target, center - most, center + most)


def _best_ridge(spectrum: Any, target: np.ndarray) -> tuple[float, float]:
    """The least mean absolute error of predictions without the run itself, and its ridge."""
    values, vectors = spectrum
    values, center = np.maximum(values, 0), np.median(target)
    projected = vectors.T @ (target - center)
    best = (np.inf, _RIDGES[-1])
    for ridge in _RIDGES:
        inverse = vectors * (1 / (values + ridge))
        residual = (inverse @ projected) / np.maximum(np.sum(inverse * vectors, 1), _TINY)
        best = min(best, (float(np.abs(residual).mean()), float(ridge)))
    return best


def _solve(
    kernel: np.ndarray, target: np.ndarray, ridge: float
) -> tuple[np.ndarray, float, np.ndarray]:
    """Coefficients, intercept, and what is predicted of each run from the others."""
    weights, center = np.ones(len(target)), float(np.median(target))
    coefficients = found = target
    for _ in range(1 + _NUM_REWEIGHTINGS):
        inverse = np.linalg.inv(kernel + np.diag(ridge / weights))
        coefficients = inverse @ (target - center)
        residual = coefficients / np.diag(inverse)
        found = target - residual
        spread = _spread(residual)
        weights = np.minimum(1, _HUBER * spread / np.maximum(np.abs(residual), _TINY))
        # A run that counts for nothing would make the matrix infinite.
        weights = np.maximum(weights, 1e-6)
    return coefficients, center, found
