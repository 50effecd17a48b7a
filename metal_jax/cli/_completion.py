"""`metal-jax completion`: completion of commands and options by the shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metal_jax.cli._common import standard_output

_SHELLS = ("bash", "zsh", "fish")

_EPILOG = """
Needs shtab (pip install 'metal-jax[completion]') to make the script, not to use it.

Examples:
  metal-jax completion bash > ~/.local/share/bash-completion/completions/metal-jax
  metal-jax completion zsh > ~/.zfunc/_metal-jax      # a folder of $fpath
  metal-jax completion fish > ~/.config/fish/completions/metal-jax.fish
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    parser = commands.add_parser(
        "completion",
        help="a script by which the shell completes commands and options",
        description="Print a script by which a shell completes commands, options and file names.",
        epilog=_EPILOG,
    )
    parser.add_argument("shell", choices=_SHELLS, help="the shell that reads the script")
    parser.add_argument("--debug", action="store_true", default=False, help="show tracebacks")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    try:
        import shtab  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError("completion: needs shtab (pip install 'metal-jax[completion]')") from None
    from metal_jax.cli._main import parser

    whole = parser()
    for one in parsers(whole):
        for action in one._actions:
            if action.type is Path:
                folder = action.metavar == "DIR"
                # What shtab reads; argparse knows nothing of it.
                action.complete = shtab.DIRECTORY if folder else shtab.FILE  # pyright: ignore
    with standard_output():
        sys.stdout.write(shtab.complete(whole, shell=options.shell))
    return 0


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its sub-commands."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for child in action.choices.values():
                yield from parsers(child)
