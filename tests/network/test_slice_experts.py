"""Slice-aware networks against loops over items, and their parameters by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from metal_jax.network import (
    Encoder,
    NetworkConfig,
    build,
    draw,
    leaf_log_probs,
    slice_aware,
    slice_task,
    soft_label_loss,
    task_params,
    transfer_params,
    with_membership,
    with_task_params,
)
from metal_jax.task_tree import TaskTree, node_sum

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}, "e": ["k", "l", "m"]})
IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
NETWORK = build(TREE, IDENTITY, NetworkConfig((4,)))
NUM_ITEMS = 12
INPUTS = np.random.default_rng(0).normal(size=(NUM_ITEMS, 3)).astype(np.float32)

SLICES = ("small", "odd")
SLICED = slice_aware(TREE, IDENTITY, SLICES, NetworkConfig((4,)), expert_width=5)
SLICED_PARAMS = jax.jit(SLICED.init)(jax.random.key(0), INPUTS)


def random_experts(params):
    rng = np.random.default_rng(3)
    experts = jax.tree.map(
        lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params["slices"]
    )
    return {**params, "slices": experts}


def test_a_slice_aware_network_starts_as_the_plain_one():
    main = [SLICED.tree.node(*name) for name in TREE.node_names]
    found = SLICED.apply(SLICED_PARAMS, INPUTS)[:, np.array(main)]
    params = {**SLICED_PARAMS, "encoder": {}}
    np.testing.assert_allclose(found, NETWORK.apply(params, INPUTS), atol=1e-5)
    leaf = np.exp(leaf_log_probs(SLICED, SLICED_PARAMS, INPUTS))
    assert leaf.shape == (NUM_ITEMS, TREE.num_leaves + 4)
    np.testing.assert_allclose(leaf[:, TREE.num_leaves :], 0.5, rtol=1e-5)


def test_slice_experts_by_loops():
    params = random_experts(SLICED_PARAMS)
    experts = jax.tree.map(np.asarray, params["slices"])
    features, gates = INPUTS.copy(), np.zeros((NUM_ITEMS, 2))
    for item in range(NUM_ITEMS):
        for j in range(2):
            z = INPUTS[item]
            gates[item, j] = 1 / (
                1 + np.exp(-(z @ experts["indicator"][:, j] + experts["bias"][j]))
            )
            expert = np.maximum(z @ experts["in"][j], 0) @ experts["out"][j]
            features[item] += gates[item, j] * expert
    found = np.exp(SLICED.apply(params, INPUTS))
    main = np.array([SLICED.tree.node(*name) for name in TREE.node_names])
    plain = NETWORK.apply({**params, "encoder": {}}, features)
    np.testing.assert_allclose(found[:, main], np.exp(plain), atol=1e-4)
    inside = [SLICED.tree.node(slice_task(name), "in") for name in SLICES]
    np.testing.assert_allclose(found[:, inside], gates, atol=1e-5)


def test_an_item_outside_a_slice_does_not_train_its_expert():
    params = random_experts(SLICED_PARAMS)
    # The first slice has no member, as its indicator says; the second has them all.
    params["slices"]["indicator"] = 0 * params["slices"]["indicator"]
    params["slices"]["bias"] = jnp.array([-200.0, 0.0])
    gradient = jax.jit(jax.grad(lambda p: SLICED.apply(p, INPUTS)[:, :2].sum()))(params)["slices"]
    np.testing.assert_array_equal(gradient["out"][0], 0)
    np.testing.assert_array_equal(gradient["in"][0], 0)
    assert np.abs(gradient["out"][1]).max() > 0
    # The labels of the tasks do not move the indicators.
    np.testing.assert_array_equal(gradient["indicator"], 0)


def test_indicators_and_experts_learn():
    """Where the first feature is large the labels are reversed; a linear head cannot say that."""
    rng = np.random.default_rng(4)
    inputs = rng.normal(size=(300, 2)).astype(np.float32)
    inside = inputs[:, :1] > 0.5
    label = (inputs[:, 1] > 0) ^ inside[:, 0]
    network = slice_aware(TaskTree.single(2), IDENTITY, ["reversed"], NetworkConfig((1,)))
    targets = with_membership(np.eye(2)[label.astype(int)], inside)
    node_probs = node_sum(network.tree, jnp.asarray(targets, jnp.float32))
    optimiser = optax.adam(0.05)

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(
                lambda p: soft_label_loss(network.apply(p, inputs), node_probs).mean()
            )(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, (params, optimiser.init(params)), length=300)[0][0]

    params = train(network.init(jax.random.key(0), inputs))
    conditionals = np.asarray(network.apply(params, inputs))
    right = conditionals[:, :2].argmax(1) == label
    assert np.mean(conditionals[:, 2:].argmax(1) == inside[:, 0]) > 0.95
    assert right[inside[:, 0]].mean() > 0.8
    assert right[~inside[:, 0]].mean() > 0.8


def test_bad_slices():
    with pytest.raises(ValueError, match="slices: got"):
        slice_aware(TREE, IDENTITY, ["one", "one"])
    with pytest.raises(ValueError, match="expert_width: got 0"):
        slice_aware(TREE, IDENTITY, ["one"], expert_width=0)
    with pytest.raises(ValueError, match=r"membership: got shape \(3, 1\), expected \[2, S\]"):
        with_membership(np.ones((2, 2)), np.ones((3, 1)))


def test_parameters_of_tasks_and_slices_by_name():
    params = random_experts(SLICED_PARAMS)
    names = [task.name for task in SLICED.tree.tasks]
    for name in names:
        own = task_params(SLICED, params, name)
        changed = with_task_params(SLICED, params, name, jax.tree.map(lambda x: x + 1, own))
        for other in names:
            shift = 1.0 if other == name else 0.0
            for key, value in task_params(SLICED, changed, other).items():
                old = task_params(SLICED, params, other)[key]
                np.testing.assert_allclose(value, old + shift, rtol=1e-6, err_msg=f"{other}.{key}")
    shapes = {key: x.shape for key, x in task_params(SLICED, params, "slice:odd").items()}
    assert shapes == {"indicator": (3,), "bias": (), "in": (3, 5), "out": (5, 3)}


def test_slices_are_transferred_by_name():
    other = slice_aware(TREE, IDENTITY, SLICES[::-1], NetworkConfig((4,)), expert_width=5)
    params = random_experts(SLICED_PARAMS)
    moved = transfer_params(other, other.init(jax.random.key(1), INPUTS), SLICED, params)
    order = [other.tree.node(*name) for name in SLICED.tree.node_names]
    found = np.asarray(other.apply(moved, INPUTS))[:, order]
    np.testing.assert_allclose(found, SLICED.apply(params, INPUTS), atol=1e-5)


def test_slices_are_drawn():
    drawing = draw(SLICED, INPUTS)
    assert drawing.count("slice:small") == drawing.count("slice:odd") == 1
    total = sum(x.size for x in jax.tree.leaves(SLICED_PARAMS))
    assert f"{total}" in drawing.splitlines()[-1].replace(",", "")
    row = next(line for line in drawing.splitlines() if "slice:odd" in line)
    assert row.endswith(" 34")  # 3 + 1 + 3 x 5 + 5 x 3
