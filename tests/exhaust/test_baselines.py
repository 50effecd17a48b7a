import builtins

import jax
import numpy as np
import pytest

from metal_jax.exhaust import (
    BASELINES,
    Run,
    pairwise,
    predict_baseline,
    predict_from_neighbours,
    read_layer_string,
    read_open_logs,
    targets,
)

OF_SKLEARN = BASELINES[5:]


@pytest.fixture(scope="module")
def problem():
    """60 networks whose score follows from their widths and depth."""
    random = np.random.default_rng(0)
    runs, scores = [], []
    for i in range(60):
        widths = 2 ** random.integers(3, 8, random.integers(1, 5))
        net = " ".join(f"C({width},3,1)" for width in widths) + " SM(10)"
        runs.append(Run(str(i), read_layer_string(net), optimiser={"learning_rate": 0.1}))
        scores.append(0.1 * np.log2(widths).mean() - 0.02 * len(widths))
    return runs, np.array(scores)


@pytest.mark.parametrize("name", BASELINES)
def test_predictions_are_repeatable_and_missing_targets_are_left_out(name, problem):
    runs, scores = problem
    train, values, test = runs[:40], scores[:40], runs[40:]
    found = predict_baseline(name, train, values, test, seed=1)
    assert found.shape == (20,)
    assert found.dtype == np.float64
    assert np.isfinite(found).all()
    if name not in ("mean", "closest_depth", "closest_depth_random"):
        assert np.abs(found - scores[40:]).mean() < 0.8 * np.abs(values.mean() - scores[40:]).mean()
    with_missing = predict_baseline(
        name, [*train, *test], [*values, *[np.nan] * 19, np.inf], test, seed=1
    )
    np.testing.assert_allclose(with_missing, found, rtol=1e-6)


@pytest.mark.parametrize("name", BASELINES[:6])
def test_logarithms_are_predicted_where_asked(name, problem):
    runs, scores = problem
    log = predict_baseline(name, runs[:40], np.exp(scores[:40]), runs[40:], seed=1, log=True)
    plain = predict_baseline(name, runs[:40], scores[:40], runs[40:], seed=1)
    np.testing.assert_allclose(np.log(log), plain, rtol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_few_runs_and_equal_values(name, problem):
    runs, _ = problem
    assert predict_baseline(name, runs[:1], [2.0], runs[:2], seed=0).tolist() == [2, 2]
    assert np.isnan(predict_baseline(name, [], [], runs[:2], seed=0)).all()
    assert np.isnan(predict_baseline(name, runs[:2], [np.nan] * 2, runs[:2], seed=0)).all()
    assert predict_baseline(name, runs[:2], [1.0, 2.0], [], seed=0).shape == (0,)
    same = predict_baseline(name, runs[:12], np.full(12, 3.0), runs[:2], seed=0)
    np.testing.assert_allclose(same, 3)
    unknown = [Run("a"), Run("b")]
    np.testing.assert_allclose(
        predict_baseline(name, [*unknown] * 6, np.tile([1.0, 3.0], 6), unknown, seed=0).mean(),
        2,
        atol=1.01 if name == "closest_depth_random" else 1e-6,
    )


def test_neighbours_by_distances_passed_in_or_computed(problem):
    runs, scores = problem
    nets = [run.architecture for run in runs]
    distances = pairwise(nets[40:], nets[:40])
    for name, k, softening in (("nearest", 1, None), ("neighbours", 10, 0.1)):
        expected = predict_from_neighbours(distances, scores[:40], k, softening=softening)
        for given in (None, distances):
            got = predict_baseline(name, runs[:40], scores[:40], runs[40:], seed=0, distances=given)
            np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_what_is_wrong_is_said(problem):
    runs, scores = problem
    good = dict(seed=0)
    with pytest.raises(ValueError, match="expected one of"):
        predict_baseline("oracle", runs, scores, runs, **good)
    with pytest.raises(ValueError, match=r"expected \[60\]"):
        predict_baseline("mean", runs, scores[1:], runs, **good)
    with pytest.raises(ValueError, match=r"expected \[60, 60\]"):
        predict_baseline("nearest", runs, scores, runs, distances=np.zeros((2, 2)), **good)
    with pytest.raises(ValueError, match="negative"):
        predict_baseline("mean", runs, scores - 9, runs, log=True, **good)


def test_without_sklearn_the_others_work(problem, monkeypatch):
    runs, scores = problem
    original = builtins.__import__

    def no_sklearn(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_sklearn)
    for name in BASELINES:
        if name in OF_SKLEARN:
            with pytest.raises(ImportError, match=r"pip install 'metal-jax\[sklearn\]'"):
                predict_baseline(name, runs, scores, runs, seed=0)
        else:
            assert np.isfinite(predict_baseline(name, runs, scores, runs, seed=0)).all()


def test_random_ties_follow_the_seed(problem):
    runs, scores = problem
    draws = [
        predict_baseline("closest_depth_random", runs[:40], scores[:40], runs[40:], seed=seed)
        for seed in (0, 0, 1)
    ]
    assert (draws[0] == draws[1]).all()
    assert (draws[0] != draws[2]).any()


@pytest.mark.slow
def test_live_paths_tell_the_accuracy_of_cells(data_folder):
    runs = read_open_logs(data_folder / "logs" / "nats", "nats").runs
    values = targets(runs, "test/accuracy@200", held_out="test")
    test = np.asarray(jax.random.permutation(jax.random.key(0), len(runs)))[:200]
    train = np.setdiff1d(np.arange(len(runs)), test)
    found = predict_baseline(
        "random_forest", [runs[i] for i in train], values[train], [runs[i] for i in test], seed=0
    )
    assert np.abs(found - values[test]).mean() < 0.01
