"""Parameters of a network by the name of a task.

Inside, the heads of a level are stacked and padded; here each task has its own arrays, without
padding. Arrays may have leading axes, for example of replicas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.network._compiler.build import Network
from metal_jax.network._compiler.plan import Head, Plan, compile_plan
from metal_jax.network._compiler.slice_experts import slice_task, tower_tree


def task_params(network: Network, params: Any, task: str) -> dict[str, Any]:
    """The parameters of one task.

    Args:
        network: from `build`.
        params: its parameters.
        task: the task's name.

    Returns:
        "kernel" float[..., h, k] from the trunk layer's units to the task's k labels, in their
        order, and "bias" float[..., k]; "wide_kernel" float[..., f, k] from the encoder's features
        and "parent_kernel" float[..., v, k] from the parent's v labels, where the head reads these;
        "encoder" and "encoder_kernel" float[..., own features, k], where the task has an encoder of
        its own. Of the task of a slice: "indicator" float[..., f], "bias" float[...], and its
        expert's "in" float[..., f, h] and "out" float[..., h, f].

    Raises:
        ValueError: no such task.

    Example:
        >>> from metal_jax.network import Encoder, build
        >>> from metal_jax.task_tree import TaskTree
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v", "w"]}, "y": None}})
        >>> identity = Encoder(lambda key, x: {}, lambda params, x, key: x)
        >>> net = build(tree, identity)
        >>> params = net.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> {name: x.shape for name, x in task_params(net, params, "b").items()}
        {'kernel': (64, 3), 'bias': (3,), 'wide_kernel': (4, 3), 'parent_kernel': (2, 3)}
    """
    path, places = _places(network, task)
    stacked = _at(params, path)
    found: dict[str, Any] = {name: stacked[name][place] for name, place in places.items()}
    if task in dict(network.task_encoders):
        found["encoder"] = params["task_encoders"][task]
        found["encoder_kernel"] = stacked["encoder_kernels"][task]
    return found


def with_task_params(network: Network, params: Any, task: str, new: dict[str, Any]) -> Any:
    """Parameters with those of one task replaced.

    Args:
        network: from `build`.
        params: its parameters; not changed.
        task: the task's name.
        new: as `task_params` gives them.

    Returns:
        The new parameters.

    Raises:
        ValueError: no such task, or arrays of other names or shapes than the task has; names both.

    Example:
        >>> from metal_jax.network import build, mlp
        >>> from metal_jax.task_tree import TaskTree
        >>> net = build(TaskTree.from_dict({"pet": ["cat", "dog"]}), mlp((2,)))
        >>> params = net.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> new = jax.tree.map(jnp.zeros_like, task_params(net, params, "pet"))
        >>> changed = with_task_params(net, params, "pet", new)
        >>> task_params(net, changed, "pet")["bias"].tolist()
        [0.0, 0.0]
    """
    _check_like(f"task {task!r}", new, task_params(network, params, task))
    path, places = _places(network, task)
    stacked = dict(_at(params, path))
    for name, place in places.items():
        stacked[name] = stacked[name].at[place].set(new[name])
    if "encoder" in new:
        stacked["encoder_kernels"] = {**stacked["encoder_kernels"], task: new["encoder_kernel"]}
    changed = _with(params, path, stacked)
    if "encoder" in new:
        changed["task_encoders"] = {**params["task_encoders"], task: new["encoder"]}
    return changed


def transfer_params(
    network: Network,
    params: Any,
    source: Network,
    source_params: Any,
    *,
    tasks: Sequence[str] | None = None,
) -> Any:
    """Parameters with everything that a network of another tree has learnt of the same names.

    The shared encoder, the trunk layers that both have, and the heads of the tasks that both trees
    have, label by label, whatever the order of tasks and labels. The rest stays as it is.

    Args:
        network: the network to fill.
        params: its parameters, for example from `network.init`; not changed.
        source: the other network.
        source_params: its parameters.
        tasks: names of the tasks to take over; by default all that both trees have.

    Returns:
        The new parameters.

    Raises:
        ValueError: a task's labels, its parent's, a width or the trunk layer that its head reads
            differ (names the task), a task is missing, or encoder or trunk differ in shape.

    Example:
        >>> from metal_jax.network import Encoder, build
        >>> from metal_jax.task_tree import TaskTree
        >>> identity = Encoder(lambda key, x: {}, lambda params, x, key: x)
        >>> coarse = build(TaskTree.from_dict({"a": ["x", "y"]}), identity)
        >>> fine = build(TaskTree.from_dict({"a": {"y": None, "x": {"b": ["u", "v"]}}}), identity)
        >>> old = coarse.init(jax.random.key(0), jnp.ones((1, 4)))
        >>> new = fine.init(jax.random.key(1), jnp.ones((1, 4)))
        >>> new = transfer_params(fine, new, coarse, old)
        >>> y_then_x = task_params(fine, new, "a")["kernel"]
        >>> bool((y_then_x[:, 0] == task_params(coarse, old, "a")["kernel"][:, 1]).all())
        True
    """
    _check_like("encoder", source_params["encoder"], params["encoder"])
    tower = dict(params["tower"])
    for name in sorted(tower.keys() & source_params["tower"].keys()):
        if name.startswith("trunk"):
            _check_like(name, source_params["tower"][name], tower[name])
            tower[name] = source_params["tower"][name]
    changed = {**params, "encoder": source_params["encoder"], "tower": tower}
    if tasks is None:
        known = {task.name for task in source.tree.tasks}
        tasks = [task.name for task in network.tree.tasks if task.name in known]
    for name in tasks:
        new = task_params(source, source_params, name)
        changed = with_task_params(network, changed, name, _reordered(new, source, network, name))
    return changed


def network_plan(network: Network) -> Plan:
    """Where the heads of a network hang and what they read."""
    own = tuple(name for name, _ in network.task_encoders)
    return compile_plan(tower_tree(network), network.config, own)


def _head(network: Network, task: str) -> Head:
    return network_plan(network).heads[tower_tree(network).task_index(task)]


def _is_slice(network: Network, task: str) -> bool:
    return task in [slice_task(name) for name in network.slices]


def _places(network: Network, task: str) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Where a task's parameters are: the path to its level, and an index into each array there."""
    if _is_slice(network, task):
        at = [slice_task(name) for name in network.slices].index(task)
        everything = slice(None)
        expert = (..., at, everything, everything)
        places = {
            "indicator": (..., everything, at),
            "bias": (..., at),
            "in": expert,
            "out": expert,
        }
        return ("slices",), places
    tree, plan = tower_tree(network), network_plan(network)
    head = _head(network, task)
    level = plan.levels[head.level]
    labels = slice(len(tree.tasks[tree.task_index(task)].labels))
    places: dict[str, Any] = {
        "kernel": (..., head.row, slice(plan.widths[head.layer]), labels),
        "bias": (..., head.row, labels),
    }
    if head.wide:
        row = int(np.searchsorted(level.wide_rows, head.row))
        places["wide_kernel"] = (..., row, slice(None), labels)
    if head.pass_parent != "none":
        row = int(np.searchsorted(level.child_rows, head.row))
        above = slice(len(tree.tasks[head.parent].labels))
        places["parent_kernel"] = (..., row, above, labels)
    return ("tower", f"heads_{head.level}"), places


def _at(params: Any, path: Sequence[str]) -> Any:
    for name in path:
        params = params[name]
    return params


def _with(params: Any, path: Sequence[str], new: Any) -> Any:
    """A copy of nested dicts with another one at a path."""
    if not path:
        return new
    return {**params, path[0]: _with(params[path[0]], path[1:], new)}


def _reordered(
    params: dict[str, Any], source: Network, target: Network, task: str
) -> dict[str, Any]:
    """A task's parameters with its labels, and its parent's, in the order of the target's tree."""
    of_slice = [_is_slice(net, task) for net in (source, target)]
    if all(of_slice):
        return params  # the arrays of a slice have no axis of labels
    if any(of_slice):
        raise ValueError(f"task {task!r}: got a slice's in one network, expected it in both")
    layers = [_head(net, task).layer for net in (source, target)]
    if layers[0] != layers[1]:
        raise ValueError(
            f"task {task!r}: its head reads trunk layer {layers[0]} in the source, {layers[1]} "
            "here; expected the same (see `NetworkConfig.num_layers`, `TaskConfig.layer`)"
        )
    old, new = (net.tree.tasks[net.tree.task_index(task)] for net in (source, target))
    order = _order(f"task {task!r}: labels", old.labels, new.labels)
    moved = {name: x if name == "encoder" else x[..., order] for name, x in params.items()}
    if "parent_kernel" in params and old.parent and new.parent:
        if old.parent[0] != new.parent[0]:
            raise ValueError(
                f"task {task!r}: parent: got {old.parent[0]!r}, expected {new.parent[0]!r}"
            )
        above = (net.tree.tasks[net.tree.task_index(old.parent[0])] for net in (source, target))
        order = _order(f"task {task!r}: labels of its parent", *(parent.labels for parent in above))
        moved["parent_kernel"] = moved["parent_kernel"][..., order, :]
    return moved


def _order(field: str, source: Sequence[str], target: Sequence[str]) -> list[int]:
    """Where each label of the target stands in the source."""
    if set(source) != set(target):
        raise ValueError(f"{field}: got {list(source)}, expected {list(target)}")
    return [source.index(label) for label in target]


def _check_like(owner: str, given: Any, wanted: Any) -> None:
    """Raise unless two pytrees have arrays of the same names and shapes."""
    found, expected = (
        {
            jax.tree_util.keystr(path, simple=True, separator="."): jnp.shape(x)
            for path, x in jax.tree.leaves_with_path(tree)
        }
        for tree in (given, wanted)
    )
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise ValueError(
                f"{owner}: {name}: got {_shape(found, name)}, expected {_shape(expected, name)}"
            )


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"shape {shapes[name]}" if name in shapes else "nothing"
