"""What the reports have in common: where they are written, and what is said about it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal_jax.cli._common import (
    add_out_option,
    add_output_options,
    check_writable,
    plain_console,
    show,
)

if TYPE_CHECKING:
    from metal_jax.report import Report


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Options that every report has."""
    add_out_option(parser, "report.html")
    parser.add_argument(
        "--png", type=Path, metavar="DIR", help="also write each figure as PNG (needs matplotlib)"
    )
    parser.add_argument("--title", metavar="TEXT", help="of the page (default: the file's name)")
    parser.add_argument(
        "--max-items",
        type=int,
        default=10_000,
        metavar="N",
        help="most items in the table of items; of more, evenly spaced ones (default: 10000)",
    )
    add_output_options(parser)


def check_report_paths(options: argparse.Namespace, *inputs: Path | None) -> None:
    """Complain about outputs before the work."""
    check_writable(options.out, *inputs)
    if options.max_items < 1:
        raise ValueError(f"--max-items: got {options.max_items}, expected at least 1")
    if options.png is not None:
        if options.png.exists() and not options.png.is_dir():
            raise ValueError(f"{options.png}: is a file, expected a folder to write")
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError:
            raise ValueError("--png: needs matplotlib (pip install 'metal-jax[plot]')") from None


def write_report(options: argparse.Namespace, page: Report, about: dict[str, Any]) -> int:
    """Write the page, and the figures where asked for; say what was written."""
    from metal_jax import report

    report.write_html(page, options.out)
    pictures = [] if options.png is None else report.write_png(page, options.png)
    about = {
        **about,
        "sections": [section.title for section in page.sections if section.blocks],
        "out": str(options.out),
        "bytes": options.out.stat().st_size,
        "png": [str(path) for path in pictures],
    }
    return show(options, about, _print, options.png)


def _print(about: dict[str, Any], folder: Path | None) -> None:
    console = plain_console()
    console.print(f"sections: {', '.join(about['sections'])}")
    if about["png"]:
        console.print(f"wrote {len(about['png'])} figures to {folder}")
    console.print(f"wrote {about['out']} ({about['bytes'] / 1e6:.1f} MB); open it in a browser")
