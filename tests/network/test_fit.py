"""Training on soft labels: the loss, its gradient, replicas, early stopping, bad input, logs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metal_jax.exhaust import read_runs
from metal_jax.network import (
    CheckpointConfig,
    Encoder,
    Examples,
    FitConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    TrainingConfig,
    build,
    fit,
    leaf_log_probs,
    node_log_probs,
    soft_label_loss,
)
from metal_jax.task_tree import TaskTree, node_sum

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})
IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
NETWORK = build(TREE, IDENTITY, NetworkConfig((8,), dropout=0.1))
CONFIG = FitConfig(training=TrainingConfig(32, 100, 50, 0))


def separable(n, seed=0):
    """Items in two dimensions whose leaf is read off the signs; nearly hard labels."""
    x = np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)
    leaf = np.where(x[:, 0] < 0, 2, np.where(x[:, 1] < 0, 0, 1))
    return Examples(x, np.eye(3)[leaf] * 0.94 + 0.02), leaf


EXAMPLES, LEAF = separable(200)
VALIDATION, _ = separable(50, 1)


def assert_trees_close(one, other, atol=1e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol), one, other)


def test_loss_is_the_expected_negative_log_likelihood_of_the_path():
    params = NETWORK.init(jax.random.key(0), EXAMPLES.inputs)
    nodes = node_sum(TREE, EXAMPLES.leaf_probs)
    found = soft_label_loss(NETWORK.apply(params, EXAMPLES.inputs), nodes)
    leaf = leaf_log_probs(NETWORK, params, EXAMPLES.inputs)
    np.testing.assert_allclose(found, -np.sum(EXAMPLES.leaf_probs * leaf, axis=1), rtol=1e-4)


def test_impossible_labels_without_mass_cost_nothing():
    log_p = jnp.array([[0.0, -jnp.inf]])
    assert soft_label_loss(log_p, jnp.array([[1.0, 0.0]])).tolist() == [0.0]
    gradient = jax.grad(lambda x: soft_label_loss(x, jnp.array([[1.0, 0.0]])).sum())(log_p)
    assert gradient.tolist() == [[-1.0, 0.0]]


@pytest.mark.usefixtures("x64")
def test_gradient_of_the_loss():
    inputs = jnp.asarray(EXAMPLES.inputs[:5], jnp.float64)
    nodes = node_sum(TREE, jnp.asarray(EXAMPLES.leaf_probs[:5], jnp.float64))
    params = jax.jit(NETWORK.init)(jax.random.key(0), inputs)
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) + 0.05, params)
    weights = jnp.array([1.0, 1.0, 0.5, 0.5])

    def loss(params):
        return soft_label_loss(NETWORK.apply(params, inputs), nodes, weights).sum()

    check_grads(jax.jit(loss), (params,), order=1, modes=["rev"])


def test_learns_a_separable_problem():
    result = fit(NETWORK, EXAMPLES, VALIDATION, CONFIG, key=jax.random.key(0))
    found = leaf_log_probs(NETWORK, result.params, EXAMPLES.inputs).argmax(1)
    assert np.mean(found == LEAF) > 0.9
    assert result.train_loss.shape == result.valid_loss.shape == (2,)
    assert result.train_loss[-1] < result.train_loss[0]


@pytest.mark.slow
def test_learns_a_forest():
    x = EXAMPLES.inputs
    leaf_a = np.eye(2)[(x[:, 0] < 0).astype(int)]
    leaf_b = np.eye(3)[LEAF]
    network = build(FOREST, IDENTITY, NetworkConfig((8,), dropout=0.1))
    # The leaves of the root tasks stand side by side, a distribution for each.
    examples = Examples(x, np.hstack([leaf_a, leaf_b]))
    result = fit(network, examples, examples, CONFIG, key=jax.random.key(0))
    node = np.exp(node_log_probs(network, result.params, x))
    gold = np.asarray(node_sum(FOREST, examples.leaf_probs))
    assert np.mean((node > 0.5) == (gold > 0.5)) > 0.9


def test_replicas_equal_single_runs():
    keys = jax.random.split(jax.random.key(0), 2)
    together = fit(NETWORK, EXAMPLES, VALIDATION, CONFIG, key=keys)
    for i, key in enumerate(keys):
        alone = fit(NETWORK, EXAMPLES, VALIDATION, CONFIG, key=key)
        assert_trees_close(jax.tree.map(lambda x, i=i: x[i], together.params), alone.params, 1e-4)
        np.testing.assert_allclose(together.valid_loss[:, i], alone.valid_loss, atol=1e-5)
        assert together.best_step[i] == alone.best_step


def test_replicas_may_have_labels_and_weights_of_their_own():
    keys = jax.random.split(jax.random.key(0), 2)
    labels = np.stack([EXAMPLES.leaf_probs, np.roll(EXAMPLES.leaf_probs, 1, axis=1)])
    weights = np.random.default_rng(0).random((2, 200))
    examples = Examples(EXAMPLES.inputs, labels, weights)
    together = fit(NETWORK, examples, VALIDATION, CONFIG, key=keys)
    alone = fit(
        NETWORK,
        Examples(EXAMPLES.inputs, labels[1], weights[1]),
        VALIDATION,
        CONFIG,
        key=keys[1],
    )
    assert_trees_close(jax.tree.map(lambda x: x[1], together.params), alone.params, 1e-4)


@pytest.mark.slow
def test_replicas_spread_over_devices_equal_one_device():
    keys = jax.random.split(jax.random.key(0), 3)  # over two: one of them is padded
    labels = np.stack([np.roll(EXAMPLES.leaf_probs, i, axis=1) for i in range(3)])
    examples = EXAMPLES._replace(leaf_probs=labels)
    mesh = jax.make_mesh((2, 4), ("replica", "data"))
    spread = fit(NETWORK, examples, VALIDATION, CONFIG, key=keys, mesh=mesh)
    together = fit(NETWORK, examples, VALIDATION, CONFIG, key=keys)
    assert_trees_close(spread.params, together.params, 1e-4)
    np.testing.assert_allclose(spread.valid_loss, together.valid_loss, atol=1e-5)
    assert spread.best_step.tolist() == together.best_step.tolist()


def test_chunk_length_changes_nothing():
    # The validation loss falls throughout, so both runs keep the parameters of the last step.
    results = []
    for steps_per_chunk in (10, 25):
        training = TrainingConfig(32, 50, steps_per_chunk, 0)
        config = FitConfig(OptimiserConfig(3e-3), training=training)
        results.append(fit(NETWORK, EXAMPLES, VALIDATION, config, key=jax.random.key(0)))
        assert results[-1].best_step == 50
    jax.tree.map(np.testing.assert_array_equal, results[0].params, results[1].params)


def test_batches_of_an_iterable():
    cuts = range(0, 200, 40)
    batches = [Examples(*(x[i : i + 40] for x in EXAMPLES[:2])) for i in cuts]
    result = fit(NETWORK, batches, VALIDATION, CONFIG, key=jax.random.key(0))
    found = leaf_log_probs(NETWORK, result.params, EXAMPLES.inputs).argmax(1)
    assert np.mean(found == LEAF) > 0.9
    batches[3] = batches[3]._replace(leaf_probs=-batches[3].leaf_probs)
    with pytest.raises(ValueError, match=r"examples: leaf_probs at \(0, 0\) is negative"):
        fit(NETWORK, batches, VALIDATION, CONFIG, key=jax.random.key(0))


def test_bfloat16_computes_with_parameters_in_float32():
    seen = []

    def encode(params, inputs, key):
        seen.append(inputs.dtype)
        return inputs

    network = build(TREE, Encoder(lambda key, inputs: {}, encode), NetworkConfig((8,), dropout=0.1))
    config = FitConfig(compute_dtype="bfloat16", training=CONFIG.training)
    result = fit(network, EXAMPLES, VALIDATION, config, key=jax.random.key(0))
    assert seen[-1] == jnp.bfloat16
    assert {x.dtype for x in jax.tree.leaves(result.params)} == {jnp.dtype("float32")}
    assert result.train_loss.dtype == result.valid_loss.dtype == np.float32
    full = fit(NETWORK, EXAMPLES, VALIDATION, CONFIG, key=jax.random.key(0))
    np.testing.assert_allclose(result.valid_loss, full.valid_loss, rtol=0.05)
    assert (result.valid_loss != full.valid_loss).any()
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), result.params)
    log_p = network.apply(half, jnp.asarray(EXAMPLES.inputs, jnp.bfloat16))
    assert log_p.dtype == jnp.float32
    with pytest.raises(ValueError, match="compute_dtype: got 'float16'"):
        FitConfig(compute_dtype="float16")


def test_a_logged_training_goes_on_where_it_was(tmp_path):
    log, folder = tmp_path / "runs.jsonl", tmp_path / "checkpoints"

    def training(config=CONFIG, checkpoints=folder, on_progress=None):
        return fit(
            NETWORK,
            EXAMPLES,
            VALIDATION,
            config,
            key=jax.random.key(0),
            log=log,
            checkpoints=checkpoints,
            on_progress=on_progress,
        )

    def stop(step, scores):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training(on_progress=stop)
    assert not log.exists()
    steps = []
    result = training(on_progress=lambda step, scores: steps.append(step))
    assert steps == [100]
    whole = fit(NETWORK, EXAMPLES, VALIDATION, CONFIG, key=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, result.params, whole.params)
    np.testing.assert_array_equal(result.valid_loss, whole.valid_loss)

    (run,), problems = read_runs(log)
    assert problems == ()
    assert run.status == "finished"
    assert run.metrics["validation"]["loss"].values == tuple(result.valid_loss.tolist())
    assert run.seconds == tuple(result.seconds.tolist())
    assert run.num_params == sum(x.size for x in jax.tree.leaves(result.params))
    assert run.optimiser["learning_rate"] == 0.03
    assert run.batch_size == 32

    other = FitConfig(OptimiserConfig(0.01), training=CONFIG.training)
    with pytest.raises(ValueError, match=r"optimiser.learning_rate: saved 0.03, expected 0.01"):
        training(other)
    vocabulary = CheckpointConfig(folder, metadata={"vocabulary": [1, 2]})
    with pytest.raises(ValueError, match=r"metadata.vocabulary.0: saved nothing, expected 1"):
        training(checkpoints=vocabulary)


def test_items_without_weight_do_not_count():
    weights = np.repeat([1.0, 0.0], [160, 40])
    other = EXAMPLES.leaf_probs.copy()
    other[160:] = 1 / 3
    results = [
        fit(
            NETWORK,
            EXAMPLES._replace(leaf_probs=labels, weights=weights),
            VALIDATION,
            CONFIG,
            key=jax.random.key(0),
        )
        for labels in (EXAMPLES.leaf_probs, other)
    ]
    assert_trees_close(results[0].params, results[1].params)


def test_early_stopping_keeps_the_best():
    # Labels of the validation items contradict the training labels: it only gets worse.
    flipped = Examples(VALIDATION.inputs, np.roll(VALIDATION.leaf_probs, 1, axis=1))
    config = FitConfig(training=TrainingConfig(32, 200, 5, 3))
    steps = []
    result = fit(
        NETWORK,
        EXAMPLES,
        flipped,
        config,
        key=jax.random.key(0),
        on_progress=lambda step, scores: steps.append((step, sorted(scores))),
    )
    best = result.valid_loss.argmin()
    assert result.num_steps < 200
    assert result.best_step == 5 * (best + 1)
    assert len(result.valid_loss) == best + 1 + 3
    assert steps[-1] == (result.num_steps, ["train_loss", "valid_loss"])
    log_p = NETWORK.apply(result.params, flipped.inputs)
    loss = soft_label_loss(log_p, node_sum(TREE, flipped.leaf_probs)).mean()
    assert float(loss) == pytest.approx(result.valid_loss[best], rel=1e-4)


def test_a_task_of_weight_zero_is_not_learned():
    config = dataclasses.replace(
        CONFIG,
        loss=LossConfig(task_weights=(1.0, 0.0)),
        optimiser=OptimiserConfig(weight_decay=0.0),
    )
    key = jax.random.key(0)
    result = fit(NETWORK, EXAMPLES, VALIDATION, config, key=key)
    initial = NETWORK.init(jax.random.split(key)[0], EXAMPLES.inputs[:1])
    heads = [params["tower"]["heads_1"]["kernel"] for params in (initial, result.params)]
    np.testing.assert_allclose(heads[0], heads[1], atol=1e-6)


def with_nan():
    inputs = EXAMPLES.inputs.copy()
    inputs[17, 1] = np.nan
    return inputs


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": EXAMPLES.inputs[:-1]}, r"examples: inputs has 199 items, leaf_probs has 200"),
        ({"inputs": with_nan()}, r"item 17 is not finite"),
        ({"leaf_probs": np.ones((200, 2))}, r"leaf_probs of shape \(200, 2\), expected \[n, 3\]"),
        ({"leaf_probs": -EXAMPLES.leaf_probs}, r"leaf_probs at \(0, 0\) is negative"),
        ({"weights": np.ones(3)}, r"weights of shape \(3,\)"),
        ({"weights": np.zeros(200)}, r"no item has a positive weight"),
    ],
)
def test_bad_examples(changes, message):
    with pytest.raises(ValueError, match=message):
        fit(NETWORK, EXAMPLES._replace(**changes), VALIDATION, CONFIG, key=jax.random.key(0))


def test_bad_task_weights():
    config = FitConfig(loss=LossConfig(task_weights=(1.0,)))
    with pytest.raises(ValueError, match="task_weights"):
        fit(NETWORK, EXAMPLES, VALIDATION, config, key=jax.random.key(0))
