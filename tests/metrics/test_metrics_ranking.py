"""Areas under the ROC curve, against scikit-learn and a count of all pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metal_jax import metrics

NUM_ITEMS = 12
quick = settings(max_examples=60, deadline=None)


roc_auc = jax.jit(metrics.roc_auc)
roc_auc_one_vs_rest = jax.jit(metrics.roc_auc_one_vs_rest, static_argnames="average")


def pair_share(scores, gold, weights):
    """The definition: the weighted share of the (positive, negative) pairs that are in order."""
    positive, negative = np.where(gold == 1, weights, 0), np.where(gold == 0, weights, 0)
    order = (1 + np.sign(scores[:, None] - scores[None, :])) / 2
    return positive @ order @ negative / (positive.sum() * negative.sum())


@quick
@given(
    scores=hnp.arrays(np.float32, NUM_ITEMS, elements=st.sampled_from([-2.5, -0.0, 0.0, 1, 1e9])),
    gold=hnp.arrays(np.int32, NUM_ITEMS, elements=st.integers(-1, 1)),
    weights=hnp.arrays(np.float32, NUM_ITEMS, elements=st.sampled_from([0, 0.5, 1, 3])),
)
def test_area_is_the_share_of_ordered_pairs(scores, gold, weights):
    result = roc_auc(scores, gold, weights=weights)
    if all(weights[gold == label].any() for label in (0, 1)):
        np.testing.assert_allclose(result, pair_share(scores, gold, weights), rtol=1e-5)
    else:
        assert np.isnan(result)


@pytest.mark.parametrize("decimals", [1, 8])
def test_area_matches_scikit_learn(x64, decimals):
    rng = np.random.default_rng(decimals)
    gold = rng.integers(0, 2, 1000)
    scores = np.round(rng.normal(size=1000) + gold, decimals)
    for weights in (np.ones(1000), rng.random(1000)):
        np.testing.assert_allclose(
            roc_auc(scores, gold, weights=weights),
            reference.roc_auc_score(gold, scores, sample_weight=weights),
            rtol=1e-12,
        )


def test_one_vs_rest_matches_scikit_learn(x64):
    rng = np.random.default_rng(0)
    gold = rng.integers(-1, 4, 300)
    probs = (rng.multinomial(8, np.full(4, 0.25), 300) + np.eye(4)[gold]) / 9
    known = gold >= 0
    np.testing.assert_allclose(
        roc_auc_one_vs_rest(probs, gold),
        reference.roc_auc_score(gold[known], probs[known], multi_class="ovr"),
        rtol=1e-12,
    )


def test_constant_infinite_and_undefined_scores():
    gold, ones = jnp.array([0, 1, 0, 1]), jnp.ones(4)
    assert roc_auc(jnp.zeros(4), gold, weights=ones) == 0.5
    assert roc_auc(jnp.array([-jnp.inf, jnp.inf, 0.0, 1.0]), gold, weights=ones) == 1
    with_nan = jnp.array([0.0, 1.0, 0.0, jnp.nan])
    assert jnp.isnan(roc_auc(with_nan, gold, weights=ones))
    assert roc_auc(with_nan, gold, weights=ones.at[3].set(0)) == 1


def test_a_class_without_items_is_undefined():
    scores, gold = jnp.eye(3), jnp.array([0, 1, 1])
    areas = roc_auc_one_vs_rest(scores, gold, average="per_class")
    np.testing.assert_array_equal(areas, [1, 0.75, np.nan])
    assert jnp.isnan(roc_auc_one_vs_rest(scores, gold))


def test_a_single_class_is_undefined():
    assert jnp.isnan(roc_auc_one_vs_rest(jnp.ones((3, 1)), jnp.zeros(3, int)))


def test_static_arguments_are_checked():
    with pytest.raises(ValueError, match="average: got 'micro'"):
        metrics.roc_auc_one_vs_rest(
            jnp.eye(3),
            jnp.arange(3),
            average="micro",  # pyright: ignore
        )
    with pytest.raises(ValueError, match="num_classes: got 0"):
        metrics.roc_auc_one_vs_rest(jnp.ones((3, 0)), jnp.arange(3))
