"""Figures of labels against gold: confusion matrices and calibration, of label model or network."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.network import Evaluation, evaluate_predictions
from metal_jax.report._blocks import Block, Column, Figures, Table
from metal_jax.report._figures import Figure, HeatMap, Points
from metal_jax.report._names import node_mass
from metal_jax.task_tree import TaskTree

_MOST_TASKS = 12
_LEAST_IN_BIN = 10  # items; the share of fewer says nothing
_LEAST_APART = 0.02  # of probabilities that are told apart in a diagram


def log_conditionals(tree: TaskTree, leaf_probs: np.ndarray) -> np.ndarray:
    """float[n, N], log P(label | parent label) of distributions over leaves."""
    mass = node_mass(tree, leaf_probs)
    for nodes in tree.task_nodes:
        part = mass[:, nodes.start : nodes.stop]
        part /= np.maximum(part.sum(axis=1, keepdims=True), 1e-30)
    return np.log(np.maximum(mass, 1e-30)).astype(np.float32)


def judge(tree: TaskTree, log_probs: np.ndarray, gold_nodes: np.ndarray) -> Evaluation:
    """Scores of log P(label | parent label), float[n, N], on items with gold int[n, r]."""
    gold = jnp.asarray(gold_nodes, jnp.int32)
    return jax.tree.map(np.asarray, _judge(tree, jnp.asarray(log_probs, jnp.float32), gold))


_judge = jax.jit(evaluate_predictions, static_argnums=0)


def judge_ties_shared(tree: TaskTree, leaf_probs: np.ndarray, gold_nodes: np.ndarray) -> Evaluation:
    """As `judge`, but in accuracies a tie is right as often as a draw.

    Majority votes are often tied, and the first label is no better than the others.

    Args:
        tree: the task tree.
        leaf_probs: float[n, s].
        gold_nodes: int[n, r], -1 = unknown.

    Returns:
        The scores; F1, confusion and calibration give a tie to the first label.
    """
    found = judge(tree, log_conditionals(tree, leaf_probs), gold_nodes)
    leaves = np.zeros(leaf_probs.shape)
    for span in tree.root_leaves:
        leaves[:, span] = _shared(leaf_probs[:, span])
    share, conditional = node_mass(tree, leaves), node_mass(tree, leaf_probs)
    rows = np.arange(len(share))
    known = gold_nodes >= 0
    right = np.take_along_axis(share, np.maximum(gold_nodes, 0), axis=1)
    path = np.where(known, right, 1).prod(axis=1)[known.any(axis=1)]
    tasks, levels = np.zeros(tree.num_tasks), [[] for _ in range(tree.depth)]
    by_task: list[list[np.ndarray]] = [[] for _ in range(tree.num_tasks)]
    for column in gold_nodes.T:
        labels = tree.task_labels(column)
        for t, nodes in enumerate(tree.task_nodes):
            at = np.flatnonzero(labels[:, t] >= 0)
            node = nodes.start + labels[at, t]
            of_task = _shared(conditional[at, nodes.start : nodes.stop])
            by_task[t].append(of_task[np.arange(len(at)), labels[at, t]])
            levels[tree.node_depth[nodes.start]].append(share[rows[at], node])
    tasks = np.array([_mean(np.concatenate(parts)) for parts in by_task])
    of_levels = np.array([_mean(np.concatenate(parts)) for parts in levels])
    return found._replace(
        tasks=found.tasks._replace(accuracy=tasks),
        levels=found.levels._replace(accuracy=of_levels),
        path=found.path._replace(accuracy=np.asarray(_mean(path))),
    )


def _shared(probs: np.ndarray) -> np.ndarray:
    """One for the likeliest of each row, divided among all of a tie."""
    best = probs >= probs.max(axis=1, keepdims=True, initial=0) * (1 - 1e-6)
    return best / best.sum(axis=1, keepdims=True)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def score_blocks(
    tree: TaskTree,
    found: Evaluation,
    baseline: tuple[str, Evaluation] | None = None,
    *,
    unknown: Collection[str] = (),
    reason: str = "",
) -> list[Block]:
    """The table of scores, the calibration and the confusion matrices of the tasks with gold.

    Args:
        tree: the task tree.
        found: scores.
        baseline: a name and its scores.
        unknown: names of tasks of which nothing is known; their calibration is left out.
        reason: why nothing is.

    Returns:
        The blocks.
    """
    tasks = [t for t in range(tree.num_tasks) if found.tasks.num_items[t] > 0]
    busiest = sorted(sorted(tasks, key=lambda t: -found.tasks.num_items[t])[:_MOST_TASKS])
    which = "" if len(busiest) == len(tasks) else f" The {len(busiest)} tasks with most items."
    several = len(tasks) > 1
    calibration, confusion, left_out, flat = [], [], [], []
    for t in busiest:
        task = tree.tasks[t].name if several else ""
        points = (np.asarray(x[t]) for x in (found.tasks.confidence, found.tasks.bin_accuracy))
        bins = joined_bins(*points, num_items=int(found.tasks.num_items[t]))
        if tree.tasks[t].name in unknown:
            left_out.append(tree.tasks[t].name)
        elif len(bins[0]) < 2:
            flat.append(tree.tasks[t].name)
        else:
            calibration.append(calibration_figure(*bins, task))
        confusion.append(
            confusion_figure(np.asarray(found.confusion[t]), tree.tasks[t].labels, task)
        )
    note = "A task is judged on the items whose gold path goes through it." + which
    notes = [note if several else ""]
    if left_out:
        notes.append(f"Calibration is not drawn for {', '.join(left_out)}: {reason}.")
    if flat:
        notes.append(
            f"Calibration is not drawn for {', '.join(flat)}: too few items with gold, or one "
            "probability for nearly all of them."
        )
    return [
        _table(tree, found, tasks, baseline, " ".join(filter(None, notes))),
        *(Figures(figures) for figures in _few_tasks(calibration, confusion) if figures),
    ]


def _few_tasks(calibration: list[Points], confusion: list[HeatMap]) -> list[list[Figure]]:
    """The figures in rows: of a single task beside each other, of several each kind by itself."""
    if len(confusion) == 1:
        return [[*calibration, *confusion]]
    return [[*calibration], [*confusion]]


def _table(
    tree: TaskTree,
    found: Evaluation,
    tasks: Sequence[int],
    baseline: tuple[str, Evaluation] | None,
    note: str,
) -> Table:
    columns = [
        Column("Task"),
        Column("Items", "count"),
        Column("Accuracy", "number"),
        *(
            []
            if baseline is None
            else [Column(f"{baseline[0]}", "number", "its accuracy, ties shared")]
        ),
        Column("Macro F1", "number"),
        Column("Log loss", "number"),
        Column("Calibration error", "number", "mean gap of confidence and accuracy in ten bins"),
    ]
    rows = []
    scores = found.tasks
    for t in tasks:
        other = [] if baseline is None else [float(baseline[1].tasks.accuracy[t])]
        rest = (scores.macro_f1[t], scores.log_loss[t], scores.calibration_error[t])
        numbers = [float(scores.accuracy[t]), *other, *map(float, rest)]
        rows.append([tree.tasks[t].name, int(scores.num_items[t]), *numbers])
    if tree.depth > 1 or len(tree.roots) > 1:
        nan = float("nan")
        groups = [
            *((f"level {d + 1}", found.levels, d) for d in range(tree.depth)),
            ("whole path", found.path, ()),
        ]
        for name, group, at in groups:
            other = []
            if baseline is not None:
                same = baseline[1].path if name == "whole path" else baseline[1].levels
                other = [float(same.accuracy[at])]
            numbers = [float(group.accuracy[at]), *other, float(group.macro_f1[at])]
            rows.append([name, int(group.num_items[at]), *numbers, nan, nan])
    return Table("Scores against gold", note, columns, rows)


def joined_bins(
    confidence: np.ndarray, accuracy: np.ndarray, num_items: int
) -> tuple[list[float], list[float]]:
    """Bins of equal mass, neighbours joined where they cannot be told apart.

    Which items of the same probability come into which bin is a matter of their order, and so is
    the share of them that is right.

    Args:
        confidence: float[b], ascending.
        accuracy: float[b].
        num_items: of all bins together.

    Returns:
        Confidence and accuracy of the bins that are left.
    """
    share = num_items / len(confidence)
    groups: list[list[int]] = []
    for i, probability in enumerate(confidence.tolist()):
        last = groups[-1] if groups else []
        few = len(last) * share < _LEAST_IN_BIN
        if last and (few or probability - confidence[last[0]] < _LEAST_APART):
            last.append(i)
        else:
            groups.append([i])
    if len(groups) > 1 and len(groups[-1]) * share < _LEAST_IN_BIN:
        rest = groups.pop()
        groups[-1] += rest
    means = ([float(part[group].mean()) for group in groups] for part in (confidence, accuracy))
    return next(means), next(means)


def calibration_figure(
    confidence: Sequence[float], accuracy: Sequence[float], task: str = ""
) -> Points:
    """A reliability diagram over bins of items."""
    return Points(
        f"Calibration{', ' if task else ''}{task}",
        "Items in bins by their probability; on the dashed line confidence is accuracy, below it "
        "the labels are too sure.",
        "mean probability of the label",
        "share that is right",
        [f"bin {i}" for i in range(1, len(confidence) + 1)],
        confidence,
        accuracy,
        diagonal=True,
        joined=True,
    )


def confusion_figure(matrix: np.ndarray, labels: Sequence[str], task: str = "") -> HeatMap:
    """A confusion matrix, shaded by the share of each gold label."""
    counts = np.asarray(matrix)
    shades = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return HeatMap(
        f"Confusion{', ' if task else ''}{task}",
        "Numbers of items; shades are shares of a gold label.",
        "gold",
        "predicted",
        labels,
        labels,
        shades,
        counts,
        counts=True,
    )
