"""The protocol of encoders: from raw inputs to one feature vector for each item.

Legend: `b` items of a batch.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, Protocol, cast

import flax.linen as nn
import jax


class EncoderInit(Protocol):
    """`init(key, inputs) -> params`."""

    def __call__(self, key: jax.Array, inputs: Any) -> Any:
        """Parameters for inputs of these shapes."""
        ...


class EncoderApply(Protocol):
    """`apply(params, inputs, key) -> float[b, features]`."""

    def __call__(self, params: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        """Features; `key` drives dropout, None when predicting."""
        ...


class Encoder(NamedTuple):
    """Raw inputs to feature vectors: a pair of pure functions, replaceable by the user's own.

    Make an encoder once and keep it: `build` and `fit` know it by identity, and a new one is
    compiled anew. The library's constructors return the same encoder for the same settings.

    Attributes:
        init: `(key, inputs) -> params`, a pytree of arrays; inputs is a pytree of arrays with a
            leading axis of items.
        apply: `(params, inputs, key) -> float[b, features]`; key None means no dropout.

    Example:
        A function without parameters, here of a batch float[b, 3]:

        >>> import jax.numpy as jnp
        >>> def squares(inputs):
        ...     return jnp.concatenate([inputs, inputs**2], axis=-1)
        >>> encoder = Encoder(lambda key, inputs: {}, lambda params, inputs, key: squares(inputs))
        >>> encoder.apply({}, jnp.ones((2, 3)), None).shape
        (2, 6)

        A pair with parameters of its own, from any library of pure functions:

        >>> def init(key, inputs):
        ...     return {"kernel": jax.random.normal(key, (inputs.shape[-1], 8))}
        >>> def apply(params, inputs, key):
        ...     return jnp.tanh(inputs @ params["kernel"])
        >>> encoder = Encoder(init, apply)
        >>> params = encoder.init(jax.random.key(0), jnp.ones((2, 3)))
        >>> encoder.apply(params, jnp.ones((2, 3)), None).shape
        (2, 8)
    """

    init: EncoderInit
    apply: EncoderApply


def from_module(module: nn.Module) -> Encoder:
    """An encoder from a Linen module called as `module(inputs, deterministic)`.

    Args:
        module: it may draw from the random stream "dropout" and have parameters, but no other
            state: `fit` would not carry it along.

    Returns:
        The encoder; a new one each time.

    Raises:
        ValueError: by `init`, the module has another collection than "params".

    Example:
        >>> import numpy as np
        >>> class Linear(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, inputs, deterministic):
        ...         return nn.Dense(3)(inputs)
        >>> encoder = from_module(Linear())
        >>> params = encoder.init(jax.random.key(0), np.ones((2, 5)))
        >>> encoder.apply(params, np.ones((2, 5)), None).shape
        (2, 3)
    """

    def init(key: jax.Array, inputs: Any) -> Any:
        variables = module.init(key, inputs, True)
        if others := sorted(set(variables) - {"params"}):
            raise ValueError(f"{type(module).__name__}: got collections {others}, expected params")
        return variables.get("params", {})

    def apply(params: Any, inputs: Any, key: jax.Array | None) -> jax.Array:
        rngs = None if key is None else {"dropout": key}
        return module.apply({"params": params}, inputs, key is None, rngs=rngs)  # pyright: ignore

    return Encoder(init, apply)


_cached = functools.lru_cache(maxsize=256)(from_module)


def shared_encoder(module: nn.Module) -> Encoder:
    """`from_module`, one encoder for equal modules, so that `build` finds its network again."""
    return _cached(cast(Any, module))
