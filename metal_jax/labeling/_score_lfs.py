"""Labelling functions of models: scores with bounds, classifiers with thresholds.

Legend: `n` items, `k` labels of a task, `s` leaf states, `N` label nodes, `r` roots.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from metal_jax.labeling._functions import ABSTAIN, Item, LabelingFunction, Vote, Votes
from metal_jax.labeling._matrix import narrowest_integers
from metal_jax.task_tree import TaskTree


@dataclasses.dataclass(frozen=True)
class _Score:
    """Votes where a number lies within bounds."""

    label: Votes
    score: Callable[[Item], float]
    least: float
    most: float

    def __call__(self, item: Item) -> Votes:
        score = float(self.score(item))
        if score != score:
            raise ValueError("the score is NaN")
        return self.label if self.least <= score <= self.most else ABSTAIN


def score_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    score: Callable[[Item], float],
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    version: str | None = None,
) -> LabelingFunction:
    """An LF that votes `label` where a model's score of the item is high, or low, enough.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        score: item -> a number; a `Preprocessor` lets several LFs share one call.
        at_least: the least score that it votes on; None for no bound.
        at_most: the greatest; None for no bound.
        version: of the model, for the cache of `apply`; see `LabelingFunction`.

    Returns:
        The labelling function. A score that is NaN is an error.

    Raises:
        ValueError: no bound, or bounds that exclude every score; names the LF.

    Example:
        >>> angry = score_lf("angry", "tone", "bad", lambda item: item.count("!"), at_least=2)
        >>> angry("What!!"), angry("What!")
        ('bad', -1)
    """
    if at_least is None and at_most is None:
        raise ValueError(f"LF {name!r}: give at_least, at_most or both")
    least = -np.inf if at_least is None else float(at_least)
    most = np.inf if at_most is None else float(at_most)
    if not least <= most:
        raise ValueError(f"LF {name!r}: no score lies in {at_least}..{at_most}")
    return LabelingFunction(name, task, _Score(label, score, least, most), version)


@dataclasses.dataclass(frozen=True)
class _Classifier:
    """Votes for the likeliest label, if it is likely enough."""

    labels: tuple[Vote, ...]
    probabilities: Callable[[Item], ArrayLike]
    thresholds: tuple[float, ...]

    def __call__(self, item: Item) -> Vote:
        row = np.asarray(self.probabilities(item), float)
        if row.shape == (1, len(self.labels)):  # what `predict_proba` gives for a batch of one
            row = row[0]
        if row.shape != (len(self.labels),):
            raise ValueError(f"got probabilities of shape {row.shape}, expected {len(self.labels)}")
        if np.isnan(row).any():
            raise ValueError("a probability is NaN")
        best = int(row.argmax())
        return self.labels[best] if row[best] >= self.thresholds[best] else ABSTAIN


def classifier_lf(
    name: str,
    task: str,
    labels: Sequence[Vote],
    probabilities: Callable[[Item], ArrayLike],
    *,
    thresholds: float | Mapping[Vote, float] = 0.5,
    version: str | None = None,
) -> LabelingFunction:
    """An LF that votes as a classifier does, where the classifier is sure enough.

    For a classifier that labels many items at once, `votes_of_probabilities` is faster.

    Args:
        name: its name.
        task: the task that it votes on; its labels may lie further down the tree too.
        labels: the k labels, as a `labeling_function` would return them, in the classifier's order.
        probabilities: item -> float[k], or float[1, k].
        thresholds: the least probability of the likeliest label with which it votes, for all labels
            or label -> threshold (0.5 for those left out).
        version: of the classifier, for the cache of `apply`; see `LabelingFunction`.

    Returns:
        The labelling function. Probabilities of another shape, or NaN, are errors.

    Raises:
        ValueError: no labels, one given twice, a threshold of another label, or one outside
            [0, 1]; names the LF.

    Example:
        >>> lf = classifier_lf("net", "topic", ["sport", "trade"], lambda item: [0.3, 0.7],
        ...                    thresholds={"trade": 0.6})
        >>> lf("the market fell")
        'trade'
    """
    labels = tuple(labels)
    if not labels or len(set(labels)) < len(labels):
        raise ValueError(f"LF {name!r}: expected different labels, got {list(labels)}")
    if isinstance(thresholds, Mapping):
        for label in thresholds:
            if label not in labels:
                raise ValueError(f"LF {name!r}: a threshold for {label!r}, not one of its labels")
        bounds = tuple(float(thresholds.get(label, 0.5)) for label in labels)
    else:
        bounds = (float(thresholds),) * len(labels)
    if not all(0 <= bound <= 1 for bound in bounds):
        raise ValueError(f"LF {name!r}: thresholds: got {thresholds}, expected numbers in [0, 1]")
    return LabelingFunction(name, task, _Classifier(labels, probabilities, bounds), version)


def votes_of_probabilities(
    probabilities: ArrayLike,
    tree: TaskTree,
    *,
    task: str | None = None,
    thresholds: float | ArrayLike = 0.5,
) -> np.ndarray:
    """Votes of a classifier of leaves, or of one task's labels, from its probabilities.

    Of a classifier of leaves the vote is the deepest node on the likeliest path that is likely
    enough: where it is sure of the coarse class but not of the fine one, it votes for the coarse
    one. The path goes down from the root by the likeliest label of each task.

    Args:
        probabilities: float[n, s] of leaves, in the order of the tree's; or, with `task`,
            float[n, k] of its labels.
        tree: the task tree.
        task: the task whose labels they are; None for leaves.
        thresholds: the least probability with which a node is voted for; one, or float[N], or
            with `task` float[k].

    Returns:
        int[n, r], a column of node ids for each root, or int[n, 1] for a task; -1 = abstain. Join
        it to the columns of other LFs with `numpy.concatenate(..., axis=1)`.

    Raises:
        ValueError: a wrong shape, a probability or threshold outside [0, 1], NaN, or an unknown
            task.

    Example:
        >>> tree = TaskTree.from_dict({"kind": {"a": None, "b": {"b_kind": ["x", "y"]}}})
        >>> votes_of_probabilities([[0.1, 0.5, 0.4], [0.1, 0.8, 0.1], [0.4, 0.3, 0.3]], tree,
        ...                        thresholds=0.7).tolist()
        [[1], [2], [-1]]
    """
    array = np.asarray(probabilities, float)
    nodes = None if task is None else tree.task_nodes[tree.task_index(task)]
    width = tree.num_leaves if nodes is None else len(nodes)
    if array.ndim != 2 or array.shape[1] != width:
        raise ValueError(f"probabilities: got shape {array.shape}, expected [n, {width}]")
    bad = ~((array >= 0) & (array <= 1 + 1e-6))
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise ValueError(
            f"probabilities: row {row}, column {column}: got {array[row, column]}, expected 0..1"
        )
    size = tree.num_nodes if nodes is None else width
    bounds = np.asarray(thresholds, float)
    if bounds.shape not in ((), (size,)):
        raise ValueError(f"thresholds: got shape {bounds.shape}, expected one number or [{size}]")
    outside = ~((bounds >= 0) & (bounds <= 1))
    if outside.any():
        raise ValueError(f"thresholds: got {bounds[outside][0]}, expected numbers in [0, 1]")
    bounds = np.broadcast_to(bounds, size)
    if nodes is not None:
        best = array.argmax(axis=1)
        sure = np.take_along_axis(array, best[:, None], axis=1)[:, 0] >= bounds[best]
        return narrowest_integers(np.where(sure, nodes.start + best, ABSTAIN)[:, None])
    mass = array @ tree.covers.T
    votes = np.full((len(array), len(tree.roots)), ABSTAIN, np.int64)
    rows = np.arange(len(array))
    for column, root in enumerate(tree.roots):
        at = np.full(len(array), root)  # the task that the path has come to, -1 past a leaf
        for _ in range(tree.depth):
            for reached in np.unique(at[at >= 0]):
                here = rows[at == reached]
                span = tree.task_nodes[reached]
                node = span.start + mass[here, span.start : span.stop].argmax(axis=1)
                sure = mass[here, node] >= bounds[node]
                votes[here[sure], column] = node[sure]
                at[here] = np.where(sure, tree.node_child[node], -1)
    return narrowest_integers(votes)
