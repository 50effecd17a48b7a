"""Break the library's work and see what is left: kill -9, full disk, no permission, damaged files.

    python -m benchmarks.studies.faults [--kills 200] [--only NAME] [--out FILE]

Every job of `fault_jobs` is killed at random moments and taken up again, until it ends where an
undisturbed one does; runs into a full disk (a small tmpfs as root, otherwise a limit on the size of
files) and goes on when there is room; meets a folder that it may not write. Every file of a model,
predictor, checkpoint and label folder is cut, emptied, removed and changed by a bit. Prints a table
of trials, trials survived and bytes lost. Survived: nothing half-written was read, an error was an
OSError or ValueError, and the result is the same to the last bit. Runs on POSIX systems.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.studies.fault_damage import DAMAGED, damages
from benchmarks.studies.fault_jobs import JOBS, Job, Say

_ACCEPTED = (OSError, ValueError)


class Outcome(NamedTuple):
    """How a child ended.

    Attributes:
        said: what it said, in order.
        value: what its function returned; None if it did not end by itself.
        error: type and message of what it raised, "" for nothing.
        clean: whether the error is one that callers are told to expect.
        seconds: from its first word to its end.
    """

    said: list[str]
    value: Any
    error: str
    clean: bool
    seconds: float


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
    value, error, clean, first, rest = None, "", True, 0.0, b""
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
    os.close(read)
    os.waitpid(child, 0)
    return Outcome(said, value, error, clean, time.monotonic() - (first or time.monotonic()))


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
            status["clean"] = isinstance(error, _ACCEPTED)
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


# ---- faults -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        fault: which.
        what: what met it.
        trials: how often.
        survived: as the module's text says.
        bytes_lost: that were safe before.
        notes: of trials that were not survived, and what the others said.
    """

    fault: str
    what: str
    trials: int
    survived: int
    bytes_lost: int
    notes: list[str]


def reference(job: Job, folder: Path) -> tuple[Path, str, float]:
    """Inputs, the digest of an undisturbed run, and its seconds."""
    inputs = folder / "inputs"
    inputs.mkdir()
    job.prepare(inputs)
    for name in ("warm", "reference"):  # the first compiles
        target = folder / name
        target.mkdir()
        done = in_child(lambda say, target=target: job.run(inputs, target, say))
        if done.error:
            raise RuntimeError(done.error)
    result = in_child(lambda say: job.result(folder / "reference"))
    if result.error:
        raise RuntimeError(result.error)
    return inputs, result.value, done.seconds


def killed(name: str, job: Job, kills: int, rng: random.Random) -> Row:
    """Kill a job at random moments, up to four times in a row, and let it end."""
    trials = survived = lost = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs, expected, seconds = reference(job, folder)
        chain = 0
        while trials < kills:
            chain += 1
            target = folder / f"trial-{chain}"
            target.mkdir()
            good, in_chain = True, 0
            for _ in range(rng.randint(1, 4)):
                after = rng.random() * seconds * 1.1
                done = in_child(lambda say, t=target: job.run(inputs, t, say), kill_after=after)
                in_chain += 1
                found = in_child(lambda say, t=target, d=done: job.lost(t, d.said))
                if found.error or found.value:
                    good = False
                    notes.append(f"after a kill: {found.error or found.value}")
                lost += found.value or 0
            done = in_child(lambda say, t=target: job.run(inputs, t, say))
            result = in_child(lambda say, t=target: job.result(t))
            if done.error or result.value != expected:
                good = False
                notes.append(f"resumed: {done.error or result.error or 'another result'}")
            trials += in_chain
            survived += in_chain if good else 0
            shutil.rmtree(target)
    return Row("kill -9", name, trials, survived, lost, notes)


def disk_full(name: str, job: Job, times: int, rng: random.Random) -> Row:
    """Let the disk be full in the middle of the writing, then make room."""
    survived = lost = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs, expected, _ = reference(job, folder)
        size = sum(p.stat().st_blocks * 512 for p in (folder / "reference").rglob("*"))
        for number in range(times):
            target = folder / f"full-{number}"
            target.mkdir()
            with small_disk(target, int(size * rng.uniform(0.05, 0.9)) + 8192) as (limit, widen):

                def limited(say: Say, t: Path = target, limit: Any = limit) -> None:
                    limit()
                    job.run(inputs, t, say)

                first = in_child(limited)
                found = in_child(lambda say, t=target, f=first: job.lost(t, f.said))
                widen()
                done = in_child(lambda say, t=target: job.run(inputs, t, say))
                result = in_child(lambda say, t=target: job.result(t))
            good = first.clean and not (found.error or found.value or done.error)
            good = good and result.value == expected
            survived += good
            lost += found.value or 0
            notes.append(f"said {first.error or 'nothing (it fitted)'}")
            if not good:
                notes.append(f"BAD: {found.error or found.value} {done.error} {result.error}")
    return Row("full disk", name, times, survived, lost, notes)


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


def not_allowed(name: str, job: Job) -> Row:
    """A folder that may not be written: as another user, and on a disk that is read-only."""
    trials = survived = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        inputs = folder / "inputs"
        inputs.mkdir()
        job.prepare(inputs)
        target = folder / "target"
        target.mkdir()
        os.chmod(target, 0o555)
        ways = ["no permission"]
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(target)]
        if os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
            ways.append("read-only disk")
        for way in reversed(ways):
            plain = way == "no permission"
            done = in_child(lambda say: job.run(inputs, target, say), plain=plain)
            trials += 1
            survived += bool(done.error) and done.clean and not list(target.iterdir())
            notes.append(f"{way}: {done.error or 'no error'}")
            if way == "read-only disk":
                subprocess.run(["umount", "-l", str(target)], check=True)
    return Row("no permission", name, trials, survived, 0, notes)


def damaged(name: str, per_file: int, rng: random.Random) -> Row:
    """Damage each file of what was written; reading says so, or gives what was saved."""
    write, read = DAMAGED[name]
    trials = survived = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        whole = Path(temporary, "whole")
        whole.mkdir()
        done = in_child(lambda say: write(whole))
        if done.error:
            raise RuntimeError(done.error)
        expected = in_child(lambda say: read(whole))
        if expected.error:
            raise RuntimeError(expected.error)
        cases = list(damages(whole, Path(temporary), per_file, rng))

        def read_all(say: Say) -> None:
            for folder, case in cases:
                try:
                    same = read(folder) == expected.value
                    say(json.dumps([case, "" if same else "another value was read"]))
                except _ACCEPTED:
                    say(json.dumps([case, ""]))
                except Exception as error:
                    say(json.dumps([case, f"{type(error).__name__}: {error!s:.200}"]))

        found = [json.loads(text) for text in in_child(read_all).said]
        trials = len(cases)
        survived = sum(not problem for _, problem in found)
        notes = [f"{case}: {problem}" for case, problem in found if problem]
        notes += [f"{case}: the process died" for _, case in cases[len(found) : len(found) + 1]]
    return Row("damaged file", name, trials, survived, 0, notes)


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    lines = ["| fault | what | trials | survived | bytes lost |", "|---|---|--:|--:|--:|"]
    for row in rows:
        lines.append(
            f"| {row.fault} | {row.what} | {row.trials} | {row.survived} | {row.bytes_lost} |"
        )
    total = [sum(getattr(row, name) for row in rows) for name in Row._fields[2:5]]
    lines.append("| **all** | | {} | {} | {} |".format(*total))
    return "\n".join(lines)


def use_cache(folder: str) -> None:
    """Keep compiled programs, so that a child does not compile what another one did."""
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def main() -> None:
    """Run all faults and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200, help="of all jobs together")
    parser.add_argument("--full-disks", type=int, default=6, help="of each job")
    parser.add_argument("--per-file", type=int, default=8, help="bits changed in each file")
    parser.add_argument("--only", default="", metavar="NAME", help="faults or jobs named like this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        sys.stderr.write(f"{row}\n")
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"study": "faults", **row._asdict()}) + "\n")

    with tempfile.TemporaryDirectory() as cache:
        use_cache(cache)
        each = -(-options.kills // len(JOBS))
        for name, job in JOBS.items():
            for fault, run in (
                ("kill -9", lambda n=name, j=job: killed(n, j, each, rng)),
                ("full disk", lambda n=name, j=job: disk_full(n, j, options.full_disks, rng)),
                ("no permission", lambda n=name, j=job: not_allowed(n, j)),
            ):
                if options.only in f"{fault} {name}":
                    keep(run())
        for name in DAMAGED:
            if options.only in f"damaged file {name}":
                keep(damaged(name, options.per_file, rng))
    print(table(rows))
    if any(row.survived < row.trials or row.bytes_lost for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
