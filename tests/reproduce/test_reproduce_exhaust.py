"""The protocol on synthetic runs: accuracy and time follow from the width of the one layer."""

import numpy as np
import pytest

from metal_jax.exhaust import Layer, NetworkConfig, PredictorConfig, Run, curve
from metal_jax.reproduce import (
    LSTM,
    ExhaustConfig,
    ExhaustProblem,
    draw_exhaust,
    mean_run,
    noise_floor,
    run_exhaust,
)

CONFIG = ExhaustConfig(
    num_seeds=1,
    baselines=("mean", "closest_depth", "nearest"),
    curves=False,
    predictor=PredictorConfig(num_members=2, num_steps=20, network=NetworkConfig(4, 4, 4)),
)


def synthetic_run(i, seed):
    rng = np.random.default_rng([i, seed])
    width = 2 ** (1 + i % 8)
    best = 0.5 + 0.05 * (i % 8) + 0.001 * rng.normal()
    epochs = np.arange(1, 5)
    return Run(
        f"{i}-{seed}",
        (Layer("Linear", {"out_features": width}),),
        {
            "train": {"accuracy": curve(best + 0.05 - 0.2 / epochs)},
            "validation": {"accuracy": curve(best - 0.2 / epochs)},
        },
        seconds=(width * 0.01,) * 4,
    )


def synthetic_problem(num=40):
    repeats = tuple(tuple(synthetic_run(i, seed) for i in range(num)) for seed in range(2))
    runs = tuple(mean_run(pair) for pair in zip(*repeats, strict=True))
    return ExhaustProblem(
        "synthetic", runs, ("validation/accuracy", "seconds"), "validation", 2, repeats
    )


@pytest.fixture(scope="module")
def record():
    return run_exhaust(synthetic_problem(), CONFIG)


def test_nearest_finds_the_width_and_closest_depth_cannot(record):
    errors = {
        method: found["validation/accuracy"]["error"][0]
        for method, found in record["untrained"].items()
    }
    # Every width is in every training fold, and noise is .001; the widths' spread is .11.
    assert errors["nearest"] < 0.01
    assert errors["closest_depth"] > 0.08
    assert set(errors) == {"mean", "closest_depth", "nearest", LSTM}


def test_search_under_a_limit_knows_the_time(record):
    nearest = record["search"]["nearest"]
    assert set(nearest) == {"no limit", "25 %", "50 %", "75 %"}
    assert nearest["50 %"]["regret"][0] < 0.025  # half the step from one width to the next
    assert record["search"]["mean"]["50 %"]["regret"][0] > nearest["50 %"]["regret"][0]


def test_noise_floor_is_the_seeds_difference():
    problem = synthetic_problem()
    found = noise_floor(problem)
    last = [
        [run.metrics["validation"]["accuracy"].values[-1] for run in runs]
        for runs in problem.repeats
    ]
    difference = np.abs(np.subtract(*last)).mean()
    np.testing.assert_allclose(found["validation/accuracy"]["error"], difference)
    assert found["seconds"]["error"] == 0
    assert noise_floor(problem._replace(repeats=())) == {}


@pytest.mark.slow
def test_a_fixed_split_judges_only_its_networks():
    problem = synthetic_problem()._replace(fixed_test=(38, 39), targets=("validation/accuracy",))
    record = run_exhaust(problem, CONFIG)
    assert record["untrained"]["nearest"]["validation/accuracy"]["error"][0] < 0.01


def test_mean_run_averages_curves_and_times():
    a, b = synthetic_run(0, 0), synthetic_run(0, 1)
    mean = mean_run([a, b])
    np.testing.assert_allclose(
        mean.metrics["train"]["accuracy"].values,
        np.mean([r.metrics["train"]["accuracy"].values for r in (a, b)], 0),
    )
    assert mean.seconds == a.seconds


def test_the_same_seed_gives_the_same_record(record):
    seen = []
    assert run_exhaust(synthetic_problem(), CONFIG, on_record=seen.append) == record
    assert seen[-1] == record
    other = run_exhaust(synthetic_problem(), ExhaustConfig(**{**vars(CONFIG), "seed": 1}))
    assert other["untrained"] != record["untrained"]


@pytest.mark.slow
def test_pictures_are_drawn(tmp_path):
    paths = draw_exhaust(synthetic_problem(), CONFIG, tmp_path)
    assert [path.name for path in paths] == [
        "synthetic_predicted.png",
        "synthetic_by_runs.png",
        "synthetic_by_epochs.png",
    ]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
