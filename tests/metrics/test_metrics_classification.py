"""Accuracy, confusion counts and their ratios, against scikit-learn and by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metal_jax import metrics

NUM_ITEMS, NUM_CLASSES = 12, 3
CLASSES = list(range(NUM_CLASSES))
labels = hnp.arrays(np.int32, NUM_ITEMS, elements=st.integers(-1, NUM_CLASSES - 1))
item_weights = hnp.arrays(np.float32, NUM_ITEMS, elements=st.integers(0, 3))
expected_accuracy = jax.jit(metrics.expected_accuracy)
quick = settings(max_examples=30, deadline=None)


@partial(jax.jit, static_argnames="average")
def ratios(predicted, gold, weights, zero_division, average):
    options = {"average": average, "weights": weights, "zero_division": zero_division}
    return jnp.stack(
        [
            metrics.precision(predicted, gold, NUM_CLASSES, **options),
            metrics.recall(predicted, gold, NUM_CLASSES, **options),
            metrics.f_beta(predicted, gold, NUM_CLASSES, beta=2.0, **options),
        ]
    )


@jax.jit
def totals(predicted, gold, weights):
    return (
        metrics.accuracy(predicted, gold, weights=weights),
        metrics.matthews_correlation(predicted, gold, NUM_CLASSES, weights=weights),
        metrics.coverage(predicted, weights=weights * (gold >= 0)),
        metrics.confusion_matrix(predicted, gold, NUM_CLASSES, weights=weights),
    )


@pytest.mark.parametrize("average", ["macro", "micro", "per_class"])
@pytest.mark.parametrize("zero_division", [0.0, np.nan])
def test_ratios_match_scikit_learn(average, zero_division):
    @quick
    @given(predicted=labels, gold=labels, weights=item_weights)
    def check(predicted, gold, weights):
        kept = (gold >= 0) & (weights > 0)
        assume(kept.any())
        expected = reference.precision_recall_fscore_support(
            gold[kept],
            predicted[kept],
            beta=2.0,
            labels=CLASSES,
            average=None if average == "per_class" else average,
            sample_weight=weights[kept],
            zero_division=zero_division,
        )[:3]
        result = ratios(predicted, gold, weights, zero_division, average)
        np.testing.assert_allclose(result, np.array(expected), rtol=1e-5)

    check()


@pytest.mark.filterwarnings("ignore:A single label was found")
@quick
@given(predicted=labels, gold=labels, weights=item_weights)
def test_totals_match_scikit_learn(predicted, gold, weights):
    kept = (gold >= 0) & (weights > 0)
    assume(kept.any())
    sliced, options = (gold[kept], predicted[kept]), {"sample_weight": weights[kept]}
    accuracy, correlation, coverage, counts = totals(predicted, gold, weights)
    expected = [
        reference.accuracy_score(*sliced, **options),
        reference.matthews_corrcoef(*sliced, **options),
        np.average(predicted[kept] >= 0, weights=weights[kept]),
    ]
    np.testing.assert_allclose([accuracy, correlation, coverage], expected, atol=1e-6)
    np.testing.assert_array_equal(
        counts, reference.confusion_matrix(*sliced, labels=CLASSES, **options)
    )


def test_counts_stay_exact_past_the_range_of_float32():
    many = 2**24
    counts = metrics.confusion_matrix(
        jnp.zeros(2, int), jnp.zeros(2, int), 1, weights=jnp.array([many, 1])
    )
    assert counts.dtype == jnp.int32
    assert counts.tolist() == [[many + 1]]


def test_correlation_of_rare_classes_in_float32():
    gold = np.zeros(200_000, np.int32)
    gold[:4] = 1
    predicted = np.roll(gold, 1)
    correlation = jax.jit(metrics.matthews_correlation, static_argnames="num_classes")
    np.testing.assert_allclose(
        correlation(predicted, gold, 2),
        reference.matthews_corrcoef(gold, predicted),
        rtol=1e-5,
    )


def test_labels_outside_the_classes():
    predicted, gold = jnp.array([0, 5, -2, 1]), jnp.array([0, 1, 1, 7])
    counts = metrics.confusion_matrix(predicted, gold, 2, include_abstain=True)
    assert counts.tolist() == [[1, 0, 0], [0, 0, 2]]


@pytest.mark.parametrize("average", ["macro", "micro", "per_class"])
def test_a_single_class(average):
    zeros = jnp.zeros(3, int)
    for metric in (metrics.precision, metrics.recall, metrics.f_beta):
        np.testing.assert_array_equal(metric(zeros, zeros, 1, average=average), 1.0)
    assert metrics.matthews_correlation(zeros, zeros, 1) == 0


def test_macro_average_leaves_out_undefined_classes_on_request():
    predicted, gold = jnp.array([0, 0, 1]), jnp.array([0, 0, 0])
    assert metrics.recall(predicted, gold, 3) == pytest.approx(2 / 9)
    assert metrics.recall(predicted, gold, 3, zero_division=np.nan) == pytest.approx(2 / 3)


def test_static_arguments_are_checked():
    zeros = jnp.zeros(3, int)
    with pytest.raises(ValueError, match="average: got 'weighted'"):
        metrics.precision(zeros, zeros, 2, average="weighted")  # pyright: ignore
    with pytest.raises(ValueError, match="num_classes: got 0"):
        metrics.confusion_matrix(zeros, zeros, 0)
    with pytest.raises(ValueError, match="gold: got shape"):
        metrics.accuracy(zeros, zeros[:2])


def test_expected_accuracy_is_the_mean_over_random_tie_breaks():
    probs = jnp.array([[0.4, 0.4, 0.2], [0.2, 0.4, 0.4], [0.0, 1.0, 0.0], [1 / 3] * 3])
    gold = jnp.array([1, 0, 1, 2])
    assert expected_accuracy(probs, gold) == pytest.approx((0.5 + 0 + 1 + 1 / 3) / 4)


def test_expected_accuracy_without_ties_is_accuracy():
    rng = np.random.default_rng(0)
    probs, gold = rng.dirichlet(np.ones(5), 50).astype(np.float32), rng.integers(-1, 5, 50)
    np.testing.assert_allclose(
        expected_accuracy(probs, gold),
        metrics.accuracy(probs.argmax(1), gold),
        rtol=1e-6,
    )
