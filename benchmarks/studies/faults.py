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
import functools
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.studies.fault_children import ACCEPTED, in_child, small_disk
from benchmarks.studies.fault_damage import DAMAGED, damages
from benchmarks.studies.fault_jobs import JOBS, Job, Say

# ---- faults -------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A line of the table.

    Attributes:
        fault: which.
        what: what met it.
        trials: how often; of kills, those that met a process at work.
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


class Reference(NamedTuple):
    """An undisturbed run of a job.

    Attributes:
        inputs: folder.
        expected: digest of its result.
        seconds: that it took.
        size: bytes that it wrote.
    """

    inputs: Path
    expected: str
    seconds: float
    size: int


def reference(job: Job, folder: Path) -> Reference:
    """Run a job undisturbed, in a folder of its own."""
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
    size = sum(p.stat().st_blocks * 512 for p in (folder / "reference").rglob("*"))
    return Reference(inputs, result.value, done.seconds, size)


def killed(name: str, job: Job, whole: Reference, kills: int, rng: random.Random) -> Row:
    """Kill a job at random moments, up to four times in a row, and let it end.

    A trial is a process that died before its work was done; one that was done earlier is none.
    """
    trials = survived = lost = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder, inputs = Path(temporary), whole.inputs
        chain, span = 0, whole.seconds
        while trials < kills:
            chain += 1
            target = folder / f"trial-{chain}"
            target.mkdir()
            good, in_chain = True, 0
            for _ in range(rng.randint(1, 4)):
                after = rng.random() * span
                done = in_child(lambda say, t=target: job.run(inputs, t, say), kill_after=after)
                if not done.killed:  # what was left took less time, or the machine is faster now
                    span = max(0.9 * span, 0.2 * whole.seconds)
                    break
                in_chain += 1
                found = in_child(lambda say, t=target, d=done: job.lost(t, d.said))
                if found.error or found.value:
                    good = False
                    notes.append(f"after a kill: {found.error or found.value}")
                lost += found.value or 0
            done = in_child(lambda say, t=target: job.run(inputs, t, say))
            result = in_child(lambda say, t=target: job.result(t))
            if done.error or result.value != whole.expected:
                good = False
                notes.append(f"resumed: {done.error or result.error or 'another result'}")
            trials += in_chain
            survived += in_chain if good else 0
            shutil.rmtree(target)
    return Row("kill -9", name, trials, survived, lost, notes)


def disk_full(name: str, job: Job, whole: Reference, times: int, rng: random.Random) -> Row:
    """Let the disk be full in the middle of the writing, then make room."""
    survived = lost = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder, inputs = Path(temporary), whole.inputs
        for number in range(times):
            target = folder / f"full-{number}"
            target.mkdir()
            with small_disk(target, int(whole.size * rng.uniform(0.05, 0.9)) + 8192) as (
                limit,
                widen,
            ):

                def limited(say: Say, t: Path = target, limit: Any = limit) -> None:
                    limit()
                    job.run(inputs, t, say)

                first = in_child(limited)
                widen()  # first: some readers set aside what is torn, which takes room
                found = in_child(lambda say, t=target, f=first: job.lost(t, f.said))
                done = in_child(lambda say, t=target: job.run(inputs, t, say))
                result = in_child(lambda say, t=target: job.result(t))
            good = first.clean and not (found.error or found.value or done.error)
            good = good and result.value == whole.expected
            survived += good
            lost += found.value or 0
            notes.append(f"said {first.error or 'nothing (it fitted)'}")
            if not good:
                notes.append(f"BAD: {found.error or found.value} {done.error} {result.error}")
    return Row("full disk", name, times, survived, lost, notes)


def not_allowed(name: str, job: Job, whole: Reference) -> Row:
    """A folder that may not be written: as another user, and on a disk that is read-only."""
    trials = survived = 0
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        target = folder / "target"
        target.mkdir()
        os.chmod(target, 0o555)
        ways = ["no permission"]
        mount = ["mount", "-t", "tmpfs", "-o", "ro", "none", str(target)]
        if os.getuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0:
            ways.append("read-only disk")
        for way in reversed(ways):
            plain = way == "no permission"
            done = in_child(lambda say: job.run(whole.inputs, target, say), plain=plain)
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
                except ACCEPTED:
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
    jax.config.update("jax_disable_most_optimizations", True)  # most of the time is compilation
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
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="NAME", help="faults or jobs named like these"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", metavar="DIR", help="of compiled programs, to keep them")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    options = parser.parse_args()
    rng = random.Random(options.seed)
    rows: list[Row] = []

    def wants(name: str) -> bool:
        return any(part in name for part in options.only)

    def keep(row: Row) -> None:
        rows.append(row)
        sys.stderr.write(f"{row}\n")
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps({"study": "faults", **row._asdict()}) + "\n")

    with tempfile.TemporaryDirectory() as cache:
        use_cache(options.cache or cache)
        shares = sum(job.share for job in JOBS.values())
        for name, job in JOBS.items():
            faults = {
                "kill -9": functools.partial(
                    killed, kills=math.ceil(options.kills * job.share / shares), rng=rng
                ),
                "full disk": functools.partial(disk_full, times=options.full_disks, rng=rng),
                "no permission": not_allowed,
            }
            wanted = [fault for fault in faults if wants(f"{fault} {name}")]
            with tempfile.TemporaryDirectory() as folder:
                whole = reference(job, Path(folder)) if wanted else None
                for fault in wanted:
                    keep(faults[fault](name, job, whole))
        for name in DAMAGED:
            if wants(f"damaged file {name}"):
                keep(damaged(name, options.per_file, rng))
    print(table(rows))
    if any(row.survived < row.trials or row.bytes_lost for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
