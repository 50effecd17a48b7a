"""Drawings of compiled networks as text."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax

from metal_jax.network._compiler.build import Network
from metal_jax.network._compiler.plan import Plan
from metal_jax.network._compiler.slice_experts import slice_task, tower_tree
from metal_jax.network._compiler.task_params import network_plan, task_params


class _Row(NamedTuple):
    part: str
    labels: str = ""
    reads: str = ""
    kernel: str = ""
    parameters: int | None = None


def draw(network: Network, inputs: Any) -> str:
    """A drawing of a network: the trunk from the encoder up, and which heads hang where.

    Args:
        network: from `build`.
        inputs: a batch of items, or `jax.ShapeDtypeStruct`s of one; only shapes are looked at.

    Returns:
        A line for each encoder, slice's expert, trunk layer and head, with what it reads (widths in
        brackets), the shape of its kernel and its number of parameters; what pads the stacked
        heads; the total.

    Example:
        >>> from metal_jax.network import NetworkConfig, build, embedding_bag, hashed_ngrams
        >>> from metal_jax.task_tree import TaskTree
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v", "w"]}, "y": None}})
        >>> net = build(tree, embedding_bag(1000), NetworkConfig((32,), wide=False))
        >>> print(draw(net, hashed_ngrams(["some words"], num_features=1000)))
        2 tasks on 2 levels, 5 label nodes, 4 leaf states
        <BLANKLINE>
                       labels  reads                               kernel    parameters
        encoder                inputs                                            64,000
        └─ trunk 0             encoder (64)                        64 x 32        2,080
           ├─ a             2  trunk 0 (32)                        32 x 2            66
           └─ trunk 1          trunk 0 (32)                        32 x 32        1,056
              └─ b          3  trunk 1 (32), a probabilities (2)   34 x 3           105
        total                                                                    67,307
    """
    tree = network.tree
    shapes = jax.eval_shape(network.init, jax.random.key(0), inputs)
    plan = network_plan(network)
    num_features = shapes["tower"]["trunk_0"]["kernel"].shape[0]
    rows = [_Row("encoder", reads="inputs", parameters=_count(shapes["encoder"]))]
    reads, indent = f"encoder ({num_features})", ""
    for name in network.slices:
        task = slice_task(name)
        params = jax.eval_shape(lambda p, task=task: task_params(network, p, task), shapes)
        kernel = "{} x {}, {} x {}".format(*params["in"].shape, *params["out"].shape)
        rows.append(_Row(f"├─ {task}", str(2), reads, kernel, _count(params)))
    if network.slices:
        reads += " and slices"
    for i, width in enumerate(plan.widths):
        layer = shapes["tower"][f"trunk_{i}"]
        kernel = "{} x {}".format(*layer["kernel"].shape)
        if all(head.layer < i for head in plan.heads):
            reads += ", feeds no head"
        rows.append(_Row(f"{indent}└─ trunk {i}", "", reads, kernel, _count(layer)))
        reads, indent = f"trunk {i} ({width})", indent + "   "
        tasks = [task for task, head in enumerate(plan.heads) if head.layer == i]
        for task in tasks:
            last = task == tasks[-1] and i == len(plan.widths) - 1
            rows += _head_rows(network, plan, task, shapes, indent, last)
    total = _count(shapes)
    if padding := total - sum(row.parameters or 0 for row in rows):
        rows.append(_Row("padding", parameters=padding))
    rows.append(_Row("total", parameters=total))
    return (
        f"{_plural(tree.num_tasks, 'task')} on {_plural(tree.depth, 'level')}, "
        f"{tree.num_nodes} label nodes, {tree.num_leaves} leaf states\n\n{_table(rows)}"
    )


def _head_rows(
    network: Network, plan: Plan, task: int, shapes: Any, indent: str, last: bool
) -> list[_Row]:
    """The line of a head, and that of its own encoder."""
    tree, head = tower_tree(network), plan.heads[task]
    name, labels = tree.tasks[task].name, len(tree.tasks[task].labels)
    params = jax.eval_shape(lambda p: task_params(network, p, name), shapes)
    encoder = params.pop("encoder", None)
    sizes = {f"trunk {head.layer}": plan.widths[head.layer]}
    if head.wide:
        sizes["encoder"] = params["wide_kernel"].shape[0]
    if encoder is not None:
        sizes["own encoder"] = params["encoder_kernel"].shape[0]
    dropout = f", dropout {head.dropout}" if head.dropout else ""
    reads = ", ".join(f"{source} ({size})" for source, size in sizes.items()) + dropout
    size = sum(sizes.values())
    if head.pass_parent != "none":
        above = params["parent_kernel"].shape[0]
        reads += f", {tree.tasks[head.parent].name} {head.pass_parent} ({above})"
        size += above
    branch, below = ("└─ ", "   ") if last else ("├─ ", "│  ")
    rows = [_Row(indent + branch + name, str(labels), reads, f"{size} x {labels}", _count(params))]
    if encoder is not None:
        own = f"{indent}{below}└─ own encoder"
        rows.append(_Row(own, reads="inputs", parameters=_count(encoder)))
    return rows


def _count(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _table(rows: list[_Row]) -> str:
    """The rows in columns, numbers to the right."""
    numbers = ["" if row.parameters is None else f"{row.parameters:,}" for row in rows]
    cells = [("", "labels", "reads", "kernel", "parameters")]
    cells += [(*row[:4], number) for row, number in zip(rows, numbers, strict=True)]
    width = [max(len(row[i]) for row in cells) for i in range(5)]
    return "\n".join(
        f"{part:<{width[0]}}  {labels:>{width[1]}}  {reads:<{width[2]}}   "
        f"{kernel:<{width[3]}}   {parameters:>{width[4]}}"
        for part, labels, reads, kernel, parameters in cells
    )
