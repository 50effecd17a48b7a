"""Which items a network is trained on, which are held out, and what each is told.

Legend: `n` items, `s` leaf states, `t` tasks.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import numpy as np

from metal_jax import labeling
from metal_jax.cli._items import Items
from metal_jax.cli._soft_labels import SoftLabels, gold_labels


class Targets(NamedTuple):
    """Labels of chosen items.

    Attributes:
        rows: int[b], which items.
        leaf_probs: float[b, s].
        weights: float[b].
        task_mask: bool[b, t].
        gold: int[b] or [b, g] node ids, -1 unknown, where labels are gold; else None.
    """

    rows: np.ndarray
    leaf_probs: np.ndarray
    weights: np.ndarray
    task_mask: np.ndarray
    gold: np.ndarray | None = None


def split_items(
    options: argparse.Namespace, items: Items, labels: SoftLabels
) -> tuple[Targets, Targets, dict[str, Any]]:
    """What to train on, what to hold out, and their numbers for the summary.

    Raises:
        ValueError: nothing to learn from, or nothing to hold out.
    """
    covered, mask = labels.covered, labels.task_mask
    if not covered.any():
        raise ValueError("no item has a vote; there is nothing to learn from")
    trained_tasks = mask.any(axis=0)
    if not trained_tasks.any():
        raise ValueError("no task has a label to learn from: every item has the same soft label")
    held_probs, held_mask, gold = labels.leaf_probs, mask, None
    if options.gold is not None:
        gold = labeling.read_gold(
            options.gold, labels.tree, items.num_items, items=items.names, split=options.split
        )
        held_probs, held_mask = gold_labels(labels.tree, gold)
        held_mask &= trained_tasks
        if not held_mask.any():
            raise ValueError(f"{options.gold}: no item has a gold label of a task that is trained")
    known = held_mask.any(axis=1)
    order = np.random.default_rng(options.seed).permutation(np.flatnonzero(known))
    held_out = np.sort(order[: max(1, round(options.validation * len(order)))])

    kept, weights = covered.copy(), np.ones(len(covered), np.float32)
    if options.uncovered == "keep" or options.consistency > 0:
        # They have no vote that would say which tasks apply.
        kept[:] = True
        mask = np.where(covered[:, None], mask, trained_tasks)
        if options.uncovered == "drop":
            weights = covered.astype(np.float32)
    kept[held_out] = False
    if not (kept & (weights > 0)).any():
        raise ValueError(
            f"{int(known.sum())} labelled items are too few to hold some out and train on others"
        )
    training = np.flatnonzero(kept)
    numbers = {
        "covered_items": int(covered.sum()),
        "uncovered_items": int((~covered).sum()),
        "uncovered": options.uncovered,
        "training_items": int((weights[training] > 0).sum()),
        "held_out_items": len(held_out),
        "gold": None if options.gold is None else str(options.gold),
    }
    ones = np.ones(len(held_out), np.float32)
    return (
        Targets(training, labels.leaf_probs[training], weights[training], mask[training]),
        Targets(
            held_out,
            held_probs[held_out],
            ones,
            held_mask[held_out],
            None if gold is None else gold[held_out],
        ),
        numbers,
    )
