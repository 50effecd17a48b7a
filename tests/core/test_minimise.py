"""The minimiser: known minima, honest status, restarts under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax._core.minimise import (
    GRADIENT,
    MAX_STEPS,
    NOT_FINITE,
    STALLED,
    MinimiseConfig,
    minimise,
)


def rosenbrock(x):
    return jnp.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_lbfgs_finds_a_known_minimum():
    result = minimise(rosenbrock, jnp.zeros(4), MinimiseConfig())
    np.testing.assert_allclose(result.params, 1, atol=1e-3)
    assert result.converged
    trace = np.asarray(result.objective_trace)
    assert np.isfinite(trace[: result.num_steps + 1]).all()
    assert np.isnan(trace[result.num_steps + 1 :]).all()


@pytest.mark.parametrize(("method", "rate"), [("adam", 0.05), ("sgd", 0.05)])
def test_first_order_methods(method, rate):
    config = MinimiseConfig(method=method, learning_rate=rate, max_steps=2000)
    result = minimise(lambda p: jnp.sum((p["a"] - 3) ** 2) + p["b"] ** 2, START, config)
    np.testing.assert_allclose(result.params["a"], 3, atol=1e-2)


START = {"a": jnp.zeros(2), "b": jnp.ones(())}


def test_sgd_is_heavy_ball_momentum():
    config = MinimiseConfig("sgd", 3, 0.1, 0.9, gradient_tolerance=0.0, stall_tolerance=0.0)
    result = minimise(lambda x: x**2, jnp.float32(1.0), config)
    x, velocity, expected = 1.0, 0.0, [1.0]
    for _ in range(3):
        velocity = 0.9 * velocity + 2 * x
        x -= 0.1 * velocity
        expected.append(x**2)
    np.testing.assert_allclose(result.objective_trace, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("objective", "config", "status"),
    [
        (lambda x: jnp.sum(x**2), MinimiseConfig(), GRADIENT),
        (lambda x: jnp.sum(jnp.abs(x) ** 1.5) + 1e3, MinimiseConfig(), STALLED),
        (rosenbrock, MinimiseConfig(max_steps=3), MAX_STEPS),
        (lambda x: jnp.sum(x) * jnp.nan, MinimiseConfig(), NOT_FINITE),
    ],
)
def test_status_says_why(objective, config, status):
    result = minimise(objective, jnp.full(3, 2.0), config)
    assert int(result.status) == status
    assert bool(result.converged) == (status in (GRADIENT, STALLED))


def test_the_best_iterate_is_returned():
    config = MinimiseConfig("sgd", 50, 1.05, 0.0, gradient_tolerance=0.0, stall_tolerance=0.0)
    result = minimise(lambda x: x**2, jnp.float32(1.0), config)  # diverges
    assert float(result.params**2) == np.nanmin(result.objective_trace)


def test_restarts_under_vmap_and_jit():
    starts = jax.random.normal(jax.random.key(0), (3, 4))
    run = lambda x: minimise(rosenbrock, x, MinimiseConfig())  # noqa: E731
    together = jax.jit(jax.vmap(run))(starts)
    for i in range(3):
        alone = run(starts[i])
        np.testing.assert_allclose(together.params[i], alone.params, atol=2e-3)


def test_bad_settings():
    with pytest.raises(ValueError, match="method: got 'newton'"):
        MinimiseConfig(method="newton")  # pyright: ignore
    with pytest.raises(ValueError, match="max_steps: got 0"):
        MinimiseConfig(max_steps=0)
