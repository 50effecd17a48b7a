"""What the commands share: the parser, common options, progress, and files replaced at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table


class Parser(argparse.ArgumentParser):
    """A parser that leaves complaints to `main`, and keeps line breaks in help texts."""

    def __init__(self, **options: Any) -> None:
        """Make a parser; options as in `argparse.ArgumentParser`."""
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )

    def error(self, message: str) -> NoReturn:
        """Raise ValueError instead of printing the usage and leaving."""
        raise ValueError(f"{message} (see {self.prog} --help)")


VOTES_HELP = """
VOTES is one of
  votes.npz       L: int[items, LFs], class ids or node ids of the tree, -1 = abstain;
                  also read if there: k (number of classes), items, lf_names
  votes.csv       a header with item, worker and label, then one vote a line; .tsv likewise
  a WRENCH folder or its train.json, with label.json
  L_0, L_1, ...   MeTaL's list of a matrix for each task (0 = abstain) as arrays of one .npz,
                  or as files L_0.npz or <task>.csv of a folder; needs --tree
A label.json (class id -> name) beside the file names the classes. Nothing is unpickled."""


def add_votes_options(parser: argparse.ArgumentParser) -> None:
    """Options that say how to read votes."""
    parser.add_argument(
        "--tree", type=Path, metavar="FILE", help="task tree (JSON); default: a single task"
    )
    parser.add_argument(
        "--num-classes",
        type=int,
        metavar="K",
        help="classes of a single task; default: k in the file, label.json, label names, or the "
        "highest vote + 1",
    )
    parser.add_argument(
        "--split", default="train", help="split of a WRENCH folder (default: train)"
    )


def add_gold_option(parser: argparse.ArgumentParser, use: str) -> None:
    """The option that names a file of gold labels, and what they are used for."""
    parser.add_argument(
        "--gold",
        type=Path,
        metavar="FILE",
        help=f"known labels {use}: .npz with Y (-1 = unknown), .npy, WRENCH .json, or .csv with "
        "item and label",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Options that every command has."""
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")


_PIPE_WIDTH = 120  # rich takes 80 where it cannot ask, and would fold tables in files


def plain_console() -> Console:
    """A console that prints names from files as they are."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def plain_table(names: list[str], numbers: list[str]) -> Table:
    """A table without a frame: columns of names, then columns of numbers."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for header in names:
        table.add_column(header, overflow="fold")
    for header in numbers:
        table.add_column(header, justify="right")
    return table


def quiet_progress(options: argparse.Namespace) -> contextlib.AbstractContextManager[Any]:
    """`progress` on stderr; nothing where that is no terminal."""
    return progress(Console(stderr=True), options.quiet or not sys.stderr.isatty())


@contextlib.contextmanager
def progress(console: Console, quiet: bool) -> Iterator[Any]:
    """A status line with the step and the time since the start; on a terminal, animated."""
    if quiet:
        yield lambda step: None
        return
    start = time.monotonic()
    with console.status("starting") as status:

        def say(step: str) -> None:
            text = f"[{time.monotonic() - start:5.0f} s] {step}"
            if console.is_terminal:
                status.update(text)
            else:
                console.print(text, markup=False, highlight=False)

        yield say


def check_writable(path: Path, *inputs: Path | None) -> None:
    """Complain about an output path before the work rather than after it."""
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, expected a file to write")
    if not path.parent.is_dir():
        raise ValueError(f"{path}: there is no folder {path.parent}")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"{path}: the folder {path.parent} is not writable")
    for other in inputs:
        if other is not None and path.exists() and other.exists() and path.samefile(other):
            raise ValueError(f"{path}: is also an input; give another file to write")


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """A file to write that takes its place in one step, so that it is never half-written."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            yield file
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step; an unknown number is null."""
    with replaced(path) as file:
        file.write((json.dumps(_without_nan(content), indent=1) + "\n").encode())


def print_json(content: Any) -> None:
    """Print JSON that any parser reads: an unknown number is null, never NaN."""
    sys.stdout.write(json.dumps(_without_nan(content), indent=1, ensure_ascii=False) + "\n")


def _without_nan(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    return None if isinstance(content, float) and content != content else content
