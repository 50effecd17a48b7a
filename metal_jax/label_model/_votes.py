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
from jax.typing import ArrayLike, DTypeLike

from metal_jax._core.checks import host_array, real_array
from metal_jax.label_model._incidence import (
    CodedIncidence,
    DenseIncidence,
    Incidence,
    fits_dense,
    incidence,
)
from metal_jax.label_model._vote_sums import FEW_NODES
from metal_jax.labeling import Columns, used_columns, validate
from metal_jax.task_tree import TaskTree


def checked_votes(votes: ArrayLike, tree: TaskTree, num_lfs: int | None = None) -> np.ndarray:
    """Hard votes as `labeling.validate` returns them, or soft votes checked.

    Args:
        votes: int[n, m] node ids, or float[n, m, N] shares.
        tree: the task tree.
        num_lfs: m, of the fit that the votes are given to; None for any.

    Returns:
        The narrowest integers, or float32[n, m, N].

    Raises:
        ValueError: as `validate`; for soft votes a wrong shape, a share that is negative or not
            finite, or shares of a vote that sum to more than one. Names the row and the LF. Or
            votes of another number of LFs.

    Example:
        >>> checked_votes([[[0.7, 0.2]]], TaskTree.single(2)).shape
        (1, 1, 2)
    """
    array = host_array("votes", votes)
    if num_lfs is not None and array.ndim in (2, 3) and array.shape[1] != num_lfs:
        raise ValueError(f"votes: got {array.shape[1]} LFs, expected the {num_lfs} of the fit")
    if array.ndim != 3:
        return validate(array, tree)
    array = np.asarray(real_array("votes", array))
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
    return array


def vote_columns(votes: np.ndarray) -> Columns:
    """The (LF, node) pairs that occur in checked votes."""
    return used_columns(votes)


def vote_codes(votes: np.ndarray, columns: Columns) -> np.ndarray:
    """`labeling.column_ids` on the host, where it compiles nothing: int32[n, m], -1 = no vote."""
    width = int(columns.symbol.max(initial=-1)) + 1
    table = np.full((columns.num_lfs, width + 1), -1, np.int32)  # last entry: no vote
    table[columns.lf, columns.symbol] = np.arange(columns.num_columns)
    symbol = np.where((votes < 0) | (votes >= width), -1, votes)
    return table[np.arange(columns.num_lfs), symbol]


def symbols_like(columns: Columns, dtype: np.dtype) -> np.ndarray:
    """[d], the columns' symbols in the type of votes; what does not fit equals no vote."""
    limits = np.iinfo(dtype)
    return np.where(columns.symbol <= limits.max, columns.symbol, limits.min).astype(dtype)


def _fill_indicators(out: np.ndarray, votes: np.ndarray, columns: Columns) -> None:
    """Write whether each item has each column's vote to `out` [n, d]; votes int[n, m]."""
    of_column = np.take(votes, columns.lf, axis=1)
    np.equal(of_column, symbols_like(columns, votes.dtype), out=out, casting="unsafe")


def count_by_lf(mask: np.ndarray) -> np.ndarray:
    """int64[m], how many of the entries of each column of a mask bool[n, m] are true.

    Rows are laid side by side and added as bytes, 255 at a time: six times as fast as numpy's sum
    down narrow columns.
    """
    n, m = mask.shape
    of_bytes = np.ascontiguousarray(mask).view(np.uint8)
    side = max(1, 4096 // max(m, 1))
    whole = n - n % (255 * side)
    bands = of_bytes[:whole].reshape(-1, 255, side * m).sum(axis=1, dtype=np.uint8)
    rest = of_bytes[whole:].sum(axis=0, dtype=np.int64)
    return bands.reshape(-1, m).sum(axis=0, dtype=np.int64) + rest


def vote_counts(votes: np.ndarray, columns: Columns, weights: np.ndarray) -> np.ndarray:
    """float64[d], the weighted number of votes of each column."""
    if votes.ndim == 3:
        return weights @ votes[:, columns.lf, columns.symbol]
    num_nodes = int(columns.symbol.max(initial=-1)) + 1
    if num_nodes <= FEW_NODES:
        by_node = [np.einsum("n,nm->m", weights, votes == node) for node in range(num_nodes)]
        return np.array(by_node).reshape(num_nodes, columns.num_lfs)[columns.symbol, columns.lf]
    codes = vote_codes(votes, columns)
    total = np.zeros(columns.num_columns + 1)  # first entry: no vote
    for column in codes.T:
        total += np.bincount(column + 1, weights, len(total))
    return total[1:]


def vote_incidence(votes: np.ndarray, columns: Columns, width: int | None = None) -> Incidence:
    """The indicator matrix of checked votes.

    Args:
        votes: int[n, m] or float[n, m, N].
        columns: which (LF, node) pairs count; others are silence.
        width: number of columns of the matrix, those beyond d empty; d by default.

    Returns:
        The operator.
    """
    width = columns.num_columns if width is None else width
    if votes.ndim == 3:
        matrix = votes[:, columns.lf, columns.symbol]
        return DenseIncidence(to_device(pad_to(matrix, width, axis=1), matrix.dtype))
    num_nodes = int(columns.symbol.max(initial=-1)) + 1
    if num_nodes <= FEW_NODES and jax.default_backend() == "cpu":
        empty = (0, width - columns.num_columns)
        return CodedIncidence(
            to_device(votes, votes.dtype),
            to_device(np.pad(columns.lf, empty), np.int32),
            to_device(np.pad(columns.symbol, empty, constant_values=num_nodes), np.int32),
            num_nodes,
        )
    if fits_dense(len(votes), width):
        matrix = np.zeros((len(votes), width), np.float32)
        _fill_indicators(matrix[:, : columns.num_columns], votes, columns)
        return DenseIncidence(to_device(matrix, np.float32))
    return incidence(vote_codes(votes, columns), width)


def fired_matrix(
    votes: np.ndarray, columns: Columns, chosen: np.ndarray, width: int | None = None
) -> np.ndarray:
    """Some columns of the indicator matrix, always dense.

    Args:
        votes: int[n, m] or float[n, m, N].
        columns: all columns.
        chosen: int[e] column numbers.
        width: as in `vote_incidence`; e by default.

    Returns:
        float[n, e or width], in the default float dtype.
    """
    width = len(chosen) if width is None else width
    fired = np.zeros((len(votes), width), jnp.result_type(float))
    if votes.ndim == 3:
        fired[:, : len(chosen)] = votes[:, columns.lf[chosen], columns.symbol[chosen]]
        return fired
    if len(chosen):
        some = Columns(columns.lf[chosen], columns.symbol[chosen], columns.num_lfs)
        _fill_indicators(fired[:, : len(chosen)], votes, some)
    return fired


def to_device(array: ArrayLike, dtype: DTypeLike | None = None) -> jax.Array:
    """`jnp.asarray`, which compiles a program for each new shape, without doing so.

    Args:
        array: anything on the host.
        dtype: the default float dtype if None.

    Returns:
        The array on the default device.
    """
    return jax.device_put(np.asarray(array, jnp.result_type(float) if dtype is None else dtype))


def pad_to(array: np.ndarray, size: int, axis: int = 0, fill: float = 0) -> np.ndarray:
    """The array made longer along one axis."""
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, size - array.shape[axis])
    return np.pad(array, widths, constant_values=fill)


def bucket(size: int) -> int:
    """A size rounded up to one of few, a fourth more at most: what compiled programs are made for.

    How many columns are used, and how many may be detectors, changes from one matrix to the next.

    Example:
        >>> [bucket(size) for size in (0, 3, 30, 164, 839)]
        [0, 8, 32, 192, 896]
    """
    step = max(8, 2 ** (size.bit_length() - 3))
    return -(-size // step) * step


def votes_by_lf(votes: np.ndarray, columns: Columns, table: jax.Array) -> jax.Array:
    """What each LF's vote selects from `table` float[d, x]: float[n, m, x], 0 where silent."""
    if votes.ndim == 2:
        codes = vote_codes(votes, columns)
        return jnp.where((codes >= 0)[..., None], table[codes], 0)
    full = jnp.zeros((columns.num_lfs, votes.shape[2], table.shape[-1]), table.dtype)
    full = full.at[columns.lf, columns.symbol].set(table)
    shares = jnp.asarray(votes, table.dtype)
    return jnp.einsum("nmv,mvx->nmx", shares, full, precision=jax.lax.Precision.HIGHEST)
