"""Parameters by the name of a task, and from one tree to another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.network import (
    Encoder,
    NetworkConfig,
    TaskConfig,
    build,
    task_params,
    transfer_params,
    with_task_params,
)
from metal_jax.task_tree import TaskTree

IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
LINEAR = Encoder(
    lambda key, inputs: {"w": jax.random.normal(key, (inputs.shape[1], 3))},
    lambda params, inputs, key: inputs @ params["w"],
)
INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(6, 5)), jnp.float32)
CONFIG = NetworkConfig((8, 4), tasks={"c": TaskConfig(wide=False, layer=0)})
TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": {"c": ["i", "j", "k"]}, "z": None}})
NETWORK = build(TREE, IDENTITY, CONFIG, task_encoders={"b": LINEAR})
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0), INPUTS)
# Labels of two tasks in another order, two tasks more, one of them beneath a task of old.
FINER = TaskTree.from_dict(
    {
        "a": {"z": {"d": ["m", "n"]}, "x": {"b": ["v", "u"]}, "y": {"c": ["k", "i", "j"]}},
        "e": ["left", "right"],
    }
)


def shapes(params):
    return {name: jnp.shape(x) for name, x in params.items() if name != "encoder"}


def test_a_task_has_arrays_without_padding():
    assert shapes(task_params(NETWORK, PARAMS, "a")) == {
        "kernel": (8, 3),
        "bias": (3,),
        "wide_kernel": (5, 3),
    }
    assert shapes(task_params(NETWORK, PARAMS, "b")) == {
        "kernel": (4, 2),
        "bias": (2,),
        "wide_kernel": (5, 2),
        "parent_kernel": (3, 2),
        "encoder_kernel": (3, 2),
    }
    assert shapes(task_params(NETWORK, PARAMS, "c")) == {
        "kernel": (8, 3),
        "bias": (3,),
        "parent_kernel": (3, 3),
    }
    assert task_params(NETWORK, PARAMS, "b")["encoder"]["w"].shape == (5, 3)


def test_what_is_put_in_comes_out_and_touches_no_other_task():
    for task in ("a", "b", "c"):
        new = jax.tree.map(lambda x: x + 1, task_params(NETWORK, PARAMS, task))
        changed = with_task_params(NETWORK, PARAMS, task, new)
        for other in ("a", "b", "c"):
            wanted = new if other == task else task_params(NETWORK, PARAMS, other)
            found = task_params(NETWORK, changed, other)
            jax.tree.map(np.testing.assert_array_equal, found, wanted)
        assert jax.tree.structure(changed) == jax.tree.structure(PARAMS)


def test_replicas_keep_their_axis():
    replicas = jax.tree.map(lambda x: jnp.stack([x, x + 1]), PARAMS)
    found = task_params(NETWORK, replicas, "b")
    one = task_params(NETWORK, PARAMS, "b")
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[1], y + 1), found, one)
    again = with_task_params(NETWORK, replicas, "b", found)
    jax.tree.map(np.testing.assert_array_equal, again, replicas)


def test_shared_tasks_keep_their_values_in_another_tree():
    finer = build(FINER, IDENTITY, CONFIG, task_encoders={"b": LINEAR})
    fresh = jax.jit(finer.init)(jax.random.key(1), INPUTS)
    moved = transfer_params(finer, fresh, NETWORK, PARAMS)
    old = np.asarray(jax.jit(NETWORK.apply)(PARAMS, INPUTS))
    new = np.asarray(jax.jit(finer.apply)(moved, INPUTS))
    for node, name in enumerate(TREE.node_names):
        found = new[:, FINER.node(*name)]
        np.testing.assert_allclose(found, old[:, node], atol=1e-5, err_msg=str(name))
    for task in ("d", "e"):
        pairs = task_params(finer, moved, task), task_params(finer, fresh, task)
        jax.tree.map(np.testing.assert_array_equal, *pairs)
    only_b = transfer_params(finer, fresh, NETWORK, PARAMS, tasks=["b"])
    pairs = task_params(finer, only_b, "a"), task_params(finer, fresh, "a")
    jax.tree.map(np.testing.assert_array_equal, *pairs)


def without(params, name):
    return {key: value for key, value in params.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {**p, "bias": p["bias"][:1]}, r"task 'b': bias: got shape \(1,\), .* \(2,\)"),
        (lambda p: without(p, "parent_kernel"), r"task 'b': parent_kernel: got nothing"),
        (lambda p: {**p, "more": p["bias"]}, r"task 'b': more: got shape \(2,\), expected nothing"),
        (
            lambda p: {**p, "encoder": {"w": p["encoder"]["w"].T}},
            r"task 'b': encoder.w: got shape \(3, 5\), expected shape \(5, 3\)",
        ),
    ],
)
def test_parameters_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        with_task_params(NETWORK, PARAMS, "b", change(task_params(NETWORK, PARAMS, "b")))


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        ({"a": ["x", "y"]}, CONFIG, r"task 'a': labels: got \['x', 'y', 'z'\], expected"),
        (
            {"a": {"x": None, "y": {"c": ["i", "j", "k"]}, "z": None}},
            NetworkConfig((8, 4)),
            r"task 'c': kernel: got shape \(8, 3\), expected shape \(4, 3\)",
        ),
        (
            {"d": {"x": {"c": ["i", "j", "k"]}, "y": None}},
            CONFIG,
            "task 'c': parent: got 'a', expected 'd'",
        ),
        ({"a": ["x", "y", "z"]}, NetworkConfig((9,)), r"trunk_0: (bias|kernel): got shape \("),
    ],
)
def test_trees_that_do_not_fit(spec, config, message):
    known = {task.name for task in TaskTree.from_dict(spec).tasks}
    tasks = tuple((name, own) for name, own in config.tasks if name in known)
    config = NetworkConfig(config.widths, tasks=tasks)
    other = build(TaskTree.from_dict(spec), IDENTITY, config)
    params = jax.eval_shape(other.init, jax.random.key(0), INPUTS)
    params = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), params)
    with pytest.raises(ValueError, match=message):
        transfer_params(other, params, NETWORK, PARAMS)


def test_unknown_tasks():
    with pytest.raises(ValueError, match="no task 'd'"):
        task_params(NETWORK, PARAMS, "d")
    with pytest.raises(ValueError, match="no task 'd'"):
        transfer_params(NETWORK, PARAMS, NETWORK, PARAMS, tasks=["d"])
