"""Whole processes: `metal-jax label` on a file of votes against a script that uses Snorkel.

    python -m benchmarks.studies.whole_process [--items 100000] [--rounds 5] [--out FILE]

Both read the same npz of votes (50 LFs, two classes), fit, and write soft labels to an npz. The
command runs its default model with an empty cache of compiled programs (cold) and with a filled one
(warm), and MeTaL's objective, as Snorkel does, warm. The three take turns. One JSON line each:
seconds by the clock and of processor time, and the ratios, one a round. Needs the `bench` extra.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness import spread
from benchmarks.kernels.label_models import votes_of

_SNORKEL = """
import sys
import numpy as np
from snorkel.labeling.model import LabelModel

votes = np.load(sys.argv[1])["L"].astype(np.int64)
model = LabelModel(cardinality=2, verbose=False)
model.fit(votes, n_epochs=500, seed=0, progress_bar=False)
np.savez(sys.argv[2], probs=model.predict_proba(votes))
"""


def seconds_of(command: Sequence[str], cache: Path) -> tuple[float, float]:
    """By the clock and of processor time, of a process that must succeed."""
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env=variables)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, and append to the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        votes, out = str(folder / "votes.npz"), str(folder / "probs.npz")
        np.savez(votes, L=votes_of(given.items, 50, 2))
        label = [sys.executable, "-m", "metal_jax", "label", votes, "--out", out, "--quiet"]
        snorkel = [sys.executable, "-c", _SNORKEL, votes, out]
        warm = folder / "warm"
        works = {
            "default, cold": (label, None),
            "default, warm": (label, warm),
            "overlap objective, warm": ([*label, "--method", "overlap"], warm),
            "Snorkel, 500 steps": (snorkel, warm),
        }
        for command, _ in works.values():  # files read once, and the warm cache filled
            seconds_of(command, warm)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for i in range(given.rounds):
            for name, (command, cache) in works.items():
                found[name].append(seconds_of(command, cache or folder / f"cold-{i}"))
    theirs = np.array(found["Snorkel, 500 steps"])
    for name, seconds in found.items():
        ours = np.array(seconds)
        row = {"study": "whole process", "work": name, "num_items": given.items}
        row |= {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
        for i, clock in enumerate(("wall", "cpu")):
            row |= {
                clock: spread(ours[:, i]),
                f"ratio_{clock}": spread(theirs[:, i] / ours[:, i]),
            }
        line = json.dumps(row)
        print(line, flush=True)
        if given.out is not None:
            with given.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
