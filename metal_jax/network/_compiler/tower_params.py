"""Parameters of trunk and heads, drawn by name.

A weight is drawn from the key and the names of its task, its label and, for what a parent passes,
the parent's label: it depends neither on the order of tasks and labels nor on what other tasks
there are.

Padding (labels beyond a task's own, inputs beyond what its head reads) is zero and has gradient
zero, so that it stays zero under every optimiser that leaves zeros alone.

Legend: `N` label nodes, `f` features, `h` the widest trunk layer that heads of a level read, `T`
tasks of the level, `W` widest of them, `V` widest of the level above, `w` tasks that read the
features, `c` tasks that read their parent's prediction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.network._compiler.keys import name_key, name_keys
from metal_jax.network._compiler.plan import Plan
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
        float32 arrays: `{"trunk_0": {"kernel" [f, h], "bias" [h]}, ..., "heads_0": {"kernel"
        [T, h, W], "bias" [T, W], "wide_kernel" [w, f, W], "parent_kernel" [c, V, W],
        "encoder_kernels": {task: [own features, labels]}}, ...}`; the last three where a head reads
        these.
    """
    params: dict[str, Any] = {}
    size = num_features
    for i, width in enumerate(plan.widths):
        kernel = _draw(name_key(key, f"trunk_{i}"), (size, width), jnp.float32)
        params[f"trunk_{i}"] = {"kernel": kernel, "bias": jnp.zeros(width, jnp.float32)}
        size = width
    trunk_sizes = np.array([plan.widths[head.layer] for head in plan.heads])
    wide_sizes = np.array([head.wide * num_features for head in plan.heads])
    trunk, wide = _node_weights(tree, key, trunk_sizes, wide_sizes)
    parent = _parent_weights(tree, plan, key)
    for depth, level in enumerate(plan.levels):
        nodes, tasks = level.level.nodes, level.level.tasks
        heads: dict[str, Any] = {
            "kernel": _stack(trunk, nodes, trunk_sizes[tasks].max()),
            "bias": jnp.zeros(nodes.shape, jnp.float32),
        }
        if level.wide:
            heads["wide_kernel"] = _stack(wide, nodes[level.wide_rows], num_features)
        if level.passed:
            above = plan.levels[depth - 1].level.nodes.shape[1]
            heads["parent_kernel"] = _stack(parent, nodes[level.child_rows], above)
        if level.encoder_tasks:
            heads["encoder_kernels"] = {
                name: _encoder_kernel(tree, key, name, own_features[name])
                for name in level.encoder_tasks
            }
        params[f"heads_{depth}"] = heads
    return params


def _stack(weights: jax.Array, nodes: np.ndarray, size: int) -> jax.Array:
    """float32[heads, size, W] from the weights of each node [N, at least size]."""
    return jnp.swapaxes(jnp.where(nodes[..., None] < 0, 0, weights[nodes, :size]), 1, 2)


def _weights(key: jax.Array, names: Sequence[tuple[str, ...]], size: int) -> jax.Array:
    """float32[n, size], those of each name."""
    return jax.vmap(lambda k: _draw(k, (size, 1), jnp.float32)[:, 0])(name_keys(key, names))


def _encoder_kernel(tree: TaskTree, key: jax.Array, task: str, size: int) -> jax.Array:
    labels = tree.tasks[tree.task_index(task)].labels
    return _weights(key, [("encoder_kernel", task, label) for label in labels], size).T


def _node_weights(
    tree: TaskTree, key: jax.Array, trunk_sizes: np.ndarray, wide_sizes: np.ndarray
) -> tuple[jax.Array, jax.Array]:
    """float32[N, h] and [N, f] for as many inputs as the sizes of a task say, the rest zero."""
    trunk = jnp.zeros((tree.num_nodes, trunk_sizes.max()), jnp.float32)
    wide = jnp.zeros((tree.num_nodes, wide_sizes.max()), jnp.float32)
    for sizes in sorted(set(zip(trunk_sizes.tolist(), wide_sizes.tolist(), strict=True))):
        tasks = (trunk_sizes == sizes[0]) & (wide_sizes == sizes[1])
        nodes = np.flatnonzero(tasks[tree.node_task])
        names = [("kernel", *tree.node_names[node]) for node in nodes]
        drawn = _weights(key, names, sum(sizes))  # together, since they add up to one logit
        trunk = trunk.at[nodes, : sizes[0]].set(drawn[:, : sizes[0]])
        wide = wide.at[nodes, : sizes[1]].set(drawn[:, sizes[0] :])
    return trunk, wide


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
    return weights.at[node, i].set(_weights(key, names, 1)[:, 0] / scale)
