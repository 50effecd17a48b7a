"""The command line as a person has it: a real process on a pseudo-terminal, and a real Ctrl-C."""

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TIMEOUT = 300
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# Ctrl-C is to reach the process, and to mean what it means by default: a shell's background jobs
# ignore it. Not between fork and exec, where Python must not run beside JAX's threads.
_TAKE_TERMINAL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.argv[1], sys.argv[1:])
"""
COLOUR = re.compile(r"\x1b\[[0-9;]*(3[0-7]|38|9[0-7])[;m]")


class Outcome(NamedTuple):
    """What a command did.

    Attributes:
        status: exit status.
        out: stdout, which is a pipe.
        raw: what the terminal was sent.
        screen: the same without control sequences.
    """

    status: int
    out: str
    raw: str
    screen: str

    @property
    def last_line(self):
        """The last line that is left on the terminal."""
        return self.screen.replace("\r", "\n").strip().rpartition("\n")[2].strip()


def environment(**more):
    """Of a process, without what would change how it draws; other ones by `more`."""
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    return {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "COLUMNS": "100", **more}


def command(*arguments):
    """The program with arguments."""
    return [sys.executable, "-m", "metal_jax", *map(str, arguments)]


def on_terminal(folder, *arguments, press_when=None, **env):
    """Run with stdin and stderr on a terminal; press Ctrl-C once when a pattern is on it."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _TAKE_TERMINAL, *command(*arguments)],
        cwd=folder,
        env=environment(**env),
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    raw, pressed, out = b"", press_when is None, b""
    deadline = time.monotonic() + TIMEOUT
    open_files = [master, process.stdout.fileno()]
    while open_files:
        if time.monotonic() > deadline:
            process.kill()
            process.wait()
            raise AssertionError(f"took too long: {raw[-2000:]!r}")
        for file in select.select(open_files, [], [], 1)[0]:
            try:
                part = os.read(file, 1 << 16)
            except OSError:  # how a terminal ends
                part = b""
            if not part:
                open_files.remove(file)
            elif file == master:
                raw += part
            else:
                out += part
        if not pressed and re.search(press_when, _CONTROL.sub("", raw.decode(errors="replace"))):
            os.write(master, b"\x03")
            pressed = True
    status = process.wait(TIMEOUT)
    process.stdout.close()
    os.close(master)
    assert pressed, f"{press_when!r} was never shown: {raw[-2000:]!r}"
    text = raw.decode(errors="replace")
    return Outcome(status, out.decode(), text, _CONTROL.sub("", text))


def in_pipe(folder, *arguments, **env):
    """Run with all of its output in pipes."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(**env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr, done.stderr)
