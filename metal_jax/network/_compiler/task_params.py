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
from metal_jax.network._compiler.plan import compile_plan


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
        its own.

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
    level, places = _places(network, task)
    heads = params["tower"][level]
    found: dict[str, Any] = {name: heads[name][place] for name, place in places.items()}
    if task in dict(network.task_encoders):
        found["encoder"] = params["task_encoders"][task]
        found["encoder_kernel"] = heads["encoder_kernels"][task]
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
    """
    _check_like(f"task {task!r}", new, task_params(network, params, task))
    level, places = _places(network, task)
    heads = dict(params["tower"][level])
    changed = {**params, "tower": {**params["tower"], level: heads}}
    for name, place in places.items():
        heads[name] = heads[name].at[place].set(new[name])
    if "encoder" in new:
        heads["encoder_kernels"] = {**heads["encoder_kernels"], task: new["encoder_kernel"]}
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
        ValueError: a task's labels, its parent's, or a width differ (names the task), a task is
            missing, or encoder or trunk differ in shape.

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


def _places(network: Network, task: str) -> tuple[str, dict[str, Any]]:
    """Where a task's parameters are: the name of its level, and an index into each array there."""
    tree = network.tree
    index = tree.task_index(task)
    plan = compile_plan(tree, network.config, tuple(name for name, _ in network.task_encoders))
    head = plan.heads[index]
    level = plan.levels[head.level]
    labels = slice(len(tree.tasks[index].labels))
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
    return f"heads_{head.level}", places


def _reordered(
    params: dict[str, Any], source: Network, target: Network, task: str
) -> dict[str, Any]:
    """A task's parameters with its labels, and its parent's, in the order of the target's tree."""
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
