"""`metal-jax reproduce`: rerun the papers' tables."""

from __future__ import annotations

import argparse
from typing import Any

from metal_jax.cli import _reproduce_exhaust, _reproduce_metal
from metal_jax.cli._common import add_output_options, show

_EPILOG = """
What is done of an interrupted run is kept: the same command goes on from there.

Examples:
  metal-jax reproduce metal --quick
  metal-jax reproduce exhaust --seeds 1 --out exhaust.json
"""


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    reproduce = commands.add_parser(
        "reproduce",
        help="rerun a paper's table",
        description="Rerun a paper's table; without a paper both, with their default settings.",
        epilog=_EPILOG,
    )
    add_output_options(reproduce)
    reproduce.set_defaults(run=_both)
    papers = reproduce.add_subparsers(
        title="papers", metavar="[PAPER]", help="which, with settings of its own"
    )
    _reproduce_metal.add_paper(papers)
    _reproduce_exhaust.add_paper(papers)


def _both(options: argparse.Namespace) -> int:
    parser = argparse.ArgumentParser()
    papers = parser.add_subparsers()
    _reproduce_metal.add_paper(papers)
    _reproduce_exhaust.add_paper(papers)

    def options_of(paper: str) -> argparse.Namespace:
        return parser.parse_args([paper], argparse.Namespace(**vars(options)))

    metal = _reproduce_metal.reproduce_metal(options_of("metal"))
    exhaust = _reproduce_exhaust.reproduce_exhaust(options_of("exhaust"))
    return show(options, [metal, exhaust], _print)


def _print(papers: list[dict[str, Any]]) -> None:
    metal, exhaust = papers
    _reproduce_metal.print_metal(metal)
    _reproduce_exhaust.print_exhaust(exhaust)
