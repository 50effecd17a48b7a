"""Readers for folders of real data: texts, gold labels at two levels, and given votes.

A folder holds, for each of train, valid and test, ``<split>.jsonl`` (one object a line, with a
"text") and ``<split>.npz`` (votes and gold labels in the same order). No such data comes with the
library. Legend: n items, m labelling functions.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metal_jax._core.archives import load_arrays
from metal_jax.datasets._dataset import TextDataset
from metal_jax.datasets._json_files import arrange_splits, entry, read_json, read_lines, strings
from metal_jax.labeling import narrowest_integers
from metal_jax.task_tree import TaskTree

_SPLITS = ("train", "valid", "test")
_URGENCIES = ("chronic", "non_urgent", "urgent", "emergent")
# The rows of TREC's train from here on are the examples that the given rules were made from.
_NUM_TREC_TRAIN = 4965


class VotedDataset(NamedTuple):
    """A data set of texts together with the votes that came with it.

    Attributes:
        dataset: texts, task tree, gold nodes and splits of n items.
        votes: int[n, m] node ids of the tree in the order of the items, -1 = abstain.
        names: the names of the m labelling functions.
    """

    dataset: TextDataset
    votes: np.ndarray
    names: tuple[str, ...]


class _Rows(NamedTuple):
    """The rows of one split: texts, votes int[n, m], coarse and fine gold int[n]."""

    texts: list[str]
    votes: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray

    def take(self, kept: np.ndarray) -> "_Rows":
        """Return the rows with the given indices."""
        texts = [self.texts[i] for i in kept]
        return _Rows(texts, self.votes[kept], self.coarse[kept], self.fine[kept])


def load_openi(folder: str | PathLike[str], *, small_size: int = 400) -> VotedDataset:
    """Read the OpenI chest x-ray reports: triage, then the urgency of the abnormal ones.

    The given labelling functions are those of Dunnmon et al. (2020, "Cross-modal data programming
    enables rapid medical machine learning"); they vote on normal or abnormal only. Reports of
    train whose text is also in test are dropped; test stays as it is.

    Args:
        folder: holds ``labels.json`` (whose "lf_names" name the m columns) and for each split
            ``<split>.jsonl`` and ``<split>.npz`` with ``L`` int[n, m] (-1 abstain, 0 normal,
            1 abnormal), ``Y`` int[n] (likewise) and ``Y_urgency`` int[n] (-1 unknown, 0 normal,
            1 chronic, 2 non-urgent, 3 urgent, 4 emergent).
        small_size: number of train items in the hand-labelled set "small"; the order of its items
            is fixed, so a smaller set is the beginning of a larger one. The other train items
            are the split "train".

    Returns:
        The data set and the given votes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.
    """
    folder = Path(folder)
    tree = TaskTree.from_dict(
        {"triage": {"normal": None, "abnormal": {"urgency": list(_URGENCIES)}}}
    )
    coarse_nodes = [tree.node("triage", "normal"), tree.node("triage", "abnormal")]
    fine_nodes = [coarse_nodes[0], *(tree.node("urgency", label) for label in _URGENCIES)]
    path = folder / "labels.json"
    names = strings(path, read_json(path), "lf_names")
    splits = {s: _read_rows(folder, s, "Y_urgency", coarse_nodes, fine_nodes) for s in _SPLITS}
    return _assemble(folder, "openi", tree, splits, names, small_size)


def load_trec(folder: str | PathLike[str], *, small_size: int = 400) -> VotedDataset:
    """Read the TREC questions: six coarse classes of answer, fifty fine ones (Li and Roth 2002).

    The given labelling functions are the rules of Awasthi et al. (2020, "Learning from rules
    generalizing labeled exemplars"), which vote on the coarse class only; they are named
    "trec_lf_00" and so on. The examples that the rules were made from (rows 4965 on of train) are
    dropped, and so are questions of train whose text is also in test; test stays as it is.

    The root task is "question", its labels are the coarse classes in lower case. The task beneath
    a label bears the label's name; a coarse class with a single fine class is a leaf.

    Args:
        folder: holds ``label.json`` (coarse id -> name), ``fine_labels.json`` ("fine":
            "COARSE:fine" names, "parent": their coarse ids) and for each split ``<split>.jsonl``
            and ``<split>.npz`` with ``L`` int[n, m] (-1 abstain, else a coarse id), ``Y`` int[n]
            (-1 unknown, else a coarse id) and ``Y_fine`` int[n] (-1 unknown, else a fine id).
        small_size: number of train items in the hand-labelled set "small"; the order of its items
            is fixed, so a smaller set is the beginning of a larger one. The other train items
            are the split "train".

    Returns:
        The data set and the given votes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.
    """
    folder = Path(folder)
    path = folder / "label.json"
    names = read_json(path)
    in_order = {"names": [entry(path, names, str(i)) for i in range(len(names))]}
    coarse = [name.lower() for name in strings(path, in_order, "names")]
    path = folder / "fine_labels.json"
    about = read_json(path)
    fine = [name.split(":")[-1] for name in strings(path, about, "fine")]
    parents = entry(path, about, "parent")
    ids = range(len(coarse))
    if (
        not isinstance(parents, list)
        or len(parents) != len(fine)
        or not all(type(parent) is int and parent in ids for parent in parents)
    ):
        raise ValueError(
            f"{path}: expected a parent below {len(coarse)} for each of {len(fine)} fine labels, "
            f"got {parents!r:.80}"
        )
    pairs = list(zip(parents, fine, strict=True))
    children = [[label for parent, label in pairs if parent == i] for i in range(len(coarse))]
    tree = TaskTree.from_dict(
        {
            "question": {
                label: {label: below} if len(below) > 1 else None
                for label, below in zip(coarse, children, strict=True)
            }
        }
    )
    coarse_nodes = [tree.node("question", label) for label in coarse]
    fine_nodes = [
        tree.node(coarse[parent], label) if len(children[parent]) > 1 else coarse_nodes[parent]
        for parent, label in pairs
    ]
    splits = {s: _read_rows(folder, s, "Y_fine", coarse_nodes, fine_nodes) for s in _SPLITS}
    num_train = min(_NUM_TREC_TRAIN, len(splits["train"].texts))
    splits["train"] = splits["train"].take(np.arange(num_train))
    names = [f"trec_lf_{i:02d}" for i in range(splits["train"].votes.shape[1])]
    return _assemble(folder, "trec", tree, splits, names, small_size)


def _read_rows(
    folder: Path, split: str, fine_key: str, coarse_nodes: Sequence[int], fine_nodes: Sequence[int]
) -> _Rows:
    """Read one split, with votes and gold labels as node ids."""
    texts = [text for (text,) in read_lines(folder / f"{split}.jsonl", "text")]
    path = folder / f"{split}.npz"
    try:
        arrays = load_arrays(path)
    except ValueError as error:
        raise ValueError(f"{path}: not an npz archive of plain arrays: {error}") from error
    n = len(texts)
    nodes = {"L": coarse_nodes, "Y": coarse_nodes, fine_key: fine_nodes}
    read = {}
    for key, node in nodes.items():
        array = entry(path, arrays, key)
        if array.ndim != (2 if key == "L" else 1) or len(array) != n:
            expected = f"[{n}, m]" if key == "L" else f"[{n}]"
            raise ValueError(f"{path}: {key} has shape {array.shape}, expected {expected}")
        if array.dtype.kind not in "iu" or (
            array.size and not -1 <= array.min() <= array.max() < len(node)
        ):
            raise ValueError(f"{path}: {key} holds values other than integers -1..{len(node) - 1}")
        read[key] = np.array([*node, -1], np.int32)[array]  # -1 picks the last entry, itself -1
    return _Rows(texts, *(read[key] for key in nodes))


def _assemble(
    folder: Path,
    name: str,
    tree: TaskTree,
    splits: Mapping[str, _Rows],
    names: Sequence[str],
    small_size: int,
) -> VotedDataset:
    """Drop train items that are in test, choose the small set and join the splits."""
    for split, rows in splits.items():
        if rows.votes.shape[1] != len(names):
            raise ValueError(
                f"{folder / split}.npz: L has {rows.votes.shape[1]} columns, expected {len(names)}"
            )
    kept, rows_of = arrange_splits(name, {s: rows.texts for s, rows in splits.items()}, small_size)
    parts = (splits["train"].take(kept), splits["valid"], splits["test"])
    coarse = np.concatenate([part.coarse for part in parts])
    fine = np.concatenate([part.fine for part in parts])
    dataset = TextDataset(
        name=name,
        tree=tree,
        items=tuple({"text": text} for part in parts for text in part.texts),
        gold=np.where(fine >= 0, fine, coarse).astype(np.int32),
        splits=rows_of,
    )
    votes = narrowest_integers(np.concatenate([part.votes for part in parts]))
    return VotedDataset(dataset, votes, tuple(names))
