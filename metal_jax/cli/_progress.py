"""What a command is doing, on a terminal: the step, how fast it goes and how long it will take."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator

from rich import progress
from rich.console import Console
from rich.table import Column


class Say:
    """Tells what is being done, on a bar of `rich` or, without one, nobody."""

    def __init__(self, bar: progress.Progress | None) -> None:
        """Tell nothing yet."""
        self._bar = bar
        self._step = ""
        self._start = (0.0, 0)
        self._task = None if bar is None else bar.add_task("starting", total=None, rate="")

    def __call__(self, step: str) -> None:
        """A step begins, of which nobody knows how long it takes."""
        if self._bar is not None and self._task is not None:
            self._step = ""
            self._bar.reset(self._task, description=step, total=None, completed=0, rate="")

    def count(
        self, step: str, done: int, total: int | None = None, unit: str = "items", note: str = ""
    ) -> None:
        """So much of a step is done; the first call of a step begins to measure its rate."""
        if self._bar is None or self._task is None:
            return
        now = time.monotonic()
        if step != self._step or done < self._start[1]:
            self(step)
            self._step, self._start = step, (now, done)
        whole = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        rate = rate_text(done - self._start[1], now - self._start[0], total, done, unit)
        text = ", ".join(part for part in (whole, rate, note) if part)
        self._bar.update(self._task, completed=done, total=total, rate=text)

    def part(self, name: str, done: int, total: int) -> None:
        """A part `"<whole>: <part>"` of something begins; the rate is that of the whole."""
        whole, _, part = name.partition(": ")
        self.count(whole, done, total, "steps", note=part)


def rate_text(gained: int, seconds: float, total: int | None, done: int, unit: str) -> str:
    """Rate and time left, as far as they can be told.

    Args:
        gained: how much was done in that time.
        seconds: since the rate is measured.
        total: of the whole, None where unknown.
        done: of the whole.
        unit: what is counted.

    Returns:
        Such as "512 items/s, 1:30 left".
    """
    if gained <= 0 or seconds <= 0:
        return ""
    rate = gained / seconds
    text = f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.2g} {unit}/s"
    if total is None:
        return text
    left = round((total - done) / rate)
    hours, minutes = divmod(left // 60, 60)
    clock = f"{hours}:{minutes:02}:{left % 60:02}" if hours else f"{minutes}:{left % 60:02}"
    return f"{text}, {clock} left"


@contextlib.contextmanager
def quiet_progress(options: argparse.Namespace) -> Iterator[Say]:
    """Progress on stderr; nothing with `--quiet`, or where stderr is no terminal."""
    if options.quiet or not sys.stderr.isatty():
        yield Say(None)
        return
    console = Console(stderr=True, highlight=False, emoji=False)
    step, rate = (
        progress.TextColumn(
            text, markup=False, table_column=Column(no_wrap=True, overflow="ellipsis")
        )
        for text in ("{task.description}", "{task.fields[rate]}")
    )
    columns = (
        progress.SpinnerColumn(),
        step,
        progress.BarColumn(bar_width=12),
        progress.TimeElapsedColumn(),
        rate,
    )
    with progress.Progress(*columns, console=console, transient=True) as bar:
        yield Say(bar)
