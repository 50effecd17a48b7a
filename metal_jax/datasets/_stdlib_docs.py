"""The embedded real text: docstrings of the standard library, chapter -> module.

Nothing is downloaded: the texts come from the running interpreter and the labels from the chapters
of the Library Reference. Docstrings differ a little between Python versions and platforms, so
results belong to one interpreter: print `summarise` beside them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from metal_jax.datasets._dataset import TextDataset
from metal_jax.datasets._stdlib_texts import CHAPTERS, Text, gather
from metal_jax.task_tree import TaskTree

ROOT_TASK = "chapter"
SMALL_SIZE = 400
"""Size of the hand-labelled set."""
_SHARES: Mapping[str, float] = {"train": 0.55, "small": 0.13, "valid": 0.1, "test": 0.22}


def load_stdlib_docs(*, seed: int = 0) -> TextDataset:
    """Read the docstrings of the running interpreter, labelled with chapter and module.

    An item has "text" (name, signature and docstring), and the same in parts: "name", "signature"
    and "doc". The module's own name is masked in each. The tree has the root task "chapter" and
    beneath each chapter a task "<chapter>_module". Each class, with its near-duplicates, lies on
    one side of the split, and every module has texts on each side.

    Args:
        seed: draws the split; the texts do not depend on it.

    Returns:
        The data set. "small" has 400 items and nested hand-labelled sets of 50, 100 and 200.

    Raises:
        RuntimeError: the interpreter has no docstrings, as under ``-OO``.

    Example:
        >>> dataset = load_stdlib_docs()
        >>> dataset.tree.num_tasks, dataset.tree.num_leaves, len(dataset.splits["small"])
        (12, 31, 400)
    """
    texts = gather()
    tree = TaskTree.from_dict(
        {
            ROOT_TASK: {
                chapter: {f"{chapter}_module": list(modules)}
                for chapter, modules in CHAPTERS.items()
            }
        }
    )
    return TextDataset(
        name="stdlib_docs",
        tree=tree,
        items=tuple(
            {"text": t.text, "name": t.name, "signature": t.signature, "doc": t.doc} for t in texts
        ),
        gold=np.array([tree.node(f"{t.chapter}_module", t.module) for t in texts], np.int32),
        splits=split_texts(texts, seed=seed),
    )


def split_texts(texts: Sequence[Text], *, seed: int) -> dict[str, np.ndarray]:
    """Split texts by group, each module in the same shares as far as its groups allow.

    The draw hashes the seed with the names of groups and texts, so it does not depend on a random
    number generator's version, and a text that exists in two Python versions mostly falls alike.

    Args:
        texts: the n texts.
        seed: of the draw.

    Returns:
        Index arrays "train", "small" (in random order), "valid" and "test" that cover all texts.
    """
    split_of: dict[str, str] = {}
    sizes: dict[str, int] = defaultdict(int)
    module_groups: dict[str, set[str]] = defaultdict(set)
    for text in texts:
        sizes[text.group] += 1
        module_groups[text.module].add(text.group)
    for groups in module_groups.values():
        split_of |= _assign(sorted(groups, key=lambda g: (-sizes[g], _draw(seed, g))), sizes)

    # Lone texts trade places until "small" has its size.
    surplus = sum(sizes[g] for g, split in split_of.items() if split == "small") - SMALL_SIZE
    giver, taker = ("small", "train") if surplus > 0 else ("train", "small")
    lone = [g for g, split in split_of.items() if split == giver and sizes[g] == 1]
    for group in sorted(lone, key=lambda g: _draw(seed, g))[: abs(surplus)]:
        split_of[group] = taker

    rows = {s: [i for i, t in enumerate(texts) if split_of[t.group] == s] for s in _SHARES}
    keys = [_draw(seed, text.module + text.text) for text in texts]
    rows["small"].sort(key=keys.__getitem__)
    return {split: np.array(index, np.int64) for split, index in rows.items()}


def _assign(groups: Sequence[str], sizes: Mapping[str, int]) -> dict[str, str]:
    """Fill the shares of one module, its largest groups first.

    A group goes where the largest fraction is still missing, but may take no more than half of a
    share other than train's; one that fits nowhere goes to "train" or "test". The last groups go
    to splits that are still empty.
    """
    total = sum(sizes[group] for group in groups)
    share = {split: fraction * total for split, fraction in _SHARES.items()}
    limit = {split: size if split == "train" else size / 2 for split, size in share.items()}
    missing = dict(share)
    split_of: dict[str, str] = {}
    for position, group in enumerate(groups):
        empty = [split for split in _SHARES if split not in split_of.values()]
        allowed = empty if len(groups) - position <= len(empty) else list(_SHARES)
        fitting = [s for s in allowed if sizes[group] <= min(limit[s], missing[s])]
        if fitting:
            split = max(fitting, key=lambda s: missing[s] / share[s])
        else:
            large = [s for s in allowed if s in {"train", "test"}]
            split = max(large or allowed, key=missing.__getitem__)
        split_of[group] = split
        missing[split] -= sizes[group]
    return split_of


def _draw(seed: int, key: str) -> bytes:
    """A pseudo-random rank for a key."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
