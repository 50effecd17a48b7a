"""A data set of texts with a task tree, gold nodes and a fixed split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from metal_jax.task_tree import TaskTree


class TextDataset(NamedTuple):
    """Texts, their place in a task tree and a fixed split; n items.

    Attributes:
        name: the data set's name.
        tree: the task tree.
        items: n mappings, each with a "text"; labelling functions see nothing else.
        gold: int32[n], the deepest known node of each item, -1 where nothing is known.
        splits: index arrays int64[...] into the items: "train", to be treated as unlabelled;
            "small", hand-labelled, in an order whose prefixes are random samples; "valid"; "test".
    """

    name: str
    tree: TaskTree
    items: tuple[Mapping[str, str], ...]
    gold: np.ndarray
    splits: Mapping[str, np.ndarray]


def fingerprint(dataset: TextDataset) -> str:
    """Hash the items, the gold nodes and the split: equal fingerprints, equal data.

    Args:
        dataset: the data set.

    Returns:
        The first 16 hexadecimal digits of a SHA-256.

    Example:
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> goals = TextDataset("goals", tree, ({"text": "a late goal"},), np.zeros(1, int), {})
        >>> fingerprint(goals)
        'b44e357fed103330'
    """
    content = (
        dataset.name,
        dataset.tree.node_names,
        [sorted(item.items()) for item in dataset.items],
        dataset.gold.tolist(),
        {split: dataset.splits[split].tolist() for split in sorted(dataset.splits)},
    )
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def summarise(dataset: TextDataset) -> str:
    """Name the data set, its sizes and its fingerprint in one line, to print beside results.

    Args:
        dataset: the data set.

    Returns:
        The line.

    Example:
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> splits = {"train": np.array([0]), "test": np.array([1])}
        >>> items = ({"text": "a late goal"}, {"text": "the market fell"})
        >>> summarise(TextDataset("news", tree, items, np.array([0, 1]), splits))
        'news: 2 texts, 2 leaves, train 1, test 1, fingerprint 7dde27da0bb48c74'
    """
    sizes = "".join(f", {split} {len(rows)}" for split, rows in dataset.splits.items())
    return (
        f"{dataset.name}: {len(dataset.items)} texts, {dataset.tree.num_leaves} leaves{sizes}, "
        f"fingerprint {fingerprint(dataset)}"
    )
