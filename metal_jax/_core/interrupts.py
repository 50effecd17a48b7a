"""Ctrl-C at the right moment: what must not be left half done is finished before it is felt."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Within it a Ctrl-C (SIGINT) waits for the end; a second one does not.

    Orbax starts threads when it saves or loads. An interruption in between leaves threads that
    nobody waits for, and which fail when the program ends. Signals reach the main thread alone:
    in another one, and where the program ignores SIGINT, this does nothing.
    """
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    frames: list[FrameType | None] = []

    def keep(number: int, frame: FrameType | None) -> None:
        frames.append(frame)
        if len(frames) > 1:
            handler(number, frame)

    signal.signal(signal.SIGINT, keep)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if len(frames) == 1:
            handler(signal.SIGINT, frames[0])
