"""Fits of ever changing shapes for half an hour: does memory stay flat?

    python -m benchmarks.studies.soak [--minutes 30] [--clear-every 25] [--out FILE]

Each round draws a tree, a number of items and LFs, and a piece of work: a fit with its labels, the
overlaps, a small network, or distances of architectures. JAX keeps each compiled program, one a
shape, for as long as the process lives: a service whose shapes never come again calls
`jax.clear_caches()` from time to time, as this study does every `--clear-every` rounds (0: never;
`--shapes 1`: always the same shapes, which needs no clearing). One JSON line: resident memory
before and after the C library gives back what is free, memory maps, open files and live arrays.
Exit status 1 if one of them (resident memory after giving back) was more than 5 % above the second
third of the time in the last third, on average.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from metal_jax import exhaust, label_model, network
from metal_jax.labeling import overlap_statistics_of_batches
from metal_jax.task_tree import TaskTree

_TREES = (
    TaskTree.single(2),
    TaskTree.single(3),
    TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}}),
    TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": {"c": ["p", "q", "r"]}}}),
)


def one_round(rng: np.random.Generator) -> None:
    """One piece of work on data of random shapes."""
    tree = _TREES[rng.integers(len(_TREES))]
    num_items, num_lfs = int(rng.integers(50, 3000)), int(rng.integers(3, 15))
    key = jax.random.key(int(rng.integers(2**31)))
    votes = rng.integers(-1, tree.num_nodes, (num_items, num_lfs))
    work = rng.integers(5)
    if work == 0:
        label_model.posterior(label_model.fit(votes, tree), votes)
    elif work == 1:
        label_model.posterior(label_model.fit_dawid_skene(votes, tree), votes)
    elif work == 2:
        overlap_statistics_of_batches([votes])
    elif work == 3:
        _train(rng, tree, num_items, key)
    else:
        layers = [exhaust.Layer("conv", {"filters": i}) for i in range(20)]
        exhaust.pairwise([tuple(layers[: rng.integers(2, 20)]) for _ in range(rng.integers(3, 9))])


def _train(rng: np.random.Generator, tree: TaskTree, num_items: int, key: jax.Array) -> None:
    probs = rng.dirichlet(np.ones(tree.num_leaves), num_items)
    items = rng.normal(size=(num_items, int(rng.integers(2, 20)))).astype(np.float32)
    inputs = network.fit_inputs("features", items)
    config = network.NetworkConfig(widths=(int(rng.integers(2, 12)),))
    examples = network.Examples(inputs.encode(items), probs)
    settings = network.FitConfig(training=network.TrainingConfig(32, 20, 10))
    network.fit(network.build(tree, inputs.encoder, config), examples, examples, settings, key=key)


def memory() -> dict[str, int]:
    """What the process holds now; glibc keeps what compilers gave back until it is trimmed."""
    gc.collect()
    resident = _resident()
    with contextlib.suppress(OSError, AttributeError):  # another C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)
    return {
        "resident_bytes": resident,
        "trimmed_bytes": _resident(),
        "maps": len(Path("/proc/self/maps").read_text().splitlines()),
        "files": len(os.listdir("/proc/self/fd")),
        "arrays": len(jax.live_arrays()),
    }


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(minutes: float, clear_every: int, shapes: int, every: float = 60.0) -> dict[str, Any]:
    """Rounds until the time is over.

    Args:
        minutes: for how long.
        clear_every: rounds from one `jax.clear_caches` to the next; 0 never.
        shapes: different draws of shapes; 0 for new ones each time.
        every: seconds between two looks at the memory.

    Returns:
        Figures over time; with clearing, after each.
    """
    started = time.monotonic()
    trace: list[dict[str, float]] = []
    rounds = looked = 0
    while time.monotonic() - started < 60 * minutes:
        one_round(np.random.default_rng(rounds % shapes if shapes else rounds))
        rounds += 1
        if clear_every and rounds % clear_every == 0:
            jax.clear_caches()
        elif clear_every:
            continue
        if not trace or time.monotonic() - started > looked + every:
            if not clear_every and rounds < max(shapes, 1):
                continue
            looked = time.monotonic() - started
            trace.append({"minutes": looked / 60, "rounds": rounds, **memory()})
            sys.stderr.write(f"{trace[-1]}\n")
    return {"rounds": rounds, "clear_every": clear_every, "shapes": shapes, "trace": trace}


def growth(trace: list[dict[str, float]]) -> dict[str, float]:
    """Of what must stay flat: the mean over the last third against that over the second."""
    third = len(trace) // 3
    if not third:
        raise ValueError(f"trace: got {len(trace)} looks at the memory, expected 3 at least")

    def mean(name: str, looks: list[dict[str, float]]) -> float:
        return sum(look[name] for look in looks) / len(looks)

    return {
        name: mean(name, trace[-third:]) / mean(name, trace[-2 * third : -third]) - 1
        for name in ("trimmed_bytes", "maps", "files")
    }


def main() -> None:
    """Run, print one JSON line and judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--clear-every", type=int, default=25, metavar="ROUNDS")
    parser.add_argument("--shapes", type=int, default=0, help="different ones; 0: always new")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append the JSON line to this")
    options = parser.parse_args()
    row = {"study": "soak", **soak(options.minutes, options.clear_every, options.shapes)}
    row |= {"growth": growth(row["trace"]), "jax": jax.__version__, "load": os.getloadavg()}
    print(json.dumps(row))
    if options.out:
        with options.out.open("a") as file:
            file.write(json.dumps(row) + "\n")
    if max(row["growth"].values()) > 0.05:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
