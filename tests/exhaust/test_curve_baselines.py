import math

import numpy as np
import pytest

from metal_jax.exhaust import (
    CURVE_BASELINES,
    Run,
    curve,
    first_epochs,
    fit_power_law,
    predict_from_curve,
    read_layer_string,
    targets,
)

NUM_EPOCHS, SEEN = 20, 6


def make_runs(num, *, poisoned=False):
    """Runs on power laws, with a loss that falls; later epochs NaN where poisoned."""
    random = np.random.default_rng(0)
    epochs = np.arange(1, NUM_EPOCHS + 1)
    runs = []
    for i in range(num):
        top, rise, power, gap = random.uniform([0.6, 0.2, 0.3, 0.0], [0.9, 0.5, 1.0, 0.3])
        validation = top - rise * epochs**-power
        train = validation + gap * (1 - 0.5 / epochs)
        curves = {
            "train": {"accuracy": train},
            "validation": {"accuracy": validation, "loss": 2 - 2 * validation},
        }
        if poisoned:
            for named in curves.values():
                for values in named.values():
                    values[SEEN:] = math.nan
        metrics = {
            role: {name: curve(values) for name, values in named.items()}
            for role, named in curves.items()
        }
        seconds = [math.nan if poisoned and epoch > SEEN else 1.0 for epoch in epochs]
        net = read_layer_string("C(8,3,1) " * random.integers(1, 4) + "SM(10)")
        runs.append(Run(str(i), net, metrics, seconds=tuple(seconds)))
    return runs


TARGETS = (
    "validation/accuracy",
    "validation/accuracy@20",
    "validation/loss",
    "overfitting/accuracy",
    "overfitting/accuracy@20",
)


@pytest.mark.parametrize("name", CURVE_BASELINES)
@pytest.mark.parametrize("target_name", TARGETS)
def test_only_the_epochs_seen_are_read(name, target_name):
    runs, poisoned = make_runs(24), make_runs(24, poisoned=True)
    values = targets(runs, target_name)
    found = [
        predict_from_curve(
            name,
            which[:16],
            values[:16],
            which[16:],
            target_name=target_name,
            epochs_seen=SEEN,
            seed=0,
        )
        for which in (runs, poisoned)
    ]
    assert np.isfinite(found[0]).all()
    np.testing.assert_array_equal(*found)
    worst = np.abs(values[:16].mean() - values[16:]).mean()
    error = np.abs(found[0] - values[16:]).mean()
    assert error < {"last_value": math.inf, "power_law": 0.25, "svr": 1.0}[name] * worst


def test_power_laws_are_found_again_despite_outliers_and_gaps():
    epochs = np.arange(1, 31)
    a, b, c = np.array([[0.9, 0.7, 3.0], [0.5, 0.3, -2.0], [0.5, 1.0, 0.8]])
    curves = a[:, None] - b[:, None] * epochs ** -c[:, None]
    found_a, found_b, found_c = fit_power_law(curves, epochs)
    np.testing.assert_allclose(found_a, a, rtol=0.03)
    np.testing.assert_allclose(found_b, b, rtol=0.05)
    np.testing.assert_allclose(found_c, c, rtol=0.1)
    curves[:, 12] = 0.1
    curves[:, 3] = math.nan
    np.testing.assert_allclose(fit_power_law(curves, epochs)[0], a, rtol=0.05)
    assert np.isnan(fit_power_law(curves[:, :3], epochs[:3])[0]).all()
    assert fit_power_law(np.zeros((0, 5)), epochs[:5])[0].shape == (0,)
    for flat in (np.full((1, 6), 0.3), np.full((1, 6), math.nan)):
        assert fit_power_law(flat, epochs[:6])[0].shape == (1,)


def run_of(values, **metrics):
    return Run("a", read_layer_string("C(8,3,1)"), {"test": {"accuracy": curve(values), **metrics}})


def predicted(name, runs, target_name, epochs_seen, values=()):
    train = [run_of([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])] * len(values)
    return predict_from_curve(
        name, train, values, runs, target_name=target_name, epochs_seen=epochs_seen, seed=0
    )


def test_last_value():
    runs = [run_of([0.3, 0.5, 0.4, 0.9]), run_of([0.2, math.nan, math.nan, 0.9]), Run("b")]
    best = predicted("last_value", runs, "test/accuracy", 3, [0.6, 0.8])
    np.testing.assert_allclose(best, [0.5, 0.2, 0.7])
    at = predicted("last_value", runs, "test/accuracy@4", 3, [0.6, 0.8])
    np.testing.assert_allclose(at, [0.4, 0.2, 0.7])
    known = predicted("last_value", runs, "test/accuracy@2", 3, [0.6, 0.8])
    np.testing.assert_allclose(known, [0.5, 0.2, 0.7])
    assert np.isnan(predicted("last_value", [Run("b")], "test/accuracy", 3)).all()


def test_power_law_falls_back_and_stays_in_range():
    falling = run_of([0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    short = run_of([0.3, 0.4, 0.5])
    steep = run_of([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    values = [0.0, 0.7]
    got = predicted("power_law", [falling, short, steep], "test/accuracy@100", 5, values)
    np.testing.assert_allclose(got, [0.2, 0.5, 0.7], atol=1e-12)
    best = predicted("power_law", [falling], "test/accuracy", 5, values)
    np.testing.assert_allclose(best, [0.6])
    diverged = run_of([0.3, 0.4, math.inf, -math.inf, math.nan, 0.0])
    got = predicted("power_law", [diverged], "test/accuracy@6", 5, values)
    np.testing.assert_allclose(got, [0.4])


def test_the_first_epochs_of_a_run():
    run = Run(
        "a",
        metrics={"test": {"accuracy": curve([0.1, 0.2, 0.3], [2, 4, 6], goal="max")}},
        seconds=(1, 2, 3, 4, 5, 6),
        total_seconds=21,
        status="finished",
    )
    part = first_epochs(run, 4)
    assert part.metrics["test"]["accuracy"] == curve([0.1, 0.2], [2, 4], goal="max")
    assert part.seconds == (1, 2, 3, 4)
    assert part.total_seconds is None
    assert part.status is None
    assert first_epochs(run, 0).metrics["test"]["accuracy"].values == ()


def test_what_is_wrong_is_said():
    with pytest.raises(ValueError, match="expected one of"):
        predicted("oracle", [], "test/accuracy", 3)
    with pytest.raises(ValueError, match="1 or more"):
        predicted("svr", [], "test/accuracy", 0)
    with pytest.raises(ValueError, match="expected '<role>"):
        predicted("svr", [], "seconds", 3)
