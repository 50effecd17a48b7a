"""The plan of a network: on which trunk layer each head hangs and what it reads. Static."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from metal_jax.network._compiler.config import NetworkConfig
from metal_jax.task_tree import Level, TaskTree


class Head(NamedTuple):
    """The head of one task.

    Attributes:
        level: depth of its task, and
        row: its place among the tasks of that depth: where its parameters are stacked.
        layer: trunk layer that it reads.
        wide: whether it reads the encoder's features too.
        dropout: of both.
        parent: index of its parent task, -1 for a root.
        pass_parent: what it reads of the parent's prediction; "none" for a root.
        own_encoder: whether it reads an encoder of its own.
    """

    level: int
    row: int
    layer: int
    wide: bool
    dropout: float
    parent: int
    pass_parent: str
    own_encoder: bool


class Reading(NamedTuple):
    """Heads of a level that read the same and are one matrix product.

    Attributes:
        rows: int[g], their places among the stacked heads.
        source: a trunk layer, or -1 for the encoder's features.
        dropout: of what they read.
    """

    rows: np.ndarray
    source: int
    dropout: float


class LevelPlan(NamedTuple):
    """The heads of one level.

    Attributes:
        level: its tasks and label nodes.
        trunk: what the heads read of the trunk.
        wide_rows: int[w], places of the heads that read the encoder's features too.
        wide: how they read them; rows are places in `wide_rows`.
        child_rows: int[c], places of the heads that read their parent's prediction.
        passed: kinds of prediction that these heads read, "logits" or "probabilities" or both.
        passed_rows: int[c], what each of them reads among the predictions of the level above,
            those of the second kind following those of the first.
        encoder_rows: int[e], places of the heads with an encoder of their own, and
        encoder_tasks: their tasks' names.
    """

    level: Level
    trunk: tuple[Reading, ...]
    wide_rows: np.ndarray
    wide: tuple[Reading, ...]
    child_rows: np.ndarray
    passed: tuple[str, ...]
    passed_rows: np.ndarray
    encoder_rows: np.ndarray
    encoder_tasks: tuple[str, ...]


class Plan(NamedTuple):
    """What `compile_plan` makes of a tree and its settings.

    Attributes:
        widths: units of each trunk layer.
        heads: the head of each task, in the order of `tree.tasks`.
        levels: the same, stacked by level.
    """

    widths: tuple[int, ...]
    heads: tuple[Head, ...]
    levels: tuple[LevelPlan, ...]


@functools.lru_cache(maxsize=64)
def compile_plan(tree: TaskTree, config: NetworkConfig, encoder_tasks: tuple[str, ...]) -> Plan:
    """Place every head.

    Args:
        tree: the task tree.
        config: settings.
        encoder_tasks: names of the tasks with an encoder of their own.

    Returns:
        The plan.

    Raises:
        ValueError: settings or an encoder for a task that the tree has not, or a layer that the
            trunk has not; names the task.
    """
    names = [task.name for task in tree.tasks]
    for field, given in (("tasks", dict(config.tasks)), ("task_encoders", encoder_tasks)):
        for name in given:
            if name not in names:
                raise ValueError(f"{field}: got {name!r}, expected one of the tasks {names}")
    num_layers = tree.depth if config.num_layers is None else config.num_layers
    last = len(config.widths) - 1
    widths = tuple(config.widths[min(i, last)] for i in range(num_layers))
    heads: list[Head] = []
    for depth, level in enumerate(tree.levels):
        for row, (task, node) in enumerate(zip(level.tasks, level.parents, strict=True)):
            name = names[task]
            own = config.task(name)
            layer = _default_layer(config, depth, tree.depth, num_layers)
            if own.layer is not None:
                layer = own.layer
            if layer >= num_layers:
                raise ValueError(
                    f"task {name!r}: got layer {layer}, expected one of the trunk's layers "
                    f"0..{num_layers - 1}"
                )
            wide = config.wide if own.wide is None else own.wide
            passes = config.pass_parent if own.pass_parent is None else own.pass_parent
            parent = -1 if node < 0 else int(tree.node_task[node])
            passes = "none" if parent < 0 else passes
            heads.append(
                Head(depth, row, layer, wide, own.dropout, parent, passes, name in encoder_tasks)
            )
    levels = tuple(_level_plan(tree, level, heads) for level in tree.levels)
    return Plan(widths, tuple(heads), levels)


def _default_layer(config: NetworkConfig, depth: int, num_levels: int, num_layers: int) -> int:
    if config.attach == "top":
        return num_layers - 1
    return min(depth + max(num_layers - num_levels, 0), num_layers - 1)


def _level_plan(tree: TaskTree, level: Level, heads: list[Head]) -> LevelPlan:
    """Stack the heads of a level."""
    own = [heads[task] for task in level.tasks]
    wide = [head for head in own if head.wide]
    children = [head for head in own if head.pass_parent != "none"]
    owners = [head for head in own if head.own_encoder]
    passed = tuple(sorted({head.pass_parent for head in children}))
    num_above = sum(head.level == own[0].level - 1 for head in heads)
    passed_rows = [
        heads[head.parent].row + num_above * passed.index(head.pass_parent) for head in children
    ]
    return LevelPlan(
        level,
        _readings([(head.layer, head.dropout) for head in own]),
        _rows(wide),
        _readings([(-1, head.dropout) for head in wide]),
        _rows(children),
        passed,
        np.array(passed_rows, np.int32),
        _rows(owners),
        tuple(tree.tasks[level.tasks[head.row]].name for head in owners),
    )


def _rows(heads: list[Head]) -> np.ndarray:
    return np.array([head.row for head in heads], np.int32)


def _readings(what: list[tuple[int, float]]) -> tuple[Reading, ...]:
    """Group rows that read the same."""
    rows_of: dict[tuple[int, float], list[int]] = {}
    for row, source_and_dropout in enumerate(what):
        rows_of.setdefault(source_and_dropout, []).append(row)
    return tuple(Reading(np.array(rows, np.int32), *each) for each, rows in sorted(rows_of.items()))
