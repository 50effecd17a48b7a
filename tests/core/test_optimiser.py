"""Schedules by name, and AdamW with them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metal_jax._core.optimiser import (
    TRACED_SETTINGS,
    OptimiserConfig,
    learning_rates,
    make_optimiser,
    make_traced_optimiser,
)


def rates(schedule, warmup_steps, num_steps=10):
    found = learning_rates(OptimiserConfig(2.0, schedule, warmup_steps), num_steps)
    return np.array([float(found(step)) for step in range(num_steps + 1)])


def test_schedules():
    after = np.arange(7)
    expected = {
        "constant": np.full(7, 2.0),
        "cosine": 1 + np.cos(np.pi * after / 6),
        "linear": 2 - after / 3,
        "inverse_sqrt": 2 * np.sqrt(4 / (4 + after)),
    }
    for name, values in expected.items():
        found = rates(name, 4)
        np.testing.assert_allclose(found[:4], [0, 0.5, 1, 1.5], err_msg=name)
        np.testing.assert_allclose(found[4:], values, atol=1e-6, err_msg=name)


def test_no_warmup_and_short_trainings():
    for name in ("constant", "cosine", "linear", "inverse_sqrt"):
        assert rates(name, 0)[0] == 2
        assert np.isfinite(rates(name, 20, num_steps=5)).all()
        assert rates(name, 20, num_steps=5)[4] == 2
        assert np.isfinite(rates(name, 0, num_steps=1)).all()


def test_the_default_is_the_measured_one():
    config = OptimiserConfig()
    schedule = learning_rates(config, 300)
    other = optax.warmup_cosine_decay_schedule(0.0, 3e-2, 20, 300)
    for step in (0, 1, 19, 20, 21, 150, 299, 300):
        assert schedule(step) == other(step)
    assert (config.weight_decay, config.max_gradient_norm) == (0.6, 1.0)
    assert make_optimiser(config, 300) is make_optimiser(OptimiserConfig(), 300)


def test_clipping_and_decay():
    params = jnp.array([3.0, 4.0])
    for max_norm, scale in ((None, 1.0), (1e-6, 1e-7)):
        # With epsilon 1e-8 beside such gradients, Adam's first step tells their size.
        config = OptimiserConfig(0.1, "constant", 0, weight_decay=0.5, max_gradient_norm=max_norm)
        optimiser = make_optimiser(config, 10)
        grads = jnp.array([6.0, 8.0])
        updates, _ = optimiser.update(grads, optimiser.init(params), params)
        clipped = grads * scale
        adam = -0.1 * clipped / (jnp.abs(clipped) + 1e-8)
        np.testing.assert_allclose(updates, adam - 0.1 * 0.5 * params, rtol=1e-4)


def descend(optimiser, start, **settings):
    """Parameters after some steps on a parabola; a function of arrays alone."""

    def step(carry, _):
        params, state = carry
        updates, state = optimiser.update(2 * params, state, params, **settings)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (start, optimiser.init(start)), None, 6)[0][0]


START = np.array([3.0, -4.0, 0.5], np.float32)
SETTINGS = {
    "learning_rate": np.array([0.01, 0.5], np.float32),
    "weight_decay": np.array([0.0, 0.3], np.float32),
    "max_gradient_norm": np.array([0.1, 9.0], np.float32),
}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "inverse_sqrt", "linear"])
def test_traced_settings_equal_fixed_ones(schedule):
    config = OptimiserConfig(schedule=schedule, warmup_steps=2)
    traced = make_traced_optimiser(config, 6, TRACED_SETTINGS)
    found = jax.vmap(lambda own: descend(traced, START, settings=own))(SETTINGS)
    for i in range(2):
        own = {name: float(values[i]) for name, values in SETTINGS.items()}
        fixed = make_optimiser(OptimiserConfig(schedule=schedule, warmup_steps=2, **own), 6)
        np.testing.assert_allclose(found[i], descend(fixed, START), rtol=1e-5)


def test_settings_that_are_not_traced_stay():
    config = OptimiserConfig(0.1, weight_decay=0.2, warmup_steps=2)
    traced = make_traced_optimiser(config, 6, ("learning_rate",))
    found = descend(traced, START, settings={"learning_rate": np.float32(0.1)})
    np.testing.assert_allclose(found, descend(make_optimiser(config, 6), START), rtol=1e-6)
    assert make_traced_optimiser(config, 6, ("learning_rate",)) is traced


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_traced_settings_keep_the_dtype(dtype):
    traced = make_traced_optimiser(OptimiserConfig(warmup_steps=2), 6, TRACED_SETTINGS)
    own = {name: jnp.asarray(values[1]) for name, values in SETTINGS.items()}
    assert descend(traced, jnp.asarray(START, dtype), settings=own).dtype == dtype


def test_a_traced_update_lowers_everywhere():
    traced = make_traced_optimiser(OptimiserConfig(), 6, TRACED_SETTINGS)
    function = jax.jit(jax.vmap(lambda own: descend(traced, START, settings=own)))
    assert jax.export.export(function, platforms=["cpu", "cuda", "tpu"])(SETTINGS).platforms


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("schedule", "step"),
        ("learning_rate", -1.0),
        ("learning_rate", float("nan")),
        ("warmup_steps", -1),
        ("max_gradient_norm", 0.0),
    ],
)
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=f"{setting}: got {value!r}"):
        OptimiserConfig(**{setting: value})
