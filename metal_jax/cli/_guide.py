"""What guides the work on LFs: the effect of each, pairs that depend, items to look at next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from metal_jax.cli._progress import Say

if TYPE_CHECKING:
    from metal_jax.label_model import LeaveOneOut, SuggestedDependency
    from metal_jax.labeling import LabelingFunction, Span, VoteFile

_MOST_CELLS = 10**6
"""Items times LFs up to which all of it is done without being asked for."""

TEXTS_HELP = """
Texts are lines of JSON with "text" and perhaps "item", matched with the votes by name where both
have names, otherwise by order. With --lfs, what made an LF vote is marked in them: keyword, pattern
and dictionary LFs can tell, and those whose function has a method spans(item)."""


class Guide(NamedTuple):
    """What was found.

    Attributes:
        without: the effect of leaving each LF out; None where not asked for.
        dependencies: pairs of LFs; None where not asked for.
        texts: n texts, or None.
        spans: item -> LF and the part of its text that made it vote.
    """

    without: LeaveOneOut | None
    dependencies: list[SuggestedDependency] | None
    texts: list[str] | None
    spans: dict[int, list[tuple[int, Span]]]


def add_guide_options(parser: argparse.ArgumentParser) -> None:
    """Options that say what to look for."""
    parser.add_argument(
        "--texts", type=Path, metavar="FILE", help="texts of the items (.jsonl), to show"
    )
    parser.add_argument(
        "--lfs", type=Path, metavar="LFS.py", help="the LFs, to mark what made them vote"
    )
    most = f"where items times LFs are at most {_MOST_CELLS:,}"
    parser.add_argument(
        "--leave-one-out",
        action=argparse.BooleanOptionalAction,
        help=f"fit again without each LF: what removing it would do (default: {most})",
    )
    parser.add_argument(
        "--dependencies",
        action=argparse.BooleanOptionalAction,
        help=f"suggest pairs of LFs that depend on each other (default: {most})",
    )
    parser.add_argument(
        "--num-next",
        type=int,
        default=5,
        metavar="N",
        help="items to look at next, of each kind; 0: none (default: 5)",
    )


def check_guide_options(options: argparse.Namespace) -> None:
    """Complain before the work."""
    if options.num_next < 0:
        raise ValueError(f"--num-next: got {options.num_next}, expected at least 0")
    if options.lfs is not None and options.texts is None:
        raise ValueError("--lfs: marks what made LFs vote in the texts; give --texts too")


def read_texts(options: argparse.Namespace, file: VoteFile) -> tuple[list[str] | None, Any]:
    """The texts of the items, and parts of them that made LFs vote."""
    if options.texts is None:
        return None, {}
    from metal_jax.cli._items import match_items, read_items

    items = read_items(options.texts)
    if items.kind != "texts":
        raise ValueError(f'{options.texts}: holds {items.kind}, expected lines of JSON with "text"')
    ordered = options.votes.suffix not in (".csv", ".tsv")
    sources = options.texts, options.votes
    rows = match_items(items, len(file.votes), file.items, sources, ordered=ordered)
    texts = [""] * len(file.votes)
    for text, row in zip(items.values, rows.tolist(), strict=True):
        if row >= 0:
            texts[row] = text
    if options.lfs is None:
        return texts, {}
    return texts, _spans(options, file, texts, rows)


def find_guide(
    options: argparse.Namespace,
    file: VoteFile,
    gold: np.ndarray | None,
    texts: Any,
    class_balance: np.ndarray | None,
    say: Say,
) -> Guide:
    """Do what the options ask for.

    Args:
        options: of `add_guide_options`.
        file: the votes.
        gold: int[n] node ids, or None; for judging only.
        texts: what `read_texts` gave.
        class_balance: float[leaves] that is known, or None.
        say: told of progress.

    Returns:
        What was found.
    """
    from metal_jax import label_model
    from metal_jax.cli import _votes

    few = file.votes.size <= _MOST_CELLS and file.votes.shape[1] > 1
    names = _votes.lf_names(file)
    without = dependencies = None
    if few if options.leave_one_out is None else options.leave_one_out:
        step, count = "fitting without each LF", len(names)
        say.count(step, 0, count, "LFs")
        known = None if gold is None or gold.ndim > 1 else gold
        without = label_model.leave_one_out(
            file.votes,
            file.tree,
            class_balance,
            gold=known,
            on_progress=lambda done: say.count(step, done, count, "LFs"),
        )
    if few if options.dependencies is None else options.dependencies:
        say("looking for dependencies")
        dependencies = label_model.suggest_dependencies(
            file.votes,
            file.tree,
            lf_names=names,
            on_progress=lambda done: say.count("looking for dependencies", done, unit="rounds"),
        )
    return Guide(without, dependencies, *texts)


def _spans(
    options: argparse.Namespace, file: VoteFile, texts: list[str], rows: np.ndarray
) -> dict[int, list[tuple[int, Span]]]:
    """Item -> LF and span, of the votes that are in the file."""
    from metal_jax import labeling
    from metal_jax.cli import _votes
    from metal_jax.cli._apply import load_lfs
    from metal_jax.cli._items import read_objects

    place = {name: j for j, name in enumerate(_votes.lf_names(file))}
    lfs = [(place[c], lf) for lf in load_lfs(options.lfs) for c in lf.column_names if c in place]
    if not lfs:
        raise ValueError(f"{options.lfs}: none of its LFs has a column in {options.votes}")
    spans: dict[int, list[tuple[int, Span]]] = {}
    for item, row in zip(read_objects(options.texts)[0], rows.tolist(), strict=True):
        if row < 0:
            continue
        found = [
            (j, span)
            for j, lf in lfs
            if file.votes[row, j] >= 0 and _reads(lf, item, texts[row])
            for span in labeling.trigger_spans(lf, item) or ()
        ]
        if found:
            spans[row] = found
    return spans


def _reads(lf: LabelingFunction, item: Any, text: str) -> bool:
    """Whether the text an LF reads is the one that is shown, so that its spans fit."""
    own = getattr(lf.function, "text", None)
    return own is None or own(item) == text
