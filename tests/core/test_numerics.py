"""Masked softmax at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from metal_jax._core.numerics import masked_logsumexp, masked_softmax

pytestmark = pytest.mark.usefixtures("x64")
X = np.array([[1.0, 2.0, 900.0], [3.0, 1e30, -1e30], [1.0, 2.0, 3.0], [-800.0, -801.0, 0.0]])
MASK = np.array([[1, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 0]], bool)


def test_masked_softmax_is_the_softmax_of_what_is_kept():
    found = np.asarray(masked_softmax(jnp.asarray(X), MASK))
    for row, x, kept in zip(found, X, MASK, strict=True):
        assert not row[~kept].any()
        if kept.any():
            terms = np.exp(x[kept] - x[kept].max())
            np.testing.assert_allclose(row[kept], terms / terms.sum(), 1e-14)
    logs = jnp.asarray(X) - masked_logsumexp(jnp.asarray(X), MASK)[:, None]
    np.testing.assert_allclose(found[MASK], np.exp(np.asarray(logs)[MASK]), 1e-12)


def test_gradients_are_finite_and_right():
    grad = jax.grad(lambda x: (masked_softmax(x, MASK) * jnp.arange(3.0)).sum())(jnp.asarray(X))
    assert np.isfinite(grad).all()
    assert not np.asarray(grad)[~MASK].any()
    small = jnp.asarray(X.clip(-2, 2))
    check_grads(lambda x: masked_softmax(x, MASK), (small,), order=2, modes=["rev"])
