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


def random_params(network, seed):
    shapes = jax.eval_shape(network.init, jax.random.key(0), INPUTS)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape), x.dtype), shapes)


PARAMS = random_params(NETWORK, 0)
# Labels of two tasks in another order, two tasks more, one of them beneath a task of old.
FINER = TaskTree.from_dict(
    {
        "a": {"z": {"d": ["m", "n"]}, "x": {"b": ["v", "u"]}, "y": {"c": ["k", "i", "j"]}},
        "e": ["left", "right"],
    }
)


def shapes(task):
    params = jax.eval_shape(lambda p: task_params(NETWORK, p, task), PARAMS)
    return {name: x.shape for name, x in params.items() if name != "encoder"}


def test_a_task_has_arrays_without_padding():
    assert shapes("a") == {"kernel": (8, 3), "bias": (3,), "wide_kernel": (5, 3)}
    assert shapes("b") == {
        "kernel": (4, 2),
        "bias": (2,),
        "wide_kernel": (5, 2),
        "parent_kernel": (3, 2),
        "encoder_kernel": (3, 2),
    }
    assert shapes("c") == {"kernel": (8, 3), "bias": (3,), "parent_kernel": (3, 3)}


@jax.jit
def by_task(params):
    return {task: task_params(NETWORK, params, task) for task in "abc"}


@jax.jit
def put_in(params, new):
    return {task: with_task_params(NETWORK, params, task, new[task]) for task in "abc"}


def plus_one(tree):
    return jax.tree.map(lambda x: np.asarray(x) + 1, tree)


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_put_in_comes_out_and_touches_no_other_task():
    old = by_task(PARAMS)
    for task, changed in put_in(PARAMS, plus_one(old)).items():
        found = by_task(changed)
        assert_equal(found.pop(task), plus_one(old[task]))
        assert_equal(found, {other: old[other] for other in found})


def test_replicas_keep_their_axis():
    replicas = jax.tree.map(lambda x, y: np.stack([x, y]), PARAMS, plus_one(PARAMS))
    found = by_task(replicas)
    assert_equal(jax.tree.map(lambda x: x[1], found), by_task(plus_one(PARAMS)))
    for changed in put_in(replicas, found).values():
        assert_equal(changed, replicas)


def test_shared_tasks_keep_their_values_in_another_tree():
    finer = build(FINER, IDENTITY, CONFIG, task_encoders={"b": LINEAR})
    fresh = random_params(finer, 1)

    @jax.jit
    def transfer(fresh, old):
        moved = transfer_params(finer, fresh, NETWORK, old)
        only_b = transfer_params(finer, fresh, NETWORK, old, tasks=["b"])
        filled = zip((moved, moved, only_b), "dea", strict=True)
        return moved, [task_params(finer, params, task) for params, task in filled]

    moved, kept = transfer(fresh, PARAMS)
    assert_equal(kept, jax.jit(lambda p: [task_params(finer, p, task) for task in "dea"])(fresh))
    old = np.asarray(jax.jit(NETWORK.apply)(PARAMS, INPUTS))
    new = np.asarray(jax.jit(finer.apply)(moved, INPUTS))
    for node, name in enumerate(TREE.node_names):
        found = new[:, FINER.node(*name)]
        np.testing.assert_allclose(found, old[:, node], atol=1e-5, err_msg=str(name))


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
        with_task_params(NETWORK, PARAMS, "b", change(by_task(PARAMS)["b"]))


@pytest.mark.parametrize(
    ("spec", "config", "message"),
    [
        ({"a": ["x", "y"]}, CONFIG, r"task 'a': labels: got \['x', 'y', 'z'\], expected"),
        (
            {"a": {"x": None, "y": {"c": ["i", "j", "k"]}, "z": None}},
            NetworkConfig((8, 4)),
            "task 'c': its head reads trunk layer 0 in the source, 1 here",
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
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda new, old: transfer_params(other, new, NETWORK, old), params, PARAMS)


def test_unknown_tasks():
    with pytest.raises(ValueError, match="no task 'd'"):
        task_params(NETWORK, PARAMS, "d")
    with pytest.raises(ValueError, match="no task 'd'"):
        transfer_params(NETWORK, PARAMS, NETWORK, PARAMS, tasks=["d"])
