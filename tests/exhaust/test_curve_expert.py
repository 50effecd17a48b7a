"""The regression on first epochs: left out in closed form, smooth, and read no further."""

import json
import math

import numpy as np
import pytest

from metal_jax.exhaust import Run, curve, read_layer_string
from metal_jax.exhaust import _curve_expert as module
from metal_jax.exhaust._curve_expert import (
    CurveExpert,
    _matern,
    _solve,
    fit_curve_expert,
    predict_curve_expert,
)
from metal_jax.exhaust._predictor_inputs import build_inputs

SEEN, LAST = 4, 16
NAME = f"validation/accuracy@{LAST}"


def make_runs(seed, num):
    """Synthetic: curves a - b / t whose ends follow from their beginnings, and a useless role."""
    rng = np.random.default_rng(seed)
    epochs = np.arange(1, LAST + 1)
    runs = []
    for i in range(num):
        a, b = rng.uniform(0.5, 0.9), rng.uniform(0.1, 0.4)
        metrics = {
            "validation": {"accuracy": curve(a - b / epochs)},
            "train": {"accuracy": curve(rng.uniform(size=LAST))},
        }
        net = " ".join(["C(8,3,1)"] * rng.integers(1, 4))
        runs.append(Run(f"{seed}/{i}", read_layer_string(net), metrics))
    return runs


def values_of(runs):
    return np.array([[run.metrics["validation"]["accuracy"].values[-1]] for run in runs])


def last_of(runs):
    return np.array([[run.metrics["validation"]["accuracy"].values[SEEN - 1]] for run in runs])


RUNS, OTHERS = make_runs(0, 60), make_runs(1, 40)
INPUTS = build_inputs(RUNS, SEEN)


def fit(runs, values, last, rng=0):
    return fit_curve_expert(
        runs, [NAME], values, last, INPUTS, "validation", np.random.default_rng(rng)
    )


@pytest.fixture(scope="module")
def fitted():
    return fit(RUNS, values_of(RUNS), last_of(RUNS))


def test_a_smooth_function_of_the_curve_is_found(fitted):
    expert, left_out = fitted
    found = predict_curve_expert(expert, OTHERS, last_of(OTHERS), INPUTS)
    spread = np.abs(values_of(OTHERS) - values_of(OTHERS).mean()).mean()
    assert np.abs(found - values_of(OTHERS)).mean() < 0.05 * spread
    assert np.abs(left_out - values_of(RUNS)).mean() < 0.05 * spread


def test_what_is_left_out_in_closed_form_is_left_out(monkeypatch):
    rng = np.random.default_rng(2)
    points, target = rng.normal(size=(12, 2)), rng.normal(size=12)
    kernel = _matern(((points[:, None] - points) ** 2).sum(-1))
    monkeypatch.setattr(module, "_HUBER", 1e9)  # every run weighs the same
    _, center, found = _solve(kernel, target, 0.3)
    for i in range(12):
        others = np.delete(np.arange(12), i)
        system = kernel[np.ix_(others, others)] + 0.3 * np.eye(11)
        by_hand = center + kernel[i, others] @ np.linalg.solve(system, target[others] - center)
        np.testing.assert_allclose(found[i], by_hand, rtol=1e-9)


def test_one_wild_run_does_little_harm(fitted):
    values = values_of(RUNS)
    values[7] = 50.0
    expert, _ = fit(RUNS, values, last_of(RUNS))
    found = predict_curve_expert(expert, OTHERS, last_of(OTHERS), INPUTS)
    calm = predict_curve_expert(fitted[0], OTHERS, last_of(OTHERS), INPUTS)
    assert np.median(np.abs(found - calm)) < 0.02


def test_later_epochs_are_not_read(fitted):
    expert, _ = fitted
    cut = [
        changed(run, lambda values: values[:SEEN] + (math.nan,) * (LAST - SEEN)) for run in OTHERS
    ]
    found = predict_curve_expert(expert, cut, last_of(OTHERS), INPUTS)
    expected = predict_curve_expert(expert, OTHERS, last_of(OTHERS), INPUTS)
    np.testing.assert_array_equal(found, expected)


def changed(run, change):
    metrics = {
        role: {name: each._replace(values=change(each.values)) for name, each in named.items()}
        for role, named in run.metrics.items()
    }
    return run._replace(metrics=metrics)


def test_missing_values_targets_and_runs_beyond_the_limit(monkeypatch):
    values = values_of(RUNS)
    values[::5] = math.nan
    runs = [run._replace(metrics={}) if i % 7 == 0 else run for i, run in enumerate(RUNS)]
    monkeypatch.setattr(module, "_MAX_RUNS", 30)
    expert, left_out = fit(runs, values, last_of(RUNS))
    assert expert.runs.shape[0] == 30
    assert np.isfinite(left_out).all()
    found = predict_curve_expert(expert, runs, last_of(RUNS), INPUTS)
    assert np.isfinite(found).all()


def test_plain_json_and_back(fitted):
    expert, _ = fitted
    again = CurveExpert.from_json(json.loads(json.dumps(expert.to_json(), allow_nan=False)))
    np.testing.assert_array_equal(
        predict_curve_expert(again, OTHERS, last_of(OTHERS), INPUTS),
        predict_curve_expert(expert, OTHERS, last_of(OTHERS), INPUTS),
    )
