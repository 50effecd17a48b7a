"""Dispatch to the commands, and from errors to exit statuses."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import metal_jax
from metal_jax.cli import (
    _analyze,
    _evaluate,
    _exhaust,
    _label,
    _predict,
    _report,
    _reproduce,
    _train,
)
from metal_jax.cli._common import Parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: without the program's name; `sys.argv` by default.

    Returns:
        The exit status.
    """
    debug = "--debug" in (sys.argv[1:] if arguments is None else arguments)
    try:
        options = _parser().parse_args(arguments)
        return options.run(options)
    except KeyboardInterrupt as interrupt:
        return _say(str(interrupt) or "interrupted", 1)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        if debug:
            raise
        return _say(_one_line(error), 2)
    except Exception as error:
        if debug:
            raise
        return _say(f"failed: {type(error).__name__}: {_one_line(error)} (--debug shows where)", 1)


def _say(text: str, status: int) -> int:
    sys.stderr.write(f"metal-jax: {text}\n")
    return status


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def _parser() -> Parser:
    parser = Parser(prog="metal-jax", description=str(metal_jax.__doc__).partition("\n")[0])
    parser.add_argument("--version", action="version", version=metal_jax.__version__)
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _analyze.add_command(commands)
    _label.add_command(commands)
    _train.add_command(commands)
    _predict.add_command(commands)
    _evaluate.add_command(commands)
    _exhaust.add_command(commands)
    _report.add_command(commands)
    _reproduce.add_command(commands)
    return parser
