"""The compiled network against probabilities by hand and dense heads in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.network import (
    Encoder,
    NetworkConfig,
    build,
    embedding_bag,
    leaf_log_probs,
    node_log_probs,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict(
    {"a": {"x": {"b": ["u", "v", "w"]}, "y": {"c": {"p": {"d": ["i", "j"]}, "q": None}}, "z": None}}
)
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})
IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(7, 5)), jnp.float32)


def random_params(network, seed=0):
    """Parameters that are nowhere zero, biases included."""
    params = jax.eval_shape(network.init, jax.random.key(0), INPUTS)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params)


@pytest.mark.parametrize("tree", [TREE, FOREST, TaskTree.single(4)])
def test_probabilities_follow_the_tree(tree):
    network = build(tree, IDENTITY, NetworkConfig((6,)))
    params = random_params(network)
    node = np.exp(node_log_probs(network, params, INPUTS))
    for task, nodes in enumerate(tree.task_nodes):
        parent = tree.task_parent[task]
        total = 1 if parent < 0 else node[:, parent]
        np.testing.assert_allclose(node[:, list(nodes)].sum(1), total, rtol=1e-5)
    leaf = np.exp(leaf_log_probs(network, params, INPUTS))
    for span in tree.root_leaves:
        np.testing.assert_allclose(leaf[:, span].sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize("pass_parent", ["logits", "none"])
@pytest.mark.parametrize("wide", [True, False])
def test_stacked_heads_equal_a_dense_head_for_each_task(pass_parent, wide):
    network = build(TREE, IDENTITY, NetworkConfig((6, 4), pass_parent=pass_parent, wide=wide))
    params = random_params(network)
    tower = jax.tree.map(np.asarray, params["tower"])
    features = np.asarray(INPUTS)
    hidden, logits, expected = features, {}, np.zeros((7, TREE.num_nodes))
    for depth, level in enumerate(TREE.levels):
        trunk, heads = tower[f"trunk_{depth}"], tower[f"heads_{depth}"]
        hidden = np.maximum(hidden @ trunk["kernel"] + trunk["bias"], 0)
        read = np.hstack([hidden, features]) if wide else hidden
        for row, task in enumerate(level.tasks):
            nodes = list(TREE.task_nodes[task])
            k = len(nodes)
            out = read @ heads["kernel"][row, :, :k] + heads["bias"][row, :k]
            if pass_parent == "logits" and depth:
                above = logits[TREE.node_task[level.parents[row]]]
                out += above @ heads["parent_kernel"][row, : above.shape[1], :k]
            logits[task] = out
            expected[:, nodes] = out - np.log(np.exp(out).sum(1, keepdims=True))
    found = network.apply(params, INPUTS)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_dropout_needs_a_key_and_depends_on_it():
    network = build(TREE, IDENTITY)
    params = random_params(network)
    plain = network.apply(params, INPUTS)
    np.testing.assert_array_equal(plain, network.apply(params, INPUTS))
    keys = jax.random.split(jax.random.key(1))
    noisy = [network.apply(params, INPUTS, key) for key in (*keys, keys[0])]
    np.testing.assert_array_equal(noisy[0], noisy[2])
    assert not np.allclose(noisy[0], noisy[1])
    assert not np.allclose(noisy[0], plain)


def test_jit_equals_eager():
    network = build(FOREST, IDENTITY)
    params = random_params(network)
    for key in (None, jax.random.key(3)):
        eager = network.apply(params, INPUTS, key)
        np.testing.assert_allclose(jax.jit(network.apply)(params, INPUTS, key), eager, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (4, 0)}, "widths"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_bad_configs(settings, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**settings)


def test_equal_arguments_give_the_same_network():
    # jax.jit knows functions by identity: this is what keeps a second fit from compiling again.
    assert build(TREE, embedding_bag(16)) is build(TREE, embedding_bag(16))
    assert build(TREE, embedding_bag(16)) is not build(TREE, embedding_bag(17))
