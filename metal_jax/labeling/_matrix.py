"""The label matrix: int[n, m] node ids, -1 = abstain, -2 = never asked. Checks on the host."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.checks import check_integer, check_known, host_array, real_array
from metal_jax.labeling._functions import NOT_ASKED
from metal_jax.task_tree import TaskTree


def narrowest_integers(votes: np.ndarray) -> np.ndarray:
    """Integers in the narrowest signed dtype that holds them, C-contiguous.

    Args:
        votes: integers of any shape, from -128 on.

    Returns:
        The same in int8, int16, int32 or int64; no copy where that is what they were.

    Raises:
        ValueError: no integers, or larger ones than 64 bits with a sign hold.

    Example:
        >>> [narrowest_integers(np.array([[-1, vote]])).dtype.name for vote in (3, 300)]
        ['int8', 'int16']
    """
    check_integer("votes", votes)
    top = int(votes.max(initial=0))
    kinds = (np.int8, np.int16, np.int32, np.int64)
    dtype = next((kind for kind in kinds if top <= np.iinfo(kind).max), None)
    if dtype is None:
        raise ValueError(f"votes: got {top}, expected signed integers of 64 bits")
    return np.ascontiguousarray(votes, dtype)


def plain_votes(votes: ArrayLike) -> np.ndarray:
    """Votes on the host, checked as far as that can be done without a tree.

    Args:
        votes: int[n, m] node ids, negative = no vote; or soft votes float[n, m, N].

    Returns:
        The same values as an array.

    Raises:
        ValueError: other axes, no LFs, hard votes that are no integers of 32 bits, or soft ones
            that are no shares in [0, 1].
    """
    array = np.asarray(real_array("votes", votes))
    if array.ndim not in (2, 3) or not array.shape[1]:
        raise ValueError(
            f"votes: got shape {array.shape}, expected [n items, m LFs] or [n items, m LFs, "
            "N nodes], and at least one LF"
        )
    if array.ndim == 3:
        check_known("votes", (array >= 0) & (array <= 1), "a share in [0, 1]")
        return array
    check_integer("votes", array)
    if array.dtype.itemsize >= 4 and array.max(initial=0) > np.iinfo(np.int32).max:
        raise ValueError(f"votes: got {array.max()}, expected node ids of 32 bits")
    return array


def validate(
    votes: ArrayLike, tree: TaskTree, *, lf_names: Sequence[str] | None = None
) -> np.ndarray:
    """Check a label matrix against a tree, on the host, and name what is wrong.

    Args:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree whose nodes are voted for.
        lf_names: m names for the messages; by default the column numbers.

    Returns:
        The votes as a contiguous numpy array in the narrowest integer dtype.

    Raises:
        ValueError: not two axes, no items, no LFs, votes that are not integers, NaN, or a value
            that is no node of the tree. Names the row, the LF and the value.

    Example:
        >>> validate([[0, -1], [1, 1]], TaskTree.single(2)).dtype
        dtype('int8')
    """
    array = host_array("votes", votes)
    if array.ndim != 2:
        raise ValueError(f"votes: got shape {array.shape}, expected [n items, m LFs]")
    if array.shape[0] == 0:
        raise ValueError(f"votes: got shape {array.shape}, there are no items")
    if array.shape[1] == 0:
        raise ValueError(f"votes: got shape {array.shape}, there are no labelling functions")

    def name(column: int) -> str:
        return repr(lf_names[column]) if lf_names is not None else str(column)

    def first(bad: np.ndarray) -> tuple[int, int]:
        row, column = np.argwhere(bad)[0]
        return int(row), int(column)

    if lf_names is not None and len(lf_names) != array.shape[1]:
        raise ValueError(f"lf_names: got {len(lf_names)} names for {array.shape[1]} columns")
    if np.issubdtype(array.dtype, np.floating):
        bad = ~np.isfinite(array) | (array != np.floor(array))
        if bad.any():
            row, column = first(bad)
            raise ValueError(
                f"votes: row {row}, LF {name(column)}: got {array[row, column]}, expected a node id"
            )
        raise ValueError(f"votes: got dtype {array.dtype}, expected integers (use .astype(int))")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"votes: got dtype {array.dtype}, expected integers")
    if array.min() < NOT_ASKED or array.max() >= tree.num_nodes:  # without a mask of all votes
        row, column = first((array >= tree.num_nodes) | (array < NOT_ASKED))
        raise ValueError(
            f"votes: row {row}, LF {name(column)}: got {array[row, column]}, expected a node id in "
            f"0..{tree.num_nodes - 1}, -1 (abstain) or -2 (never asked)"
        )
    return narrowest_integers(array)


def compatible(tree: TaskTree) -> np.ndarray:
    """bool[N, N], whether two nodes can lie on one path (one covers the other, or other roots).

    Args:
        tree: the task tree of N nodes.

    Returns:
        A symmetric matrix; a node is compatible with itself.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> compatible(tree)[2].tolist()  # u with x, y, u and v
        [True, False, True, False]
    """
    covers = tree.covers.astype(np.int32)
    nested = covers @ covers.T > 0
    return nested | (tree.node_root[:, None] != tree.node_root)
