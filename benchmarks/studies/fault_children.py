"""What `faults` breaks work with: processes that may be killed, and disks that are small."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.studies.fault_jobs import Say

ACCEPTED = (OSError, ValueError)
"""What callers are told to expect of a bad disk or file."""


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        said: what it said, in order.
        value: what its function returned; None if it did not end by itself.
        error: type and message of what it raised, "" for nothing.
        clean: whether the error is one that callers are told to expect.
        seconds: from its first word to its end.
        killed: whether it died before it came to an end of its own.
    """

    said: list[str]
    value: Any
    error: str
    clean: bool
    seconds: float
    killed: bool


def in_child(
    function: Callable[[Say], Any], *, kill_after: float | None = None, plain: bool = False
) -> Outcome:
    """Call a function in a fork of this process, which has not started JAX's backend.

    Args:
        function: takes `say`, returns plain JSON.
        kill_after: seconds from its first word to its death.
        plain: take away what root may do beyond others.

    Returns:
        What came of it.
    """
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forks beside threads: here are none yet
        child = os.fork()
    if child == 0:
        _be_child(function, read, write, plain)
    os.close(write)
    said: list[str] = []
    value, error, clean, first, rest, killed = None, "", True, 0.0, b"", True
    while True:
        left = None
        if kill_after is not None and first:
            left = max(first + kill_after - time.monotonic(), 0)
        if not select.select([read], [], [], left)[0]:
            os.kill(child, signal.SIGKILL)
            kill_after = None
            continue
        data = os.read(read, 1 << 16)
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            record = json.loads(line)
            if "said" in record:
                said.append(record["said"])
                first = first or time.monotonic()
            else:
                value, error, clean = record["value"], record["error"], record["clean"]
                killed = False
    os.close(read)
    os.waitpid(child, 0)
    seconds = time.monotonic() - (first or time.monotonic())
    return Outcome(said, value, error, clean, seconds, killed)


def _be_child(function: Callable[[Say], Any], read: int, write: int, plain: bool) -> None:
    """Never returns."""
    os.close(read)

    def tell(**record: Any) -> None:
        line = json.dumps(record).encode() + b"\n"
        while line:
            line = line[os.write(write, line) :]

    status = {"value": None, "error": "", "clean": True}
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        try:
            if plain and os.getuid() == 0:
                give_up_capabilities()
            status["value"] = function(lambda text: tell(said=text))
        except BaseException as error:
            status["error"] = f"{type(error).__name__}: {error!s:.300}"
            status["clean"] = isinstance(error, ACCEPTED)
            if not status["clean"] or isinstance(error, AssertionError):
                status["error"] += f" {traceback.format_exc()[-600:]}"
    with contextlib.suppress(BaseException):
        tell(**status)
    os.kill(os.getpid(), signal.SIGKILL)  # no clean-up of a copy's threads


def give_up_capabilities() -> None:
    """Root, but bound by the permissions of files; for the rest of the process (Linux)."""
    version_3 = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(version_3, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


@contextlib.contextmanager
def small_disk(target: Path, size: int) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A disk with room for so many bytes: a tmpfs for root, otherwise a limit on each file.

    Yields:
        What a child calls before it writes, and what makes room.
    """
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(target)]
    if os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
        try:
            yield (
                lambda: None,
                lambda: (
                    subprocess.run(["mount", "-o", "remount,size=1g", str(target)], check=True)
                    and None
                ),
            )
        finally:
            subprocess.run(["umount", "-l", str(target)], check=True)
        return

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 4, size // 4))

    yield limit, lambda: None
