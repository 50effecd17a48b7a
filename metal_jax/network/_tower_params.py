"""Parameters of trunk and heads, drawn by name.

A weight is drawn from the key and the names of its task, its label and, for what a parent passes,
the parent's label: it depends neither on the order of tasks and labels nor on what other tasks
there are.

Padding (labels beyond a task's own, inputs beyond what its head reads) is zero and has gradient
zero, so that it stays zero under every optimiser that leaves zeros alone.

Legend: `f` features, `h` the most that a head of a level reads, `T` tasks of a level, `W` widest of
them, `V` widest of the level above, `c` tasks that read their parent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.network._keys import name_key, name_keys
from metal_jax.network._plan import Plan
from metal_jax.task_tree import TaskTree

_draw = jax.nn.initializers.lecun_normal()


def init_tower(
    tree: TaskTree, plan: Plan, key: jax.Array, num_features: int, own_features: Mapping[str, int]
) -> dict[str, Any]:
    """Parameters of trunk and heads.

    Args:
        tree: the task tree.
        plan: of this tree.
        key: folded, not consumed.
        num_features: f, of the shared encoder.
        own_features: task name -> features of the task's own encoder.

    Returns:
        float32 arrays: `{"trunk_0": {"kernel", "bias"}, ..., "heads_0": {"kernel" [T, h, W],
        "bias" [T, W], "parent_kernel" [c, V, W], "encoder_kernels": {task: [own features,
        labels]}}, ...}`; the last two where there are such tasks.
    """
    params: dict[str, Any] = {}
    size = num_features
    for i, width in enumerate(plan.widths):
        kernel = _draw(name_key(key, f"trunk_{i}"), (size, width), jnp.float32)
        params[f"trunk_{i}"] = {"kernel": kernel, "bias": jnp.zeros(width, jnp.float32)}
        size = width
    read = np.array([plan.widths[head.layer] + head.wide * num_features for head in plan.heads])
    weights = _trunk_weights(tree, key, read)
    parent_weights = _parent_weights(tree, plan, key)
    for depth, level in enumerate(plan.levels):
        nodes, tasks = level.level.nodes, level.level.tasks
        heads: dict[str, Any] = {
            "kernel": _stack(weights, nodes, read[tasks].max()),
            "bias": jnp.zeros(nodes.shape, jnp.float32),
        }
        if len(level.child_rows):
            above = plan.levels[depth - 1].level.nodes.shape[1]
            heads["parent_kernel"] = _stack(parent_weights, nodes[level.child_rows], above)
        if level.encoder_tasks:
            heads["encoder_kernels"] = {
                name: _encoder_kernel(tree, key, name, own_features[name])
                for name in level.encoder_tasks
            }
        params[f"heads_{depth}"] = heads
    return params


def _stack(weights: jax.Array, nodes: np.ndarray, size: int) -> jax.Array:
    """float32[T, size, W] from the weights of each node [N, at least size]."""
    stacked = jnp.where(nodes[..., None] < 0, 0, weights[nodes, :size])
    return jnp.swapaxes(stacked, 1, 2)


def _columns(key: jax.Array, names: Sequence[tuple[str, ...]], size: int) -> jax.Array:
    """float32[n, size], the weights of each name."""
    return jax.vmap(lambda k: _draw(k, (size, 1), jnp.float32)[:, 0])(name_keys(key, names))


def _encoder_kernel(tree: TaskTree, key: jax.Array, task: str, size: int) -> jax.Array:
    labels = tree.tasks[tree.task_index(task)].labels
    return _columns(key, [("encoder_kernel", task, label) for label in labels], size).T


def _trunk_weights(tree: TaskTree, key: jax.Array, sizes: np.ndarray) -> jax.Array:
    """float32[N, h], drawn for as many inputs as `sizes[task]` says, the rest zero."""
    weights = jnp.zeros((tree.num_nodes, sizes.max()), jnp.float32)
    for size in np.unique(sizes).tolist():
        nodes = np.flatnonzero(sizes[tree.node_task] == size)
        names = [("kernel", *tree.node_names[node]) for node in nodes]
        weights = weights.at[nodes, :size].set(_columns(key, names, size))
    return weights


def _parent_weights(tree: TaskTree, plan: Plan, key: jax.Array) -> jax.Array:
    """float32[N, V], for the parent's prediction, where a head reads it."""
    places, names, fan_in = [], [], []
    for node, (task, label) in enumerate(tree.node_names):
        head = plan.heads[tree.node_task[node]]
        if head.pass_parent == "none":
            continue
        above = tree.tasks[head.parent].labels
        places += [(node, i) for i in range(len(above))]
        names += [("parent_kernel", task, label, parent_label) for parent_label in above]
        fan_in += [len(above)] * len(above)
    weights = jnp.zeros((tree.num_nodes, max(map(len, tree.task_nodes))), jnp.float32)
    if not places:
        return weights
    node, i = np.array(places).T
    scale = np.sqrt(np.array(fan_in, np.float32))
    return weights.at[node, i].set(_columns(key, names, 1)[:, 0] / scale)
