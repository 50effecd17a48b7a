"""Figures of votes and of a label model.

Legend: `n` items, `m` LFs, `N` label nodes, `s` leaf states.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal_jax.label_model import Diagnosis, FitResult
from metal_jax.labeling import lf_pairs, overlap_statistics
from metal_jax.report._figures import Bars, Dots, DotSeries, HeatMap, Lines, Series, TreeDrawing
from metal_jax.report._names import is_plain, node_mass, node_names
from metal_jax.task_tree import TaskTree

_MOST_LFS = 42
_MOST_ROWS = 60
_BINS = 20


def overlap_figures(
    votes: np.ndarray, tree: TaskTree, lf_names: Sequence[str]
) -> tuple[HeatMap, HeatMap]:
    """How often each two LFs vote on the same item, and how often they contradict there."""
    pairs = lf_pairs(overlap_statistics(votes), tree)
    m = votes.shape[1]
    together, against = pairs.overlaps.astype(float), pairs.conflicts.astype(float)
    for matrix in (together, against):
        np.fill_diagonal(matrix, 0)
    shown = _grouped(votes, m)
    together, against = (matrix[np.ix_(shown, shown)] for matrix in (together, against))
    overlaps = together / max(len(votes), 1)
    conflicts = against / max(len(votes), 1)
    most = max(overlaps.max(initial=0), 1e-12)
    names = [lf_names[j] for j in shown]
    which = "" if len(shown) == m else f" The {len(shown)} LFs with most votes of {m}."
    order = " LFs are in the order of the class that they vote for most." + which
    return (
        HeatMap(
            "Overlaps",
            "Share of the items on which both LFs vote." + order,
            "LF",
            "LF",
            names,
            names,
            overlaps / most,
            overlaps,
            most=most,
        ),
        HeatMap(
            "Conflicts",
            "Share of the items on which both vote and cannot both be right, in the shades of the "
            "overlaps." + order,
            "LF",
            "LF",
            names,
            names,
            conflicts / most,
            conflicts,
            most=most,
        ),
    )


def _grouped(votes: np.ndarray, m: int) -> list[int]:
    """The LFs with most votes, by the class that they vote for most, then by their votes."""
    cast = votes >= 0
    count = cast.sum(axis=0)
    busiest = np.sort(np.argsort(-count, kind="stable")[:_MOST_LFS])
    favourite = [
        int(np.bincount(votes[cast[:, j], j]).argmax()) if count[j] else votes.max() + 1
        for j in range(m)
    ]
    return sorted(busiest.tolist(), key=lambda j: (favourite[j], -count[j], j))


def accuracy_figure(
    diagnosis: Diagnosis, lf_names: Sequence[str], gold_accuracy: Sequence[float] | None
) -> Dots:
    """Estimated accuracy of each LF with its interval, best first."""
    order = np.argsort(-np.nan_to_num(diagnosis.accuracy, nan=-1), kind="stable")[:_MOST_ROWS]
    series = [
        DotSeries("chance", diagnosis.chance[order].tolist(), "tick", "context"),
        DotSeries(
            "estimated",
            diagnosis.accuracy[order].tolist(),
            "dot",
            "main",
            diagnosis.interval[order, 0].tolist(),
            diagnosis.interval[order, 1].tolist(),
        ),
    ]
    if gold_accuracy is not None:
        by_gold = np.asarray(gold_accuracy, float)[order].tolist()
        series.append(DotSeries("by gold", by_gold, "tick", "second"))
    return Dots(
        "Accuracy of the LFs",
        "Probability that a vote is right, estimated without gold labels, with its 95 % interval.",
        "accuracy",
        [lf_names[int(j)] for j in order],
        tuple(series),
        (0.0, 1.0),
    )


def convergence_figure(result: FitResult) -> Lines:
    """The objective at each step of the fit."""
    trace = np.asarray(result.objective_trace, float).tolist()
    return Lines(
        "Convergence",
        f"Objective of the fit ({result.method}) at each of {result.num_steps} steps; "
        f"{result.status}.",
        "step",
        "objective",
        (Series("", list(range(len(trace))), trace),),
    )


def class_balance_figure(
    result: FitResult, leaf_probs: np.ndarray, gold_nodes: np.ndarray | None
) -> Dots:
    """The prior of each leaf state, what the posterior makes of it, and gold."""
    tree = result.tree
    names = node_names(tree)
    posterior = leaf_probs.mean(axis=0)
    shown = np.sort(np.argsort(-posterior, kind="stable")[:_MOST_ROWS])
    series = [
        DotSeries("prior", result.class_balance[shown].tolist(), "ring", "main"),
        DotSeries("mean posterior", posterior[shown].tolist(), "dot", "main"),
    ]
    if gold_nodes is not None:
        known = gold_nodes[gold_nodes >= 0]
        leaves = tree.node_leaf[known]
        count = np.bincount(leaves[leaves >= 0], minlength=tree.num_leaves)
        shares = count / max(count.sum() / len(tree.roots), 1)
        series.append(DotSeries("gold", shares[shown].tolist(), "tick", "second"))
    which = (
        "" if len(shown) == len(posterior) else f" The {len(shown)} largest of {len(posterior)}."
    )
    return Dots(
        "Class balance",
        "What the label model takes each class's share to be before it sees a vote, and on average "
        "after." + which,
        "share of the items",
        [names[node] for node in tree.leaf_nodes[shown]],
        tuple(series),
    )


def level_figures(
    tree: TaskTree, labels: Sequence[tuple[str, np.ndarray]], gold_nodes: np.ndarray | None
) -> list[Dots]:
    """How labels fall on each level of the tree.

    Args:
        tree: the task tree.
        labels: name and float[n, s], a distribution of each item over the leaves, of what is shown
            and of what it is compared with.
        gold_nodes: int[n, r], or None.

    Returns:
        A figure for each level.
    """
    names = node_names(tree)
    shares = [(name, node_mass(tree, probs.mean(axis=0))) for name, probs in labels]
    truth = None if gold_nodes is None else _gold_shares(tree, gold_nodes)
    figures = []
    for depth, level in enumerate(tree.levels):
        nodes = level.nodes[level.mask]
        order = np.sort(nodes[np.argsort(-shares[0][1][nodes], kind="stable")[:_MOST_ROWS]])
        series = [DotSeries(shares[0][0], shares[0][1][order].tolist())]
        for name, values in shares[1:]:
            series.append(DotSeries(name, values[order].tolist(), "ring", "context"))
        if truth is not None:
            series.append(DotSeries("gold", truth[order].tolist(), "tick", "second"))
        where = "" if is_plain(tree) else f", level {depth + 1}"
        which = "" if len(order) == len(nodes) else f" The {len(order)} largest of {len(nodes)}."
        figures.append(
            Dots(
                f"Labels{where}",
                "Share of the items that get each label." + which,
                "share of the items",
                [names[node] for node in order],
                tuple(series),
            )
        )
    return figures


def _gold_shares(tree: TaskTree, gold_nodes: np.ndarray) -> np.ndarray:
    """float[N], share of the items with gold in a node's root whose gold path goes through it."""
    shares = np.zeros(tree.num_nodes)
    for root, column in enumerate(gold_nodes.T):
        known = column[column >= 0]
        inside = tree.node_root == root
        for node in np.flatnonzero(inside):
            below = [node in (*tree.ancestors(int(deep)), deep) for deep in np.unique(known)]
            hit = np.isin(known, np.unique(known)[below])
            shares[node] = hit.mean() if len(known) else np.nan
    return shares


def confidence_figure(top: np.ndarray) -> Bars:
    """How sure the labels are."""
    heights, edges = np.histogram(top, bins=_BINS, range=(0, 1))
    first = int(np.flatnonzero(heights)[0]) if heights.any() else 0
    return Bars(
        "Confidence",
        "Probability of the most probable label of each item.",
        "probability",
        "items",
        edges[first:].tolist(),
        heights[first:].tolist(),
    )


def tree_figure(tree: TaskTree, node_shares: np.ndarray | None, whose: str) -> TreeDrawing:
    """The task tree."""
    shares = None if node_shares is None else np.asarray(node_shares, float).tolist()
    size = f"{tree.num_tasks} tasks, {tree.num_leaves} leaves"
    if is_plain(tree):
        size = f"A single task with {tree.num_leaves} classes"
    bars = "" if shares is None else f" Bars: share of the items, {whose}."
    return TreeDrawing(
        "Task tree", f"{size}; each label with a task beneath it leads to that task.{bars}"
        if tree.num_tasks > 1 else f"{size}.{bars}", tree, shares,
    )  # fmt: skip
