"""Dispatch to the commands, and from errors to exit statuses."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

import metal_jax
from metal_jax.cli import (
    _analyze,
    _apply,
    _completion,
    _evaluate,
    _exhaust,
    _export,
    _label,
    _predict,
    _report,
    _reproduce,
    _train,
)
from metal_jax.cli._common import STANDARD_OUTPUT, Parser, UsageError, printable
from metal_jax.cli._compilation_cache import use_compilation_cache


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; `sys.argv` by default.

    Returns:
        The exit status.
    """
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    command = "metal-jax"
    _printable_output()
    try:
        options, unknown = parser().parse_known_args(arguments)
        command = options.command
        if unknown:
            raise ValueError(f"unrecognized arguments: {' '.join(unknown)}")
        use_compilation_cache()
        return options.run(options)
    except KeyboardInterrupt as interrupt:
        return _say(str(interrupt) or "interrupted; nothing was written", INTERRUPTED)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _close_stdout()
        return 1
    except OSError as error:
        if debug:
            raise
        if error.errno not in _NO_ROOM:
            return _say(f"{_one_line(error)} (see {command} --help)", 2)
        if error.filename == STANDARD_OUTPUT:
            _close_stdout()
        return _say(f"failed: {_one_line(error)}; {_NO_ROOM[error.errno]}", 1)
    except ValueError as error:
        if debug:
            raise
        hint = "" if isinstance(error, UsageError) else f" (see {command} --help)"
        return _say(f"{_one_line(error)}{hint}", 2)
    except Exception as error:
        if debug:
            raise
        return _say(f"failed: {type(error).__name__}: {_one_line(error)} (--debug shows where)", 1)


_EPILOG = """
metal-jax COMMAND --help tells what a command reads and writes, with examples.

Examples:
  metal-jax report votes votes.csv --out report.html
  metal-jax label votes.csv --out probs.npz
  metal-jax train --votes votes.npz --features texts.jsonl --tree tree.json --out model
  metal-jax exhaust import logs/ --out runs.jsonl

Exit statuses: 0 done, 1 failed, 2 bad input, 130 interrupted.
"""

INTERRUPTED = 130
"""As a shell says of a program that SIGINT, signal 2, has ended: 128 + 2."""


_NO_ROOM = {
    errno.ENOSPC: "make room on the disk, or write elsewhere",
    errno.EDQUOT: "make room within the quota, or write elsewhere",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or write elsewhere",
    errno.EIO: "the disk is failing; write elsewhere",
}
"""What to do about errors of the machine, which no other input mends."""


def _close_stdout() -> None:
    """Let Python's own last flush write to nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable_output() -> None:
    """Text that has no bytes in the encoding of a stream, such as half a character, is escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"metal-jax: {printable(text)}\n")
    return status


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def parser() -> Parser:
    """The parser of the whole command line."""
    main_parser = Parser(
        prog="metal-jax",
        description=str(metal_jax.__doc__).partition("\n")[0],
        epilog=_EPILOG,
    )
    main_parser.add_argument(
        "--version", action="version", version=metal_jax.__version__, help="show the version"
    )
    commands = main_parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _apply.add_command(commands)
    _analyze.add_command(commands)
    _label.add_command(commands)
    _train.add_command(commands)
    _predict.add_command(commands)
    _evaluate.add_command(commands)
    _export.add_command(commands)
    _exhaust.add_command(commands)
    _report.add_command(commands)
    _reproduce.add_command(commands)
    _completion.add_command(commands)
    return main_parser
