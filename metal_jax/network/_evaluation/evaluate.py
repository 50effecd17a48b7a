"""Judging a network on gold: each task, each level, whole paths, calibration, slices of the items.

Everything is masked and jit-able: what has no gold has NaN, with 0 items counted.

Legend: `n` items, `t` tasks, `d` levels, `r` roots, `N` label nodes, `s` leaf states, `S` slices.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax import metrics
from metal_jax._core.checks import (
    check_integer,
    check_last_axis,
    check_rank,
    check_shape,
    real_jax_array,
)
from metal_jax._core.precision import at_least_float32
from metal_jax.network._compiler.build import Network
from metal_jax.network._evaluation.gold import (
    best_leaves,
    checked_weights,
    gold_by_root,
    node_paths,
    task_labels,
)
from metal_jax.network._evaluation.temperature import scale_temperatures
from metal_jax.task_tree import Level, TaskTree, path_sum


class TaskScores(NamedTuple):
    """Scores of each task on the items whose gold path goes through it.

    The prediction is the label that is most probable given that the task is active, so an error
    above is not counted again below.

    Attributes:
        num_items: int32[t].
        accuracy: float[t].
        macro_f1: float[t], mean over the labels that are gold or predicted somewhere.
        log_loss: float[t], of the conditional probabilities.
        calibration_error: float[t], `metrics.expected_calibration_error` over the bins:
        confidence: float[t, bins], mean top probability of each bin of a reliability diagram, and
        bin_accuracy: float[t, bins], the accuracy there; bins of equal mass.
    """

    num_items: jax.Array
    accuracy: jax.Array
    macro_f1: jax.Array
    log_loss: jax.Array
    calibration_error: jax.Array
    confidence: jax.Array
    bin_accuracy: jax.Array


class PathScores(NamedTuple):
    """Scores of predicted paths, the most probable leaf of each root.

    Attributes:
        num_items: int32[...], those with gold.
        accuracy: float[...].
        macro_f1: float[...], mean over the labels that are gold or predicted somewhere.
    """

    num_items: jax.Array
    accuracy: jax.Array
    macro_f1: jax.Array


class Evaluation(NamedTuple):
    """What `evaluate` returns; arrays of slices have a leading axis of S.

    Attributes:
        tasks: each task by itself.
        confusion: for each task int32[k, k], gold label (row) and predicted label (column).
        levels: [d] each level of the tree: whether the predicted path goes through the gold label
            there. Roots are pooled.
        path: whether the whole path is right as far as gold knows it, in all roots; F1 over leaves.
        hierarchical: precision, recall and F1 over labels with their ancestors
            (`metrics.hierarchical_scores`).
    """

    tasks: TaskScores
    confusion: tuple[jax.Array, ...]
    levels: PathScores
    path: PathScores
    hierarchical: metrics.HierarchicalScores


def evaluate_predictions(
    tree: TaskTree,
    log_conditionals: jax.Array,
    gold: jax.Array,
    *,
    weights: jax.Array | None = None,
    num_bins: int = 10,
) -> Evaluation:
    """Judge predictions: the pure part of `evaluate`; jit, vmap and export apply.

    Args:
        tree: the task tree (static).
        log_conditionals: float[n, N], `log P(label | parent label)`.
        gold: int32[n, r] node ids, the deepest known node beneath each root, -1 unknown.
        weights: bool or float [n], a mask or weights of the items.
        num_bins: bins of calibration (static).

    Returns:
        The scores.

    Example:
        >>> log_p = jnp.log(jnp.array([[0.2, 0.8], [0.4, 0.6]]))
        >>> found = evaluate_predictions(TaskTree.single(2), log_p, jnp.array([[1], [0]]))
        >>> float(found.path.accuracy), found.confusion[0].tolist()
        (0.5, [[0, 1], [0, 1]])
    """
    log_conditionals = at_least_float32(real_jax_array("log_conditionals", log_conditionals))
    check_rank("log_conditionals", log_conditionals, 2)
    check_last_axis("log_conditionals", log_conditionals, tree.num_nodes)
    gold = real_jax_array("gold", gold)
    check_integer("gold", gold)
    check_shape("gold", gold, (len(log_conditionals), len(tree.roots)))
    gold = gold.astype(jnp.int32)
    predicted = best_leaves(tree, path_sum(tree, log_conditionals)[:, tree.leaf_nodes])
    labels = task_labels(tree, gold)
    counted = jnp.ones(len(gold), bool) if weights is None else jnp.asarray(weights)
    by_level = [
        _level_of_tasks(level, log_conditionals, labels[:, level.tasks], counted, num_bins)
        for level in tree.levels
    ]
    tasks = jax.tree.map(lambda *x: jnp.concatenate(x), *[scores for scores, _ in by_level])
    confusion = tuple(
        matrix[: len(task.labels), : len(task.labels)]
        for task, matrix in zip(tree.tasks, [m for _, ms in by_level for m in ms], strict=True)
    )
    paths = jnp.asarray(node_paths(tree))
    return Evaluation(
        tasks,
        confusion,
        _levels(tree, paths[predicted], paths[gold], counted),
        _paths(tree, predicted, gold, labels, counted),
        _hierarchical(paths[predicted], paths[gold], counted),
    )


def _level_of_tasks(
    level: Level, log_conditionals: jax.Array, labels: jax.Array, weights: jax.Array, num_bins: int
) -> tuple[TaskScores, jax.Array]:
    """Scores of the tasks of one level, padded to the widest, and their confusion matrices."""
    width = level.nodes.shape[1]

    def judge(nodes: jax.Array, mask: jax.Array, gold: jax.Array) -> tuple[TaskScores, jax.Array]:
        probs = jnp.where(mask, jnp.exp(log_conditionals[:, nodes]), 0)
        predicted = jnp.argmax(probs, axis=1)
        bins = metrics.reliability_bins(probs, gold, num_bins=num_bins, weights=weights)
        scores = TaskScores(
            _count(gold >= 0, weights),
            metrics.accuracy(predicted, gold, weights=weights),
            _macro_f1(predicted, gold, width, weights),
            metrics.log_loss(probs, gold, weights=weights),
            jnp.mean(jnp.abs(bins.confidence - bins.accuracy)),
            bins.confidence,
            bins.accuracy,
        )
        return scores, metrics.confusion_matrix(predicted, gold, width, weights=weights)

    nodes, mask = jnp.asarray(np.maximum(level.nodes, 0)), jnp.asarray(level.mask)
    return jax.vmap(judge)(nodes, mask, labels.T)


def _levels(
    tree: TaskTree, predicted: jax.Array, gold: jax.Array, weights: jax.Array
) -> PathScores:
    """Scores of each level from paths int32[n, r, d], every root an item of its own."""
    weights = jnp.repeat(weights, gold.shape[1])

    def judge(predicted: jax.Array, gold: jax.Array) -> PathScores:
        return PathScores(
            _count(gold >= 0, weights),
            metrics.accuracy(predicted, gold, weights=weights),
            _macro_f1(predicted, gold, tree.num_nodes, weights),
        )

    by_level = [x.reshape(-1, tree.depth).T for x in (predicted, gold)]
    return jax.vmap(judge)(*by_level)


def _paths(
    tree: TaskTree, predicted: jax.Array, gold: jax.Array, labels: jax.Array, weights: jax.Array
) -> PathScores:
    leaf = jnp.asarray(np.append(tree.node_leaf, -1))
    return PathScores(
        _count(jnp.any(gold >= 0, axis=1), weights),
        metrics.path_accuracy(task_labels(tree, predicted), labels, weights=weights),
        _macro_f1(
            leaf[predicted].ravel(),
            leaf[gold].ravel(),
            tree.num_leaves,
            jnp.repeat(weights, gold.shape[1]),
        ),
    )


def _hierarchical(
    predicted: jax.Array, gold: jax.Array, weights: jax.Array
) -> metrics.HierarchicalScores:
    depth = gold.shape[-1]
    return metrics.hierarchical_scores(
        predicted.reshape(-1, depth),
        gold.reshape(-1, depth),
        weights=jnp.repeat(weights, gold.shape[1]),
    )


def _count(known: jax.Array, weights: jax.Array) -> jax.Array:
    return jnp.sum(known & (weights > 0), dtype=jnp.int32)


def _macro_f1(
    predicted: jax.Array, gold: jax.Array, num_classes: int, weights: jax.Array
) -> jax.Array:
    """Mean F1 over the classes that are gold or predicted; NaN when there are none."""
    return metrics.f_beta(predicted, gold, num_classes, weights=weights, zero_division=float("nan"))


def evaluate(
    network: Network,
    params: Any,
    inputs: Any,
    gold: ArrayLike,
    *,
    temperatures: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    num_bins: int = 10,
) -> Evaluation:
    """Judge a network on items with gold labels.

    Args:
        network: from `build`.
        params: its parameters, of one replica.
        inputs: n items.
        gold: int[n] node ids, the deepest known node of each item, -1 unknown; or int[n, r] for a
            forest with r roots.
        temperatures: float[t], from `calibrate`; by default all 1.
        weights: bool or float [n], a mask or weights of the items.
        num_bins: bins of calibration.

    Returns:
        The scores; `evaluation_record` makes a JSON-able record of them.

    Raises:
        ValueError: gold of the wrong shape or type, or no node of the tree (names the item).

    Example:
        >>> from metal_jax.network import Encoder, build
        >>> identity = Encoder(lambda key, x: {}, lambda params, x, key: x)
        >>> net = build(TaskTree.single(2), identity)
        >>> items = jnp.eye(4)
        >>> params = net.init(jax.random.key(0), items)
        >>> evaluate(net, params, items, [0, 1, -1, 1]).path.num_items.tolist()
        3
    """
    nodes, mass = _checked(network, inputs, gold, weights)
    return _evaluate(network, num_bins, params, inputs, nodes, mass, temperatures)


def evaluate_slices(
    network: Network,
    params: Any,
    inputs: Any,
    gold: ArrayLike,
    membership: ArrayLike,
    *,
    temperatures: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    num_bins: int = 10,
) -> Evaluation:
    """`evaluate` on each of several slices of the items; they may overlap or be empty.

    Args:
        network: from `build`.
        params: its parameters.
        inputs: n items.
        gold: see `evaluate`.
        membership: bool[n, S], as `labeling.apply_slices` returns it.
        temperatures: see `evaluate`.
        weights: see `evaluate`.
        num_bins: see `evaluate`.

    Returns:
        The scores with a leading axis of S.

    Raises:
        ValueError: as `evaluate`, or a membership of another length or type.

    Example:
        >>> from metal_jax.network import build, mlp
        >>> from metal_jax.task_tree import TaskTree
        >>> net = build(TaskTree.single(2), mlp((2,)))
        >>> inputs = jnp.array([[0.0], [1.0]])
        >>> params = net.init(jax.random.key(0), inputs)
        >>> membership = np.array([[True, True], [False, True]])
        >>> evaluate_slices(net, params, inputs, [0, 1], membership).path.num_items.tolist()
        [1, 2]
    """
    nodes, mass = _checked(network, inputs, gold, weights)
    slices = np.asarray(membership)
    if slices.ndim != 2 or len(slices) != len(nodes) or slices.dtype != bool:
        raise ValueError(
            f"membership: got {slices.dtype}{list(slices.shape)}, expected bool[{len(nodes)}, S]"
        )
    by_slice = np.where(slices.T, mass, np.zeros((), mass.dtype))
    return _evaluate(network, num_bins, params, inputs, nodes, by_slice, temperatures)


def _checked(
    network: Network, inputs: Any, gold: ArrayLike, weights: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    num_items = jax.tree.leaves(inputs)[0].shape[0]
    mass = checked_weights(weights, num_items)
    return gold_by_root(gold, network.tree, num_items), mass


@functools.partial(jax.jit, static_argnames=("network", "num_bins"))
def _evaluate(
    network: Network,
    num_bins: int,
    params: Any,
    inputs: Any,
    gold: jax.Array,
    weights: jax.Array,
    temperatures: jax.Array | None,
) -> Evaluation:
    log_conditionals = network.apply(params, inputs)
    if temperatures is not None:
        log_conditionals = scale_temperatures(network.tree, log_conditionals, temperatures)

    def judge(weights: jax.Array) -> Evaluation:
        return evaluate_predictions(
            network.tree, log_conditionals, gold, weights=weights, num_bins=num_bins
        )

    return judge(weights) if weights.ndim == 1 else jax.vmap(judge)(weights)
