"""Label matrices and gold labels from files; nothing is ever unpickled.

| file | what is in it |
|---|---|
| `.npz` | `L` int[n, m] node ids, -1 = abstain; perhaps `k` classes, `items`, `lf_names` |
| `.npy` | the matrix `L` alone |
| `.csv`, `.tsv` | a header with `item`, `worker` and `label`, then one vote a line |
| `.json` | a split of WRENCH, with its `label.json` beside it |
| `.npz` with `L_0`, ... | MeTaL's list of a matrix for each task; 0 = abstain, needs a tree |
| folder | WRENCH's, or MeTaL's list: `<task>` or `L_<number>` with `.npz`, `.npy` or `.csv` |

A `label.json` (class id -> name) beside a matrix of a single task names its classes.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metal_jax._core.archives import load_arrays
from metal_jax._core.json_text import parse_json
from metal_jax.labeling._convert import from_metal, from_triples, read_wrench
from metal_jax.labeling._lines import LabelNodes, read_lines
from metal_jax.labeling._matrix import validate
from metal_jax.task_tree import TaskTree

_SUFFIXES = (".npz", ".npy", ".csv", ".tsv", ".json")
_MOST_INFERRED_CLASSES = 10_000  # a higher vote is no class id


class VoteFile(NamedTuple):
    """Votes as read from a file.

    Attributes:
        votes: int[n, m] node ids, -1 = abstain, -2 = never asked.
        tree: the task tree: as given, or a single task.
        classes_from: where the tree's labels come from, in words.
        items: n item names, or None.
        lf_names: m LF or worker names, or None.
    """

    votes: np.ndarray
    tree: TaskTree
    classes_from: str
    items: tuple[str, ...] | None = None
    lf_names: tuple[str, ...] | None = None


def read_votes(
    path: str | os.PathLike[str],
    tree: TaskTree | None = None,
    *,
    num_classes: int | None = None,
    split: str = "train",
) -> VoteFile:
    r"""Read a label matrix from any of the forms of this module's table.

    Args:
        path: the file or folder.
        tree: the task tree whose node ids, or label names, the file holds.
        num_classes: without a tree: k of the single task. By default the file's `k`, the names in
            `label.json`, the label names of a `.csv`, or the highest vote plus one.
        split: of a WRENCH folder.

    Returns:
        The votes, validated, and what is known of the names.

    Raises:
        ValueError: malformed content, both a tree and `num_classes`, or votes outside the tree;
            names the file and the row, LF or line.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "votes.csv")
        ...     _ = path.write_text("item,worker,label\na,Ann,cat\nb,Bob,dog\na,Bob,cat\n")
        ...     file = read_votes(path)
        >>> file.votes.tolist(), file.tree.tasks[0].labels
        ([[0, 0], [-2, 1]], ('cat', 'dog'))
    """
    if tree is not None and num_classes is not None:
        raise ValueError("num_classes: the tree already says which classes there are")
    if num_classes is not None and num_classes < 2:
        raise ValueError(f"num_classes: got {num_classes}, expected at least 2")
    path = file_of(Path(path), split)
    with named_in_errors(path):
        if path.is_dir():
            return VoteFile(_read_metal_folder(path, tree), _needed(tree), "the tree")
        if path.suffix == ".json":
            return _read_wrench_file(path, tree, num_classes)
        if path.suffix in (".csv", ".tsv"):
            return _read_triples(path, tree, num_classes)
        return _read_matrix(path, tree, num_classes)


# ---- files and their arrays -------------------------------------------------------------------


def file_of(path: Path, split: str) -> Path:
    """The split's file of a folder, or the path itself."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if path.is_dir():
        files = (path / f"{split}{suffix}" for suffix in (".json", ".npz"))
        return next((file for file in files if file.exists()), path)
    if path.suffix not in _SUFFIXES:
        raise ValueError(f"{path}: unknown kind of file, expected {', '.join(_SUFFIXES)}")
    return path


@contextlib.contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Let every complaint about a file's content name the file."""
    try:
        yield
    except (ValueError, csv.Error) as error:
        if str(error).startswith((str(path), str(path.parent / "label.json"))):
            raise
        raise ValueError(f"{path}: {error}") from error


def matching_arrays(path: Path, wanted: str) -> dict[str, np.ndarray]:
    """The arrays whose names match a pattern; a `.npy` counts as an array of any name."""
    return load_arrays(path, wanted, alone=wanted.split("|")[0])


def label_names(folder: Path) -> list[str] | None:
    """The class names of WRENCH's `label.json`, in the order of their ids."""
    path = folder / "label.json"
    if not path.exists():
        return None
    with named_in_errors(path):
        names = parse_json(path.read_text(encoding="utf-8"))
        expected = [str(i) for i in range(len(names))] if isinstance(names, dict) else []
        if not expected or set(names) != set(expected):
            raise ValueError("expected an object of class id ('0', '1', ...) -> name")
        return [str(names[i]) for i in expected]


def _needed(tree: TaskTree | None) -> TaskTree:
    if tree is None:
        raise ValueError("a list of one matrix for each task needs a task tree")
    return tree


def _class_tree(
    votes: np.ndarray, in_file: int | None, num_classes: int | None, names: list[str] | None
) -> tuple[TaskTree, str]:
    """The single task of a label matrix, and where its classes come from."""
    if in_file is not None and num_classes not in (None, in_file):
        raise ValueError(f"k is {in_file} in the file, but {num_classes} classes are asked for")
    k = in_file if in_file is not None else num_classes
    source = "k in the file" if in_file is not None else "as given"
    if k is None and names is not None:
        k, source = len(names), "label.json"
    if k is None:
        k, source = int(votes.max(initial=-1)) + 1, "the highest vote + 1"
        if k == 0:
            raise ValueError("votes: every LF abstains on every item")
        if k == 1:
            raise ValueError("votes: every vote is for class 0; say how many classes there are")
        if k > _MOST_INFERRED_CLASSES:
            row, column = np.argwhere(votes == k - 1)[0]
            raise ValueError(
                f"votes: row {row}, LF {column}: got {k - 1}; if this is a class id, say how many "
                "classes there are"
            )
    if names is None:
        return TaskTree.single(k), source
    if len(names) != k:
        raise ValueError(f"label.json names {len(names)} classes, but there are {k} ({source})")
    return TaskTree.single(names), source


# ---- matrices -----------------------------------------------------------------------------------


def _read_matrix(path: Path, tree: TaskTree | None, num_classes: int | None) -> VoteFile:
    arrays = matching_arrays(path, r"L|k|items|lf_names|L_\d+")
    source = "the tree"
    if "L" not in arrays:
        matrix = from_metal(_per_task(arrays), _needed(tree))
    else:
        matrix = arrays["L"]
        if matrix.ndim != 2 or not matrix.size or matrix.dtype.kind not in "iu":
            validate(matrix, TaskTree.single(2))  # raises: no classes to count
        if tree is None:
            k = _num_classes(arrays["k"]) if "k" in arrays else None
            tree, source = _class_tree(matrix, k, num_classes, label_names(path.parent))
    items = _names(arrays, "items", len(matrix))
    lf_names = _names(arrays, "lf_names", matrix.shape[1])
    tree = _needed(tree)
    return VoteFile(validate(matrix, tree, lf_names=lf_names), tree, source, items, lf_names)


def _per_task(arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """MeTaL's list of matrices."""
    count = sum(name.startswith("L_") for name in arrays)
    if not count:
        raise ValueError("no array L (the label matrix), and no L_0, L_1, ... (one for each task)")
    for t in range(count):
        if f"L_{t}" not in arrays:
            raise ValueError(f"no array L_{t}, although {count} are called L_<number>")
    return [arrays[f"L_{t}"] for t in range(count)]


def _num_classes(k: np.ndarray) -> int:
    if k.size != 1 or k.dtype.kind not in "iu" or k.item() < 2:
        raise ValueError(f"k: got {k.tolist()}, expected a number of classes, at least 2")
    return int(k.item())


def _names(arrays: dict[str, np.ndarray], key: str, size: int) -> tuple[str, ...] | None:
    if key not in arrays:
        return None
    if arrays[key].shape != (size,):
        raise ValueError(f"{key}: got shape {arrays[key].shape}, expected ({size},) as in L")
    return tuple(str(name) for name in arrays[key])


def _read_metal_folder(folder: Path, tree: TaskTree | None) -> np.ndarray:
    """MeTaL's list from a file for each task, as node ids."""
    if tree is None:
        raise ValueError(
            "no split of WRENCH here; if this is a folder of one matrix for each task, a task "
            "tree is needed"
        )
    matrices = []
    for number, task in enumerate(tree.tasks):
        # A name from a tree may hold a path, which must not lead out of the folder.
        stems = (*([task.name] if Path(task.name).name == task.name else []), f"L_{number}")
        files = [folder / f"{s}{suffix}" for s in stems for suffix in (".npz", ".npy", ".csv")]
        file = next((file for file in files if file.exists()), None)
        if file is None:
            raise ValueError(
                f"no file for task {task.name!r}: neither {task.name} nor L_{number} with .npz, "
                ".npy or .csv"
            )
        with named_in_errors(file):
            arrays = _load_lines(file) if file.suffix == ".csv" else matching_arrays(file, "L")
            if "L" not in arrays:
                raise ValueError("no array L")
            matrices.append(arrays["L"])
    return from_metal(matrices, tree)


def _load_lines(path: Path) -> dict[str, np.ndarray]:
    """A matrix of integers as lines of numbers, without a header."""
    lines = path.read_text(encoding="utf-8-sig").split()
    if not lines:
        raise ValueError("the file is empty")
    return {"L": np.loadtxt(lines, delimiter=",", dtype=np.int64, ndmin=2)}


def _read_wrench_file(path: Path, tree: TaskTree | None, num_classes: int | None) -> VoteFile:
    names = label_names(path.parent)
    if names is None:
        raise ValueError("a .json of WRENCH needs its label.json (class id -> name) beside it")
    _, split = read_wrench(path.parent, path.stem)
    if tree is None:
        tree, source = _class_tree(split.votes, None, num_classes, names)
    else:
        source = "the tree"
    return VoteFile(validate(split.votes, tree), tree, source)


# ---- lines of votes -----------------------------------------------------------------------------


def _read_triples(path: Path, tree: TaskTree | None, num_classes: int | None) -> VoteFile:
    lines = read_lines(path, ("item", "worker", "label"))
    seen: dict[tuple[str, str], int] = {}
    for number, (item, worker, _) in lines:
        first = seen.setdefault((item, worker), number)
        if first != number:
            raise ValueError(
                f"line {number}: worker {worker!r} has a vote on item {item!r} in line {first} "
                "already; keep one of the two"
            )
    source = "the tree"
    if tree is None:
        tree, source = _tree_of_labels(lines, num_classes, label_names(path.parent))
    nodes = LabelNodes(tree)
    named = from_triples(
        ((item, worker, nodes(number, label)) for number, (item, worker, label) in lines), tree
    )
    items, workers = (tuple(map(str, names)) for names in (named.items, named.workers))
    return VoteFile(named.votes, tree, source, items, workers)


def _tree_of_labels(
    lines: list[tuple[int, tuple[str, ...]]], num_classes: int | None, names: list[str] | None
) -> tuple[TaskTree, str]:
    """The single task of label texts: class ids if all are numbers, otherwise names."""
    for number, (_, _, label) in lines:
        if label == "-1":
            raise ValueError(f"line {number}: label '-1'; leave out lines without a label")
    labels = sorted({label for _, (_, _, label) in lines})
    if all(re.fullmatch(r"\d{1,9}", label) for label in labels):
        return _class_tree(np.array([[int(label) for label in labels]]), None, num_classes, names)
    if names is not None:  # the texts are resolved against these
        return _class_tree(np.zeros((1, 1), int), None, num_classes, names)
    if num_classes not in (None, len(labels)):
        raise ValueError(
            f"{len(labels)} label names, but {num_classes} classes are asked for; give all names "
            "in a task tree or a label.json"
        )
    if len(labels) == 1:
        raise ValueError(f"every label is {labels[0]!r}; give all names in a task tree")
    return TaskTree.single(labels), "the label names"
