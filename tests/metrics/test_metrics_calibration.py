"""Proper scores against scikit-learn, their gradients, and the calibration error by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as reference
from jax.test_util import check_grads

from metal_jax import metrics

log_loss, brier_score = jax.jit(metrics.log_loss), jax.jit(metrics.brier_score)
calibration_error = jax.jit(metrics.expected_calibration_error, static_argnames="num_bins")


def random_probs(rng, num_items, num_classes=3):
    return rng.dirichlet(np.ones(num_classes), num_items)


@pytest.mark.parametrize("num_classes", [2, 5])
def test_proper_scores_match_scikit_learn(x64, num_classes):
    rng = np.random.default_rng(num_classes)
    probs = random_probs(rng, 200, num_classes)
    probs[:20] = np.eye(num_classes)[rng.integers(0, num_classes, 20)]
    gold = rng.integers(-1, num_classes, 200)
    weights = rng.random(200)
    known = gold >= 0
    options = {"sample_weight": weights[known], "labels": list(range(num_classes))}
    np.testing.assert_allclose(
        log_loss(probs, gold, weights=weights),
        reference.log_loss(gold[known], probs[known], **options),
        rtol=1e-12,
    )
    np.testing.assert_allclose(
        brier_score(probs, gold, weights=weights),
        np.average(
            np.square(probs - np.eye(num_classes)[gold]).sum(1)[known], weights=weights[known]
        ),
        rtol=1e-12,
    )


@pytest.mark.parametrize("metric", [metrics.log_loss, metrics.brier_score])
def test_gradients_are_right(x64, metric):
    probs = jnp.asarray(0.1 + random_probs(np.random.default_rng(0), 6))
    gold = jnp.array([0, 1, -1, 2, 2, 0])
    check_grads(jax.jit(lambda probs: metric(probs, gold)), (probs,), order=1)


@pytest.mark.parametrize("metric", [metrics.log_loss, metrics.brier_score])
def test_gradients_are_finite_at_the_edges(metric):
    value_and_gradient = jax.jit(jax.value_and_grad(metric))
    probs = jnp.array([[0.0, 1.0], [1.0, 0.0], [jnp.nan, jnp.inf], [0.5, 0.5]])
    value, gradient = value_and_gradient(probs, jnp.array([0, 0, -1, 1]))
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[2], 0)
    value, _ = value_and_gradient(probs, jnp.array([0, 0, 0, 1]))
    assert jnp.isnan(value), "a probability that is nan shows where it counts"


def textbook_calibration_error(probs, gold, num_bins):
    """Sort by confidence, cut into bins of equal size."""
    confidence, hit = probs.max(1), probs.argmax(1) == gold
    bins = np.split(np.argsort(confidence), num_bins)
    return np.mean([abs(confidence[items].mean() - hit[items].mean()) for items in bins])


def shared_calibration_error(probs, gold, num_bins):
    """The same for any number of items and ties: share the hits, then cut each item to pieces."""
    confidence = probs.max(1)
    tied_classes = probs == confidence[:, None]
    hit = tied_classes[np.arange(len(gold)), gold] / tied_classes.sum(1)
    _, group = np.unique(confidence, return_inverse=True)
    hit = (np.bincount(group, hit) / np.bincount(group))[group]
    order = np.argsort(confidence)
    pieces = np.repeat(confidence[order] - hit[order], num_bins)
    return np.mean([abs(piece.mean()) for piece in np.split(pieces, num_bins)])


@pytest.mark.parametrize("num_bins", [5, 15])
def test_calibration_error_is_the_textbook_one(x64, num_bins):
    rng = np.random.default_rng(0)
    probs, gold = random_probs(rng, 150), rng.integers(0, 3, 150)
    np.testing.assert_allclose(
        calibration_error(probs, gold, num_bins=num_bins),
        textbook_calibration_error(probs, gold, num_bins),
        rtol=1e-12,
    )


@pytest.mark.parametrize("num_known", [1, 7, 100, 150])
def test_calibration_error_shares_ties_and_edges(num_known):
    rng = np.random.default_rng(num_known)
    for _ in range(5):
        probs = (rng.multinomial(4, np.full(3, 1 / 3), 150) / 4).astype(np.float32)
        gold = rng.integers(0, 3, 150)
        gold[num_known:] = -1
        np.testing.assert_allclose(
            calibration_error(probs, gold),
            shared_calibration_error(probs[:num_known], gold[:num_known], 15),
            atol=1e-6,
        )


def test_calibration_error_of_the_sure():
    gold = np.random.default_rng(0).integers(0, 3, 150)
    one_hot = np.eye(3, dtype=np.float32)
    assert calibration_error(one_hot[gold], gold) == 0
    assert calibration_error(one_hot[(gold + 1) % 3], gold) == pytest.approx(1)


def test_a_single_class_is_certain():
    probs, gold = jnp.ones((3, 1)), jnp.zeros(3, int)
    for metric in (log_loss, brier_score, calibration_error):
        assert metric(probs, gold) == 0


def test_static_arguments_are_checked():
    with pytest.raises(ValueError, match="num_bins: got 0"):
        metrics.expected_calibration_error(jnp.eye(2), jnp.arange(2), num_bins=0)
    with pytest.raises(ValueError, match="probs: got shape"):
        metrics.log_loss(jnp.ones(2), jnp.arange(2))
