"""What a command is doing, on a terminal: the step, how fast it goes and how long it will take."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from rich import progress
from rich.console import Console, RenderableType
from rich.table import Column
from rich.text import Text

from metal_jax.cli._common import printable

_BAR_FROM = 90  # columns: on fewer the bar makes room for what is said
_NOTHING: Any = {"rate": "", "below": ""}


class Say:
    """Tells what is being done, on a bar of `rich` or, without one, nobody."""

    def __init__(self, bar: progress.Progress | None) -> None:
        """Tell nothing yet."""
        self._bar = bar
        self._step = ""
        self._start = (0.0, 0)
        self._task = None if bar is None else bar.add_task("starting", total=None, **_NOTHING)

    def __call__(self, step: str) -> None:
        """A step begins, of which nobody knows how long it takes."""
        if self._bar is not None and self._task is not None:
            self._step = ""
            self._bar.reset(self._task, description=step, total=None, completed=0, **_NOTHING)

    def count(
        self,
        step: str,
        done: int,
        total: int | None = None,
        unit: str = "items",
        *,
        note: str = "",
        below: str = "",
        restart: bool = False,
    ) -> None:
        """So much of a step is done; the first call of a step begins to measure its rate.

        Args:
            step: what is done.
            done: how much of it.
            total: of how much, None where unknown.
            unit: what is counted.
            note: follows the rate.
            below: what has a line of its own, so that narrow terminals show it too.
            restart: measure the rate from here, because what came before cost nothing.
        """
        if self._bar is None or self._task is None:
            return
        now = time.monotonic()
        if step != self._step or done < self._start[1] or restart:
            if step != self._step:
                self(step)
            self._step, self._start = step, (now, done)
        whole = f"{done:,}" if total is None else f"{done:,}/{total:,}"
        rate = rate_text(done - self._start[1], now - self._start[0], total, done, unit)
        text = ", ".join(part for part in (whole, rate, note) if part)
        self._bar.update(
            self._task, completed=done, total=total, rate=printable(text), below=printable(below)
        )

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


def _whole() -> Column:
    """A column that is cut last."""
    return Column(no_wrap=True, overflow="ellipsis")


class _Rate(progress.TextColumn):
    """Cut first on a narrow terminal, and at its end."""

    def render(self, task: progress.Task) -> Text:
        """The text of a task."""
        text = super().render(task)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


class _Lines(progress.Progress):
    """A line of progress, and below it what does not fit."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """What is drawn."""
        yield from super().get_renderables()
        for task in self.tasks:
            if below := task.fields["below"]:
                yield Text(f"  {below}", no_wrap=True, overflow="ellipsis")


@contextlib.contextmanager
def quiet_progress(options: argparse.Namespace) -> Iterator[Say]:
    """Progress on stderr; nothing with `--quiet`, or where stderr is no terminal."""
    if options.quiet or not sys.stderr.isatty():
        yield Say(None)
        return
    console = Console(stderr=True, highlight=False, emoji=False)
    step = progress.TextColumn("{task.description}", markup=False, table_column=_whole())
    rate = _Rate("{task.fields[rate]}", markup=False)
    elapsed = progress.TimeElapsedColumn(table_column=_whole())
    bars = [progress.BarColumn(bar_width=12)] if console.width >= _BAR_FROM else []
    columns = (progress.SpinnerColumn(), step, *bars, elapsed, rate)
    with _Lines(*columns, console=console, transient=True) as bar:
        yield Say(bar)
