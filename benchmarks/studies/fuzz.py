"""Fuzz the readers: whatever bytes come in, they return or raise ValueError, soon and in bounds.

    python -m benchmarks.studies.fuzz [architectures logs tree votes] [--seconds 600] [--out FILE]

With atheris installed the search is guided by coverage, otherwise inputs are mutated at random. One
JSON line a group: inputs tried, seconds, faults (each kept with the input that shows it).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.studies.fuzz_targets import GROUPS, Target, seeds

MAX_SECONDS = 5  # of processor time, for one input
SECONDS_PER_BYTE = 5e-5  # more for a long one: what is watched for coverage is slow
MAX_BYTES = 1 << 30  # of memory, beyond what there was before an input
MAX_LENGTH = 4096
_PACKAGES = ["metal_jax.exhaust", "metal_jax.task_tree", "metal_jax.labeling", "metal_jax._core"]


class Slow(BaseException):
    """An input took too long."""


class Fuzzer:
    """Tries inputs on the targets of a group and counts; the first byte picks the target."""

    def __init__(self, targets: dict[str, Target], result: Path | None = None):
        """Start the clock."""
        self.names, self.targets = list(targets), list(targets.values())
        self.inputs = dict.fromkeys(targets, 0)
        self.accepted = dict.fromkeys(targets, 0)
        self.faults: dict[str, dict[str, Any]] = {}
        self.started = self._told = time.monotonic()
        self._result = result
        signal.signal(signal.SIGPROF, self._too_slow)

    def __call__(self, data: bytes) -> None:
        """Try an input."""
        if not data:
            return
        number = data[0] % len(self.targets)
        self.run(self.names[number], self.targets[number], data[1:])

    def run(self, name: str, target: Target, data: bytes) -> None:
        """Try an input on a target."""
        self.inputs[name] += 1
        limit = MAX_SECONDS + SECONDS_PER_BYTE * len(data)
        before = _forget_peak()
        signal.setitimer(signal.ITIMER_PROF, limit)
        try:
            target(data)
            self.accepted[name] += 1
        except ValueError:
            pass
        except (Exception, Slow) as error:
            self._fault(name, data, error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if _peak() > before + MAX_BYTES:
            self._fault(name, data, MemoryError(f"{_peak() - before} bytes"))
        if time.monotonic() - self._told > 1:
            self.tell()

    def _fault(self, name: str, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/metal_jax/" in frame.filename] or frames
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
        key = f"{name}: {type(error).__name__} at {place}"
        shown = {"error": str(error)[:200], "input": data[:2000].decode("latin-1"), "count": 0}
        self.faults.setdefault(key, shown)["count"] += 1

    def tell(self) -> None:
        """Write the counts, in case that the process ends."""
        self._told = time.monotonic()
        if self._result is not None:
            self._result.write_text(json.dumps(self.summary()))

    def summary(self) -> dict[str, Any]:
        """The counts."""
        return {
            "inputs": self.inputs,
            "total": sum(self.inputs.values()),
            "accepted": self.accepted,
            "seconds": round(time.monotonic() - self.started, 1),
            "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "faults": self.faults,
        }

    @staticmethod
    def _too_slow(*_: Any) -> None:
        raise Slow("took too long")


def _forget_peak() -> int:
    """Bytes held now; on Linux the peak starts again from them."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    """The most bytes held since then."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:", 1)[1].split(None, 1)[0]) * 1024
    except (OSError, IndexError):  # no Linux: the peak of the process
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def stress(seed: bytes) -> Iterator[bytes]:
    """Long inputs, of pieces of a sound one: they show what takes squares of time."""
    yield from (seed * 3000, seed[:-1] * 3000, seed[: len(seed) // 2] + b"\0" * 300_000)
    for size in (1, 2, 7):
        for start in range(0, min(len(seed), 60), size):
            piece = seed[start : start + size]
            yield seed[:start] + piece * (300_000 // size) + seed[start:]
            yield piece * (300_000 // size)


def mutated(rng: random.Random, pool: list[bytes]) -> bytes:
    """An input with some changes."""
    data = bytearray(rng.choice(pool))
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(6)
        other = rng.choice(pool)
        cut = rng.randrange(len(other) + 1)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 5)))
        elif kind == 2:
            del data[at : at + rng.randrange(1, 20)]
        elif kind == 3:
            data[at:] = other[cut:]
        elif kind == 4:
            data[at:at] = other[cut : cut + rng.randrange(1, 40)]
        else:
            data[at:at] = rng.choice(_TOKENS)
    return bytes(data[:MAX_LENGTH])


_TOKENS = [
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"{}", b"[]", b'""', b"\\u0000", b"\xff"),
    *(b"\0", b"9" * 30, b"~", b"|", b"+", b"(", b")", b": ", b"\n", b"\r", b'"', b",", b"\t"),
    *("\u2028".encode(), "é".encode(), b"true", b"0.5", b"=", b"/../", b"<script>"),
]


def fuzz(group: str, seconds: float, seed: int, result: Path | None = None) -> Fuzzer:
    """Try inputs on a group's targets: long ones first, then mutated ones until the time is over.

    Args:
        group: of `GROUPS`.
        seconds: for how long.
        seed: of the random changes.
        result: a file for the counts.

    Returns:
        The fuzzer with its counts; with atheris the process ends instead.
    """
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        folder = Path(name)
        fuzzer = Fuzzer(GROUPS[group](folder), result)
        started = time.monotonic()
        pools = {target: seeds(target, folder) for target in fuzzer.names}
        rng = random.Random(seed)
        long = [
            (target, data) for target, pool in pools.items() for one in pool for data in stress(one)
        ]
        rng.shuffle(long)
        number = {target: i for i, target in enumerate(fuzzer.names)}
        for target, data in long:
            if time.monotonic() - started > seconds / 4:
                break
            fuzzer(bytes([number[target]]) + data)
        guided = sys.modules.get("atheris")
        if guided is not None:
            corpus = folder / "corpus"
            corpus.mkdir()
            for target, pool in pools.items():
                for i, data in enumerate(pool):
                    (corpus / f"{target}-{i}").write_bytes(bytes([number[target]]) + data)
            left = int(seconds - (time.monotonic() - started))
            options = [f"-max_total_time={left}", f"-max_len={MAX_LENGTH}", f"-seed={seed + 1}"]
            # Faults are counted here; the engine is to stop for what kills or hangs the process.
            guided.Setup(
                [sys.argv[0], *options, "-timeout=60", "-rss_limit_mb=6000", str(corpus)], fuzzer
            )
            guided.Fuzz()
        while time.monotonic() - started < seconds:
            target = rng.choice(fuzzer.names)
            fuzzer(bytes([number[target]]) + mutated(rng, pools[target]))
        fuzzer.tell()
        return fuzzer


def main() -> None:
    """Run the groups one after the other, each in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="group", help=f"of {', '.join(GROUPS)}")
    parser.add_argument("--seconds", type=float, default=600.0, help="for each group")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, metavar="FILE", help="append JSON lines to this")
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.result is not None:
        if importlib.util.find_spec("atheris") is not None:
            import atheris  # pyright: ignore[reportMissingImports]

            with atheris.instrument_imports(include=_PACKAGES):
                import metal_jax.exhaust
                import metal_jax.labeling
                import metal_jax.task_tree  # noqa: F401
        fuzz(options.groups[0], options.seconds, options.seed, options.result)
        return
    for group in options.groups or GROUPS:
        with tempfile.TemporaryDirectory() as folder:
            result = Path(folder, "result.json")
            command = [sys.executable, "-m", "benchmarks.studies.fuzz", group, "--result"]
            command += [str(result), "--seconds", str(options.seconds)]
            done = subprocess.run(
                [*command, "--seed", str(options.seed)], stderr=subprocess.PIPE, text=True
            )
            row = {"study": "fuzz", "group": group, **json.loads(result.read_text())}
        row["engine"] = "atheris" if importlib.util.find_spec("atheris") else "mutations"
        if done.returncode != 0:
            row["faults"][f"the process ended with {done.returncode}"] = done.stderr[-2000:]
        print(json.dumps(row), flush=True)
        if options.out:
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
