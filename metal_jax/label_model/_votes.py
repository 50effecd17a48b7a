"""Hard and soft votes in one form: which columns there are, and the indicator matrix over them.

Hard votes are node ids, int[n, m]; soft votes are float[n, m, N], how much of its vote an LF gives
to each node (what is missing to one is abstained), for LFs that are classifiers or that hedge. A
soft vote counts as that fraction of a hard one: in the posterior by its expected log-likelihood, in
the fit by its share in the counts.

Legend: `n` items, `m` LFs, `N` label nodes, `d` used (LF, node) columns.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.label_model._incidence import DenseIncidence, Incidence, incidence
from metal_jax.labeling import Columns, column_ids, used_columns, validate
from metal_jax.task_tree import TaskTree


def checked_votes(votes: ArrayLike, tree: TaskTree) -> np.ndarray:
    """Hard votes as `labeling.validate` returns them, or soft votes checked.

    Args:
        votes: int[n, m] node ids, or float[n, m, N] shares.
        tree: the task tree.

    Returns:
        The narrowest integers, or float32[n, m, N].

    Raises:
        ValueError: as `validate`; for soft votes a wrong shape, a share that is negative or not
            finite, shares of a vote that sum to more than one, or an LF that votes on two roots.
            Names the row and the LF.

    Example:
        >>> checked_votes([[[0.7, 0.2]]], TaskTree.single(2)).shape
        (1, 1, 2)
    """
    array = np.asarray(votes)
    if array.ndim != 3:
        return validate(array, tree)
    n, m, width = array.shape
    if not (n and m) or width != tree.num_nodes:
        raise ValueError(
            f"votes: got shape {array.shape}, expected [n items, m LFs, {tree.num_nodes} nodes]"
        )
    array = np.asarray(array, np.float32)
    bad = ~(np.isfinite(array) & (array >= 0)).all(axis=2)
    if bad.any():
        row, lf = np.argwhere(bad)[0]
        raise ValueError(f"votes: row {row}, LF {lf}: a share is negative or not finite")
    total = array.sum(axis=2)
    if (total > 1 + 1e-4).any():
        row, lf = np.argwhere(total > 1 + 1e-4)[0]
        raise ValueError(f"votes: row {row}, LF {lf}: shares sum to {total[row, lf]:.4g}, over 1")
    for lf in range(m):
        used = np.flatnonzero(array[:, lf].any(axis=0))
        if len(np.unique(tree.node_root[used])) > 1:
            raise ValueError(f"votes: LF {lf} votes on two roots; give it one column for each")
    return array


def vote_columns(votes: np.ndarray) -> Columns:
    """The (LF, node) pairs that occur in checked votes."""
    if votes.ndim == 2:
        return used_columns(votes)
    lf, symbol = np.nonzero((votes > 0).any(axis=0))
    return Columns(lf.astype(np.int32), symbol.astype(np.int32), votes.shape[1])


def vote_incidence(
    votes: np.ndarray, columns: Columns, *, chosen: np.ndarray | None = None
) -> Incidence:
    """The indicator matrix [n, d] of checked votes, or its `chosen` columns as a dense matrix.

    Args:
        votes: int[n, m] or float[n, m, N].
        columns: which (LF, node) pairs count; others are silence.
        chosen: int[e] column numbers, or None for all of them.

    Returns:
        The operator.
    """
    if votes.ndim == 3:
        part = np.arange(columns.num_columns) if chosen is None else chosen
        return DenseIncidence(jnp.asarray(votes[:, columns.lf[part], columns.symbol[part]]))
    codes = np.asarray(column_ids(votes, columns))
    if chosen is None:
        return incidence(codes, columns.num_columns)
    position = np.full(columns.num_columns + 1, -1, np.int32)  # last entry: no vote
    position[chosen] = np.arange(len(chosen))
    return incidence(position[codes], len(chosen), dense=True)


def votes_by_lf(votes: np.ndarray, columns: Columns, table: jax.Array) -> jax.Array:
    """What each LF's vote selects from `table` float[d, x]: float[n, m, x], 0 where silent."""
    if votes.ndim == 2:
        codes = column_ids(votes, columns)
        return jnp.where((codes >= 0)[..., None], table[codes], 0)
    full = jnp.zeros((columns.num_lfs, votes.shape[2], table.shape[-1]), table.dtype)
    full = full.at[columns.lf, columns.symbol].set(table)
    shares = jnp.asarray(votes, table.dtype)
    return jnp.einsum("nmv,mvx->nmx", shares, full, precision=jax.lax.Precision.HIGHEST)
