"""What every metric promises: transformations, masks, invariances, types, platforms."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from metal_jax import metrics

NUM_ITEMS, NUM_CLASSES = 30, 4


def binary_roc_auc(probs, gold, *, weights=None):
    return metrics.roc_auc(probs[:, 1], jnp.minimum(gold, 1), weights=weights)


def two_tasks(metric):
    def both(predicted, gold, *, weights=None):
        second_gold = jnp.where(gold >= 2, gold - 2, -1)
        return metric(
            jnp.stack([predicted, predicted % 2], 1),
            jnp.stack([gold, second_gold], 1),
            weights=weights,
        )

    return both


def bin_accuracy(probs, gold, *, weights=None):
    return metrics.reliability_bins(probs, gold, num_bins=4, weights=weights).accuracy


def hierarchical_f1(predicted, gold, *, weights=None):
    """Classes as the leaves of two parents."""

    def path(leaf):
        return jnp.stack(
            [jnp.where(leaf >= 0, leaf // 2, -1), jnp.where(leaf >= 0, leaf + 2, -1)], 1
        )

    return metrics.hierarchical_scores(path(predicted), path(gold), weights=weights).f_beta


LABEL_METRICS = {
    "accuracy": metrics.accuracy,
    "confusion_matrix": partial(metrics.confusion_matrix, num_classes=NUM_CLASSES),
    "f_beta": partial(metrics.f_beta, num_classes=NUM_CLASSES, average="per_class"),
    "hierarchical_scores": hierarchical_f1,
    "matthews_correlation": partial(metrics.matthews_correlation, num_classes=NUM_CLASSES),
    "path_accuracy": two_tasks(metrics.path_accuracy),
    "per_task": two_tasks(partial(metrics.per_task, metrics.accuracy)),
    "precision": partial(metrics.precision, num_classes=NUM_CLASSES, average="macro"),
    "recall": partial(metrics.recall, num_classes=NUM_CLASSES, average="micro"),
}
PROB_METRICS = {
    "brier_score": metrics.brier_score,
    "expected_accuracy": metrics.expected_accuracy,
    "expected_calibration_error": metrics.expected_calibration_error,
    "log_loss": metrics.log_loss,
    "reliability_bins": bin_accuracy,
    "roc_auc": binary_roc_auc,
    "roc_auc_one_vs_rest": partial(metrics.roc_auc_one_vs_rest, average="per_class"),
}
METRICS = LABEL_METRICS | PROB_METRICS
COMPILED = {name: jax.jit(metric) for name, metric in METRICS.items()}
every_metric = pytest.mark.parametrize("name", METRICS)
assert_close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)


def random_inputs(name, seed=0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions with abstains or probabilities with ties and zeros, gold with gaps, weights."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(-1, NUM_CLASSES, NUM_ITEMS).astype(np.int32)
    weights = rng.integers(0, 4, NUM_ITEMS).astype(np.float32)
    if name in PROB_METRICS:
        counts = rng.multinomial(8, np.full(NUM_CLASSES, 1 / NUM_CLASSES), NUM_ITEMS)
        return (counts / 8).astype(np.float32), gold, weights
    noise = rng.integers(-1, NUM_CLASSES, NUM_ITEMS)
    return np.where(rng.random(NUM_ITEMS) < 0.5, gold, noise).astype(np.int32), gold, weights


@every_metric
def test_vmap_equals_a_loop(name):
    batch = [random_inputs(name, seed) for seed in range(3)]
    looped = [COMPILED[name](p, g, weights=w) for p, g, w in batch]
    mapped = jax.jit(jax.vmap(lambda p, g, w: METRICS[name](p, g, weights=w)))
    assert_close(mapped(*map(np.stack, zip(*batch, strict=True))), np.stack(looped))


@pytest.mark.parametrize("name", ["f_beta", "matthews_correlation", "log_loss", "roc_auc"])
def test_eager_equals_jitted(name):
    predicted, gold, weights = random_inputs(name)
    assert_close(
        METRICS[name](predicted, gold, weights=weights),
        COMPILED[name](predicted, gold, weights=weights),
    )


@every_metric
def test_weights_and_missing_gold_equal_repetition_and_slicing(name):
    predicted, gold, weights = random_inputs(name)
    known = gold >= 0
    repeats = np.random.default_rng(0).multinomial(NUM_ITEMS, known / known.sum())
    repeated = COMPILED[name](
        predicted.repeat(repeats, 0), gold.repeat(repeats), weights=np.ones_like(weights)
    )
    assert not np.isnan(repeated).any()
    if name in PROB_METRICS:
        predicted[repeats == 0] = np.nan
    weights = np.where(known, repeats, weights).astype(np.float32)
    assert_close(COMPILED[name](predicted, gold, weights=weights), repeated)


@pytest.mark.parametrize("name", ["accuracy", "confusion_matrix", "log_loss"])
def test_a_mask_is_a_weight(name):
    predicted, gold, weights = random_inputs(name)
    mask = weights > 1
    masked = COMPILED[name](predicted, gold, weights=mask)
    assert_close(masked, COMPILED[name](predicted, gold, weights=mask.astype(np.float32)))
    assert_close(masked, COMPILED[name](predicted, np.where(mask, gold, -1)))


@every_metric
def test_the_order_of_the_items_makes_no_difference(name):
    inputs = random_inputs(name)
    predicted, gold, weights = (array[::-1] for array in inputs)
    expected = COMPILED[name](*inputs[:2], weights=inputs[2])
    assert_close(COMPILED[name](predicted, gold, weights=weights), expected)


ORDERED = {"hierarchical_scores", "path_accuracy", "per_task", "reliability_bins", "roc_auc"}


@pytest.mark.parametrize("name", sorted(METRICS.keys() - ORDERED))
def test_the_order_of_the_classes_makes_no_difference(name):
    predicted, gold, weights = random_inputs(name)
    new_label = np.array([2, 0, 3, 1, -1], np.int32)
    if name in PROB_METRICS:
        renamed = predicted[:, np.argsort(new_label[:-1])]
    else:
        renamed = np.take(new_label, predicted)
    result = np.asarray(COMPILED[name](renamed, np.take(new_label, gold), weights=weights))
    if result.ndim:
        result = result[np.ix_(*[new_label[:-1]] * result.ndim)]
    assert_close(result, COMPILED[name](predicted, gold, weights=weights))


@every_metric
def test_strict_promotion_keeps_the_type_of_the_input(name, x64):
    predicted, gold, weights = random_inputs(name)
    for dtype in (np.float32, np.float64):
        if name in PROB_METRICS:
            predicted = predicted.astype(dtype)
        with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
            result = jax.eval_shape(
                METRICS[name], predicted, gold.astype(np.int8), weights=weights.astype(dtype)
            )
        assert result.dtype == dtype


def test_half_precision_is_computed_in_float32():
    probs, gold, _ = random_inputs("log_loss")
    result = COMPILED["log_loss"](jnp.asarray(probs, jnp.bfloat16), gold)
    assert result.dtype == jnp.float32
    assert_close(result, COMPILED["log_loss"](probs, gold))


@every_metric
def test_lowers_for_every_platform(name):
    platforms = ("cpu", "cuda", "tpu")
    shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in random_inputs(name)[:2]]
    assert export.export(COMPILED[name], platforms=platforms)(*shapes).platforms == platforms


@every_metric
@pytest.mark.parametrize("num_items", [0, NUM_ITEMS])
def test_without_any_gold_label(name, num_items):
    predicted, gold, weights = (array[:num_items] for array in random_inputs(name))
    result = COMPILED[name](predicted, np.full_like(gold, -1), weights=weights)
    if name in ("confusion_matrix", "precision", "recall", "f_beta"):
        assert not np.any(result)
    else:
        assert np.isnan(result).all()


@every_metric
def test_rejects_what_does_not_fit(name):
    predicted, gold, weights = random_inputs(name)
    with pytest.raises(ValueError, match="weights: got shape"):
        jax.eval_shape(METRICS[name], predicted, gold, weights=weights[:3])
    with pytest.raises(ValueError, match="gold: got dtype"):
        jax.eval_shape(METRICS[name], predicted, gold / 2)


def test_every_public_function_is_documented():
    for name in metrics.__all__:
        value = getattr(metrics, name)
        documentation = value.__doc__
        if inspect.isclass(value):
            assert "Attributes:" in documentation, name
            continue
        assert all(part in documentation for part in ("Args:", "Returns:", "Example:")), name
