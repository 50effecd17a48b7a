"""Computing in a narrower type than the parameters are kept in."""

from __future__ import annotations

from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

Tree = TypeVar("Tree")


def cast_floats(tree: Tree, dtype: DTypeLike) -> Tree:
    """Floating arrays of a pytree in another type; all others as they are.

    Args:
        tree: pytree of arrays.
        dtype: a floating type.

    Returns:
        The tree; gradients through it come back in the type of the input.
    """

    def cast(x: jax.Array) -> jax.Array:
        x = jnp.asarray(x)
        return x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, tree)


def at_least_float32(x: jax.Array) -> jax.Array:
    """Half-precision arrays in float32; all others as they are."""
    if jnp.issubdtype(x.dtype, jnp.floating) and jnp.finfo(x.dtype).bits < 32:
        return x.astype(jnp.float32)
    return x
