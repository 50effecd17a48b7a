"""`metal-jax reproduce`: rerun the papers' tables."""

from __future__ import annotations

import argparse
from typing import Any

from metal_jax.cli import _reproduce_exhaust, _reproduce_metal


def add_command(commands: Any) -> None:
    """Add the command to the parser's sub-commands."""
    reproduce = commands.add_parser(
        "reproduce",
        help="rerun a paper's table",
        description="Rerun a paper's table; without PAPER both, with their default settings.",
    )
    reproduce.set_defaults(run=_both)
    papers = reproduce.add_subparsers(title="papers", metavar="PAPER")
    _reproduce_metal.add_paper(papers)
    _reproduce_exhaust.add_paper(papers)


def _both(options: argparse.Namespace) -> int:
    del options
    parser = argparse.ArgumentParser()
    papers = parser.add_subparsers()
    _reproduce_metal.add_paper(papers)
    _reproduce_exhaust.add_paper(papers)
    statuses = []
    for paper in ("metal", "exhaust"):
        own = parser.parse_args([paper])
        statuses.append(own.run(own))
    return max(statuses)
