r"""The multi-task network compiled from a task tree.

A trunk with one hidden layer for each depth of the tree; the heads of the tasks at depth l read
hidden layer l, and each also its parent task's logits (Ratner et al., "Snorkel MeTaL", DEEM 2018,
section 3.2, figure 3). Beside the trunk every head reads the encoder's features too, a linear path
that learns the plain cases at once (Cheng et al., "Wide & Deep Learning", DLRS 2016). All heads of
a level are one array, padded to the widest and masked, applied by `jax.vmap`, so that a hundred
tasks cost little more than one.

Each task has a softmax of its own over the labels *given that the task is active*, hence

.. math:: P(\text{path}) = \prod_t P(\text{label}_t \mid \text{parent label}),

and the marginals of a child task sum to its parent label's probability by construction.

Legend: `b` batch, `N` label nodes, `s` leaf states, `T` tasks of a level, `W` widest of them.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.network._encoders import Encoder
from metal_jax.task_tree import TaskTree, log_normalise_tasks, path_sum


@dataclasses.dataclass(frozen=True)
class NetworkConfig:
    """Shape of the compiled network.

    Attributes:
        widths: units of the hidden layer of each depth; the last one is repeated for deeper trees.
        dropout: after each hidden layer.
        pass_parent: whether a head also reads its parent task's logits.
        wide: whether a head also reads the encoder's features, past the trunk.
    """

    widths: tuple[int, ...] = (64,)
    dropout: float = 0.5
    pass_parent: bool = True
    wide: bool = True

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths: got {self.widths}, expected positive integers")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout: got {self.dropout}, expected a number in [0, 1)")


class NetworkApply(Protocol):
    """`apply(params, inputs, key) -> float[b, N]`."""

    def __call__(self, params: Any, inputs: Any, key: jax.Array | None = None) -> jax.Array:
        """Conditional log-probabilities; `key` drives dropout, None when predicting."""
        ...


class NetworkInit(Protocol):
    """`init(key, inputs) -> params`."""

    def __call__(self, key: jax.Array, inputs: Any) -> Any:
        """Parameters as a nested dict of arrays, for inputs of these shapes."""
        ...


class Network(NamedTuple):
    """A pair of pure functions over a plain dict of parameters, and the tree behind them.

    Attributes:
        init: `(key, inputs) -> params`.
        apply: `(params, inputs, key=None) -> float[b, N]`, `log P(label | parent label)` for every
            label node.
        tree: the task tree.
    """

    init: NetworkInit
    apply: NetworkApply
    tree: TaskTree


class _Heads(nn.Module):
    """Heads of one level: float[b, T, W] logits, -inf never (padding is masked by the caller)."""

    num_tasks: int
    width: int

    @nn.compact
    def __call__(self, hidden: jax.Array, parent_logits: jax.Array | None) -> jax.Array:
        def parameters(name: str, size: int) -> jax.Array:
            scale = nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)
            return self.param(name, scale, (self.num_tasks, size, self.width))

        kernel = parameters("kernel", hidden.shape[-1])
        bias = self.param("bias", nn.initializers.zeros, (self.num_tasks, self.width))
        logits = jax.vmap(lambda k, b: hidden @ k + b, out_axes=1)(kernel, bias)
        if parent_logits is not None:
            mixing = parameters("parent_kernel", parent_logits.shape[-1])
            logits += jax.vmap(jnp.matmul, in_axes=(1, 0), out_axes=1)(parent_logits, mixing)
        return logits


class _Tower(nn.Module):
    """Trunk and heads over encoded features; float[b, N] logits."""

    tree: TaskTree
    config: NetworkConfig

    @nn.compact
    def __call__(self, features: jax.Array, deterministic: bool) -> jax.Array:
        chex.assert_rank(features, 2)  # what the encoder, perhaps the user's own, handed over
        widths = self.config.widths
        hidden = features
        by_level: list[jax.Array] = []
        above: jax.Array | None = None  # [b, T, W] logits of the level above
        for depth, level in enumerate(self.tree.levels):
            width = widths[min(depth, len(widths) - 1)]
            hidden = nn.relu(nn.Dense(width, name=f"trunk_{depth}")(hidden))
            hidden = nn.Dropout(self.config.dropout)(hidden, deterministic=deterministic)
            read = jnp.concatenate([hidden, features], -1) if self.config.wide else hidden
            parent_logits = None
            if above is not None and self.config.pass_parent:
                parent_task = self.tree.node_task[level.parents]
                row = np.searchsorted(self.tree.levels[depth - 1].tasks, parent_task)
                parent_logits = above[:, row]
            heads = _Heads(len(level.tasks), level.nodes.shape[1], name=f"heads_{depth}")
            above = jnp.where(level.mask, heads(read, parent_logits), 0)
            by_level.append(above[:, level.mask])
        return jnp.concatenate(by_level, axis=-1)


def build(tree: TaskTree, encoder: Encoder, config: NetworkConfig = NetworkConfig()) -> Network:
    """Compile a task tree into a network.

    Args:
        tree: the task tree; in a forest every root hangs on the shared trunk.
        encoder: raw inputs to feature vectors.
        config: widths, dropout, what the heads read.

    Returns:
        Pure `init` and `apply`. Parameters: `{"encoder": ..., "tower": {"trunk_0": ..., "heads_0":
        {"kernel": float[T, h, W], ...}, ...}}`.

    Example:
        >>> from metal_jax.network import embedding_bag, hashed_ngrams
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> net = build(tree, embedding_bag(2**10))
        >>> inputs = hashed_ngrams(["some words", "other words"], num_features=2**10)
        >>> params = net.init(jax.random.key(0), inputs)
        >>> leaf_log_probs(net, params, inputs).shape
        (2, 3)
    """
    return _build(tree, encoder, config)


@functools.lru_cache(maxsize=64)
def _build(tree: TaskTree, encoder: Encoder, config: NetworkConfig) -> Network:
    """One network for equal arguments, so that a second fit finds its compiled program."""
    tower = _Tower(tree, config)

    def init(key: jax.Array, inputs: Any) -> Any:
        encoder_key, tower_key = jax.random.split(key)
        encoder_params = encoder.init(encoder_key, inputs)
        features = jax.eval_shape(lambda p, x: encoder.apply(p, x, None), encoder_params, inputs)
        zeros = jnp.zeros((1, *features.shape[1:]), features.dtype)
        return {
            "encoder": encoder_params,
            "tower": tower.init(tower_key, zeros, True)["params"],
        }

    def apply(params: Any, inputs: Any, key: jax.Array | None = None) -> jax.Array:
        encoder_key, rngs = None, None
        if key is not None:
            encoder_key, tower_key = jax.random.split(key)
            rngs = {"dropout": tower_key}
        features = encoder.apply(params["encoder"], inputs, encoder_key)
        logits = tower.apply({"params": params["tower"]}, features, key is None, rngs=rngs)
        return log_normalise_tasks(tree, logits)  # pyright: ignore[reportArgumentType]

    return Network(init, apply, tree)


def node_log_probs(network: Network, params: Any, inputs: Any) -> jax.Array:
    """Log-probability that an item's path goes through each node.

    Args:
        network: from `build`.
        params: its parameters.
        inputs: b items.

    Returns:
        float[b, N].
    """
    return path_sum(network.tree, network.apply(params, inputs))


def leaf_log_probs(network: Network, params: Any, inputs: Any) -> jax.Array:
    """Log-probability of each leaf state, the product of the conditionals on its path.

    Args:
        network: from `build`.
        params: its parameters.
        inputs: b items.

    Returns:
        float[b, s]; the exponentials sum to one over the leaves of each root.
    """
    return node_log_probs(network, params, inputs)[:, network.tree.leaf_nodes]
