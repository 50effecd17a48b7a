"""Hashed n-grams and their vocabulary."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.network import BagOfFeatures, fit_vocabulary, hashed_ngrams, select_features

quick = settings(max_examples=60, deadline=None)
TEXTS = ["How far is the moon?", "parseHTMLString(text)", "", "the the moon"]


def test_hashed_ngrams_are_the_same_in_every_process():
    code = (
        f"from metal_jax.network import hashed_ngrams\nprint(hashed_ngrams({TEXTS!r}).ids.tolist())"
    )
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "JAX_PLATFORMS": "cpu", "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert run.stdout.strip() == str(hashed_ngrams(TEXTS).ids.tolist())


def test_hashed_ngrams_count_and_scale():
    bag = hashed_ngrams(["b a a", "a", ""])
    norms = np.linalg.norm(bag.weights, axis=1)
    np.testing.assert_allclose(norms, [1, 1, 0], atol=1e-6)
    # b, a, (start b), (b a), (a a), (start . a), (b . a)
    assert np.sum(bag.weights > 0, axis=1).tolist() == [7, 2, 0]
    assert bag.weights[0, 1] / bag.weights[0, 0] == pytest.approx(np.log(3) / np.log(2))
    assert bag.ids[1, 0] == bag.ids[0, 1]
    assert bag.ids.dtype == np.int32
    assert bag.weights.dtype == np.float32


@pytest.mark.parametrize(
    ("one", "other"),
    [("readLine", "read line"), ("HTTPServer", "http server"), ("get_name", "get name")],
)
def test_names_are_split(one, other):
    words = [set(hashed_ngrams([text]).ids[0, :2].tolist()) for text in (one, other)]
    assert len(words[0] & words[1]) >= (1 if "_" in one else 2)


def test_limits():
    bag = hashed_ngrams(["a b c d e f", "a"], num_features=8, max_features=3)
    assert bag.ids.shape[1] <= 3
    assert bag.ids.max() < 8
    assert hashed_ngrams([]).ids.shape == (0, 1)


def test_vocabulary_keeps_the_frequent_features():
    ids = np.array([[7, 3, 9], [7, 3, 0], [7, 5, 0], [5, 0, 0]])
    bag = BagOfFeatures(ids, (ids > 0).astype(np.float32))
    vocabulary = fit_vocabulary(bag)
    assert vocabulary.ids.tolist() == [3, 5, 7]
    np.testing.assert_allclose(vocabulary.idf, 1 + np.log(5 / np.array([3, 3, 4])), rtol=1e-6)
    assert fit_vocabulary(bag, max_size=2).ids.tolist() == [3, 7]
    with pytest.raises(ValueError, match="no feature occurs in 9 of the 4 items"):
        fit_vocabulary(bag, min_count=9)


def test_select_features_against_a_dense_matrix():
    rng = np.random.default_rng(0)
    dense = rng.random((6, 30)) * (rng.random((6, 30)) < 0.3)
    dense[5] = 0
    bag = BagOfFeatures(np.tile(np.arange(30), (6, 1)), dense.astype(np.float32))
    vocabulary = fit_vocabulary(bag)
    selected = select_features(bag, vocabulary)
    found = np.zeros((6, len(vocabulary.ids)))
    np.add.at(found, (np.arange(6)[:, None], selected.ids), selected.weights)
    expected = dense[:, vocabulary.ids] * vocabulary.idf
    expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    few = select_features(bag, vocabulary, max_features=2)
    assert few.ids.shape == (6, 2)
    np.testing.assert_array_equal(few.ids, selected.ids[:, :2])


def test_unknown_features_are_dropped():
    vocabulary = fit_vocabulary(hashed_ngrams(["red fox", "red hen"]))
    assert not select_features(hashed_ngrams(["blue whale"]), vocabulary).weights.any()


def test_only_lists_of_strings_are_texts():
    with pytest.raises(ValueError, match="texts: got one string"):
        hashed_ngrams("abc")
    with pytest.raises(ValueError, match="texts: item 1 is NoneType"):
        hashed_ngrams(["abc", None])


@quick
@given(st.lists(st.text(st.characters(), max_size=12), max_size=4))
def test_any_text_gives_finite_weights(texts):
    bag = hashed_ngrams(texts, num_features=64)
    assert bag.ids.shape == bag.weights.shape
    assert len(bag.ids) == len(texts)
    norms = np.linalg.norm(bag.weights, axis=1)
    assert np.logical_or(np.isclose(norms, 1, atol=1e-5), norms == 0).all()
