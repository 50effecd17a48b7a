"""What the commands share: the parser, common options, and how results are shown."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from rich import box
from rich.console import Console
from rich.table import Table

from metal_jax._core.files import replaced


class Parser(argparse.ArgumentParser):
    """A parser that leaves complaints to `main`, and keeps line breaks in help texts."""

    def __init__(self, **options: Any) -> None:
        """Make a parser; options as in `argparse.ArgumentParser`."""
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )
        self.set_defaults(command=self.prog)  # of nested ones the innermost stays

    def error(self, message: str) -> NoReturn:
        """Raise ValueError instead of printing the usage and leaving."""
        raise UsageError(f"{message} (see {self.prog} --help)")


class UsageError(ValueError):
    """Arguments that do not parse; says already where help is."""


TREE_HELP = """
A task tree is JSON: a task, its labels, and beneath a label the task that refines it, such as
  {"topic": {"sport": {"game": ["ball", "board"]}, "trade": null}}"""

VOTES_HELP = """
VOTES is one of
  votes.npz       L: int[items, LFs], class ids or node ids of the tree, -1 = abstain;
                  also read if there: k (number of classes), items, lf_names
  votes.csv       a header with item, worker and label, then one vote a line; .tsv likewise
  a WRENCH folder or its train.json, with label.json
  L_0, L_1, ...   MeTaL's list of a matrix for each task (0 = abstain) as arrays of one .npz,
                  or as files L_0.npz or <task>.csv of a folder; needs --tree
A label.json (class id -> name) beside the file names the classes. Nothing is unpickled."""

# Of commands that take a model, whose tree it is.
MODEL_VOTES_HELP = VOTES_HELP.replace("needs --tree", "read with the model's tree")


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
    add_split_option(parser)


def add_split_option(parser: argparse.ArgumentParser) -> None:
    """The option that says which part of a data set is read."""
    parser.add_argument("--split", metavar="NAME", help="split of a WRENCH folder (default: train)")


def split_of(options: argparse.Namespace) -> str:
    """The split to read; complains where one is named and nothing that is read has it."""
    split = options.split
    if split is None:
        return "train"
    inputs = [getattr(options, name, None) for name in ("votes", "fit", "predict", "gold")]
    given = [path for path in inputs if path is not None]
    if not any((path / f"{split}{end}").exists() for path in given for end in (".json", ".npz")):
        raise ValueError(
            f"--split: got {split!r}, expected a split of a WRENCH folder, which "
            f"{', '.join(map(str, given)) or 'nothing that is read'} has not"
        )
    return split


def add_out_option(
    parser: argparse.ArgumentParser, example: str = "", *, metavar: str = "FILE"
) -> None:
    """The option that says where to write."""
    where = f"where to write, e.g. {example}" if example else "folder to write"
    parser.add_argument("--out", type=Path, required=True, metavar=metavar, help=where)


def add_seed_option(parser: Any) -> None:
    """The option of every command that draws random numbers."""
    parser.add_argument(
        "--seed", type=_seed, default=0, metavar="N", help="of the random numbers (default: 0)"
    )


def positive(text: str) -> int:
    """The type of options that count something of which there must be some."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number of at least 1")
    return number


_NUM_SEEDS = 2**32  # JAX folds larger ones into these unless 64-bit numbers are switched on


def _seed(text: str) -> int:
    try:
        seed = int(text)
    except ValueError:
        seed = -1
    if not 0 <= seed < _NUM_SEEDS:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, expected a whole number from 0 to {_NUM_SEEDS - 1}"
        )
    return seed


def add_gold_option(parser: argparse.ArgumentParser, use: str, *, required: bool = False) -> None:
    """The option that names a file of gold labels, and what they are used for."""
    parser.add_argument(
        "--gold",
        type=Path,
        required=required,
        metavar="FILE",
        help=f"known labels {use}: .npz with Y (-1 = unknown), .npy, WRENCH .json, or .csv with "
        "item and label",
    )


def add_output_options(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """Options that every command has."""
    group = parser.add_argument_group("output")
    for name, text in (
        ("--json", "print the summary as JSON"),
        ("--quiet", "print nothing but errors; with --json the JSON alone"),
        ("--debug", "show tracebacks"),
    ):
        group.add_argument(name, action="store_true", default=default, help=text)


def show(
    options: argparse.Namespace, about: Any, write: Callable[..., None], *arguments: Any
) -> int:
    """Print a summary as the options ask for.

    Args:
        options: of `add_output_options`.
        about: the summary.
        write: prints it for people.
        arguments: of `write`, after the summary.

    Returns:
        The exit status.
    """
    with standard_output():
        if options.json:
            print_json(about)
        elif not options.quiet:
            write(about, *arguments)
    return 0


STANDARD_OUTPUT = "standard output"


@contextlib.contextmanager
def standard_output() -> Iterator[None]:
    """Within it stdout is written, and nothing else: what goes wrong is told of it."""
    try:
        yield
        sys.stdout.flush()  # not at the end of Python, where nobody can tell
    except OSError as error:
        error.filename = STANDARD_OUTPUT
        raise


_PIPE_WIDTH = 120  # rich takes 80 where it cannot ask, and would fold tables in files


def printable(text: str) -> str:
    """Text from data for a terminal, which obeys control characters: they are replaced.

    Args:
        text: anything.

    Returns:
        Text of the same length in one line.
    """
    return "".join(" " if c.isspace() else c if c.isprintable() else "\ufffd" for c in text)


class PlainConsole(Console):
    """A console whose strings reach the terminal as text, whatever is in them."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print; a string may have several lines."""
        clean = [
            "\n".join(map(printable, one.split("\n"))) if isinstance(one, str) else one
            for one in objects
        ]
        super().print(*clean, **options)


class PlainTable(Table):
    """A table whose cells are text, whatever is in them."""

    def add_row(self, *cells: Any, **options: Any) -> None:
        """Add a row."""
        clean = [printable(cell) if isinstance(cell, str) else cell for cell in cells]
        super().add_row(*clean, **options)


def plain_console() -> PlainConsole:
    """A console that prints names from files as they are."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return PlainConsole(highlight=False, markup=False, emoji=False, soft_wrap=True, width=width)


def plain_table(names: list[str], numbers: list[str]) -> PlainTable:
    """A table without a frame: columns of names, then columns of numbers."""
    table = PlainTable(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for header in names:
        table.add_column(header, overflow="fold")
    for header in numbers:
        table.add_column(header, justify="right")
    return table


def check_suffix(path: Path, *known: str) -> None:
    """Complain about an output whose name promises another kind of file than there is."""
    if path.suffix not in known:
        raise ValueError(f"{path}: unknown kind of file, expected {', '.join(known)}")


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


def write_csv(path: Path, header: Iterable[Any], rows: Iterable[Iterable[Any]]) -> None:
    """Replace a CSV file in one step; a lone surrogate, which UTF-8 has not, is escaped."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    with replaced(path) as file:
        file.write(text.getvalue().encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file in one step; a number that is not finite is null."""
    with replaced(path) as file:
        file.write((json_text(content, indent=1, encoding="ascii") + "\n").encode("ascii"))


def print_json(content: Any) -> None:
    """Print JSON that any parser reads: a number that is not finite is null, never NaN."""
    sys.stdout.write(json_text(content, indent=1, encoding=sys.stdout.encoding or "utf-8") + "\n")


def json_text(content: Any, *, indent: int | None = None, encoding: str = "utf-8") -> str:
    """JSON that any parser reads and that the encoding has.

    A lone surrogate, as of a text that was cut within a character, is in JSON, but in no encoding;
    all that is not ASCII is escaped then.

    Args:
        content: plain objects; a number that is not finite becomes null.
        indent: as of `json.dumps`.
        encoding: in which it will be written.

    Returns:
        The text.
    """
    finite = _finite(content)
    text = json.dumps(finite, indent=indent, ensure_ascii=False)
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = json.dumps(finite, indent=indent)
    return text


def _finite(content: Any) -> Any:
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
