"""The data sets of the MeTaL reproduction: texts, task tree and votes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from metal_jax import labeling
from metal_jax.datasets import (
    TextDataset,
    VotedDataset,
    fingerprint,
    load_clinc150,
    load_openi,
    load_stdlib_docs,
    load_trec,
)
from metal_jax.reproduce._clinc_lfs import CLINC_LFS
from metal_jax.reproduce._openi_lfs import OPENI_LFS
from metal_jax.reproduce._stdlib_lfs import STDLIB_LFS
from metal_jax.reproduce._trec_lfs import TREC_LFS


class Problem(NamedTuple):
    """A data set with the votes of its labelling functions.

    Attributes:
        dataset: texts, tree, gold and split.
        votes: int[n, m] node ids on all items.
        lf_names: m names.
        note: where the data come from, printed beside every figure.
    """

    dataset: TextDataset
    votes: np.ndarray
    lf_names: tuple[str, ...]
    note: str


def stdlib_docs() -> Problem:
    """Docstrings of the running Python, chapter -> module, with 80 hand-written LFs.

    Returns:
        The data set and the votes.
    """
    dataset = load_stdlib_docs()
    applied = labeling.apply(STDLIB_LFS, dataset.items, dataset.tree)
    note = f"docstrings of this Python's standard library, fingerprint {fingerprint(dataset)}"
    return Problem(dataset, applied.votes, applied.lf_names, note)


def openi(folder: Path) -> Problem:
    """Radiology triage: the published LFs for level one, ours for urgency.

    Args:
        folder: as in `datasets.load_openi`.

    Returns:
        The data set and the votes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.
    """
    return _with_own_lfs(
        load_openi(folder), OPENI_LFS, "OpenI chest x-ray reports; 18 published LFs and 28 of ours"
    )


def trec(folder: Path) -> Problem:
    """Question types: WRENCH's LFs for the coarse level, ours for the fine one.

    Args:
        folder: as in `datasets.load_trec`.

    Returns:
        The data set and the votes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.
    """
    return _with_own_lfs(load_trec(folder), TREC_LFS, "TREC questions; 68 WRENCH LFs, 77 of ours")


def clinc150(folder: Path) -> Problem:
    """Requests to an assistant: domain -> intent, with hand-written LFs for both levels.

    Args:
        folder: as in `datasets.load_clinc150`.

    Returns:
        The data set and the votes.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is not as described; the message names it.
    """
    dataset = load_clinc150(folder)
    applied = labeling.apply(CLINC_LFS, dataset.items, dataset.tree)
    note = f"CLINC150 requests to an assistant; {len(CLINC_LFS)} LFs of ours"
    return Problem(dataset, applied.votes, applied.lf_names, note)


def _with_own_lfs(voted: VotedDataset, lfs, note: str) -> Problem:
    applied = labeling.apply(lfs, voted.dataset.items, voted.dataset.tree)
    return Problem(
        voted.dataset,
        np.concatenate([voted.votes, applied.votes], axis=1),
        (*voted.names, *applied.lf_names),
        note,
    )


def load_problems(data: str | Path | None) -> list[Problem]:
    """The embedded problem, and those of a folder of real data where one is given.

    Args:
        data: folder with `votes/openi_cxr`, `votes/wrench_trec` and `text/clinc150`, or None.

    Returns:
        One problem, or four.

    Raises:
        FileNotFoundError: a data set is missing from the folder.
    """
    problems = [stdlib_docs()]
    if data is not None:
        data = Path(data)
        problems += [
            openi(data / "votes" / "openi_cxr"),
            trec(data / "votes" / "wrench_trec"),
            clinc150(data / "text" / "clinc150"),
        ]
    return problems
