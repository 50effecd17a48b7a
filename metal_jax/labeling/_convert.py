"""Label matrices from and to the forms of other libraries."""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from metal_jax._core.json_text import parse_json
from metal_jax.labeling._functions import ABSTAIN, NOT_ASKED
from metal_jax.labeling._matrix import compatible, narrowest_integers, validate
from metal_jax.task_tree import TaskTree

# A few lines with new names each ask for a matrix of billions of cells.
_MAX_BYTES = 2**31


def from_metal(per_task: Sequence[Any], tree: TaskTree) -> np.ndarray:
    """Votes from MeTaL's list of one label matrix for each task.

    Args:
        per_task: t matrices int[n, m] (arrays or scipy.sparse), in the order of the tree's tasks;
            0 = abstain, -1 = the task does not apply, labels 1 .. k.
        tree: the task tree, e.g. from `task_tree.from_metal_hierarchy`, or the forest of
            `task_tree.from_metal_graph`.

    Returns:
        int[n, m] node ids: for each LF and item the deepest node that it voted for. Of a forest of
        r roots, where an LF may vote below several, int[n, r * m]: m columns for each root, in the
        order of `tree.roots`.

    Raises:
        ValueError: a wrong number of matrices or shapes, a label out of range, or votes of one LF
            on one item that cannot lie on one path; names the row and LF.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> top, below = np.array([[1, 2], [0, 1]]), np.array([[2, -1], [0, 0]])
        >>> votes = from_metal([top, below], tree)
        >>> [[tree.node_names[v][1] if v >= 0 else None for v in row] for row in votes.tolist()]
        [['v', 'y'], [None, 'x']]
    """
    if len(per_task) != tree.num_tasks:
        raise ValueError(
            f"got {len(per_task)} matrices, expected one for each of {tree.num_tasks} tasks"
        )
    dense = [np.asarray(m.toarray() if hasattr(m, "toarray") else m) for m in per_task]
    if dense[0].ndim != 2:
        name = tree.tasks[0].name
        raise ValueError(f"task {name!r}: got shape {dense[0].shape}, expected [n, m]")
    on_path = compatible(tree)
    votes = [np.full(dense[0].shape, ABSTAIN, np.int64) for _ in tree.roots]
    for t, matrix in enumerate(dense):  # parents come before children
        task = tree.tasks[t]
        if matrix.shape != dense[0].shape:
            raise ValueError(
                f"task {task.name!r}: got shape {matrix.shape}, expected {dense[0].shape}"
            )
        if not np.issubdtype(matrix.dtype, np.integer):
            raise ValueError(f"task {task.name!r}: got dtype {matrix.dtype}, expected integers")
        bad = (matrix < -1) | (matrix > len(task.labels))
        if bad.any():
            row, column = np.argwhere(bad)[0]
            raise ValueError(
                f"task {task.name!r}: row {row}, LF {column}: got {matrix[row, column]}, "
                f"expected -1..{len(task.labels)}"
            )
        # Labels may come in 8 bits, which node ids outgrow.
        ids = tree.task_nodes[t].start + matrix.astype(np.int64) - 1
        node = np.where(matrix > 0, ids, ABSTAIN)
        root = tree.node_root[tree.task_nodes[t].start]
        above = votes[root]
        clash = (node >= 0) & (above >= 0) & ~on_path[np.maximum(node, 0), np.maximum(above, 0)]
        if clash.any():
            row, column = np.argwhere(clash)[0]
            names = [tree.node_names[v[row, column]] for v in (above, node)]
            raise ValueError(f"row {row}, LF {column}: votes {names[0]} and {names[1]} contradict")
        votes[root] = np.where(node >= 0, node, above)
    return validate(np.concatenate(votes, axis=1), tree)


def to_metal(votes: np.ndarray, tree: TaskTree) -> list[np.ndarray]:
    """Votes as MeTaL's list of one label matrix for each task (0 = abstain, labels 1 .. k).

    Args:
        votes: int[n, m] node ids.
        tree: the task tree.

    Returns:
        t matrices int64[n, m]; a vote for a node is also a vote for the labels above it.

    Raises:
        ValueError: as `validate`.

    Example:
        >>> tree = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
        >>> [task.tolist() for task in to_metal(np.array([[3, 1]]), tree)]  # v and y
        [[[1, 2]], [[2, 0]]]
    """
    labels = tree.task_labels(np.maximum(validate(votes, tree), ABSTAIN)) + 1
    return [labels[..., t].astype(np.int64) for t in range(tree.num_tasks)]


def from_sparse(
    matrix: Any, tree: TaskTree, *, zero_is_abstain: bool = True, not_asked: bool = False
) -> np.ndarray:
    """Votes from a `scipy.sparse` matrix.

    Args:
        matrix: [n, m] in any scipy.sparse format.
        tree: the task tree.
        zero_is_abstain: entries are node id + 1 and absent means abstain (MeTaL's convention, and
            the only one in which node 0 survives `eliminate_zeros`); otherwise stored entries are
            node ids and whatever is not stored is an abstain.
        not_asked: read what is not stored as "never asked" (-2).

    Returns:
        int[n, m] node ids.

    Raises:
        ValueError: as `validate`, no sparse matrix of numbers, a cell that is stored twice, or a
            matrix of over 2 GiB.

    Example:
        >>> import scipy.sparse
        >>> matrix = scipy.sparse.csr_matrix(np.array([[1, 0], [2, 2]]))
        >>> from_sparse(matrix, TaskTree.single(2)).tolist()
        [[0, -1], [1, 1]]
    """
    if not hasattr(matrix, "tocoo") or len(matrix.shape) != 2 or matrix.dtype.kind not in "iuf":
        got = f"{type(matrix).__name__} of shape {np.shape(matrix)}"
        raise ValueError(f"votes: got {got}, expected a scipy.sparse matrix [n, m] of numbers")
    coo = matrix.tocoo()
    _check_unique_cells(coo.row, coo.col, coo.shape)
    nodes = coo.data - np.int64(1) if zero_is_abstain else coo.data
    bad = ~np.isin(nodes, np.arange(NOT_ASKED, tree.num_nodes))
    if bad.any():
        row, column, node = (part[bad][0] for part in (coo.row, coo.col, nodes))
        raise ValueError(
            f"votes: row {row}, LF {column}: got {node}, expected a node id in "
            f"0..{tree.num_nodes - 1}, -1 (abstain) or -2 (never asked)"
        )
    votes = _dense(coo.shape, NOT_ASKED if not_asked else ABSTAIN, tree)
    votes[coo.row, coo.col] = nodes
    return validate(votes, tree)


def _dense(shape: tuple[int, int], fill: int, tree: TaskTree) -> np.ndarray:
    """int[n, m] of one vote, in the narrowest dtype for a tree's nodes."""
    dtype = narrowest_integers(np.array([tree.num_nodes - 1])).dtype
    n, m = shape
    try:
        if n * m * dtype.itemsize <= _MAX_BYTES:
            return np.full(shape, fill, dtype)
        problem = f"over the {_MAX_BYTES} that a matrix of votes may have"
    except MemoryError:
        problem = "over what this machine has left"
    raise ValueError(
        f"votes: {n} items x {m} LFs or workers are {n * m * dtype.itemsize} bytes, {problem}; "
        "leave out those with few votes, or take the items in parts"
    )


def _check_unique_cells(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> None:
    cells, counts = np.unique(rows.astype(np.int64) * shape[1] + columns, return_counts=True)
    if (counts > 1).any():
        row, column = divmod(int(cells[counts > 1][0]), shape[1])
        raise ValueError(f"row {row}, LF {column}: {counts.max()} votes in one cell, expected one")


class NamedVotes(NamedTuple):
    """Votes whose rows and columns have names.

    Attributes:
        votes: int[n, m] node ids.
        items: n item names, in row order.
        workers: m LF or worker names, in column order.
    """

    votes: np.ndarray
    items: tuple[Hashable, ...]
    workers: tuple[Hashable, ...]


def from_triples(
    triples: Iterable[tuple[Hashable, Hashable, str | int]], tree: TaskTree
) -> NamedVotes:
    """Votes from long-format (item, worker, label) triples, as crowd platforms export them.

    Args:
        triples: one vote each; the label is a label name that is unique in the tree or, if it is an
            integer, always a node id.
        tree: the task tree.

    Returns:
        The votes with items and workers in order of first appearance; a cell without a triple is
        "never asked" (-2).

    Raises:
        ValueError: what is no triple of names, an unknown label, or two different votes of a worker
            on one item (names the triple's position); no triples, or a matrix of over 2 GiB.

    Example:
        >>> tree = TaskTree.from_dict({"pet": ["cat", "dog"]})
        >>> triples = [("a", "Ann", "cat"), ("b", "Bob", "dog"), ("a", "Bob", "cat")]
        >>> named = from_triples(triples, tree)
        >>> named.votes.tolist(), named.items, named.workers
        ([[0, 0], [-2, 1]], ('a', 'b'), ('Ann', 'Bob'))
    """
    nodes_of: dict[Hashable, list[int]] = {node: [node] for node in range(tree.num_nodes)}
    for node, (_, label) in enumerate(tree.node_names):
        nodes_of.setdefault(label, []).append(node)
    items: dict[Hashable, int] = {}
    workers: dict[Hashable, int] = {}
    cells: dict[tuple[int, int], int] = {}
    for position, triple in enumerate(triples):
        try:
            item, worker, label = triple
            hash((item, worker, label))
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"triple {position}: got {triple!r:.80}, expected item, worker and label, each a "
                "name or a number"
            ) from error
        # True equals 1, and is no node id.
        nodes = [] if isinstance(label, bool) else nodes_of.get(label, [])
        if len(nodes) != 1:
            known = "ambiguous" if len(nodes) > 1 else "unknown"
            raise ValueError(f"triple {position}: {known} label {label!r}")
        cell = items.setdefault(item, len(items)), workers.setdefault(worker, len(workers))
        if cells.setdefault(cell, nodes[0]) != nodes[0]:
            raise ValueError(
                f"triple {position}: worker {worker!r} voted on item {item!r} before, differently"
            )
    if not cells:
        raise ValueError("no triples were given")
    votes = _dense((len(items), len(workers)), NOT_ASKED, tree)
    rows, columns = np.asarray(list(cells)).T
    votes[rows, columns] = list(cells.values())
    return NamedVotes(validate(votes, tree), tuple(items), tuple(workers))


class WrenchSplit(NamedTuple):
    """One split of a WRENCH folder.

    Attributes:
        votes: int[n, m] label matrix, -1 = abstain.
        gold: int32[n] class ids, -1 where there is none.
        items: n records, the `data` field of each entry.
    """

    votes: np.ndarray
    gold: np.ndarray
    items: tuple[dict, ...]


def read_wrench(folder: str | os.PathLike[str], split: str) -> tuple[TaskTree, WrenchSplit]:
    """Read one split of a data set in the WRENCH benchmark's format.

    Args:
        folder: holds `label.json` (class id -> name) and `<split>.json`
            (id -> `{"label", "weak_labels", "data"}`).
        split: "train", "valid" or "test".

    Returns:
        The single-task tree of the label names, and the split.

    Raises:
        ValueError: malformed content, an entry that is there twice among it; names the file and the
            entry.
        OSError: a file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = pathlib.Path(folder, "label.json").write_text('{"0": "ham", "1": "spam"}')
        ...     record = '{"0": {"label": 1, "weak_labels": [-1, 1], "data": {"text": "win!"}}}'
        ...     _ = pathlib.Path(folder, "train.json").write_text(record)
        ...     tree, split = read_wrench(folder, "train")
        >>> tree.tasks[0].labels, split.votes.tolist(), split.gold.tolist()
        (('ham', 'spam'), [[-1, 1]], [1])
    """
    tree = _read_wrench_labels(Path(folder, "label.json"))
    path = Path(folder, f"{split}.json")
    votes, gold, items = [], [], []
    for key, entry in _read_json_object(path).items():
        where = f"{path}: entry {key!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("weak_labels"), list):
            raise ValueError(f"{where} has no list 'weak_labels'")
        weak = entry["weak_labels"]
        if not weak or (votes and len(weak) != len(votes[0])):
            expected = f"the first has {len(votes[0])}" if votes else "expected at least one"
            raise ValueError(f"{where} has {len(weak)} votes, {expected}")
        for column, vote in enumerate(weak):
            if type(vote) is not int or not NOT_ASKED <= vote < tree.num_nodes:
                raise ValueError(
                    f"{where}, LF {column}: got {vote!r:.80}, expected a class id in "
                    f"0..{tree.num_nodes - 1}, -1 (abstain) or -2 (never asked)"
                )
        votes.append(weak)
        label = -1 if entry.get("label") is None else entry["label"]
        if type(label) not in (int, float) or label not in range(-1, tree.num_nodes):
            raise ValueError(
                f"{where} has the label {label!r:.80}, expected a class id in "
                f"-1..{tree.num_nodes - 1}"
            )
        gold.append(int(label))
        items.append(entry.get("data", {}))
    if not votes:
        raise ValueError(f"{path}: no entries")
    matrix = validate(np.asarray(votes), tree)
    return tree, WrenchSplit(matrix, np.asarray(gold, np.int32), tuple(items))


def _read_wrench_labels(path: Path) -> TaskTree:
    names = _read_json_object(path)
    if set(names) != {str(i) for i in range(len(names))}:
        raise ValueError(f"{path}: class ids must be 0..k-1, got {sorted(names)}")
    try:
        return TaskTree.single([str(names[str(i)]) for i in range(len(names))])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read_json_object(path: Path) -> dict:
    try:
        content = parse_json(path.read_text(encoding="utf-8"), unique_names=True)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def from_snorkel(matrix: np.ndarray, tree: TaskTree) -> np.ndarray:
    """Votes from a Snorkel label matrix: class ids of a single task, -1 = abstain.

    Args:
        matrix: int[n, m].
        tree: a tree with one task, whose node ids are the class ids.

    Returns:
        int[n, m] node ids, validated (the conventions agree).

    Raises:
        ValueError: the tree has several tasks, or anything that `validate` rejects.

    Example:
        >>> from_snorkel(np.array([[0, -1], [1, 1]]), TaskTree.single(2)).tolist()
        [[0, -1], [1, 1]]
    """
    if tree.num_tasks != 1:
        raise ValueError(f"a Snorkel matrix has one task, the tree has {tree.num_tasks}")
    return validate(matrix, tree)
