"""What every encoder must do, and the embedding bag against a dense product."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.network import (
    BagOfFeatures,
    Encoder,
    cnn,
    embedding_bag,
    fit_tokeniser,
    from_module,
    hashed_ngrams,
    lstm_encoder,
    mlp,
    precomputed,
    tokenise,
)

TEXTS = ["How far is the moon?", "parseHTMLString(text)", "", "the the moon"]
BAG = jax.tree.map(jnp.asarray, hashed_ngrams(TEXTS, num_features=64))
TOKENISER = fit_tokeniser(TEXTS)
TOKENS = jax.tree.map(jnp.asarray, tokenise(TEXTS, TOKENISER).tokens)
VECTORS = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (4, 9, 6)), jnp.uint8)


class Case(NamedTuple):
    """An encoder, how to make it again, inputs of four items, its number of features."""

    make: Any
    inputs: Any
    width: int


CASES = {
    "embedding_bag": Case(lambda: embedding_bag(64, 5), BAG, 5),
    "lstm": Case(lambda: lstm_encoder(TOKENISER.num_ids, 3, 2), TOKENS, 7),
    "cnn": Case(lambda: cnn((3, 4)), IMAGES.at[2].set(0), 4),
    "mlp": Case(lambda: mlp((3, 4)), VECTORS.at[2].set(0), 4),
    "precomputed": Case(lambda: precomputed(3, dropout=0.4), VECTORS.at[2].set(0), 3),
}


class Found(NamedTuple):
    """A case, and programs that are compiled once for all tests of it."""

    encoder: Encoder
    inputs: Any
    width: int
    start: Any
    gradients: Any


@pytest.fixture(scope="module", params=CASES)
def found(request) -> Found:
    make, inputs, width = CASES[request.param]
    encoder = make()

    def start(key):
        params = encoder.init(key, inputs)
        return params, encoder.apply(params, inputs, None)

    def gradients(params, key):
        def total(params):
            features = encoder.apply(params, inputs, key)
            return jnp.sum(features * jnp.arange(1.0, 5)[:, None]), features

        return jax.grad(total, has_aux=True)(params)

    return Found(encoder, inputs, width, jax.jit(start), jax.jit(gradients))


def test_features_are_finite_and_jit_is_eager(found):
    params, features = found.start(jax.random.key(0))
    assert features.shape == (4, found.width)
    assert features.dtype == jnp.float32
    assert np.isfinite(features).all()
    eager = found.encoder.apply(params, found.inputs, None)
    np.testing.assert_allclose(eager, features, atol=1e-5)


def test_dropout_follows_the_key(found):
    params, features = found.start(jax.random.key(0))
    keys = jax.random.key(1), jax.random.key(2), jax.random.key(1)
    grads, noisy = zip(*(found.gradients(params, key) for key in keys), strict=True)
    np.testing.assert_array_equal(noisy[0], noisy[2])
    assert np.abs(noisy[0] - noisy[1]).max() > 0
    assert np.abs(noisy[0] - features).max() > 0
    for leaf in jax.tree.leaves((grads, noisy)):
        assert np.isfinite(leaf).all()


def test_replicas_are_a_loop(found):
    keys = jax.random.split(jax.random.key(3))
    together = jax.jit(jax.vmap(found.start))(keys)
    for i, key in enumerate(keys):
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, 1e-4, 1e-5),
            together,
            found.start(key),
        )


def test_equal_settings_give_the_same_encoder(found, request):
    make = CASES[request.node.callspec.params["found"]].make
    assert make() is found.encoder


def test_lowers_for_every_platform(found):
    key = jax.eval_shape(lambda: jax.random.key(0))
    params, _ = jax.eval_shape(found.start, key)
    exported = jax.export.export(found.gradients, platforms=["cpu", "cuda", "tpu"])(params, key)
    assert exported.platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize("x64", [False, True])
def test_types_hold_under_strict_promotion(found, x64):
    with jax.enable_x64(x64), jax.numpy_dtype_promotion("strict"):
        key = jax.eval_shape(lambda: jax.random.key(0))
        params = jax.eval_shape(found.encoder.init, key, found.inputs)
        features = jax.eval_shape(found.encoder.apply, params, found.inputs, key)
    expected = jnp.dtype("float64" if x64 else "float32")
    assert {x.dtype for x in (*jax.tree.leaves(params), features)} == {expected}


def test_it_computes_in_the_type_of_the_parameters(found):
    key = jax.eval_shape(lambda: jax.random.key(0))
    params = jax.eval_shape(found.encoder.init, key, found.inputs)
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), params)
    for floats in (jnp.float32, jnp.bfloat16):
        inputs = jax.tree.map(
            lambda x, floats=floats: x.astype(floats) if x.dtype == jnp.float32 else x, found.inputs
        )
        with jax.numpy_dtype_promotion("strict"):
            features = jax.eval_shape(found.encoder.apply, half, inputs, key)
        assert features.dtype == jnp.bfloat16


def test_embedding_bag_is_a_sparse_matrix_product():
    encoder = embedding_bag(64, 5)
    params = encoder.init(jax.random.key(0), BAG)
    dense = np.zeros((4, 64), np.float32)
    np.add.at(dense, (np.arange(4)[:, None], BAG.ids), BAG.weights)
    found = encoder.apply(params, BAG, None)
    np.testing.assert_allclose(found, dense @ np.asarray(params["table"]), atol=1e-6)
    longer = BagOfFeatures(*(jnp.pad(x, ((0, 0), (0, 3))) for x in BAG))
    np.testing.assert_allclose(encoder.apply(params, longer, None), found, atol=1e-6)


def test_state_that_training_would_lose_is_refused():
    class Normalised(nn.Module):
        @nn.compact
        def __call__(self, inputs, deterministic):
            return nn.BatchNorm(deterministic)(inputs)

    with pytest.raises(ValueError, match=r"Normalised: got collections \['batch_stats'\]"):
        from_module(Normalised()).init(jax.random.key(0), VECTORS)
