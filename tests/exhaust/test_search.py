import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from metal_jax.exhaust import (
    Run,
    SuccessiveConfig,
    best_at,
    curve,
    expected_improvement,
    log_expected_improvement,
    regret,
    search,
    successive_search,
    top_k_overlap,
)

KEY = jax.random.key(0)


def test_the_choice_fits_the_limit():
    mean = [0.9, math.nan, 0.7, 0.8, 0.7]
    std = [0.1, 0.2, 0.3, 0.4, 0.5]
    seconds = [20, 1, 10, math.nan, 9]
    assert search(mean, std, 3).chosen.tolist() == [0, 3, 2]
    found = search(mean, std, 3, seconds=seconds, seconds_limit=10)
    assert found.chosen.tolist() == [2, 4]
    assert found.std.tolist() == [0.3, 0.5]
    assert found.seconds.tolist() == [10, 9]
    assert search([], [], 3).chosen.shape == (0,)
    assert np.isnan(search(mean, std, 1).seconds).all()
    for bad in ({"seconds_limit": 3.0}, {"seconds": [1.0]}):
        with pytest.raises(ValueError, match=r"expected|without times"):
            search(mean, std, 2, **bad)
    with pytest.raises(ValueError, match="k >= 1"):
        search(mean, std, 0)


def test_expected_improvement_against_the_integral(x64):
    for mean, std in ((0.0, 1.0), (1.5, 0.5), (-2.0, 1.0), (-2.9, 1.0), (-3.1, 1.0), (-8.0, 1.5)):
        density = scipy.stats.norm(mean, std).pdf
        expected, _ = scipy.integrate.quad(
            lambda x, density=density: x * density(x), 0, max(mean, 0) + 12 * std, epsabs=0
        )
        np.testing.assert_allclose(expected_improvement(mean, std, 0.0), expected, rtol=1e-7)


def test_expected_improvement_of_the_hopeless_and_the_certain():
    z = jnp.array([-1e4, -1e3, -100.0, -10.0])
    # log h(z) -> log phi(z) - 2 log|z|.
    expected = -0.5 * z**2 - 0.5 * math.log(2 * math.pi) - 2 * jnp.log(-z)
    np.testing.assert_allclose(log_expected_improvement(z, 1.0, 0.0), expected, rtol=1e-3)
    slope = jax.grad(lambda mean: log_expected_improvement(mean, 1.0, 0.0))
    slopes = jax.jit(jax.vmap(slope))(z)
    np.testing.assert_allclose(slopes, -z, rtol=0.03)
    certain = expected_improvement(jnp.array([1.0, 2.0, 0.5]), 0.0, 1.0)
    np.testing.assert_allclose(certain, [0, 1, 0])
    grid = jnp.linspace(-6.0, 6.0, 200)
    assert (jnp.diff(log_expected_improvement(grid, 1.0, 0.0)) > 0).all()
    gradient = jax.grad(lambda std: expected_improvement(0.3, std, 0.5))
    assert jnp.isfinite(jax.jit(jax.vmap(gradient))(jnp.array([0.0, 1e-3, 1.0]))).all()


def reference(predicted, true, k, times, limit):
    """Overlap and regret as the mean over all orders of the candidates."""
    predicted_seconds, seconds = times
    fitting = [i for i in range(len(true)) if seconds[i] <= limit and not math.isnan(true[i])]
    candidates = [
        i for i in range(len(true)) if predicted_seconds[i] <= limit and not math.isnan(true[i])
    ]
    if not fitting:
        return math.nan, math.nan
    ranked = sorted((true[i] for i in fitting), reverse=True)
    best = [i for i in fitting if true[i] >= ranked[: k or 1][-1]]
    overlaps, regrets = [], []
    for order in itertools.permutations(candidates):
        chosen = sorted(order, key=lambda i: -predicted[i])[:k]
        overlaps.append(sum(i in best for i in chosen) / min(k, len(fitting)))
        got = [true[i] for i in chosen if i in fitting]
        regrets.append(ranked[0] - max(got, default=ranked[-1]))
    return np.mean(overlaps), np.mean(regrets)


@pytest.mark.parametrize("seed", range(30))
def test_overlap_and_regret_against_every_order(seed):
    random = np.random.default_rng(seed)
    n, k = 6, int(random.integers(1, 5))
    predicted = random.integers(0, 3, n) / 10
    true = random.permutation(n) / 10
    true[random.random(n) < 0.1] = math.nan
    times = random.integers(0, 10, (2, n)).astype(float)
    limit = float(random.integers(0, 10))
    options = {
        "predicted_seconds": times[0],
        "seconds": times[1],
        "seconds_limit": limit,
    }
    found = [f(predicted, true, k, **options) for f in (top_k_overlap, regret)]
    np.testing.assert_allclose(found, reference(predicted, true, k, times, limit), atol=1e-12)


def test_overlap_and_regret_of_the_perfect_and_the_empty():
    true = [0.1, 0.5, 0.5, 0.9]
    assert top_k_overlap(true, true, 2) == 1
    assert regret(true, true, 2) == 0
    assert top_k_overlap(true, true, 9) == 1
    nothing = {"predicted_seconds": [9.0] * 4, "seconds": [1.0] * 4, "seconds_limit": 2.0}
    assert top_k_overlap(true, true, 2, **nothing) == 0
    assert regret(true, true, 2, **nothing) == 0.8
    none_fits = {"predicted_seconds": [1.0] * 4, "seconds": [9.0] * 4, "seconds_limit": 2.0}
    assert math.isnan(top_k_overlap(true, true, 2, **none_fits))
    assert math.isnan(regret(true, true, 2, **none_fits))
    assert regret([math.nan] * 4, true, 2) == 0.8


def make_runs(num=40, num_epochs=12):
    random = np.random.default_rng(1)
    epochs = np.arange(1, num_epochs + 1)
    runs = []
    for i, top in enumerate(random.uniform(0.3, 0.9, num)):
        values = top * (1 - 0.7 / epochs)
        seconds = tuple(random.uniform(1, 3, num_epochs))
        metrics = {"test": {"accuracy": curve(values), "loss": curve(1 - values)}}
        runs.append(Run(str(i), metrics=metrics, seconds=seconds))
    return runs


def oracle(runs, epochs_seen):
    """What the curves of `make_runs` come to, if only the epochs seen are handed over."""
    values = [run.metrics["test"]["accuracy"].values for run in runs]
    assert {len(value) for value in values} == {epochs_seen}
    last = np.array([value[-1] for value in values])
    return last / (1 - 0.7 / epochs_seen) * (1 - 0.7 / 12), np.full(len(runs), 0.01)


def test_early_stopping_finds_the_best_sooner():
    runs = make_runs()
    best = max(run.metrics["test"]["accuracy"].values[-1] for run in runs)
    seconds = {}
    for method in ("random", "halving", "predictor"):
        traces = [
            successive_search(runs, "test", "accuracy", method, key=key, predict=oracle)
            for key in jax.random.split(KEY, 8)
        ]
        for trace in traces:
            assert (np.diff(trace.seconds) > 0).all()
            assert (np.diff(trace.best) > 0).all()
            assert trace.spent >= trace.seconds[-1]
            assert trace.num_started == len(runs)
        assert method == "halving" or all(trace.best[-1] == best for trace in traces)
        seconds[method] = np.mean([trace.spent for trace in traces])
    everything = sum(sum(run.seconds) for run in runs)
    np.testing.assert_allclose(seconds["random"], everything)
    assert seconds["predictor"] < 0.6 * everything
    assert seconds["halving"] < 0.6 * everything


@pytest.mark.parametrize("method", ["random", "halving", "predictor"])
def test_the_time_is_kept_and_a_loss_is_searched_downwards(method):
    def predict(runs, epochs_seen):
        mean, std = oracle(runs, epochs_seen)
        return 1 - mean, std

    runs = make_runs()
    trace = successive_search(
        runs, "test", "loss", method, key=KEY, predict=predict, seconds_limit=100.0
    )
    assert trace.spent <= 100
    assert trace.spent > 90
    assert (np.diff(trace.best) < 0).all()
    where = runs[trace.run[-1]].metrics["test"]["loss"].values
    assert trace.best[-1] in where
    again = successive_search(
        runs, "test", "loss", method, key=KEY, predict=predict, seconds_limit=100.0
    )
    assert again.best.tolist() == trace.best.tolist()


def test_halving_keeps_the_best_of_a_bracket():
    runs = [
        Run(str(i), metrics={"test": {"accuracy": curve([i / 10] * 4)}}, seconds=(1,) * 4)
        for i in range(8)
    ]
    config = SuccessiveConfig(checks=(1, 2), bracket=4, reduction=2)
    trace = successive_search(runs, "test", "accuracy", "halving", key=KEY, config=config)
    # Twice: 4 runs for one epoch, 2 for another, 1 for the last two.
    assert trace.spent == 2 * (4 + 2 + 2)
    assert trace.best[-1] == 0.7


def test_best_at_given_times():
    runs = [Run("a", metrics={"test": {"accuracy": curve([0.2, 0.1, 0.4])}}, seconds=(2, 2, 2))]
    trace = successive_search(runs, "test", "accuracy", "random", key=KEY)
    np.testing.assert_array_equal(best_at(trace, [1, 2, 5, 6, 99]), [math.nan, 0.2, 0.2, 0.4, 0.4])
    empty = successive_search(runs, "test", "accuracy", "random", key=KEY, seconds_limit=1.0)
    assert np.isnan(best_at(empty, [1.0])).all()


def test_runs_that_tell_too_little_and_wrong_settings():
    untimed = Run("a", metrics={"test": {"accuracy": curve([0.9])}})
    gap = Run("b", metrics={"test": {"accuracy": curve([0.9, 0.9])}}, seconds=(1, math.nan))
    nan = Run("c", metrics={"test": {"accuracy": curve([math.nan, 0.5])}}, seconds=(1, 1))
    runs = [untimed, gap, nan, Run("d")]
    trace = successive_search(runs, "test", "accuracy", "random", key=KEY)
    assert trace.run.tolist() == [2]
    assert trace.seconds.tolist() == [2]
    assert trace.num_started == 1
    assert successive_search([], "test", "accuracy", "halving", key=KEY).spent == 0
    with pytest.raises(ValueError, match="expected one of"):
        successive_search(runs, "test", "accuracy", "guess", key=KEY)
    with pytest.raises(ValueError, match="with predict"):
        successive_search(runs, "test", "accuracy", "predictor", key=KEY)
    for bad in ({"checks": (3, 1)}, {"min_chance": 2}, {"bracket": 0}, {"reduction": 1}):
        with pytest.raises(ValueError, match="expected"):
            SuccessiveConfig(**bad)
