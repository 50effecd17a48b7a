"""A dense layer that computes in its parameters' type."""

from __future__ import annotations

import flax.linen as nn
import jax


class Dense(nn.Module):
    """`x @ kernel + bias` in the kernel's dtype, whatever that of the input.

    Casting the parameters casts the computation; Linen's own layer would promote both.
    """

    width: int
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """float[..., features] to float[..., width]."""
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (x.shape[-1], self.width))
        x = x.astype(kernel.dtype) @ kernel
        return x + self.param("bias", nn.initializers.zeros, (self.width,)) if self.use_bias else x
