"""The compiled network against probabilities by hand and a loop over tasks in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from metal_jax._core.sharding import data_mesh
from metal_jax.network import (
    Encoder,
    NetworkConfig,
    TaskConfig,
    build,
    embedding_bag,
    leaf_log_probs,
    node_log_probs,
    soft_label_loss,
    task_params,
)
from metal_jax.task_tree import TaskTree, node_sum

TREE = TaskTree.from_dict(
    {
        "a": {
            "x": {"b": ["u", "v", "w"]},
            "y": {"c": {"p": {"d": ["i", "j"]}, "q": {"e": ["k", "l", "m"]}}},
            "z": None,
        }
    }
)
# The same tasks, siblings and labels in another order.
REORDERED = TaskTree.from_dict(
    {
        "a": {
            "z": None,
            "y": {"c": {"q": {"e": ["m", "k", "l"]}, "p": {"d": ["i", "j"]}}},
            "x": {"b": ["v", "w", "u"]},
        }
    }
)
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(8, 5)), jnp.float32)


def columns(first, last):
    """An encoder without parameters that reads some of the inputs."""
    return Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs[:, first:last])


def linear(width):
    """An encoder with parameters."""
    return Encoder(
        lambda key, inputs: {"w": jax.random.normal(key, (inputs.shape[1], width))},
        lambda params, inputs, key: jnp.tanh(inputs @ params["w"]),
    )


IDENTITY = columns(0, 5)
OWN = {"e": columns(1, 3), "b": linear(4), "d": columns(0, 1)}
EVERYTHING = NetworkConfig(
    (6, 4),
    num_layers=4,
    dropout=0.0,
    tasks={
        "d": TaskConfig(layer=0, wide=False, pass_parent="logits"),
        "b": TaskConfig(layer=3, dropout=0.3),
        "c": TaskConfig(pass_parent="none"),
    },
)
NETWORK = build(TREE, IDENTITY, EVERYTHING, task_encoders=OWN)


def random_params(network, seed=0):
    """Parameters that are nowhere zero, biases and padding included."""
    params = jax.eval_shape(network.init, jax.random.key(0), INPUTS)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), params)


def expected_layer(network, task):
    """The trunk layer that a task hangs on, by the documented rule."""
    tree, config = network.tree, network.config
    own = config.task(tree.tasks[task].name).layer
    if own is not None:
        return own
    num_layers = config.num_layers or tree.depth
    depth = tree.node_depth[tree.task_nodes[task][0]]
    if config.attach == "top":
        return num_layers - 1
    if num_layers >= tree.depth:
        return depth + num_layers - tree.depth
    return min(depth, num_layers - 1)


def expected(network, params):
    """`log P(label | parent label)` of `INPUTS`, float64, a head at a time."""
    tree, config = network.tree, network.config
    features = np.asarray(INPUTS, np.float64)
    hidden, layers = features, []
    for i in range(config.num_layers or tree.depth):
        layer = params["tower"][f"trunk_{i}"]
        hidden = np.maximum(hidden @ np.asarray(layer["kernel"]) + layer["bias"], 0)
        layers.append(hidden)
    logits, found = {}, np.zeros((len(features), tree.num_nodes))
    for index, task in enumerate(tree.tasks):
        own, head = config.task(task.name), task_params(network, params, task.name)
        wide = config.wide if own.wide is None else own.wide
        read = layers[expected_layer(network, index)]
        out = read @ np.asarray(head["kernel"]) + head["bias"]
        if wide:
            out = out + features @ np.asarray(head["wide_kernel"])
        if "encoder" in head:
            more = dict(network.task_encoders)[task.name].apply(head["encoder"], INPUTS, None)
            out = out + np.asarray(more) @ np.asarray(head["encoder_kernel"])
        passes = own.pass_parent or config.pass_parent
        if task.parent and passes != "none":
            above = logits[task.parent[0]]
            if passes == "probabilities":
                above = np.exp(above) / np.exp(above).sum(1, keepdims=True)
            out = out + above @ np.asarray(head["parent_kernel"])
        logits[task.name] = out
        nodes = list(tree.task_nodes[index])
        found[:, nodes] = out - np.log(np.exp(out).sum(1, keepdims=True))
    return found


CASES = {
    "default": (NetworkConfig((6,)), {}),
    "apart": (NetworkConfig((6, 4), wide=False, pass_parent="none"), {}),
    "top": (NetworkConfig((6, 4), attach="top", pass_parent="logits"), OWN),
    "more layers": (NetworkConfig((6,), num_layers=5), {}),
    "fewer layers": (NetworkConfig((6,), num_layers=2, wide=False), OWN),
    "everything": (EVERYTHING, OWN),
}


@pytest.mark.parametrize(("config", "own"), CASES.values(), ids=CASES)
def test_stacked_heads_equal_a_dense_head_for_each_task(config, own):
    network = build(TREE, IDENTITY, config, task_encoders=own)
    params = random_params(network)
    found = jax.jit(network.apply)(params, INPUTS)
    np.testing.assert_allclose(found, expected(network, params), atol=3e-4)


def test_a_tree_of_one_task_is_a_softmax_classifier():
    network = build(TaskTree.single(4), IDENTITY, NetworkConfig((6,)))
    params = random_params(network)
    tower = params["tower"]
    hidden = jax.nn.relu(INPUTS @ tower["trunk_0"]["kernel"] + tower["trunk_0"]["bias"])
    head = tower["heads_0"]
    logits = hidden @ head["kernel"][0] + INPUTS @ head["wide_kernel"][0] + head["bias"][0]
    found = leaf_log_probs(network, params, INPUTS)
    np.testing.assert_allclose(found, jax.nn.log_softmax(logits), atol=1e-5)


FOREST_NETWORK = build(FOREST, IDENTITY, NetworkConfig((6,)))


@functools.cache
def probabilities(network):
    return jax.jit(lambda params, inputs: jnp.exp(node_log_probs(network, params, inputs)))


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([NETWORK, FOREST_NETWORK]),
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=5, max_size=5),
    st.integers(0, 3),
)
def test_marginals_follow_the_tree_for_every_input(network, values, seed):
    tree = network.tree
    params = random_params(network, seed)
    node = probabilities(network)(params, jnp.asarray([values], jnp.float32))
    for task, nodes in enumerate(tree.task_nodes):
        parent = tree.task_parent[task]
        total = 1 if parent < 0 else node[:, parent]
        np.testing.assert_allclose(node[:, list(nodes)].sum(1), total, atol=1e-6)
    leaf = node[:, tree.leaf_nodes]
    for span in tree.root_leaves:
        np.testing.assert_allclose(leaf[:, span].sum(1), 1, atol=1e-6)


def test_leaf_probabilities_are_those_of_their_nodes():
    params = random_params(FOREST_NETWORK)
    node = node_log_probs(FOREST_NETWORK, params, INPUTS)
    leaf = leaf_log_probs(FOREST_NETWORK, params, INPUTS)
    np.testing.assert_array_equal(leaf, node[:, FOREST.leaf_nodes])


def by_name(network, params, key=None):
    """`log P(label | parent label)` of `INPUTS` by (task, label)."""
    found = np.asarray(jax.jit(network.apply)(params, INPUTS, key))
    return dict(zip(network.tree.node_names, found.T, strict=True))


def assert_same(one, other, atol=1e-5):
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], atol=atol, err_msg=str(name))


def test_the_order_of_tasks_and_labels_changes_nothing():
    found = []
    for tree in (TREE, REORDERED):
        network = build(tree, IDENTITY, EVERYTHING, task_encoders=OWN)
        params = jax.jit(network.init)(jax.random.key(5), INPUTS)
        found.append([by_name(network, params, key) for key in (None, jax.random.key(1))])
    assert_same(found[0][0], found[1][0])
    assert_same(found[0][1], found[1][1])  # dropout included


def test_the_order_of_roots_changes_nothing():
    found = []
    for roots in (["a", "b"], ["b", "a"]):
        spec = {"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}}
        network = build(TaskTree.from_dict({name: spec[name] for name in roots}), IDENTITY)
        params = jax.jit(network.init)(jax.random.key(5), INPUTS)
        found.append(by_name(network, params))
    assert_same(*found)


def test_initial_values_of_a_task_do_not_depend_on_the_others():
    small = TaskTree.from_dict({"a": {"x": {"b": ["u", "v", "w"]}, "y": None, "z": None}})
    heads = []
    for tree in (TREE, small):
        network = build(tree, IDENTITY, NetworkConfig((6,)))
        params = jax.jit(network.init)(jax.random.key(5), INPUTS)
        heads.append(task_params(network, params, "b"))
    # Drawn in arrays of other shapes, whose programs may round otherwise.
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6), *heads)


def train(network, params, num_steps=3):
    """Some steps of AdamW on labels that are given by name."""
    tree = network.tree
    rng = np.random.default_rng(3)
    weights = {name: rng.random(8) for name in sorted("/".join(path) for path in paths(tree))}
    leaf = np.stack([weights["/".join(path)] for path in paths(tree)], axis=1)
    node_probs = node_sum(tree, jnp.asarray(leaf / leaf.sum(1, keepdims=True), jnp.float32))
    optimiser = optax.adamw(1e-2, weight_decay=0.5)

    @jax.jit
    def step(params, state, key):
        def loss(params):
            return soft_label_loss(network.apply(params, INPUTS, key), node_probs).mean()

        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for i in range(num_steps):
        params, state = step(params, state, jax.random.key(i))
    return params


def paths(tree):
    return [[label for _, label in path] for path in tree.leaf_paths]


def test_training_keeps_padding_at_zero_and_does_not_depend_on_the_order():
    found = []
    for tree in (TREE, REORDERED):
        network = build(tree, IDENTITY, EVERYTHING, task_encoders=OWN)
        params = train(network, jax.jit(network.init)(jax.random.key(5), INPUTS))
        found.append(by_name(network, params))
        inside = sum(
            np.count_nonzero(x)
            for task in tree.tasks
            for name, x in task_params(network, params, task.name).items()
            if name not in ("encoder", "encoder_kernel")
        )
        stacked = [params["tower"][f"heads_{depth}"] for depth in range(tree.depth)]
        names = ("kernel", "bias", "wide_kernel", "parent_kernel")
        everything = sum(np.count_nonzero(x[name]) for x in stacked for name in names if name in x)
        assert inside == everything
    assert_same(*found, atol=1e-4)


@pytest.mark.parametrize("stop", [True, False])
def test_the_gradient_through_what_a_parent_passes(stop):
    tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
    config = NetworkConfig((6,), dropout=0.0, stop_parent_gradient=stop)
    network = build(tree, IDENTITY, config)

    @jax.jit
    @jax.grad
    def gradient(params):
        return network.apply(params, INPUTS)[:, tree.node("b", "u")].sum()

    parent = gradient(random_params(network))["tower"]["heads_0"]["kernel"]
    assert np.any(np.asarray(parent)) != stop


def test_dropout_needs_a_key_and_depends_on_it():
    network = build(TREE, IDENTITY)
    params = random_params(network)
    apply = jax.jit(network.apply)
    plain = apply(params, INPUTS)
    np.testing.assert_array_equal(plain, apply(params, INPUTS))
    keys = jax.random.split(jax.random.key(1))
    noisy = [apply(params, INPUTS, key) for key in (*keys, keys[0])]
    np.testing.assert_array_equal(noisy[0], noisy[2])
    assert not np.allclose(noisy[0], noisy[1])
    assert not np.allclose(noisy[0], plain)


def test_dropout_of_one_head_leaves_the_others_alone():
    config = NetworkConfig((6,), dropout=0.0, tasks={"b": TaskConfig(dropout=0.5)})
    network = build(TREE, IDENTITY, config)
    params = random_params(network)
    plain, noisy = (by_name(network, params, key) for key in (None, jax.random.key(0)))
    changed = {name for name in plain if not np.allclose(plain[name], noisy[name], atol=1e-5)}
    assert changed == {("b", "u"), ("b", "v"), ("b", "w")}


def test_an_own_encoder_reaches_its_own_head_only():
    network = build(TREE, columns(0, 4), task_encoders={"e": columns(4, 5)})
    params = random_params(network)
    other = INPUTS.at[:, 4].add(1)
    apply = jax.jit(network.apply)
    difference = np.abs(apply(params, INPUTS) - apply(params, other)).max(0)
    changed = {TREE.node_names[node][0] for node in np.flatnonzero(difference > 1e-5)}
    assert changed == {"e"}


def test_jit_equals_eager():
    params = random_params(NETWORK)
    key = jax.random.key(3)
    eager = NETWORK.apply(params, INPUTS, key)
    np.testing.assert_allclose(jax.jit(NETWORK.apply)(params, INPUTS, key), eager, atol=1e-5)


def test_replicas_by_vmap_equal_single_networks():
    replicas = [random_params(NETWORK, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *replicas)
    found = jax.jit(jax.vmap(NETWORK.apply, (0, None)))(stacked, INPUTS)
    for params, one in zip(replicas, found, strict=True):
        np.testing.assert_allclose(jax.jit(NETWORK.apply)(params, INPUTS), one, atol=2e-5)


def test_items_sharded_over_devices_equal_one_device():
    mesh = data_mesh(4)
    params = random_params(NETWORK)
    spread = jax.device_put(INPUTS, NamedSharding(mesh, PartitionSpec(mesh.axis_names[0])))
    apply = jax.jit(NETWORK.apply)
    np.testing.assert_allclose(apply(params, spread), apply(params, INPUTS), atol=1e-5)


@pytest.mark.usefixtures("x64")
def test_gradients():
    inputs = INPUTS.astype(jnp.float64)
    params = jax.tree.map(lambda x: np.asarray(x, np.float64), random_params(NETWORK))
    leaves, structure = jax.tree.flatten(params)
    stops = np.cumsum([leaf.size for leaf in leaves])
    weights = jnp.asarray(np.random.default_rng(1).random(TREE.num_nodes))

    @jax.jit
    def total(values):  # of one array, since `check_grads` works leaf by leaf
        parts = zip(jnp.split(values, stops[:-1]), leaves, strict=True)
        params = jax.tree.unflatten(structure, [x.reshape(leaf.shape) for x, leaf in parts])
        return jnp.sum(NETWORK.apply(params, inputs) @ weights)

    values = jnp.asarray(np.concatenate([leaf.ravel() for leaf in leaves]))
    check_grads(total, (values,), order=1, modes=["fwd", "rev"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (4, 0)}, "widths"),
        ({"num_layers": 0}, "num_layers: got 0, expected at least 1"),
        ({"dropout": 1.0}, "dropout"),
        ({"attach": "bottom"}, "attach: got 'bottom', expected one of"),
        ({"pass_parent": True}, "pass_parent: got True, expected one of"),
    ],
)
def test_bad_configs(settings, message):
    with pytest.raises(ValueError, match=message):
        NetworkConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layer": -1}, "layer: got -1"),
        ({"dropout": -0.1}, "dropout"),
        ({"pass_parent": "all"}, "pass_parent: got 'all'"),
    ],
)
def test_bad_task_configs(settings, message):
    with pytest.raises(ValueError, match=message):
        TaskConfig(**settings)


def test_settings_that_the_tree_does_not_have():
    with pytest.raises(ValueError, match="tasks: got 'f', expected one of the tasks"):
        build(TREE, IDENTITY, NetworkConfig(tasks={"f": TaskConfig(layer=0)}))
    with pytest.raises(ValueError, match=r"task 'd': got layer 3, expected .* layers 0\.\.2"):
        build(TREE, IDENTITY, NetworkConfig(tasks={"d": TaskConfig(layer=3)}))
    with pytest.raises(ValueError, match="task_encoders: got 'f', expected one of the tasks"):
        build(TREE, IDENTITY, task_encoders={"f": IDENTITY})


def test_encoders_give_a_vector_for_each_item():
    flat = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs[:, 0])
    with pytest.raises(ValueError, match=r"encoder: features: got shape \(8,\), expected 2 axes"):
        build(TREE, flat).init(jax.random.key(0), INPUTS)
    with pytest.raises(ValueError, match=r"task_encoders: 'b': features: got shape \(8,\)"):
        build(TREE, IDENTITY, task_encoders={"b": flat}).init(jax.random.key(0), INPUTS)


def test_equal_arguments_give_the_same_network():
    # jax.jit knows functions by identity: this is what keeps a second fit from compiling again.
    assert build(TREE, embedding_bag(16)) is build(TREE, embedding_bag(16))
    assert build(TREE, embedding_bag(16)) is not build(TREE, embedding_bag(17))
    config = NetworkConfig(tasks={"b": TaskConfig(layer=0), "a": TaskConfig(wide=False)})
    again = NetworkConfig(tasks={"a": TaskConfig(wide=False), "b": TaskConfig(layer=0)})
    own = {"b": embedding_bag(8), "a": embedding_bag(9)}
    one = build(TREE, IDENTITY, config, task_encoders=own)
    assert one is build(TREE, IDENTITY, again, task_encoders=dict(reversed(own.items())))
