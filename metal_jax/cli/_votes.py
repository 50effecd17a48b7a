"""Votes, trees and gold labels as the options name them, and what is said about them."""

from __future__ import annotations

import argparse
import collections
from pathlib import Path
from typing import Any

import numpy as np

from metal_jax import labeling, task_tree
from metal_jax.cli._common import split_of
from metal_jax.labeling import VoteFile
from metal_jax.task_tree import TaskTree


def read_votes(options: argparse.Namespace, path: Path) -> VoteFile:
    """The votes to fit, of which there must be some."""
    tree = None if options.tree is None else task_tree.read_json(options.tree)
    if tree is not None and options.num_classes is not None:
        raise ValueError("--num-classes: the --tree already says which classes there are")
    if options.num_classes is not None and options.num_classes < 2:
        raise ValueError(f"--num-classes: got {options.num_classes}, expected at least 2")
    file = labeling.read_votes(path, tree, num_classes=options.num_classes, split=split_of(options))
    if not (file.votes >= 0).any():
        raise ValueError(f"{path}: every LF abstains on every item; there is nothing to fit")
    return file


def read_gold(options: argparse.Namespace, file: VoteFile) -> np.ndarray | None:
    """The gold labels of `--gold`, if any."""
    if options.gold is None:
        return None
    gold = labeling.read_gold(
        options.gold, file.tree, len(file.votes), items=file.items, split=split_of(options)
    )
    if (gold < 0).all():
        raise ValueError(f"{options.gold}: gold: no item has a label")
    return gold


def lf_names(file: VoteFile) -> list[str]:
    """The LFs' names, or else their column numbers."""
    if file.lf_names is not None:
        return list(file.lf_names)
    return [str(j) for j in range(file.votes.shape[1])]


def node_names(tree: TaskTree) -> list[str]:
    """The label of every node, as "task=label" where several tasks have it."""
    count = collections.Counter(label for _, label in tree.node_names)
    return [label if count[label] == 1 else f"{task}={label}" for task, label in tree.node_names]


def leaf_names(tree: TaskTree) -> list[str]:
    """The s leaf states' names."""
    names = node_names(tree)
    return [names[node] for node in tree.leaf_nodes]


def describe_votes(file: VoteFile, path: Path) -> dict[str, Any]:
    """Sizes and coverage of a label matrix."""
    n, m = file.votes.shape
    votes = (file.votes >= 0).sum(1)
    return {
        "file": str(path),
        "items": n,
        "lfs": m,
        "tasks": file.tree.num_tasks,
        "classes": file.tree.num_leaves,
        "classes_from": file.classes_from,
        "votes": int(votes.sum()),
        "coverage": float((votes > 0).mean()),
        "density": float(votes.mean() / m),
        "votes_per_item": {
            "mean": float(votes.mean()),
            "median": float(np.median(votes)),
            "min": int(votes.min()),
            "max": int(votes.max()),
        },
    }


def size_line(about: dict[str, Any]) -> str:
    """The first line of every summary."""
    classes = f"{about['classes']} classes ({about['classes_from']})"
    if about["tasks"] > 1:
        classes = f"{about['tasks']} tasks with {about['classes']} leaves"
    return (
        f"{about['file']}: {about['items']:,} items, {about['lfs']:,} LFs, {about['votes']:,} "
        f"votes, {classes}"
    )


def coverage_line(about: dict[str, Any]) -> str:
    """How many items have a vote, and how many they have."""
    each = about["votes_per_item"]
    return (
        f"{100 * about['coverage']:.1f} % of the items have a vote; votes per item: mean "
        f"{each['mean']:.1f}, median {each['median']:g}, from {each['min']} to {each['max']}"
    )
