r"""The multi-task network compiled from a task tree.

A trunk with one hidden layer for each depth of the tree; the heads of the tasks at depth l read
hidden layer l, and each also its parent task's prediction (Ratner et al., "Snorkel MeTaL", DEEM
2018, section 3.2, figure 3; logits there, probabilities here unless `NetworkConfig` says
otherwise). Beside the trunk every head reads the encoder's features too, a linear path
that learns the plain cases at once (Cheng et al., "Wide & Deep Learning", DLRS 2016). All of this
is the default of `NetworkConfig`. The heads of a level are one array, padded to the widest and
masked, and one matrix product, so that a training step with a hundred tasks costs about as much as
two steps with one (`benchmarks/studies/network_steps.py`).

Each task has a softmax of its own over the labels *given that the task is active*, hence

.. math:: P(\text{path}) = \prod_t P(\text{label}_t \mid \text{parent label}),

and the marginals of a child task sum to its parent label's probability by construction.

Legend: `b` batch, `N` label nodes, `s` leaf states, `T` tasks of a level, `W` widest of them, `h`
units of the trunk layer.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import jax
from jax.typing import ArrayLike

from metal_jax._core.checks import check_rank
from metal_jax.network._compiler.config import NetworkConfig
from metal_jax.network._compiler.keys import name_key
from metal_jax.network._compiler.plan import compile_plan
from metal_jax.network._compiler.tower import apply_tower, drop
from metal_jax.network._compiler.tower_params import init_tower
from metal_jax.network._encoders.encoder import Encoder
from metal_jax.task_tree import TaskTree, path_sum


class NetworkApply(Protocol):
    """`apply(params, inputs, key, *, dropout) -> float[b, N]`."""

    def __call__(
        self,
        params: Any,
        inputs: Any,
        key: jax.Array | None = None,
        *,
        dropout: ArrayLike | None = None,
    ) -> jax.Array:
        """Conditional log-probabilities.

        `key` drives dropout, None when predicting; `dropout` is the rate after each layer of the
        trunk, perhaps traced, in place of `NetworkConfig.dropout`.
        """
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
        apply: `(params, inputs, key=None, *, dropout=None) -> float[b, N]`, `log P(label | parent
            label)` for every label node.
        tree: the task tree.
        encoder: the shared encoder.
        config: the settings.
        task_encoders: the encoders of single tasks, by name.
        slices: names of the slices that have an expert; see `slice_aware`.
    """

    init: NetworkInit
    apply: NetworkApply
    tree: TaskTree
    encoder: Encoder
    config: NetworkConfig
    task_encoders: tuple[tuple[str, Encoder], ...] = ()
    slices: tuple[str, ...] = ()


def build(
    tree: TaskTree,
    encoder: Encoder,
    config: NetworkConfig = NetworkConfig(),
    *,
    task_encoders: Mapping[str, Encoder] | None = None,
) -> Network:
    """Compile a task tree into a network.

    Args:
        tree: the task tree; in a forest every root hangs on the shared trunk.
        encoder: raw inputs to the feature vectors that the trunk reads.
        config: trunk, attachment of the heads, dropout, what the heads read.
        task_encoders: task name -> an encoder of its own, that this task's head reads beside the
            trunk. It is given the same inputs.

    Returns:
        Pure `init` and `apply`. Parameters: `{"encoder": ..., "task_encoders": {task: ...},
        "tower": {"trunk_0": {"kernel", "bias"}, ..., "heads_0": {"kernel": float[T, h, W], ...},
        ...}}`, without "task_encoders" where there are none; see `task_params` for those of a task
        by name. `init` and `apply` fold names into the key they are given, so that a task's initial
        values do not depend on the order of the tree nor on its other tasks.

    Raises:
        ValueError: settings or an encoder for an unknown task, or an unknown trunk layer; names the
            task.

    Example:
        >>> from metal_jax.network import embedding_bag, hashed_ngrams
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> net = build(tree, embedding_bag(2**10))
        >>> inputs = hashed_ngrams(["some words", "other words"], num_features=2**10)
        >>> params = net.init(jax.random.key(0), inputs)
        >>> leaf_log_probs(net, params, inputs).shape
        (2, 3)
    """
    own = tuple(sorted((task_encoders or {}).items(), key=lambda item: item[0]))
    return _build(tree, encoder, config, own)


@functools.lru_cache(maxsize=64)
def _build(
    tree: TaskTree,
    encoder: Encoder,
    config: NetworkConfig,
    task_encoders: tuple[tuple[str, Encoder], ...],
) -> Network:
    """One network for equal arguments, so that a second fit finds its compiled program."""
    plan = compile_plan(tree, config, tuple(name for name, _ in task_encoders))

    def init(key: jax.Array, inputs: Any) -> Any:
        params: dict[str, Any] = {"encoder": encoder.init(name_key(key, "encoder"), inputs)}
        num_features = _num_features("encoder", encoder, params["encoder"], inputs)
        own_features: dict[str, int] = {}
        if task_encoders:
            params["task_encoders"] = {}
        for name, own in task_encoders:
            own_params = own.init(name_key(key, "task_encoders", name), inputs)
            field = f"task_encoders: {name!r}"
            own_features[name] = _num_features(field, own, own_params, inputs)
            params["task_encoders"][name] = own_params
        tower_key = name_key(key, "tower")
        params["tower"] = init_tower(tree, plan, tower_key, num_features, own_features)
        return params

    def apply(
        params: Any,
        inputs: Any,
        key: jax.Array | None = None,
        *,
        dropout: ArrayLike | None = None,
    ) -> jax.Array:
        def encode(own: Encoder, own_params: Any, *names: str) -> jax.Array:
            return own.apply(own_params, inputs, None if key is None else name_key(key, *names))

        own_features = {}
        for name, own in task_encoders:
            features = encode(own, params["task_encoders"][name], "task_encoders", name)
            rate = plan.heads[tree.task_index(name)].dropout
            own_features[name] = drop(features, rate, key, name)
        return apply_tower(
            plan,
            params["tower"],
            encode(encoder, params["encoder"], "encoder"),
            own_features,
            None if key is None else name_key(key, "tower"),
            dropout=config.dropout if dropout is None else dropout,
            stop_parent_gradient=config.stop_parent_gradient,
        )

    return Network(init, apply, tree, encoder, config, task_encoders)


def _num_features(field: str, encoder: Encoder, params: Any, inputs: Any) -> int:
    """Width of an encoder's features, perhaps the user's own."""
    features = jax.eval_shape(lambda p, x: encoder.apply(p, x, None), params, inputs)
    check_rank(f"{field}: features", features, 2)
    return features.shape[1]


def node_log_probs(network: Network, params: Any, inputs: Any) -> jax.Array:
    """Log-probability that an item's path goes through each node.

    Args:
        network: from `build`.
        params: its parameters.
        inputs: b items.

    Returns:
        float[b, N].

    Example:
        >>> import jax.numpy as jnp
        >>> from metal_jax.network import mlp
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> net = build(tree, mlp((2,)))
        >>> inputs = jnp.ones((3, 4))
        >>> params = net.init(jax.random.key(0), inputs)
        >>> probs = jnp.exp(node_log_probs(net, params, inputs))
        >>> round(float(probs[0, :2].sum()), 3)  # the labels of the root
        1.0
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

    Example:
        >>> import jax.numpy as jnp
        >>> from metal_jax.network import mlp
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> net = build(tree, mlp((2,)))
        >>> inputs = jnp.ones((3, 4))
        >>> params = net.init(jax.random.key(0), inputs)
        >>> round(float(jnp.exp(leaf_log_probs(net, params, inputs))[0].sum()), 3)
        1.0
    """
    return node_log_probs(network, params, inputs)[:, network.tree.leaf_nodes]
