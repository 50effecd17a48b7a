"""Soft labels for the items of a network, from votes or as `metal-jax label` wrote them.

Legend: `n` items, `m` LFs, `s` leaf states, `t` tasks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metal_jax import labeling, task_tree
from metal_jax._core.archives import load_arrays
from metal_jax.cli import _votes
from metal_jax.cli._class_balance import read_class_balance
from metal_jax.cli._items import Items, match_items
from metal_jax.cli._methods import check_options, fit
from metal_jax.task_tree import TaskTree

_SAME = 1e-4
"""Conditional probabilities that differ by less over all items say nothing about any of them."""


class SoftLabels(NamedTuple):
    """What is known of the labels of n items.

    Attributes:
        tree: the task tree.
        leaf_probs: float[n, s].
        covered: bool[n], items that some LF has voted on.
        task_mask: bool[n, t], whether the label of a task comes from votes at all.
        unsupervised_tasks: names of the tasks for which it never does.
        about: for the summary.
    """

    tree: TaskTree
    leaf_probs: np.ndarray
    covered: np.ndarray
    task_mask: np.ndarray
    unsupervised_tasks: tuple[str, ...]
    about: dict[str, Any]


def labels_from_votes(options: argparse.Namespace, items: Items) -> SoftLabels:
    """Fit the label model to `--votes` and label the items."""
    path: Path = options.votes
    file = _votes.read_votes(options, path)
    tree = file.tree
    rows = match_items(
        items,
        len(file.votes),
        file.items,
        (options.features, path),
        ordered=path.suffix not in (".csv", ".tsv"),
    )
    balance = read_class_balance(options, tree)
    check_options(options.method, class_balance=balance)
    fitted = fit(options.method, file.votes, tree, class_balance=balance, seed=options.seed)
    votes = np.where((rows >= 0)[:, None], file.votes[rows], labeling.ABSTAIN)
    probs = np.asarray(fitted.posterior(votes), np.float32)
    if not np.isfinite(probs).all():
        raise RuntimeError(f"method {options.method!r} gave labels that are not finite")
    voted_roots = np.stack(
        [((votes >= 0) & (tree.node_root[votes] == r)).any(axis=1) for r in range(len(tree.roots))],
        axis=1,
    )
    taught = _taught_tasks(tree, np.unique(file.votes[file.votes >= 0]).tolist())
    return SoftLabels(
        tree,
        probs,
        np.any(voted_roots, axis=1),
        voted_roots[:, _task_root(tree)] & taught,
        _names(tree, ~taught),
        {
            **_votes.describe_votes(file, path),
            "method": options.method,
            "converged": fitted.converged,
        },
    )


def labels_from_file(options: argparse.Namespace, items: Items) -> SoftLabels:
    """Soft labels as `metal-jax label` writes them, of `--labels`."""
    path: Path = options.labels
    try:
        arrays = load_arrays(path, "probs|leaf_probs|leaf_names|num_votes|items")
    except ValueError as error:
        raise ValueError(f"{path}: expected .npz as metal-jax label writes it: {error}") from error
    probs = arrays.get("leaf_probs", arrays.get("probs"))
    if probs is None or probs.ndim != 2 or probs.dtype.kind != "f":
        raise ValueError(f"{path}: expected an array probs or leaf_probs, float[items, leaves]")
    bad = ~np.all((probs >= 0) & (probs <= 1 + _SAME), axis=1)
    if bad.any():
        raise ValueError(f"{path}: row {np.flatnonzero(bad)[0]}: expected probabilities in 0..1")
    tree = _tree_of(options, path, arrays, probs.shape[1])
    names = None if "items" not in arrays else tuple(map(str, arrays["items"].tolist()))
    rows = match_items(items, len(probs), names, (options.features, path), ordered=names is None)
    num_votes = arrays.get("num_votes", np.ones(len(probs), int))
    if num_votes.shape != probs.shape[:1]:
        raise ValueError(f"{path}: num_votes: got shape {num_votes.shape}, expected [{len(probs)}]")
    known = (rows >= 0) & (num_votes[rows] > 0)
    probs = np.where((rows >= 0)[:, None], probs[rows], 0)
    mass = np.stack([probs[:, span].sum(axis=1) for span in tree.root_leaves], axis=1)
    covered = known & np.any(mass > 0, axis=1)
    taught = _informed_tasks(tree, probs[covered])
    return SoftLabels(
        tree,
        probs,
        covered,
        (covered[:, None] & (mass > 0))[:, _task_root(tree)] & taught,
        _names(tree, ~taught),
        {"file": str(path), "items": len(rows), "tasks": tree.num_tasks, "classes": probs.shape[1]},
    )


def gold_labels(tree: TaskTree, gold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gold labels as soft ones.

    Args:
        tree: the task tree.
        gold: int[n] or int[n, roots] node ids, -1 where unknown; an inner node leaves the tasks
            below it unknown.

    Returns:
        float32[n, s], and bool[n, t], the tasks whose label is known.
    """
    gold = gold.reshape(len(gold), -1)
    probs = np.zeros((len(gold), tree.num_leaves), np.float32)
    shares = tree.covers / tree.covers.sum(axis=1, keepdims=True)
    for column in gold.T:
        probs += np.where((column >= 0)[:, None], shares[column], 0)
    return probs, np.any(tree.task_labels(gold) >= 0, axis=1)


def _tree_of(
    options: argparse.Namespace, path: Path, arrays: dict[str, np.ndarray], num_leaves: int
) -> TaskTree:
    names = [str(name) for name in arrays.get("leaf_names", np.arange(num_leaves)).tolist()]
    if options.tree is None:
        if "leaf_probs" in arrays:
            raise ValueError(f"{path}: labels of several tasks need --tree")
        return TaskTree.single(names)
    tree = task_tree.read_json(options.tree)
    expected = _votes.leaf_names(tree)
    if num_leaves != len(expected) or ("leaf_names" in arrays and names != expected):
        raise ValueError(
            f"{path}: its leaves are {', '.join(names[:10])}, those of {options.tree} are "
            f"{', '.join(expected[:10])}"
        )
    return tree


def _taught_tasks(tree: TaskTree, cast: Iterable[int]) -> np.ndarray:
    """bool[t], tasks with a vote on one of their labels or below."""
    taught = np.zeros(tree.num_tasks, bool)
    for node in cast:
        taught[tree.node_task[[node, *tree.ancestors(node)]]] = True
    return taught


def _informed_tasks(tree: TaskTree, probs: np.ndarray) -> np.ndarray:
    """bool[t], tasks whose soft labels, given that the task is active, are not all alike."""
    nodes = np.asarray(task_tree.node_sum(tree, probs))
    informed = np.zeros(tree.num_tasks, bool)
    for t, span in enumerate(tree.task_nodes):
        labels = nodes[:, span.start : span.stop]
        mass = labels.sum(axis=1, keepdims=True)
        conditional = (labels / np.where(mass > 0, mass, 1))[mass[:, 0] > _SAME]
        informed[t] = len(conditional) > 0 and bool((np.ptp(conditional, axis=0) > _SAME).any())
    # A single item, or items that are all labelled alike with certainty, do inform.
    sharp = np.asarray(
        [nodes[:, s.start : s.stop].max(initial=0) > 1 - _SAME for s in tree.task_nodes]
    )
    return informed | sharp


def _task_root(tree: TaskTree) -> np.ndarray:
    """int[t], position in `roots` of the root above each task."""
    return tree.node_root[[nodes.start for nodes in tree.task_nodes]]


def _names(tree: TaskTree, chosen: np.ndarray) -> tuple[str, ...]:
    return tuple(tree.tasks[t].name for t in np.flatnonzero(chosen))
