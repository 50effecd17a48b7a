"""Dawid-Skene: the Dirichlet prior, and which entries of a table are tied.

Legend: `m` LFs, `d` (LF, node) columns, `s` leaf states.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._tables import ConditionalTables, column_root_mask
from metal_jax.label_model._votes import count_by_lf
from metal_jax.labeling import ABSTAIN, NOT_ASKED, Columns
from metal_jax.task_tree import TaskTree

Tying = Literal["full", "class", "one_coin"]


class DirichletPrior(NamedTuple):
    """Pseudo-counts of the tables, and which entries exist.

    Attributes:
        vote: float[d, s], 0 on the leaves of other roots.
        abstain: float[m, s], 0 where abstains are ignored.
        balance: float[s].
    """

    vote: jax.Array
    abstain: jax.Array
    balance: jax.Array


def dirichlet_prior(
    columns: Columns,
    tree: TaskTree,
    abstain_rate: np.ndarray,
    *,
    accuracy: ArrayLike,
    votes: float,
    balance_items: float,
) -> DirichletPrior:
    """One-coin Dirichlet prior: with probability `accuracy` a vote covers the truth.

    Args:
        columns: the columns.
        tree: the task tree.
        abstain_rate: float[m], the prior share of abstains; 0 where they are ignored.
        accuracy: see above, float[] or float[m]; where all symbols of an LF are right, or all
            wrong, they share evenly.
        votes: pseudo-votes of each LF for each leaf state.
        balance_items: pseudo-items of each leaf state.

    Returns:
        The pseudo-counts; an LF's sum to `votes` on each leaf of its root.

    Example:
        >>> columns = Columns(np.array([0, 0]), np.array([0, 1]), 1)
        >>> settings = {"accuracy": 0.7, "votes": 10.0, "balance_items": 2.0}
        >>> prior = dirichlet_prior(columns, TaskTree.single(2), np.zeros(1), **settings)
        >>> prior.vote.tolist(), prior.balance.tolist()
        ([[7.0, 3.0], [3.0, 7.0]], [2.0, 2.0])
    """
    covered, other = _right_and_wrong(columns, tree)
    num_right, num_wrong = (_sum_by_lf(x, columns)[columns.lf] for x in (covered, other))
    coin = np.broadcast_to(np.asarray(accuracy, float), columns.num_lfs)[columns.lf, None]
    right = np.where(num_wrong > 0, coin, 1.0) / np.maximum(num_right, 1)
    wrong = np.where(num_right > 0, 1 - coin, 1.0) / np.maximum(num_wrong, 1)
    mean = covered * right + other * wrong
    in_root = _sum_by_lf(mean, columns) > 0
    return DirichletPrior(
        vote=jnp.asarray(votes * (1 - abstain_rate[columns.lf, None]) * mean),
        abstain=jnp.asarray(votes * abstain_rate[:, None] * in_root),
        balance=jnp.full(tree.num_leaves, balance_items),
    )


def informative_lfs(informative_abstains: bool | tuple[bool, ...], num_lfs: int) -> np.ndarray:
    """bool[m], whose abstains are evidence; ValueError for the wrong number."""
    informative = np.asarray(informative_abstains)
    if informative.ndim and informative.shape != (num_lfs,):
        raise ValueError(
            f"informative_abstains: got {len(informative)} values, expected one for each of the "
            f"{num_lfs} LFs"
        )
    return np.broadcast_to(informative, num_lfs)


def log_prior_density(tables: ConditionalTables, prior: DirichletPrior) -> jax.Array:
    """Log-density of the tables under the Dirichlet prior, up to a constant; float[]."""
    return (
        jnp.sum(prior.vote * tables.log_vote)
        + jnp.sum(prior.abstain * tables.log_abstain)
        + jnp.sum(prior.balance * tables.log_prior)
    )


def abstain_rates(matrix: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """float[m], the share of abstains among the items that an LF was asked about."""
    if weight is None and matrix.ndim == 2:
        asked = count_by_lf(matrix != NOT_ASKED)
        return count_by_lf(matrix == ABSTAIN) / np.maximum(asked, 1)
    weight = np.ones(len(matrix)) if weight is None else weight
    if matrix.ndim == 3:
        silent = 1 - weight @ matrix.sum(axis=2) / weight.sum()
        return np.where(silent > 1e-6, silent, 0)  # shares that sum to one but for rounding
    asked = weight @ (matrix != NOT_ASKED)
    return weight @ (matrix == ABSTAIN) / np.where(asked > 0, asked, 1)


class TiedEntries(NamedTuple):
    """Which entries of the tables share one parameter.

    Attributes:
        group: int32[d, s], the parameter of each entry, numbered from 0.
        size: float[d, s], how many columns of the same LF share the parameter's mass on the leaf.
    """

    group: jax.Array
    size: jax.Array


def pool_counts(votes: jax.Array, voted: jax.Array, tied: TiedEntries) -> jax.Array:
    """Counts [d, s] with the share of each tied group spread evenly; `voted` are an LF's totals."""

    def total(counts: jax.Array) -> jax.Array:
        by_group = jax.ops.segment_sum(counts.ravel(), tied.group.ravel(), counts.size)
        return by_group[tied.group]

    chances = total(voted / tied.size)  # votes that could have been for this group
    share = total(votes) / jnp.maximum(chances, jnp.finfo(votes.dtype).tiny)
    return voted * share / tied.size


def tied_entries(columns: Columns, tree: TaskTree, tying: Tying) -> TiedEntries | None:
    r"""Which table entries are tied.

    A vote is *right* on the leaves that its node covers. With :math:`R_{jy}` right and
    :math:`W_{jy}` wrong columns of LF j on leaf y, the tables given that the LF votes are

    .. math:: P(v \mid y) = a / R_{jy} \text{ if v covers y, } \quad (1 - a) / W_{jy} \text{ if not}

    with :math:`a = a_{jy}` ("class") or :math:`a = a_j` ("one_coin"). On leaves where all columns
    of an LF are right, or all wrong, there is nothing to learn: they share evenly.

    Args:
        columns: the columns.
        tree: the task tree.
        tying: see `DawidSkeneConfig`.

    Returns:
        The groups; None for "full", where every entry is a parameter of its own.

    Example:
        >>> columns = Columns(np.array([0, 0]), np.array([0, 1]), 1)
        >>> tied_entries(columns, TaskTree.single(2), "full") is None
        True
        >>> tied_entries(columns, TaskTree.single(2), "one_coin").group.tolist()
        [[1, 0], [0, 1]]
    """
    if tying == "full":
        return None
    covered, other = _right_and_wrong(columns, tree)
    num_right, num_wrong = (_sum_by_lf(x, columns)[columns.lf] for x in (covered, other))
    leaf = np.broadcast_to(np.arange(1, tree.num_leaves + 1), covered.shape)
    if tying == "one_coin":
        leaf = np.where((num_right > 0) & (num_wrong > 0), 0, leaf)
    key = np.stack([np.broadcast_to(columns.lf[:, None], leaf.shape), leaf, covered], axis=-1)
    _, group = np.unique(key.reshape(-1, 3).astype(int), axis=0, return_inverse=True)
    size = np.maximum(np.where(covered > 0, num_right, num_wrong), 1)
    return TiedEntries(jnp.asarray(group.reshape(leaf.shape), jnp.int32), jnp.asarray(size))


def _right_and_wrong(columns: Columns, tree: TaskTree) -> tuple[np.ndarray, np.ndarray]:
    """float[d, s] twice: leaves beneath the column's node, and the others of its root."""
    covered = tree.covers[columns.symbol].astype(float)
    return covered, column_root_mask(columns, tree) - covered


def _sum_by_lf(values: np.ndarray, columns: Columns) -> np.ndarray:
    """float[m, s], sums over the columns [d, s] of each LF."""
    total = np.zeros((columns.num_lfs, values.shape[1]))
    np.add.at(total, columns.lf, values)
    return total
