"""The LSTM predictor: an ensemble that reads layers and first epochs and predicts all targets.

After Zhang et al. 2018 (developer exhaust); what their abstract does not fix is this library's
choice. One network predicts every target asked for, and beside them points of every recorded curve
as auxiliary targets. The members of the ensemble are trained at once by `vmap`, each without a
part of the runs of its own: the errors on the parts left out calibrate the intervals (Barber et
al. 2021, Predictive inference with the jackknife+, section 3, CV+, on the ensemble's mean). Where
first epochs are seen each member is averaged with a regression on them (`_curve_expert`), in the
share that predicts the parts left out best.

Legend: r training runs, n runs, m members, t targets, o outputs (targets, then auxiliary ones).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from metal_jax._core.sharding import REPLICA_AXIS, axis_size, off_mesh, training_mesh
from metal_jax.exhaust._curve_baselines import predict_from_curve
from metal_jax.exhaust._curve_expert import CurveExpert, fit_curve_expert, predict_curve_expert
from metal_jax.exhaust._predictor_checkpoint import PredictorCheckpoint
from metal_jax.exhaust._predictor_inputs import InputMap, build_inputs, encode
from metal_jax.exhaust._predictor_judging import Judged, join_members, judge_members
from metal_jax.exhaust._predictor_network import network_of
from metal_jax.exhaust._predictor_training import (
    OnProgress,
    PredictorConfig,
    apply_members,
    leave_out,
    train_members,
    trained_on,
)
from metal_jax.exhaust._records import Run
from metal_jax.exhaust._targets import is_log_modelled, targets

_NUM_POINTS = 5


class Predictor(NamedTuple):
    """A fitted ensemble; `predict` applies it, `save_predictor` writes it.

    Attributes:
        params: the members' parameters, leading axis m.
        config: the settings.
        inputs: how runs become arrays.
        targets: o names, the t that were asked for first.
        num_targets: t.
        held_out: role that overfitting and seconds_to_best compare with.
        mean: o numbers; targets are standardised, after the logarithm where `is_log_modelled`.
        std: o numbers.
        anchor: o numbers, the mean last value seen, for runs that have none.
        value_range: o pairs, the training runs' least and largest value: what was seen last of a
            run that began wildly is not where it will end.
        judged: what the runs left out say of the members.
        curves: the regression on first epochs; None where none are seen.
    """

    params: Any
    config: PredictorConfig
    inputs: InputMap
    targets: tuple[str, ...]
    num_targets: int
    held_out: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    anchor: tuple[float, ...]
    value_range: tuple[tuple[float, float], ...]
    judged: Judged
    curves: CurveExpert | None


class Prediction(NamedTuple):
    """Predictions of n runs; for targets modelled in log, `mean`, `low` and `high` are not in log.

    Attributes:
        mean: float64[n, t], the ensemble's mean (of the logarithm: the median's estimate).
        std: float64[n, t], standard deviation of the error, in log where modelled so.
        low: float64[n, t], lower end of the interval.
        high: float64[n, t], upper end.
    """

    mean: np.ndarray
    std: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fit_predictor(
    runs: Sequence[Run],
    names: Sequence[str],
    *,
    key: jax.Array,
    epochs_seen: int = 0,
    held_out: str = "validation",
    config: PredictorConfig | None = None,
    mesh: Mesh | None = None,
    on_progress: OnProgress | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
) -> Predictor:
    """Train the ensemble on recorded runs.

    Args:
        runs: r runs; missing targets are masked, a run without any is left out.
        names: t targets, see `target`.
        key: consumed.
        epochs_seen: how many epochs of a run will be known when it is predicted; of the inputs
            nothing later is read. 0: untrained networks.
        held_out: role that overfitting and seconds_to_best compare with.
        config: settings.
        mesh: devices along an axis "replica", over which the members are spread, or "data", over
            which the runs of each batch are, or both; sizes must divide.
        on_progress: called as `(steps taken, steps in all)`, before the first and then some times.
        checkpoint: a file `.npz` that the training is saved to some times and, if it is there and
            of the same training, taken up from; of one process only.

    Returns:
        The predictor.

    Raises:
        ValueError: no names, a target unknown, one that fewer than 2 members' runs have, or sizes
            that do not divide.
    """
    config, mesh = config or PredictorConfig(), training_mesh(mesh)
    if config.num_members % axis_size(mesh, REPLICA_AXIS):
        raise ValueError(
            f"mesh: got {axis_size(mesh, REPLICA_AXIS)} devices along {REPLICA_AXIS!r}, expected a "
            f"divisor of the {config.num_members} members"
        )
    if not names or isinstance(names, str):
        raise ValueError(f"names: got {names!r:.60}, expected a sequence of at least one target")
    asked = np.stack([_targets(runs, name, epochs_seen, held_out) for name in names], 1)
    for name, column in zip(names, asked.T, strict=True):
        if np.isfinite(column).sum() < 2 * config.num_members:
            raise ValueError(
                f"{name}: got {np.isfinite(column).sum()} runs with a value, expected at least "
                f"{2 * config.num_members} for {config.num_members} members"
            )
    known = np.isfinite(asked)
    runs = [run for run, there in zip(runs, known, strict=True) if there.any()]
    outputs = (*names, *_auxiliary_targets(runs, epochs_seen, set(names)))
    inputs = build_inputs(runs, epochs_seen)
    arrays = encode(runs, inputs)
    values = np.stack([_targets(runs, name, epochs_seen, held_out) for name in outputs], 1)
    ranges = np.stack([np.nanmin(values, 0), np.nanmax(values, 0)])
    anchors = _anchors(runs, outputs, epochs_seen, held_out, ranges)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        default = np.nan_to_num(np.nanmean(anchors, 0))
    anchors = np.where(np.isnan(anchors), default, anchors)
    rest = values - anchors
    mean, std = np.nanmean(rest, 0), np.nanstd(rest, 0)
    # What is constant up to rounding has no scale.
    std = np.where(std > 1e-9 * np.maximum(np.nanmax(np.abs(values), 0), 1e-30), std, 1.0)
    standardised = (rest - mean) / std
    split_key, train_key = jax.random.split(key)
    part = leave_out(len(runs), config.num_members, split_key)
    keys = jax.random.split(train_key, config.num_members)
    network = network_of(config.network, inputs.vocabulary.size, outputs)
    rows = np.stack([trained_on(part, i) for i in range(config.num_members)])
    weights = np.ones(len(outputs), np.float32)
    weights[len(names) :] = config.auxiliary_weight / max(len(outputs) - len(names), 1)
    told = (
        jax.random.key_data(keys),
        jax.tree.map(jnp.asarray, arrays),
        jnp.asarray(standardised, jnp.float32),
        jnp.asarray(rows),
        jnp.asarray(weights),
    )
    saved = None
    if checkpoint is not None:
        saved = PredictorCheckpoint(checkpoint, (told, repr(config), repr(network)))
    params = train_members(
        keys,
        *told[1:],
        network=network,
        config=config,
        mesh=mesh,
        on_progress=on_progress,
        checkpoint=saved,
    )
    params = off_mesh(params, mesh)
    own = slice(len(names))
    curves, expected = None, None
    if inputs.curves:
        last = anchors[:, own]
        draw = np.random.default_rng(np.asarray(jax.random.key_data(split_key)))
        curves, expected = fit_curve_expert(
            runs, names, values[:, own], last, inputs, held_out, draw
        )
        expected = (expected - last - mean[own]) / std[own]
    judged = judge_members(
        *apply_members(params, network, arrays), standardised[:, own], expected, part, config
    )
    return Predictor(
        params,
        config,
        inputs,
        outputs,
        len(names),
        held_out,
        tuple(mean.tolist()),
        tuple(std.tolist()),
        tuple(default.tolist()),
        tuple((low, high) for low, high in ranges.T.tolist()),
        judged,
        curves,
    )


def predict(predictor: Predictor, runs: Sequence[Run], coverage: float = 0.9) -> Prediction:
    """Predict the targets of runs, of which at most `epochs_seen` epochs are read.

    Args:
        predictor: from `fit_predictor`.
        runs: n runs; metrics may be absent when `epochs_seen` is 0.
        coverage: share of true values that the intervals are to hold.

    Returns:
        The predictions.

    Raises:
        ValueError: a coverage outside (0, 1).
    """
    if not 0 < coverage < 1:
        raise ValueError(f"got coverage={coverage}, expected a share between 0 and 1")
    num = predictor.num_targets
    names = predictor.targets[:num]
    if not runs:
        empty = np.zeros((0, num))
        return Prediction(empty, empty, empty, empty)
    inputs = predictor.inputs
    network = network_of(predictor.config.network, inputs.vocabulary.size, predictor.targets)
    location, scale = apply_members(predictor.params, network, encode(runs, inputs))
    ranges = np.array(predictor.value_range[:num]).T
    anchors = _anchors(runs, names, inputs.epochs_seen, predictor.held_out, ranges)
    anchors = np.where(np.isnan(anchors), predictor.anchor[:num], anchors)
    mean, std = np.asarray(predictor.mean[:num]), np.asarray(predictor.std[:num])
    expected = None
    if predictor.curves is not None:
        found = predict_curve_expert(predictor.curves, runs, anchors, inputs)
        expected = (found - anchors - mean) / std
    location, quantiles, error, width = join_members(
        predictor.judged, location[..., :num], scale[..., :num], expected, coverage
    )
    middle, width = anchors + mean + std * location, std * width
    log = np.array([is_log_modelled(name) for name in names])

    def natural(x: np.ndarray) -> np.ndarray:
        return np.where(log, np.exp(np.where(log, x, 0)), x)

    return Prediction(
        natural(middle),
        error * width,
        natural(middle - quantiles * width),
        natural(middle + quantiles * width),
    )


def _targets(runs: Sequence[Run], name: str, epochs_seen: int, held_out: str) -> np.ndarray:
    """float64[n], NaN where missing or infinite, in log where modelled so."""
    found = targets(runs, name, epochs_seen, held_out=held_out)
    if is_log_modelled(name):
        found = np.log(np.where(found > 0, found, np.nan))
    return np.where(np.isfinite(found), found, np.nan)


def _auxiliary_targets(runs: Sequence[Run], epochs_seen: int, asked: set[str]) -> tuple[str, ...]:
    """Points of every recorded curve, at most five of each, that at least half of the runs have."""
    counts: dict[tuple[str, int], int] = {}
    for run in runs:
        for role, named in run.metrics.items():
            for metric, curve in named.items():
                for epoch, value in zip(curve.epochs, curve.values, strict=True):
                    # A name with "@" would be read as a target at an epoch.
                    if epoch > epochs_seen and np.isfinite(value) and "@" not in metric:
                        at = (f"{role}/{metric}", epoch)
                        counts[at] = counts.get(at, 0) + 1
    epochs: dict[str, list[int]] = {}
    for (name, epoch), count in sorted(counts.items()):
        if 2 * count >= len(runs):
            epochs.setdefault(name, []).append(epoch)
    found = []
    for name, there in epochs.items():
        # Evenly spaced in log: curves bend early.
        wanted = np.geomspace(there[0], there[-1], _NUM_POINTS)
        nearest = {min(there, key=lambda epoch, w=w: abs(epoch - w)) for w in wanted}
        found += [f"{name}@{epoch}" for epoch in sorted(nearest)]
    return tuple(name for name in found if name not in asked)


def _anchors(
    runs: Sequence[Run],
    names: Sequence[str],
    epochs_seen: int,
    held_out: str,
    ranges: np.ndarray,
) -> np.ndarray:
    """float64[n, o]: the last value seen, which the network corrects; NaN where there is none.

    Within ranges float64[2, o].
    """
    found = np.full((len(runs), len(names)), np.nan)
    for j, name in enumerate(names):
        if epochs_seen and not is_log_modelled(name):
            found[:, j] = predict_from_curve(
                "last_value",
                [],
                np.zeros(0),
                runs,
                target_name=name,
                epochs_seen=epochs_seen,
                seed=0,
                held_out=held_out,
            )
    return np.clip(found, *ranges)
