r"""Slice-aware networks: an indicator and an expert for each slice of the items.

Slice-based learning (Chen et al., NeurIPS 2019, section 4) adds to a network, for each slice j, an
indicator that learns to tell its members and an expert that learns to represent them, and mixes the
experts by what the indicators say. Here the mixture is added to the features z that trunk and heads
read:

.. math:: z' = z + \sum_j P(\text{in slice } j \mid z)\, B_j \operatorname{relu}(A_j z).

:math:`B_j` starts at zero, so the network starts as the plain one. An item outside a slice neither
uses nor trains its expert, as far as the indicator knows; the original has a loss for each expert
alone and attention over their confidence too, which this has not.

Each slice is a root task of its own in the network's tree, with the labels "out" and "in". So
membership is learned like any task's labels, by the same loss with `LossConfig.task_weights`, can
be masked where it is unknown, and is judged by `evaluate`; slicing functions need not run where
the network predicts.

Legend: `n` items, `b` batch, `f` features, `h` units of an expert, `s` leaf states, `S` slices.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import check_known, real_array
from metal_jax.network._compiler.build import Network, build
from metal_jax.network._compiler.config import NetworkConfig
from metal_jax.network._compiler.keys import name_key
from metal_jax.network._encoders.encoder import Encoder
from metal_jax.task_tree import Task, TaskTree

_LABELS = ("out", "in")
_FEATURES = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
"""Of the network inside, which is given features."""


def slice_task(name: str) -> str:
    """The name of the root task of a slice.

    Args:
        name: the slice's.

    Returns:
        The name of the task.

    Example:
        >>> slice_task("short")
        'slice:short'
    """
    return f"slice:{name}"


def slice_aware(
    tree: TaskTree,
    encoder: Encoder,
    slices: Sequence[str],
    config: NetworkConfig = NetworkConfig(),
    *,
    expert_width: int = 16,
) -> Network:
    """A network with an indicator and an expert for each slice.

    Args:
        tree: the task tree.
        encoder: raw inputs to features float[b, f].
        slices: S names of slices.
        config: of the network, as for `build`.
        expert_width: h, units of each expert.

    Returns:
        The network of a forest: the roots of `tree`, then one for each slice. Its first s leaves
        are those of `tree`; `with_membership` extends soft labels. Parameters: those of `build`
        and `"slices": {"indicator": float[f, S], "bias": float[S], "in": float[S, f, h], "out":
        float[S, h, f]}`; `task_params` takes out those of one slice by the name of its task.

    Raises:
        ValueError: no slices, two of one name, or no expert units.

    Example:
        >>> identity = Encoder(lambda key, x: {}, lambda params, x, key: x)
        >>> net = slice_aware(TaskTree.single(3), identity, ["short"])
        >>> [task.name for task in net.tree.tasks], net.tree.num_leaves
        (['label', 'slice:short'], 5)
    """
    names = tuple(slices)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"slices: got {list(names)}, expected one or more different names")
    if expert_width < 1:
        raise ValueError(f"expert_width: got {expert_width}, expected at least 1")
    return _slice_aware(tree, encoder, names, config, expert_width)


@functools.lru_cache(maxsize=64)
def _slice_aware(
    tree: TaskTree, encoder: Encoder, slices: tuple[str, ...], config: NetworkConfig, width: int
) -> Network:
    inner = build(tree, _FEATURES, config)
    forest = TaskTree.from_tasks([*tree.tasks, *(Task(slice_task(s), _LABELS) for s in slices)])
    # Nodes are numbered breadth first: those of the slices stand between roots and their children.
    given = [*tree.node_names, *((slice_task(s), label) for s in slices for label in _LABELS)]
    order = np.array([given.index(name) for name in forest.node_names])

    def init(key: jax.Array, inputs: Any) -> Any:
        encoder_params = encoder.init(name_key(key, "encoder"), inputs)
        shapes = jax.eval_shape(lambda p, x: encoder.apply(p, x, None), encoder_params, inputs)
        num_features, num_slices = shapes.shape[1], len(slices)
        features = jnp.zeros((1, num_features), shapes.dtype)
        kernel = jax.nn.initializers.lecun_normal(in_axis=1, out_axis=2, batch_axis=0)
        return {
            **inner.init(key, features),
            "encoder": encoder_params,
            "slices": {
                "indicator": jnp.zeros((num_features, num_slices)),
                "bias": jnp.zeros(num_slices),
                "in": kernel(name_key(key, "slices"), (num_slices, num_features, width)),
                "out": jnp.zeros((num_slices, width, num_features)),
            },
        }

    def apply(
        params: Any,
        inputs: Any,
        key: jax.Array | None = None,
        *,
        dropout: ArrayLike | None = None,
    ) -> jax.Array:
        encoder_key = None if key is None else name_key(key, "encoder")
        features = encoder.apply(params["encoder"], inputs, encoder_key)
        experts = params["slices"]
        logits = features @ experts["indicator"] + experts["bias"]
        # The indicators learn who is a member, not who would profit from the expert.
        gates = jax.lax.stop_gradient(jax.nn.sigmoid(logits))
        hidden = jax.nn.relu(jnp.einsum("bf,sfh->bsh", features, experts["in"]))
        features += jnp.einsum("bs,bsh,shf->bf", gates, hidden, experts["out"])
        found = inner.apply({**params, "encoder": {}}, features, key, dropout=dropout)
        membership = jnp.stack([jax.nn.log_sigmoid(-logits), jax.nn.log_sigmoid(logits)], axis=-1)
        membership = membership.reshape(len(logits), -1).astype(found.dtype)
        return jnp.concatenate([found, membership], axis=1)[:, order]

    return Network(init, apply, forest, encoder, config, slices=slices)


def tower_tree(network: Network) -> TaskTree:
    """The tasks that have a head: all but those of slices."""
    if not network.slices:
        return network.tree
    sliced = {slice_task(name) for name in network.slices}
    return TaskTree.from_tasks([task for task in network.tree.tasks if task.name not in sliced])


def with_membership(leaf_probs: ArrayLike, membership: ArrayLike) -> np.ndarray:
    """Soft labels for the network of `slice_aware`.

    Args:
        leaf_probs: float[..., n, s] over the leaves of the tree.
        membership: bool[n, S] as `labeling.apply_slices` returns it, or probabilities.

    Returns:
        float[..., n, s + 2 S]: the same, then out and in for each slice.

    Raises:
        ValueError: another number of items, or a value that is no probability.

    Example:
        >>> with_membership([[0.5, 0.5]], [[True]]).tolist()
        [[0.5, 0.5, 0.0, 1.0]]
    """
    probs = np.asarray(real_array("leaf_probs", leaf_probs), float)
    inside = np.asarray(real_array("membership", membership), float)
    if probs.ndim < 2:
        raise ValueError(f"leaf_probs: got shape {probs.shape}, expected [..., n, leaves]")
    for name, values in (("leaf_probs", probs), ("membership", inside)):
        check_known(name, (values >= 0) & (values <= 1), "a probability")
    if inside.ndim != 2 or len(inside) != probs.shape[-2]:
        raise ValueError(f"membership: got shape {inside.shape}, expected [{probs.shape[-2]}, S]")
    both = np.stack([1 - inside, inside], axis=-1).reshape(len(inside), -1)
    both = np.broadcast_to(both, (*probs.shape[:-1], both.shape[1]))
    return np.concatenate([probs, both], axis=-1)
