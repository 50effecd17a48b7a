"""The LSTM encoder: the equations item by item, gradients, padding, word order."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from metal_jax.network import (
    Examples,
    FitConfig,
    NetworkConfig,
    OptimiserConfig,
    Tokens,
    TrainingConfig,
    build,
    fit,
    fit_tokeniser,
    leaf_log_probs,
    lstm_encoder,
    tokenise,
)
from metal_jax.task_tree import TaskTree

NUM_IDS, WIDTH, SIZE = 7, 3, 2
RANDOM = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 1]], bool)
TOKENS = Tokens(RANDOM.integers(1, NUM_IDS, MASK.shape), MASK)
ENCODER = lstm_encoder(NUM_IDS, WIDTH, SIZE)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def by_hand(params, ids):
    """Features of one item without padding."""
    if not len(ids):
        return np.zeros(2 * SIZE + WIDTH)
    read = np.zeros((len(ids), 2 * SIZE + WIDTH))
    read[:, 2 * SIZE :] = params["embeddings"][ids]
    for direction, order in enumerate((range(len(ids)), reversed(range(len(ids))))):
        h = c = np.zeros(SIZE)
        for step in order:
            z = params["embeddings"][ids[step]] @ params["input"][direction]
            z = z + h @ params["recurrent"][direction] + params["bias"][direction]
            i, f, o, g = z.reshape(4, SIZE)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            read[step, direction * SIZE : (direction + 1) * SIZE] = h
    hidden = params["attention_hidden"]
    u = np.tanh(read @ hidden["kernel"] + hidden["bias"])
    weights = np.exp(u @ params["attention"]["kernel"][:, 0])
    return weights @ read / weights.sum()


def loss_and_features(params, tokens):
    features = ENCODER.apply(params, tokens, None)
    return jnp.sum(features**2), features


run = jax.jit(jax.grad(loss_and_features, has_aux=True))


def random_params(seed):
    shapes = jax.eval_shape(ENCODER.init, jax.random.key(0), TOKENS)
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), shapes)


@pytest.fixture
def params(x64):
    return random_params(1)


def test_features_are_those_of_the_equations(params):
    found = run(params, TOKENS)[1]
    assert found.dtype == np.float64
    plain = jax.tree.map(np.asarray, params)
    for ids, mask, features in zip(*TOKENS, found, strict=True):
        np.testing.assert_allclose(features, by_hand(plain, ids[mask]), 1e-10, 1e-12)


def test_gradients_are_those_of_finite_differences(params):
    # One direction for each array: every part of the gradient is looked at alone.
    grads = run(params, TOKENS)[0]
    leaves, structure = jax.tree.flatten(params)
    directions = jax.tree.leaves(random_params(2))
    for i, (grad, direction) in enumerate(zip(jax.tree.leaves(grads), directions, strict=True)):
        losses = []
        for step in (1e-5, -1e-5):
            moved = [*leaves[:i], leaves[i] + step * direction, *leaves[i + 1 :]]
            features = run(jax.tree.unflatten(structure, moved), TOKENS)[1]
            losses.append(np.sum(np.asarray(features) ** 2))
        expected = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(np.sum(np.asarray(grad) * direction), expected, 1e-6)


def test_padding_changes_nothing(params):
    wide = ((0, 0), (2, 3))
    longer = Tokens(np.pad(TOKENS.ids, wide, constant_values=NUM_IDS - 1), np.pad(MASK, wide))
    others = Tokens(np.where(MASK, TOKENS.ids, 0), MASK)
    expected = run(params, TOKENS)
    np.testing.assert_array_equal(expected[1][2], 0)
    for tokens in (longer, others):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, 1e-9, 1e-12),
            run(params, tokens),
            expected,
        )


def test_initial_embeddings():
    given = RANDOM.normal(size=(NUM_IDS, WIDTH))
    encoder = lstm_encoder(NUM_IDS, WIDTH, SIZE, initial_embeddings=given)
    table = jax.jit(lambda key: encoder.init(key, TOKENS)["embeddings"])(jax.random.key(0))
    np.testing.assert_allclose(table, given, 1e-6)
    assert table.dtype == np.float32
    with pytest.raises(ValueError, match=r"initial_embeddings: got shape \(7, 3\), expected"):
        lstm_encoder(NUM_IDS + 1, WIDTH, initial_embeddings=given)
    given[4, 1] = np.nan
    with pytest.raises(ValueError, match="initial_embeddings: row 4 is not finite"):
        lstm_encoder(NUM_IDS, WIDTH, initial_embeddings=given)


def test_shapes_are_checked():
    params = jax.eval_shape(ENCODER.init, jax.random.key(0), TOKENS)
    with pytest.raises(ValueError, match="ids: got shape"):
        jax.eval_shape(lambda p: ENCODER.apply(p, Tokens(np.ones(3, int), MASK), None), params)
    with pytest.raises(ValueError, match="mask: got shape"):
        jax.eval_shape(lambda p: ENCODER.apply(p, Tokens(TOKENS.ids, MASK[:2]), None), params)


@pytest.mark.slow
def test_it_learns_word_order():
    # Which of two words comes first: a sum of word embeddings cannot tell.
    rng = np.random.default_rng(0)
    texts = []
    for _ in range(256):
        words = [f"w{i}" for i in rng.integers(0, 5, rng.integers(0, 4))]
        first = rng.integers(0, len(words) + 1)
        second = rng.integers(0, first + 1)
        words.insert(first, "red")
        words.insert(second, "blue")
        texts.append(" ".join(words if rng.random() < 0.5 else words[::-1]))
    gold = np.array([text.index("red") < text.index("blue") for text in texts], int)
    assert 0.4 < gold.mean() < 0.6
    tokeniser = fit_tokeniser(texts[:192])
    tokens = jax.tree.map(jnp.asarray, tokenise(texts, tokeniser).tokens)
    network = build(
        TaskTree.single(2), lstm_encoder(tokeniser.num_ids, 8, 8, dropout=0.0), NetworkConfig((8,))
    )
    probs = np.eye(2)[gold]
    config = FitConfig(
        OptimiserConfig(0.03, weight_decay=0.01), training=TrainingConfig(num_steps=150)
    )
    examples, held_out = (
        Examples(jax.tree.map(lambda x, rows=rows: x[rows], tokens), probs[rows])
        for rows in (slice(192), slice(192, None))
    )
    params = fit(network, examples, held_out, config, key=jax.random.key(0)).params
    found = np.argmax(leaf_log_probs(network, params, held_out.inputs), axis=1)
    assert np.mean(found == gold[192:]) > 0.9
