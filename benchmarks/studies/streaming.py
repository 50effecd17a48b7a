"""Votes larger than memory: fit and label them, and say where the time went.

    python -m benchmarks.studies.streaming --items 100000000 --folder FOLDER
        [--devices 2] [--parts 1]

Writes the votes (int8, 50 LFs, k = 2, skipped if they are there), fits the default model by
`fit_stream`, labels all items by `label_stream`, and prints one JSON line: seconds of each step,
the share of them spent reading, and the peak of resident memory over the whole run (of the process
that fits and labels; pages of the file that are mapped count).

With `--processes P` it times only the overlap statistics, of one process with one thread and of P
processes with one thread each on their shares of the same file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

NUM_LFS, CHUNK = 50, 10**6


def write_votes(path: Path, num_items: int) -> None:
    """Conditionally independent votes with coverages of .3 to .9 and accuracies of .6 to .9."""
    shape = (num_items, NUM_LFS)
    header = 128
    if path.exists() and path.stat().st_size == header + num_items * NUM_LFS:
        return
    draw = np.random.default_rng(7)
    coverage, accuracy = draw.uniform(0.3, 0.9, NUM_LFS), draw.uniform(0.6, 0.9, (2, NUM_LFS))
    right = (coverage * accuracy * 65536).astype(np.uint16)
    cast = (coverage * 65536).astype(np.uint16)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        about = {"descr": "|i1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, about)
        assert file.tell() == header
        for start in range(0, num_items, CHUNK):
            draw = np.random.default_rng([1, start])
            size = min(CHUNK, num_items - start)
            label = (draw.random(size) < 0.4).astype(np.int8)
            r = draw.integers(0, 65536, (size, NUM_LFS), dtype=np.uint16)
            wrong = np.where(r < cast, 1 - label[:, None], np.int8(-1))
            file.write(np.where(r < right[label], label[:, None], wrong).astype(np.int8).tobytes())
    partial.rename(path)


def stream_all(path: Path, folder: Path, batch_items: int, num_devices: int) -> dict:
    """Fit and label; what it took."""
    import jax

    if num_devices > 1:
        jax.config.update("jax_num_cpu_devices", num_devices)
    from metal_jax.distributed import data_mesh
    from metal_jax.label_model import fit_stream, label_stream
    from metal_jax.labeling import VoteStream
    from metal_jax.task_tree import TaskTree

    votes = VoteStream(path, batch_items=batch_items)
    mesh = data_mesh(num_devices) if num_devices > 1 else None
    steps: dict[str, list[float]] = {}
    now = [time.perf_counter(), votes.seconds]

    def note(what: str, items: int) -> None:
        then, read = now
        now[:] = time.perf_counter(), votes.seconds
        spent = steps.setdefault(what.partition(" pass")[0], [0.0, 0.0])
        spent[0] += now[0] - then
        spent[1] += now[1] - read

    started = time.perf_counter()
    result = fit_stream(votes, TaskTree.single(2), mesh=mesh, on_progress=note)
    fitted = time.perf_counter()
    parts = label_stream(result, votes, folder / "labels", mesh=mesh, on_progress=note)
    done = time.perf_counter()
    return {
        "benchmark": "streaming",
        "items": votes.num_items,
        "lfs": votes.num_lfs,
        "batch_items": batch_items,
        "devices": num_devices,
        "passes": result.num_steps,
        "converged": result.converged,
        "fit_seconds": fitted - started,
        "label_seconds": done - fitted,
        "reading_seconds": votes.seconds,
        "steps": {what: {"seconds": s, "reading": r} for what, (s, r) in steps.items()},
        "peak_resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parts": len(parts),
        "class_balance": result.class_balance.tolist(),
        "load": os.getloadavg(),
        "machine": platform.processor() or platform.machine(),
        "jax": jax.__version__,
    }


def count_part(path: Path, batch_items: int, number: int, count: int) -> None:
    """Overlap statistics of one process's share; prints when it starts and ends."""
    if hasattr(os, "sched_setaffinity"):  # XLA's threads are not bound by its own flags
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    import jax

    from metal_jax.labeling import Columns as Cols
    from metal_jax.labeling import VoteStream, merge_statistics, overlap_statistics

    votes = VoteStream(path, batch_items=batch_items)
    share = -(-votes.num_items // count)
    part = votes.parts(share)[number]
    lf, symbol = np.divmod(np.arange(2 * NUM_LFS, dtype=np.int32), 2)
    columns = Cols(lf, symbol, NUM_LFS)
    overlap_statistics(np.zeros((batch_items, NUM_LFS), np.int8), columns)  # compiles
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    total = None
    for batch in votes.read(part):
        own = overlap_statistics(batch, columns)
        total = own if total is None else merge_statistics(total, own)
    assert total is not None
    del jax
    sys.stdout.write(json.dumps({"items": total.num_items, "sum": int(total.counts.sum())}) + "\n")


def count_with(path: Path, batch_items: int, count: int) -> tuple[float, int]:
    """Seconds that `count` processes of one thread need together; the sum of their counts."""
    environment = {
        **os.environ,
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        sys.executable,
        "-m",
        "benchmarks.studies.streaming",
        "--count",
        str(count),
        "--file",
    ]
    command += [str(path), "--batch-items", str(batch_items), "--number"]
    processes = [
        subprocess.Popen(
            [*command, str(number)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    started = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = [json.loads(p.stdout.readline()) for p in processes if p.stdout is not None]
    seconds = time.perf_counter() - started
    for process in processes:
        process.communicate()
    return seconds, sum(part["sum"] for part in found)


def main() -> None:
    """Parse the arguments and print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10**6)
    parser.add_argument("--folder", type=Path, default=Path("streaming"))
    parser.add_argument("--batch-items", type=int, default=2**16)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.count is not None:
        count_part(options.file, options.batch_items, options.number, options.count)
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    path = options.folder / f"votes-{options.items}.npy"
    # In a process of its own, so that its memory does not count.
    code = "import sys; from pathlib import Path; "
    code += "from benchmarks.studies.streaming import write_votes; "
    code += "write_votes(Path(sys.argv[1]), int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", code, str(path), str(options.items)], check=True)
    if options.processes is None:
        about = stream_all(path, options.folder, options.batch_items, options.devices)
    else:
        runs: list[list[float]] = [[], []]
        sums = set()
        for _ in range(options.repeats):  # interleaved, so that other load falls on both
            for times, count in zip(runs, (1, options.processes), strict=True):
                seconds, total = count_with(path, options.batch_items, count)
                times.append(seconds)
                sums.add(total)
        assert len(sums) == 1, "the counts differ"
        ratios = np.divide(*runs)
        about = {
            "benchmark": "statistics of processes",
            "items": options.items,
            "processes": options.processes,
            "one_seconds": runs[0],
            "many_seconds": runs[1],
            "speedup": dict(
                zip(
                    ("min", "median", "max"), np.quantile(ratios, [0, 0.5, 1]).tolist(), strict=True
                )
            ),
            "load": os.getloadavg(),
        }
    print(json.dumps(about))


if __name__ == "__main__":
    main()
