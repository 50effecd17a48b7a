"""Metrics of several tasks."""

from functools import partial

import jax
import numpy as np
import pytest

from metal_jax import metrics

PREDICTED = np.array([[0, 1, -1], [1, -1, 0], [1, -1, 2], [0, 0, 3], [0, 1, 1]])
GOLD = np.array([[0, 1, -1], [1, -1, 0], [0, 0, -1], [0, -1, -1], [-1, -1, -1]])


def test_each_task_has_its_number_of_classes():
    num_classes = (2, 2, 4)
    result = jax.jit(partial(metrics.per_task, metrics.recall, num_classes=num_classes))(
        PREDICTED, GOLD
    )
    # Macro averages: labels without an item count as zero, and the third task has four labels.
    np.testing.assert_allclose(result, [(2 / 3 + 1) / 2, 1 / 2, 1 / 4], rtol=1e-6)


def test_probabilities_come_as_one_array_per_task():
    probs = [np.eye(k)[PREDICTED[:, task]] for task, k in enumerate((2, 2, 4))]
    np.testing.assert_allclose(
        jax.jit(partial(metrics.per_task, metrics.expected_accuracy))(probs, GOLD),
        [3 / 4, 1 / 2, 1],
    )


def test_weights_are_shared_by_the_tasks():
    result = metrics.per_task(metrics.accuracy, PREDICTED, GOLD, weights=np.array([0, 1, 1, 1, 1]))
    np.testing.assert_allclose(result, [2 / 3, 0, 1])


def test_a_path_is_right_when_all_known_tasks_are():
    assert metrics.path_accuracy(PREDICTED, GOLD) == 3 / 4
    assert metrics.path_accuracy(PREDICTED, GOLD, weights=np.array([0, 0, 1, 3, 0])) == 3 / 4


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="predicted: got 2 tasks, expected 3"):
        metrics.per_task(metrics.accuracy, PREDICTED[:, :2], GOLD)
    with pytest.raises(ValueError, match="num_classes: got 2 tasks, expected 3"):
        metrics.per_task(metrics.accuracy, PREDICTED, GOLD, num_classes=(2, 2))
    with pytest.raises(ValueError, match="gold: got shape"):
        metrics.path_accuracy(PREDICTED[:, :2], GOLD)
