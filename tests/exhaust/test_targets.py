import math

import numpy as np
import pytest

from metal_jax.exhaust import (
    Run,
    best_epoch,
    curve,
    elapsed_seconds,
    goal,
    is_log_modelled,
    num_epochs,
    target,
    targets,
)

RUN = Run(
    "a",
    metrics={
        "train": {"accuracy": curve([0.2, 0.7, 0.9]), "loss": curve([3, 2, 1])},
        "validation": {"accuracy": curve([0.3, 0.6, 0.5]), "loss": curve([3, 4, math.nan])},
        "test": {"accuracy": curve([0.4], [3])},
    },
    seconds=(10, 20, 30),
)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("validation/accuracy", 0.6),
        ("validation/accuracy@3", 0.5),
        ("validation/accuracy@4", math.nan),
        ("validation/loss", 3),
        ("train/accuracy", 0.9),
        ("overfitting/accuracy", 0.1),
        ("overfitting/accuracy@3", 0.4),
        ("overfitting/loss", 0),
        ("overfitting/reward", math.nan),
        ("seconds", 60),
        ("seconds_to_best/accuracy", 30),
        ("test/reward", math.nan),
    ],
)
def test_targets(name, value):
    np.testing.assert_allclose(target(RUN, name), value, atol=1e-12)


def test_after_epochs_seen():
    assert target(RUN, "validation/accuracy", 2) == 0.6
    assert math.isnan(target(RUN, "validation/accuracy", 3))
    assert target(RUN, "seconds", 2) == 30
    assert math.isnan(target(RUN, "seconds", 3))
    assert target(RUN, "seconds_to_best/accuracy", 1) == 20
    assert target(RUN, "seconds_to_best/accuracy", 2) == 0


def test_held_out_role_and_time_limit():
    assert target(RUN, "overfitting/accuracy", held_out="test") == pytest.approx(0.5)
    assert target(RUN, "train/accuracy", seconds_limit=30) == 0.7
    assert math.isnan(target(RUN, "train/accuracy", seconds_limit=5))
    untimed = RUN._replace(seconds=())
    assert math.isnan(target(untimed, "train/accuracy", seconds_limit=30))
    assert math.isnan(target(untimed, "seconds"))


def test_total_time_only():
    run = RUN._replace(seconds=(), total_seconds=90.0)
    assert elapsed_seconds(run).tolist() == [30, 60, 90]
    assert target(run, "seconds") == 90
    assert target(run, "seconds_to_best/accuracy") == 60
    assert target(Run("b", total_seconds=5.0), "seconds") == 5


def test_goals():
    assert goal("top5_accuracy") == "max"
    assert goal("val_perplexity") == "min"
    assert goal("reach", curve([1], goal="max")) == "max"
    for name in ("reach", "accuracy_loss"):
        with pytest.raises(ValueError, match="declare"):
            goal(name)
    assert best_epoch(RUN, "train", "loss") == 3
    assert best_epoch(RUN, "train", "reach") is None


def test_nothing_known():
    assert num_epochs(Run("b")) == 0
    assert np.isnan(targets([Run("b"), RUN], "validation/accuracy")).tolist() == [True, False]
    assert is_log_modelled("seconds_to_best/accuracy")
    assert not is_log_modelled("validation/accuracy")
    diverged = Run("c", metrics={"validation": {"loss": curve([math.nan, math.inf])}})
    assert math.isnan(target(diverged, "validation/loss"))


@pytest.mark.parametrize("name", ["accuracy", "dev/accuracy", "train/", "seconds_to_best/loss@3"])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="target"):
        target(RUN, name)
