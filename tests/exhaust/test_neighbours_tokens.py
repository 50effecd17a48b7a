import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.exhaust import (
    Layer,
    Vocabulary,
    build_vocabulary,
    predict_from_closest_depth,
    predict_from_neighbours,
    predict_mean,
    read_cell_string,
    read_layer_string,
    tokenise,
)


def reference(distances, values, k):
    """The mean over many random orders of what a plain sort would choose."""
    random = np.random.default_rng(0)
    found = []
    for _ in range(4000):
        order = random.permutation(len(values))
        nearest = order[np.argsort(distances[order], kind="stable")[:k]]
        found.append(values[nearest].mean())
    return np.mean(found)


@pytest.mark.parametrize("k", [1, 3, 4, 9])
def test_ties_share_their_places(k):
    distances = np.array([3, 1, 1, 2, 2, 2, 0.5], np.float32)
    values = np.array([1, 2, 5, 3, 8, 1, 9], np.float32)
    got = predict_from_neighbours(distances[None], values, k)[0]
    np.testing.assert_allclose(got, reference(distances, values, k), rtol=0.02)
    order = np.random.default_rng(1).permutation(len(values))
    again = predict_from_neighbours(distances[None, order], values[order], k)[0]
    np.testing.assert_allclose(again, got, rtol=1e-6)


def test_weights_fall_with_distance_and_missing_values_are_left_out():
    got = predict_from_neighbours([[0.0, 1.0, 0.0]], [1.0, 4.0, jnp.nan], 2, softening=0.5)
    np.testing.assert_allclose(got, [(1 / 0.5 + 4 / 1.5) / (1 / 0.5 + 1 / 1.5)], rtol=1e-6)
    assert jnp.isnan(predict_from_neighbours([[1.0]], [jnp.nan])).all()
    for distance in (-1.0, jnp.inf, jnp.nan):
        with pytest.raises(ValueError, match=r"entry \[0, 1\] is not 0 or more, and finite"):
            predict_from_neighbours([[0.0, distance]], [1.0, 4.0], softening=0.5)
    for bad in ({"num_neighbours": 0}, {"softening": 0.0}):
        with pytest.raises(ValueError, match="expected"):
            predict_from_neighbours([[1.0]], [1.0], **bad)
    with pytest.raises(ValueError, match="expected"):
        predict_from_neighbours([[1.0]], [1.0, 2.0])


def test_predictions_in_x64_and_strict_promotion(x64):
    with jax.numpy_dtype_promotion("strict"):
        distances = np.array([[0.0, 1.0]])
        got = jax.jit(lambda d, v: predict_from_neighbours(d, v, 2, softening=1.0))(
            distances, np.array([1.0, 4.0])
        )
        assert got.dtype == jnp.float64
        np.testing.assert_allclose(got, [2.0])
        depths = np.array([1]), np.array([1, 3]), np.array([1.0, 4.0])
        assert predict_from_closest_depth(*depths).tolist() == [1]


def test_closest_depth_and_its_ties():
    depth, references = [5, 1], [4, 6, 4, 9]
    values = [1.0, 2.0, 6.0, jnp.nan]
    np.testing.assert_allclose(predict_from_closest_depth(depth, references, values), [3, 3.5])
    keys = jax.random.split(jax.random.key(0), 300)
    drawn = jax.vmap(lambda key: predict_from_closest_depth(depth, references, values, key=key))(
        keys
    )
    assert set(drawn[:, 0].tolist()) == {1, 2, 6}
    assert set(drawn[:, 1].tolist()) == {1, 6}
    np.testing.assert_allclose(drawn.mean(0), [3, 3.5], atol=0.4)
    np.testing.assert_allclose(predict_mean(values, 2), [3, 3])


def test_tokens():
    net = (
        Layer("Conv2d", {"out_channels": 64, "kernel_size": [3, 3]}),
        Layer("Dropout", {"p": 0.5}),
    )
    other = (Layer("Conv2d"), Layer("Mystery"), Layer("Mystery2"), Layer("Conv2D", {"filters": 64}))
    vocabulary = build_vocabulary([net, other[:2]])
    assert vocabulary.kinds == ("conv", "Mystery", "dropout")
    tokens = tokenise([net, other], vocabulary)
    assert tokens.ids.tolist() == [[2, 4, 0, 0], [2, 3, 1, 2]]
    assert tokens.mask.sum(1).tolist() == [2, 4]
    outputs, kernel, rate = 1, 2, 7
    np.testing.assert_allclose(
        tokens.values[0, :2, [outputs, kernel, rate]],
        [[6, 0], [np.log2(3), 0], [0, 0.5]],
        rtol=1e-6,
    )
    assert tokens.values[1, 3, outputs] == 6
    assert build_vocabulary([net, other], min_count=2).kinds == ("conv",)


def test_token_arrays_have_the_shapes_asked_for():
    cell = read_cell_string("|conv_3x3~0|+|none~0|skip_connect~1|")
    vocabulary = build_vocabulary([cell])
    assert tokenise([cell], vocabulary, 8).values.shape == (1, 8, 9)
    assert tokenise([], vocabulary).ids.shape == (0, 0)
    with pytest.raises(ValueError, match="at most 2"):
        tokenise([read_layer_string("C(1,1,1) SM(1) SM(2)")], vocabulary, 2)


def test_vocabulary_round_trip():
    vocabulary = Vocabulary(("conv", "relu"))
    text = json.dumps(vocabulary.to_json())
    assert Vocabulary.from_json(json.loads(text)) == vocabulary
    assert vocabulary.size == 4
    for bad in ({}, {**vocabulary.to_json(), "sizes": []}, {**vocabulary.to_json(), "kinds": [1]}):
        with pytest.raises(ValueError, match="expected"):
            Vocabulary.from_json(bad)
