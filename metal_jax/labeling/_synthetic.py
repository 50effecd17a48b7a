r"""Synthetic votes with known parameters, for recovery tests and benchmarks.

The generator of snorkel-metal (`SingleTaskTreeDepsGenerator`): class balance :math:`p`, a weight
:math:`\theta_{jy} \sim U(0, 1.5)` for each LF and class, and an optional forest of dependencies in
which LF j has a parent with probability `edge_prob` and a weight :math:`w_j \sim U(-1, 1)`. With
:math:`s(a, b) = +1` if a = b and -1 otherwise,

.. math:: P(\lambda_j = l \mid \lambda_{parent}, Y = y) \propto
    \exp(\theta_{jy}\, s(l, y) + w_j\, s(l, \lambda_{parent})),

for the correct class and the abstain; the remaining mass is shared equally by the wrong classes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.task_tree import TaskTree


class SyntheticVotes(NamedTuple):
    """Votes, the labels behind them and the parameters behind both.

    Attributes:
        votes: int32[n, m] node ids of leaves, -1 = abstain.
        leaves: int32[n], the true leaf state of each item.
        class_balance: float[s].
        conditionals: float[m, s + 1, s], `P(vote = leaf l | Y = y)`; the last row is the abstain.
            Marginal over the parent LF where there is one.
        parents: int32[m], the LF that each depends on, -1 for none.
        edge_weights: float[m], the weight of that dependency, 0 for none.
    """

    votes: np.ndarray
    leaves: np.ndarray
    class_balance: np.ndarray
    conditionals: np.ndarray
    parents: np.ndarray
    edge_weights: np.ndarray


def synthetic_votes(
    key: jax.Array,
    num_items: int,
    num_lfs: int,
    tree: TaskTree,
    *,
    class_balance: ArrayLike | None = None,
    edge_prob: float = 0.0,
    theta_range: tuple[float, float] = (0.0, 1.5),
    edge_range: tuple[float, float] = (-1.0, 1.0),
) -> SyntheticVotes:
    """Draw parameters and votes.

    Args:
        key: a `jax.random.key`, consumed.
        num_items: n.
        num_lfs: m.
        tree: a task tree with one root; its s leaves are the classes that LFs vote for.
        class_balance: float[s], uniform by default.
        edge_prob: probability that an LF depends on an earlier one.
        theta_range: range of the uniform accuracy weights.
        edge_range: range of the uniform dependency weights.

    Returns:
        Votes with everything that made them.

    Raises:
        ValueError: a forest, or a class balance of the wrong length.

    Example:
        >>> data = synthetic_votes(jax.random.key(0), 100, 5, TaskTree.single(3))
        >>> data.votes.shape, data.conditionals.shape
        ((100, 5), (5, 4, 3))
    """
    if len(tree.roots) > 1:
        raise ValueError("synthetic_votes needs a tree with one root; draw each root on its own")
    s = tree.num_leaves
    balance = jnp.full(s, 1 / s) if class_balance is None else jnp.asarray(class_balance)
    if balance.shape != (s,):
        raise ValueError(f"class_balance: got shape {balance.shape}, expected ({s},)")
    k_theta, k_edge, k_parent, k_weight, k_leaf, k_vote = jax.random.split(key, 6)
    theta = jax.random.uniform(k_theta, (num_lfs, s), minval=theta_range[0], maxval=theta_range[1])
    number = jnp.arange(num_lfs)
    draws = jax.random.uniform(k_parent, (num_lfs,))
    parents = jnp.minimum((draws * number).astype(jnp.int32), number - 1)
    depends = (jax.random.uniform(k_edge, (num_lfs,)) < edge_prob) & (number > 0)
    parents = jnp.where(depends, parents, -1)
    weights = jax.random.uniform(k_weight, (num_lfs,), minval=edge_range[0], maxval=edge_range[1])
    weights = jnp.where(depends, weights, 0)
    tables = jax.vmap(_conditional_table)(theta, weights)  # [m, parent vote, vote, y]
    leaves = jax.random.categorical(k_leaf, jnp.log(balance), shape=(num_items,))

    marginals: list[jax.Array] = []
    votes: list[jax.Array] = []
    for j, vote_key in enumerate(jax.random.split(k_vote, num_lfs)):
        parent = int(parents[j])
        if parent < 0:
            marginals.append(tables[j, s])  # without an edge every parent vote gives the same
            table = jnp.log(tables[j, s]).T[leaves]
        else:
            marginals.append(jnp.einsum("pvy,py->vy", tables[j], marginals[parent]))
            table = jnp.log(tables[j])[votes[parent], :, leaves]
        votes.append(jax.random.categorical(vote_key, table))
    drawn = np.stack([np.asarray(v) for v in votes], axis=1)
    node_of_vote = np.append(tree.leaf_nodes, -1).astype(np.int32)
    return SyntheticVotes(
        votes=node_of_vote[drawn],
        leaves=np.asarray(leaves, np.int32),
        class_balance=np.asarray(balance),
        conditionals=np.stack([np.asarray(c) for c in marginals]),
        parents=np.asarray(parents, np.int32),
        edge_weights=np.asarray(weights),
    )


def _conditional_table(theta: jax.Array, weight: jax.Array) -> jax.Array:
    """float[s + 1 parent votes, s + 1 votes, s classes]; the last vote is the abstain."""
    s = theta.shape[0]
    vote = jnp.arange(s + 1)
    correct = jnp.where(vote[:, None] == jnp.arange(s), 1.0, -1.0)  # [vote, y]
    agrees = jnp.where(vote[:, None] == vote, 1.0, -1.0)  # [parent, vote]
    score = jnp.exp(theta * correct + weight * agrees[:, :, None])
    p = score / score.sum(axis=1, keepdims=True)
    is_wrong = (vote[:, None] != jnp.arange(s)) & (vote[:, None] < s)
    wrong = jnp.sum(p * is_wrong, axis=1, keepdims=True) / max(s - 1, 1)
    return jnp.where(is_wrong, wrong, p)
