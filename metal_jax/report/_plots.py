"""The figures of the reports one by one, for papers and notebooks. They need matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model import Diagnosis, FitResult, posterior
from metal_jax.labeling import validate
from metal_jax.network._evaluation.gold import gold_by_root
from metal_jax.report._label_figures import (
    accuracy_figure,
    class_balance_figure,
    confidence_figure,
    convergence_figure,
    level_figures,
    overlap_figures,
    tree_figure,
)
from metal_jax.report._label_items import evidence_figure
from metal_jax.report._matplotlib import draw_axes
from metal_jax.report._network_report import Training, learning_curves
from metal_jax.report._score_figures import calibration_figure, confusion_figure
from metal_jax.task_tree import TaskTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_calibration(confidence: ArrayLike, accuracy: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw a reliability diagram.

    Args:
        confidence: float[b], mean probability of the label in each bin, as
            `metrics.reliability_bins` and `network.evaluate` give it.
        accuracy: float[b], share that is right there.
        ax: where to draw; by default the axes of a new figure, which is `ax.figure`.

    Returns:
        The axes.

    Example:
        >>> plot_calibration([0.6, 0.9], [0.5, 0.9]).get_xlabel()
        'mean probability of the label'
    """
    bins = (np.asarray(part, float).tolist() for part in (confidence, accuracy))
    return draw_axes(calibration_figure(*bins), ax)


def plot_class_balance(
    result: FitResult, votes: ArrayLike, *, gold: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw each class's share before and after the label model saw the votes.

    Args:
        result: a fit.
        votes: int[n, m] node ids.
        gold: int[n] or int[n, r] node ids, -1 = unknown.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(["cat", "dog"]))
        >>> axes = plot_class_balance(result, votes)
        >>> axes is axes.figure.axes[0]
        True
    """
    nodes = None if gold is None else gold_by_root(gold, result.tree, len(np.asarray(votes)))
    probs = np.asarray(posterior(result, votes), float)
    return draw_axes(class_balance_figure(result, probs, nodes), ax)


def plot_confidence(probs: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """Draw how sure labels are.

    Args:
        probs: float[n, k], distributions over classes.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> axes = plot_confidence([[0.9, 0.1], [0.6, 0.4]])
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(confidence_figure(np.asarray(probs).max(axis=1)), ax)


def plot_conflicts(
    votes: ArrayLike,
    tree: TaskTree,
    *,
    lf_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw on which share of the items each two LFs contradict.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        tree: the task tree.
        lf_names: m names; by default the column numbers.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> votes = np.array([[0, 0, -1], [1, 0, 1], [1, 1, 1]])
        >>> axes = plot_conflicts(votes, TaskTree.single(2), lf_names=["a", "b", "c"])
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(_overlaps(votes, tree, lf_names)[1], ax)


def plot_confusion(matrix: ArrayLike, labels: Sequence[str], *, ax: Axes | None = None) -> Axes:
    """Draw a confusion matrix.

    Args:
        matrix: int[k, k], gold label (row) and predicted label (column).
        labels: k names.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> axes = plot_confusion([[8, 2], [1, 9]], ["cat", "dog"])
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(confusion_figure(np.asarray(matrix), labels), ax)


def plot_contributions(
    result: FitResult,
    item_votes: ArrayLike,
    *,
    lf_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw what each LF contributed to the label of one item, against the runner-up.

    Args:
        result: a fit.
        item_votes: int[m] node ids.
        lf_names: m names; by default the column numbers.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the tree is a forest, or votes of more than one item.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(["cat", "dog"]))
        >>> axes = plot_contributions(result, votes[0])
        >>> axes is axes.figure.axes[0]
        True
    """
    votes = np.asarray(item_votes)
    if votes.ndim != 1 or len(result.tree.roots) != 1:
        raise ValueError(
            f"item_votes: got shape {votes.shape} and {len(result.tree.roots)} roots, expected "
            "[m] and one root"
        )
    return draw_axes(evidence_figure(result, votes[None], _names(lf_names, len(votes))), ax)


def plot_convergence(result: FitResult, *, ax: Axes | None = None) -> Axes:
    """Draw the objective at each step of a fit.

    Args:
        result: a fit.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(["cat", "dog"]))
        >>> axes = plot_convergence(result)
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(convergence_figure(result), ax)


def plot_label_distribution(
    probs: ArrayLike,
    tree: TaskTree,
    *,
    level: int = 0,
    gold: ArrayLike | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of the items that get each label of a level.

    Args:
        probs: float[n, s], distributions over the leaves, or hard labels as such.
        tree: the task tree.
        level: from the root, 0, down.
        gold: int[n] or int[n, r] node ids, -1 = unknown.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: the tree has no such level.

    Example:
        >>> tree = TaskTree.single(["cat", "dog"])
        >>> axes = plot_label_distribution([[0.9, 0.1], [0.6, 0.4]], tree)
        >>> axes is axes.figure.axes[0]
        True
    """
    if not 0 <= level < tree.depth:
        raise ValueError(f"level: got {level}, expected one of 0..{tree.depth - 1}")
    values = np.asarray(probs, float)
    nodes = None if gold is None else gold_by_root(gold, tree, len(values))
    return draw_axes(level_figures(tree, [("labels", values)], nodes)[level], ax)


def plot_learning_curves(training: Training, *, ax: Axes | None = None) -> Axes:
    """Draw the losses of a training.

    Args:
        training: its curves.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> curves = Training([10, 20], [0.7, 0.5], {"loss": [0.6, 0.4]}, 20)
        >>> plot_learning_curves(curves).get_ylabel()
        'loss'
    """
    return draw_axes(learning_curves(training)[0], ax)


def plot_lf_accuracy(
    diagnosis: Diagnosis,
    *,
    lf_names: Sequence[str] | None = None,
    gold_accuracy: Sequence[float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the estimated accuracy of each LF with its interval.

    Args:
        diagnosis: from `label_model.diagnose`.
        lf_names: m names; by default the column numbers.
        gold_accuracy: m accuracies by gold, to compare with.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> from metal_jax.label_model import fit_dawid_skene
        >>> votes = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0], [0, 0, -1]] * 5)
        >>> result = fit_dawid_skene(votes, TaskTree.single(["cat", "dog"]))
        >>> from metal_jax.label_model import diagnose
        >>> axes = plot_lf_accuracy(diagnose(result, votes), lf_names=["a", "b", "c"])
        >>> axes is axes.figure.axes[0]
        True
    """
    names = _names(lf_names, len(diagnosis.accuracy))
    return draw_axes(accuracy_figure(diagnosis, names, gold_accuracy), ax)


def plot_overlaps(
    votes: ArrayLike,
    tree: TaskTree,
    *,
    lf_names: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw on which share of the items each two LFs vote.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        tree: the task tree.
        lf_names: m names; by default the column numbers.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> votes = np.array([[0, 0, -1], [1, 0, 1], [1, 1, 1]])
        >>> axes = plot_overlaps(votes, TaskTree.single(2))
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(_overlaps(votes, tree, lf_names)[0], ax)


def plot_task_tree(
    tree: TaskTree, *, shares: ArrayLike | None = None, ax: Axes | None = None
) -> Axes:
    """Draw a task tree.

    Args:
        tree: the task tree.
        shares: float[N], the share of the items that go through each node.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> axes = plot_task_tree(TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}}))
        >>> axes is axes.figure.axes[0]
        True
    """
    values = None if shares is None else np.asarray(shares, float)
    return draw_axes(tree_figure(tree, values, "as given"), ax)


def _overlaps(votes: ArrayLike, tree: TaskTree, lf_names: Sequence[str] | None):
    matrix = validate(votes, tree, lf_names=lf_names)
    return overlap_figures(matrix, tree, _names(lf_names, matrix.shape[1]))


def _names(given: Sequence[str] | None, count: int) -> list[str]:
    return [str(i) for i in range(count)] if given is None else [str(name) for name in given]
