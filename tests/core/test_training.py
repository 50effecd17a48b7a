"""The engine against a plain loop, and what must not change its result."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from metal_jax._core.batches import BatchStream, epoch_order
from metal_jax._core.sharding import data_mesh, replica_mesh, training_mesh
from metal_jax._core.training import train
from metal_jax._core.training_config import TrainingConfig
from metal_jax._core.training_run import TrainingRun
from metal_jax._core.training_steps import run_steps

N, BATCH = 50, 8
RNG = np.random.default_rng(0)
X = RNG.normal(size=(N, 3)).astype(np.float32)
Y = (X @ [1.0, -2.0, 0.5] + 0.1 * RNG.normal(size=N)).astype(np.float32)
WEIGHTS = RNG.random(N).astype(np.float32)


class Batch(NamedTuple):
    x: Any
    y: Any
    weight: Any


DATA = Batch(X, Y, WEIGHTS)
KEYS = jax.random.split(jax.random.key(3), 2)
OPTIMISER = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9))


def take(rows):
    return Batch(*(x[rows] for x in DATA))


VALIDATION = take(slice(48))  # which splits over 1, 2, 4 and 8 devices


def init(key, batch):
    return {"w": jax.random.normal(key, batch.x.shape[1:]), "clock": jnp.zeros(())}


def loss(params, batch, key):
    """Weighted squared error under noise; the clock moves on by the same amount in each step."""
    noisy = batch.x + 0.1 * jax.random.normal(key, batch.x.shape)
    errors = (noisy @ params["w"] - batch.y) ** 2
    weight = batch.weight.sum()
    return (errors * batch.weight).sum() / weight - 1e-3 * params["clock"], weight


def clock(params, validation):
    """Always better than before, so that the last parameters are the best."""
    return {"clock": params["clock"], "error": ((validation.x @ params["w"]) ** 2).mean()}


def run(data=DATA, keys=KEYS[:1], loss=loss, score=clock, mesh=None, axes=(None, None), **settings):
    settings = {
        "batch_size": BATCH,
        "num_steps": 20,
        "steps_per_chunk": 10,
        "patience": 0,
        "watch": "clock",
        "lower_is_better": False,
    } | settings
    config = TrainingConfig(**settings)
    return train(
        init, loss, score, OPTIMISER, data, VALIDATION, config, keys, data_axes=axes, mesh=mesh
    )


def assert_same_bits(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def assert_close(one, other, atol=2e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


def by_hand(key, num_steps):
    """Parameters after each step, stacked, and the losses."""
    init_key, run_key = jax.random.split(key)
    order_key, noise_key = jax.random.split(run_key)

    @jax.jit
    def one(params, opt_state, batch, step):
        key = jax.random.fold_in(noise_key, step)
        (value, _), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, key)
        updates, opt_state = OPTIMISER.update(grads, opt_state, params)
        return optax.apply_updates(params, updates), opt_state, value

    params = init(init_key, DATA)
    opt_state = OPTIMISER.init(params)
    found, losses = [], []
    for step in range(num_steps):
        epoch, position = divmod(step, N // BATCH)
        rows = epoch_order(order_key, epoch, N)[position * BATCH :][:BATCH]
        params, opt_state, value = one(params, opt_state, take(rows), step)
        found.append(params)
        losses.append(value)
    return jax.tree.map(lambda *x: np.stack(x), *found), losses


def test_equals_a_plain_loop():
    found, losses = by_hand(KEYS[0], 20)
    shares = 0.8 ** np.arange(20)[::-1]
    for decay, weights in ((0.0, np.eye(20)[-1]), (0.8, shares / shares.sum())):
        result = run(ema_decay=decay)
        expected = jax.tree.map(lambda x, w=weights: np.tensordot(w, x, 1), found)
        assert_close(jax.tree.map(lambda x: x[0], result.params), expected, 1e-5)
        losses_by_chunk = np.reshape(losses, (2, 10)).mean(1)
        np.testing.assert_allclose(result.train_loss[:, 0], losses_by_chunk, rtol=1e-5)
    assert result.best_step.tolist() == [20]
    assert result.scores["clock"].shape == result.train_loss.shape == (2, 1)
    assert (result.seconds > 0).all()


def test_chunk_length_does_not_change_a_bit():
    first, *others = [run(steps_per_chunk=length, ema_decay=0.9) for length in (20, 1, 7)]
    for other in others:
        assert_same_bits(first.params, other.params)
    assert [len(result.train_loss) for result in others] == [20, 3]


def test_chunk_length_does_not_change_a_bit_of_a_stream():
    batches = [take(slice(i, i + 9)) for i in range(0, 45, 9)]
    settings = {"num_steps": 12, "batches_per_transfer": 4}
    results = [
        run(BatchStream(iter(batches * 3)), steps_per_chunk=length, **settings)
        for length in (12, 1, 5)
    ]
    for other in results[1:]:
        assert_same_bits(results[0].params, other.params)
    again = run(BatchStream(batches), steps_per_chunk=12, **settings)
    assert_same_bits(results[0].params, again.params)


def test_a_stream_of_the_same_batches_equals_data_on_the_device():
    order_key = jax.random.split(jax.random.split(KEYS[0])[1])[0]
    rows = np.concatenate([epoch_order(order_key, e, N)[:48].reshape(-1, 8) for e in range(4)])
    batches = [take(r) for r in rows]
    assert_close(run(BatchStream(batches)).params, run().params)


@pytest.mark.slow
def test_replicas_of_a_stream_may_differ():
    batches = [take(slice(i, i + 8)) for i in range(0, 48, 8)]
    both = [b._replace(y=np.stack([b.y, -b.y])) for b in batches]
    axes = (Batch(None, 0, None), None)
    together = run(BatchStream(both), KEYS, axes=axes)
    alone = run(BatchStream([b._replace(y=-b.y) for b in batches]), KEYS[1:])
    assert_close(together.params["w"][1], alone.params["w"][0])
    mesh = jax.make_mesh((2, 4), ("replica", "data"))
    spread = run(BatchStream(both), KEYS, axes=axes, mesh=mesh)
    assert_close(spread.params, together.params)


def test_a_stream_that_ends_ends_the_training():
    batches = [take(slice(BATCH))] * 13
    result = run(BatchStream(iter(batches)))
    assert result.num_steps == 13
    assert len(result.train_loss) == 2
    assert run(BatchStream(iter(batches[:10]))).num_steps == 10


def without_noise(params, batch, key):
    weight = batch.weight.sum()
    errors = (batch.x @ params["w"] - batch.y) ** 2
    mean = (errors * batch.weight).sum() / jnp.maximum(weight, 1e-6)
    return mean - 1e-3 * params["clock"], weight


@pytest.mark.parametrize("weights", [WEIGHTS, (WEIGHTS > 0.5).astype(np.float32)])
def test_micro_batches_make_one_batch(weights):
    # The second weights leave some micro-batches of two items without any.
    data = DATA._replace(weight=weights)
    whole = run(data, loss=without_noise)
    parts = run(data, loss=without_noise, micro_batches=4)
    assert_close(parts.params, whole.params)
    np.testing.assert_allclose(parts.train_loss, whole.train_loss, rtol=1e-5)


def unweighted(params, batch, key):
    return ((batch.x @ params["w"] - batch.y) ** 2).mean() - 1e-3 * params["clock"]


def test_micro_batches_of_a_plain_mean():
    assert_close(run(loss=unweighted, micro_batches=2).params, run(loss=unweighted).params)


@pytest.mark.parametrize("size", [2, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 4, 8))])
def test_a_batch_spread_over_devices_equals_one_device(size):
    spread, alone = run(keys=KEYS, mesh=data_mesh(size)), run(keys=KEYS)
    assert_close(spread.params, alone.params)
    assert_close(spread.scores, alone.scores, 1e-5)


def test_replicas_and_items_spread_over_devices():
    plain = jax.make_mesh((4, 2), ("data", "replica"))  # axes explicit, as JAX makes them
    spread = run(keys=KEYS, mesh=plain, micro_batches=2)
    alone = run(keys=KEYS, micro_batches=2)
    assert_close(spread.params, alone.params)
    assert_close(spread.scores, alone.scores, 1e-5)
    assert spread.params["w"].sharding.spec == PartitionSpec("replica")


class Scores(NamedTuple):
    error: jax.Array
    accuracy: jax.Array


def named(params, validation):
    error = ((validation.x @ params["w"] - validation.y) ** 2).mean()
    return Scores(error, 1 / (1 + error))


def test_the_watched_score_decides():
    settings = {"score": named, "patience": 3, "num_steps": 60, "steps_per_chunk": 2}
    lowest = run(watch="error", lower_is_better=True, **settings)
    highest = run(watch="accuracy", lower_is_better=False, **settings)
    worst = run(watch="error", lower_is_better=False, **settings)
    assert lowest.best_step == highest.best_step == 2 * (lowest.scores["error"].argmin() + 1)
    assert len(lowest.scores["error"]) == lowest.scores["error"].argmin() + 1 + 3
    np.testing.assert_array_equal(lowest.params["w"], highest.params["w"])
    assert worst.best_step == 2 * (worst.scores["error"].argmax() + 1)


def test_nan_is_never_best():
    def score(params, validation):
        return jnp.where(params["clock"] > 1e-3, jnp.nan, params["clock"])

    result = run(score=score, watch="loss", steps_per_chunk=5, num_steps=40)
    finite = np.isfinite(result.scores["loss"][:, 0]).sum()
    assert 0 < finite < 8
    assert result.best_step == 5 * finite


def test_a_second_training_does_not_compile():
    run()
    before = run_steps._cache_size()  # pyright: ignore[reportFunctionMemberAccess]
    other = run(DATA._replace(y=Y + 1), keys=jax.random.split(jax.random.key(9), 1), num_steps=33)
    assert other.num_steps == 33
    assert run_steps._cache_size() == before  # pyright: ignore[reportFunctionMemberAccess]


@pytest.mark.usefixtures("x64")
def test_x64_and_strict_promotion():
    optimiser = optax.sgd(0.1)
    data = Batch(*(x.astype(np.float64) for x in DATA))
    settings = TrainingConfig(
        BATCH, 20, 10, 0, micro_batches=2, ema_decay=0.5, watch="clock", lower_is_better=False
    )
    with jax.numpy_dtype_promotion("strict"):
        result = train(init, unweighted, clock, optimiser, data, data, settings, KEYS)
    assert result.params["w"].dtype == result.scores["error"].dtype == np.float64


def paused_run(keys=KEYS, paused=None, **settings):
    config = TrainingConfig(BATCH, 20, 5, 0, **settings, watch="clock", lower_is_better=False)
    data = jax.tree.map(jnp.asarray, DATA)
    axes = (None, None)
    return TrainingRun(
        init, loss, clock, OPTIMISER, data, data, config, keys, axes, None, paused=paused
    )


def test_a_paused_run_goes_on_to_the_same_bits():
    straight, first = paused_run(ema_decay=0.9), paused_run(ema_decay=0.9)
    while not straight.done():
        straight.chunk()
    while first.num_steps < 12:
        first.chunk(12)
    assert first.history.steps == [5, 10, 12]
    paused = first.pause()
    kept = jax.tree.map(np.copy, paused.state)
    second = paused_run(paused=paused, ema_decay=0.9)
    assert second.num_steps == 12
    while not second.done():
        second.chunk()
    assert second.history.steps == [15, 20]
    assert_same_bits(second.pause().state, straight.pause().state)
    assert_same_bits(paused.state, kept)


@pytest.mark.slow
def test_settings_of_replicas():
    def scaled(params, batch, key, settings):
        return settings["scale"] * loss(params, batch, key)[0]

    def alone(params, batch, key):
        return 3 * loss(params, batch, key)[0]

    config = TrainingConfig(BATCH, 6, 6, 0, watch="clock", lower_is_better=False)
    data, sgd = jax.tree.map(jnp.asarray, DATA), optax.sgd(0.1)
    settings = {"scale": np.array([1.0, 3.0], np.float32)}
    sgd = optax.with_extra_args_support(sgd)

    def params(loss, keys, mesh, settings=None):
        axes = (None, None)
        run = TrainingRun(init, loss, clock, sgd, data, data, config, keys, axes, mesh, settings)
        run.chunk()
        return run.best()[0]

    together = params(scaled, KEYS, None, settings)
    assert_close(together["w"][1:], params(alone, KEYS[1:], None)["w"])
    mesh = training_mesh(replica_mesh(2))
    assert_close(params(scaled, KEYS, mesh, settings), together)


def test_errors_name_the_setting():
    with pytest.raises(ValueError, match="at least one item"):
        run(take(slice(0)))
    with pytest.raises(ValueError, match=r"batch of 8 items, expected a multiple of micro_batches"):
        run(micro_batches=3)
    with pytest.raises(ValueError, match=r"batch of 7 items, .* 2 devices"):
        run(batch_size=7, mesh=data_mesh(2))
    with pytest.raises(ValueError, match=r"watch: got 'accuracy', expected one of \['clock', 'er"):
        run(watch="accuracy")
    with pytest.raises(ValueError, match=r"score 'loss': got shape \(48,\), expected a scalar"):
        run(score=lambda params, validation: validation.y, watch="loss")
    with pytest.raises(ValueError, match="mesh: got axis 'rows'"):
        run(mesh=jax.make_mesh((2,), ("rows",)))
    with pytest.raises(ValueError, match="the iterable of batches is empty"):
        run(BatchStream([]))


@pytest.mark.parametrize(
    ("setting", "value"),
    [("batch_size", 0), ("micro_batches", 0), ("patience", -1), ("ema_decay", 1.0)],
)
def test_bad_settings(setting, value):
    with pytest.raises(ValueError, match=f"{setting}: got {value}"):
        TrainingConfig(**{setting: value})
