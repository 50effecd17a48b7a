r"""Temperature scaling, one temperature for each task (Guo et al., ICML 2017, section 4.2).

Conditional logits are divided, so that each task stays a distribution given that it is active, and
the marginals of a child task still sum to its parent label's probability.

Legend: `n` items, `N` label nodes, `t` tasks.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax._core.checks import (
    check_integer,
    check_last_axis,
    check_rank,
    check_shape,
    real_array,
    real_jax_array,
)
from metal_jax.network._compiler.build import Network
from metal_jax.network._evaluation.gold import checked_weights, gold_by_root, task_labels
from metal_jax.task_tree import TaskTree, log_normalise_tasks, task_sum

_COLDEST, _HOTTEST = 1 / 20, 20.0
_NUM_HALVINGS = 40


def scale_temperatures(
    tree: TaskTree, log_conditionals: jax.Array, temperatures: ArrayLike
) -> jax.Array:
    """Conditional log-probabilities at other temperatures.

    Args:
        tree: the task tree (static).
        log_conditionals: float[..., N], from `Network.apply`.
        temperatures: float[t], positive; above 1 for less confidence.

    Returns:
        float[..., N]; ranks within a task do not change.

    Example:
        >>> log_p = jnp.log(jnp.array([0.2, 0.8]))
        >>> found = jnp.exp(scale_temperatures(TaskTree.single(2), log_p, jnp.array([2.0])))
        >>> [round(p, 3) for p in found.tolist()]
        [0.333, 0.667]
    """
    log_conditionals = real_jax_array("log_conditionals", log_conditionals)
    check_last_axis("log_conditionals", log_conditionals, tree.num_nodes)
    given = real_jax_array("temperatures", temperatures)
    check_shape("temperatures", given, (tree.num_tasks,))
    scale = given.astype(log_conditionals.dtype)[tree.node_task]
    return log_normalise_tasks(tree, log_conditionals / scale)


def fit_temperatures(
    tree: TaskTree,
    log_conditionals: jax.Array,
    gold: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> jax.Array:
    """The temperature of each task that makes gold labels most probable.

    The log-likelihood is concave in the inverse temperature, so its slope is bisected, for all
    tasks at once.

    Args:
        tree: the task tree (static).
        log_conditionals: float[n, N], predictions for items that the network was not fitted on.
        gold: int32[n, r] node ids, one for each root, -1 unknown. jit-able; `calibrate` checks.
        weights: float[n], of the items.

    Returns:
        float[t], in [1/20, 20]; 1 for a task without gold labels.

    Example:
        >>> log_p = jnp.log(jnp.array([[0.1, 0.9]] * 4))
        >>> found = fit_temperatures(TaskTree.single(2), log_p, jnp.array([[1], [1], [1], [0]]))
        >>> round(float(found[0]), 3)  # log(9) / log(3)
        2.0
    """
    given = real_array("log_conditionals", log_conditionals)
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise ValueError(f"log_conditionals: got dtype {given.dtype}, expected floats")
    log_conditionals = jnp.asarray(given)
    check_rank("log_conditionals", log_conditionals, 2)
    check_last_axis("log_conditionals", log_conditionals, tree.num_nodes)
    nodes = real_jax_array("gold", gold)
    check_integer("gold", nodes)
    check_shape("gold", nodes, (len(log_conditionals), *nodes.shape[1:2]))
    labels = task_labels(tree, nodes)
    mass = jnp.where(labels >= 0, 1, 0).astype(log_conditionals.dtype)
    if weights is not None:
        given = real_jax_array("weights", weights)
        check_shape("weights", given, mass.shape[:1])
        mass = mass * given.astype(mass.dtype)[:, None]
    first = np.array([nodes.start for nodes in tree.task_nodes])
    gold_node = first + jnp.maximum(labels, 0)
    # Finite, since an impossible label would make the slope 0 * inf.
    scores = jnp.maximum(log_conditionals, jnp.finfo(log_conditionals.dtype).min / 1e6)
    gold_total = jnp.sum(mass * jnp.take_along_axis(scores, gold_node, axis=1), axis=0)

    def slope(log_inverse: jax.Array) -> jax.Array:
        """Of the log-likelihood in the inverse temperature: gold scores minus expected ones."""
        p = jnp.exp(scale_temperatures(tree, scores, jnp.exp(-log_inverse)))
        return gold_total - jnp.sum(mass * task_sum(tree, p * scores), axis=0)

    def halve(_: int, bounds: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bounds
        middle = (low + high) / 2
        rising = slope(middle) > 0
        return jnp.where(rising, middle, low), jnp.where(rising, high, middle)

    ones = jnp.ones(tree.num_tasks, scores.dtype)
    bounds = (-np.log(_HOTTEST) * ones, -np.log(_COLDEST) * ones)
    low, high = jax.lax.fori_loop(0, _NUM_HALVINGS, halve, bounds)
    known = jnp.sum(mass, axis=0) > 0
    return jnp.where(known, jnp.exp(-(low + high) / 2), 1)


def calibrate(
    network: Network,
    params: Any,
    inputs: Any,
    gold: ArrayLike,
    *,
    weights: ArrayLike | None = None,
) -> np.ndarray:
    """Fit the temperatures of a network on a validation set.

    Args:
        network: from `build`.
        params: its parameters.
        inputs: n items that it was not fitted on.
        gold: int[n] node ids, the deepest known node of each item, -1 unknown; or int[n, r] for a
            forest with r roots.
        weights: float[n], of the items.

    Returns:
        float[t], for `with_temperatures` and `evaluate`.

    Raises:
        ValueError: gold of the wrong shape or type, or no node of the tree (names the item).

    Example:
        >>> from metal_jax.network import build, mlp
        >>> net = build(TaskTree.single(2), mlp((2,)))
        >>> inputs = jnp.array([[0.0], [1.0]])
        >>> params = net.init(jax.random.key(0), inputs)
        >>> calibrate(net, params, inputs, [0, 1]).shape
        (1,)
    """
    num_items = jax.tree.leaves(inputs)[0].shape[0]
    nodes = gold_by_root(gold, network.tree, num_items)
    mass = checked_weights(weights, num_items).astype(np.float32)
    return np.asarray(_calibrate(network, params, inputs, nodes, mass))


@functools.partial(jax.jit, static_argnames="network")
def _calibrate(
    network: Network, params: Any, inputs: Any, gold: jax.Array, weights: jax.Array
) -> jax.Array:
    log_conditionals = network.apply(params, inputs)
    return fit_temperatures(network.tree, log_conditionals, gold, weights=weights)


def with_temperatures(network: Network, temperatures: ArrayLike) -> Network:
    """A network that predicts at these temperatures, with the same parameters.

    Args:
        network: from `build`.
        temperatures: float[t], from `calibrate`.

    Returns:
        The network; equal arguments give one object.

    Raises:
        ValueError: not one positive number for each task.

    Example:
        >>> from metal_jax.network import build, leaf_log_probs, mlp
        >>> net = build(TaskTree.single(2), mlp((2,)))
        >>> inputs = jnp.array([[0.0], [1.0]])
        >>> params = net.init(jax.random.key(0), inputs)
        >>> hot = with_temperatures(net, [100.0])
        >>> jnp.exp(leaf_log_probs(hot, params, inputs)).round(1).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    values = np.asarray(real_array("temperatures", temperatures), float)
    if values.shape != (network.tree.num_tasks,) or not ((values > 0) & np.isfinite(values)).all():
        raise ValueError(
            f"temperatures: got {values.tolist()}, expected {network.tree.num_tasks} positive "
            "numbers, one for each task"
        )
    return _with_temperatures(network, tuple(values.tolist()))


@functools.lru_cache(maxsize=64)
def _with_temperatures(network: Network, temperatures: tuple[float, ...]) -> Network:
    def apply(params: Any, inputs: Any, key: jax.Array | None = None) -> jax.Array:
        log_conditionals = network.apply(params, inputs, key)
        return scale_temperatures(network.tree, log_conditionals, np.array(temperatures))

    return network._replace(apply=apply)
