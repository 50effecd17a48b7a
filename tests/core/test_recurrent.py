"""The LSTM kernel: step-by-step reference, gradients, masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metal_jax._core.recurrent import (
    LstmWeights,
    bidirectional_lstm,
    forget_gate_open,
    lstm,
)

NUM_STEPS, SIZE = 4, 2
LENGTHS = np.array([4, 2, 0])
PADDED = np.arange(NUM_STEPS)[:, None] < LENGTHS
WITH_GAPS = np.array([[1, 0, 1], [0, 0, 1], [1, 1, 1], [1, 0, 0]], bool)

RANDOM = np.random.default_rng(0)
PROJECTED = 2 * RANDOM.normal(size=(NUM_STEPS, 3, 4 * SIZE))
WEIGHTS = RANDOM.normal(size=(SIZE, 4 * SIZE))
ABOVE = RANDOM.normal(size=(NUM_STEPS, 3, SIZE))

pytestmark = pytest.mark.usefixtures("x64")


def reference(projected, weights, mask, xp=jnp):
    """The equations, one step after the other."""
    h = c = xp.zeros((projected.shape[1], SIZE))
    states = []
    for x, kept in zip(projected, mask, strict=True):
        i, f, o, g = xp.moveaxis((x + h @ weights).reshape(-1, 4, SIZE), 1, 0)
        i, f, o = (1 / (1 + xp.exp(-gate)) for gate in (i, f, o))
        new_c = f * c + i * xp.tanh(g)
        h = xp.where(kept[:, None], o * xp.tanh(new_c), h)
        c = xp.where(kept[:, None], new_c, c)
        states.append(h)
    return xp.stack(states)


def with_gradients(function):
    """States, and the gradients of their weighted sum."""

    def found(projected, weights, mask):
        states, pull = jax.vjp(lambda x, w: function(x, w, mask), projected, weights)
        return states, *pull(jnp.asarray(ABOVE))

    return found


ours, plain = jax.jit(with_gradients(lstm)), jax.jit(with_gradients(reference))


@pytest.mark.parametrize("mask", [PADDED, WITH_GAPS], ids=["padded", "with gaps"])
def test_states_and_gradients_are_those_of_the_equations(mask):
    states, *grads = ours(PROJECTED, WEIGHTS, mask)
    assert states.dtype == np.float64
    np.testing.assert_allclose(states, reference(PROJECTED, WEIGHTS, mask, np), 1e-12, 1e-14)
    for found, expected in zip(grads, plain(PROJECTED, WEIGHTS, mask)[1:], strict=True):
        np.testing.assert_allclose(found, expected, 1e-11, 1e-13)


def test_gradients_are_those_of_finite_differences():
    states = jax.jit(lambda x, w: lstm(x, w, WITH_GAPS))
    check_grads(states, (PROJECTED, WEIGHTS), order=1, modes=["rev"])


def test_padding_changes_nothing():
    states, grad, _ = found = ours(PROJECTED, WEIGHTS, PADDED)
    for item, length in enumerate(LENGTHS):
        if length:
            alone = reference(PROJECTED[:length, [item]], WEIGHTS, PADDED[:length, [item]], np)
            np.testing.assert_allclose(states[-1, item], alone[-1, 0], 1e-12)
        assert np.asarray(grad)[:length, item].any(-1).all()
    assert not np.asarray(states)[:, 2].any()
    assert not np.asarray(grad)[~PADDED].any()
    other = ours(np.where(PADDED[..., None], PROJECTED, 100.0), WEIGHTS, PADDED)
    jax.tree.map(np.testing.assert_array_equal, found, other)


def test_jit_is_eager_and_vmap_is_a_loop():
    eager = lstm(jnp.asarray(PROJECTED), jnp.asarray(WEIGHTS), jnp.asarray(PADDED))
    np.testing.assert_allclose(eager, ours(PROJECTED, WEIGHTS, PADDED)[0], 1e-12, 1e-14)
    several = (
        np.stack([PROJECTED, -PROJECTED]),
        np.stack([WEIGHTS, 2 * WEIGHTS]),
        np.stack([PADDED, WITH_GAPS]),
    )
    mapped = jax.jit(jax.vmap(with_gradients(lstm)))(*several)
    for i in range(2):
        one = ours(*(x[i] for x in several))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, 1e-11, 1e-13), mapped, one
        )


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_dtypes_are_kept_under_strict_promotion(dtype):
    shapes = [jax.ShapeDtypeStruct(x.shape, dtype) for x in (PROJECTED, WEIGHTS)]
    with jax.numpy_dtype_promotion("strict"):
        found = jax.eval_shape(
            lambda x, w: jax.value_and_grad(lambda *a: lstm(*a, PADDED).sum(), (0, 1))(x, w),
            *shapes,
        )
    assert {x.dtype for x in jax.tree.leaves(found)} == {jnp.dtype(dtype)}


def weights_of_two(width, seed=1):
    rng = np.random.default_rng(seed)
    shapes = ((2, width, 4 * SIZE), (2, SIZE, 4 * SIZE), (2, 4 * SIZE))
    return LstmWeights(*(jnp.asarray(rng.normal(size=shape)) for shape in shapes))


@pytest.mark.parametrize("mask", [PADDED, ~PADDED, WITH_GAPS], ids=["after", "before", "gaps"])
def test_both_directions_read_an_items_own_steps(mask):
    width = 3
    weights = weights_of_two(width)
    inputs = np.random.default_rng(2).normal(size=(3, NUM_STEPS, width))
    found = np.asarray(bidirectional_lstm(jnp.asarray(inputs), jnp.asarray(mask.T), weights))
    assert found.shape == (2, 3, NUM_STEPS, SIZE)
    for item in range(3):
        steps = np.flatnonzero(mask[:, item])
        for direction, order in enumerate((steps, steps[::-1])):
            one = LstmWeights(*(np.asarray(part[direction]) for part in weights))
            projected = (inputs[item, order] @ one.input + one.bias)[:, None]
            kept = np.ones((len(order), 1), bool)
            if len(order):
                alone = reference(projected, one.recurrent, kept, np)[:, 0]
                np.testing.assert_allclose(found[direction, item, order], alone, 1e-11, 1e-13)
        last = found[0, item, -1], found[1, item, 0]
        if len(steps):
            np.testing.assert_array_equal(last[0], found[0, item, steps[-1]])
            np.testing.assert_array_equal(last[1], found[1, item, steps[0]])
        else:
            assert not np.any(last)


def test_the_forget_gate_starts_open():
    bias = forget_gate_open(jax.random.key(0), (2, 8), jnp.float32)
    assert bias.dtype == np.float32
    assert bias.tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]] * 2
