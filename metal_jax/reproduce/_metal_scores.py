"""What a prediction is worth: accuracy by task and of the path, and paired comparisons.

Legend: `b` items, `s` leaf states, `t` tasks, `r` seeds.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, metrics
from metal_jax.datasets import TextDataset
from metal_jax.task_tree import TaskTree, node_sum

MEAN = "mean over tasks"
PATH = "path"
_NUM_RESAMPLES = 2000
_RESAMPLES_AT_ONCE = 200


def gold_leaf_probs(tree: TaskTree, gold: np.ndarray) -> np.ndarray:
    """Gold nodes as soft labels: all mass beneath the node, spread as labels of a task are.

    Args:
        tree: the task tree.
        gold: int[n] node ids, all known.

    Returns:
        float[n, s].

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> np.asarray(gold_leaf_probs(tree, np.array([0, 1]))).round(2).tolist()  # x and y
        [[0.5, 0.5, 0.0], [0.0, 0.0, 1.0]]
    """
    balance = label_model.uniform_class_balance(tree)
    mass = tree.covers[gold] * balance
    return mass / mass.sum(axis=1, keepdims=True)


def item_hits(dataset: TextDataset, leaf_probs: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Whether each item is right in each task, and along the whole path.

    Args:
        dataset: tree and gold.
        leaf_probs: float[b, s], predictions for `rows`.
        rows: int[b], the items judged.

    Returns:
        float[t + 1, b]: a row for each task, NaN where gold does not make it active, and one for
        the path, NaN where gold is no leaf; 1 / c where c labels tie and gold is one of them.
    """
    tree, gold = dataset.tree, dataset.gold[rows]
    node_probs = np.asarray(node_sum(tree, jnp.asarray(leaf_probs)))
    # Every task padded to the widest: one compilation for all.
    width = max(len(nodes) for nodes in tree.task_nodes)
    padded = np.full((tree.num_tasks, len(rows), width), -1.0, node_probs.dtype)
    for t, nodes in enumerate(tree.task_nodes):
        padded[t, :, : len(nodes)] = node_probs[:, nodes.start : nodes.stop]
    of_tasks = _hits(padded, tree.task_labels(gold).T.astype(np.int32))
    leaf = np.append(tree.node_leaf, -1)[gold].astype(np.int32)  # -1 picks the last entry
    of_path = _hits(np.asarray(leaf_probs)[None], leaf[None])
    return np.concatenate([of_tasks, of_path]).astype(float)


@jax.jit
def _hits(scores: jax.Array, labels: jax.Array) -> jax.Array:
    def of_item(score: jax.Array, label: jax.Array) -> jax.Array:
        return metrics.expected_accuracy(score[None], label[None])  # NaN without a label

    return jax.vmap(jax.vmap(of_item))(scores, labels)


def score_hits(tree: TaskTree, hits: np.ndarray) -> dict[str, float]:
    """Accuracies from `item_hits`.

    Args:
        tree: the task tree.
        hits: float[t + 1, b].

    Returns:
        `"mean over tasks"`, `"path"` and one entry for each task; NaN without gold.
    """
    known = ~np.isnan(hits)
    with np.errstate(invalid="ignore"):
        accuracy = np.where(known, hits, 0).sum(axis=1) / known.sum(axis=1)
    tasks = accuracy[:-1]
    mean = float(tasks[~np.isnan(tasks)].mean()) if known[:-1].any() else float("nan")
    by_task = {task.name: float(a) for task, a in zip(tree.tasks, tasks, strict=True)}
    return {MEAN: mean, PATH: float(accuracy[-1])} | by_task


def score(dataset: TextDataset, leaf_probs: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Accuracy of each task where gold makes it active, their mean, and of the whole path.

    Args:
        dataset: tree and gold.
        leaf_probs: float[b, s], predictions for `rows`; ties are split.
        rows: int[b], the items judged.

    Returns:
        `"mean over tasks"`, `"path"` and one entry for each task; NaN without gold.

    Example:
        >>> from metal_jax.datasets import TextDataset
        >>> tree = TaskTree.single(["sport", "trade"], name="topic")
        >>> goals = TextDataset("goals", tree, ({"text": "a late goal"},), np.zeros(1, int), {})
        >>> score(goals, np.array([[0.9, 0.1]]), np.array([0]))["path"]
        1.0
    """
    return score_hits(dataset.tree, item_hits(dataset, leaf_probs, rows))


def compare_hits(first: np.ndarray, second: np.ndarray, seed: int) -> dict[str, Any]:
    """How sure it is that one row of the table is better than another.

    A paired bootstrap (Koehn, "Statistical significance tests for machine translation evaluation",
    EMNLP 2004): each draw takes as many test items as there are, and as many seeds, with
    replacement, the same for both rows, and computes the difference of the two accuracies, averaged
    over seeds.

    Args:
        first: float[r, t + 1, b], `item_hits` for each seed.
        second: the same for the row that it is compared with.
        seed: of the draws.

    Returns:
        What was done, and for `"mean over tasks"` and `"path"` the difference `first - second` in
        points, the `low` and `high` end of its 95 % percentile interval, and the two-sided
        `p_value`: twice the smaller share of draws on one side of zero, never under 1 in 1,000.
    """
    num_seeds, num_rows, num_items = first.shape
    active = ~np.isnan(first[0])
    gain = np.where(active, first - second, 0)
    draw = np.random.default_rng(seed)

    def differences(item_counts: np.ndarray, seed_counts: np.ndarray) -> np.ndarray:
        """float[draws, t + 1], points."""
        flat = gain.transpose(2, 0, 1).reshape(num_items, -1)
        sums = (item_counts @ flat).reshape(-1, num_seeds, num_rows)
        with np.errstate(invalid="ignore"):  # a rare task may be in no item of a draw
            means = sums / (item_counts @ active.T.astype(float))[:, None]
        return 100 * np.einsum("drt,dr->dt", means, seed_counts) / num_seeds

    drawn = [
        differences(
            draw.multinomial(num_items, np.full(num_items, 1 / num_items), size).astype(float),
            draw.multinomial(num_seeds, np.full(num_seeds, 1 / num_seeds), size).astype(float),
        )
        for size in [_RESAMPLES_AT_ONCE] * (_NUM_RESAMPLES // _RESAMPLES_AT_ONCE)
    ]
    observed = differences(np.ones((1, num_items)), np.ones((1, num_seeds)))[0]
    drawn = np.concatenate(drawn)
    result: dict[str, Any] = {
        "method": f"paired bootstrap over test items and seeds, {_NUM_RESAMPLES} draws"
    }
    for name, value, values in (
        (MEAN, np.nanmean(observed[:-1]), np.nanmean(drawn[:, :-1], axis=1)),
        (PATH, observed[-1], drawn[:, -1]),
    ):
        low, high = np.quantile(values, [0.025, 0.975])
        one_side = np.minimum((values <= 0).mean(), (values >= 0).mean())
        result[name] = {
            "difference": float(value),
            "low": float(low),
            "high": float(high),
            "p_value": float(min(1.0, max(2 * one_side, 2 / _NUM_RESAMPLES))),
        }
    return result
