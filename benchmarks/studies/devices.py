"""What it costs to spread items over more devices than the machine has cores.

    python -m benchmarks.studies.devices [--items 1000000] [--devices 4] [--rounds 7]

A process with one device and one whose CPU is cut into several take turns at the same work: overlap
statistics of 50 LFs (k = 2), ten EM steps of Dawid-Skene, and a training step of a network of ten
tasks. Prints one JSON line each: seconds of both and the ratios, one a round. Results are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.harness import spread

WORKS = ("overlap statistics", "Dawid-Skene, 10 steps", "network, 20 steps")


def _works(num_items: int, num_devices: int) -> list[Callable[[], float]]:
    """Each does its work once and returns a number that the other process must get too."""
    import jax

    from metal_jax.distributed import data_mesh
    from metal_jax.label_model import DawidSkeneConfig, fit_dawid_skene
    from metal_jax.labeling import overlap_statistics, synthetic_votes
    from metal_jax.network import Examples, FitConfig, NetworkConfig, TrainingConfig, build, fit
    from metal_jax.network import precomputed as precomputed_encoder
    from metal_jax.task_tree import TaskTree

    mesh = data_mesh(num_devices) if num_devices > 1 else None
    tree = TaskTree.single(2)
    votes = np.asarray(synthetic_votes(jax.random.key(0), num_items, 50, tree).votes)
    config = DawidSkeneConfig(max_steps=10, tolerance=0.0)
    tasks = TaskTree.from_dict({f"task {i}": ["a", "b"] for i in range(10)})
    random = np.random.default_rng(0)
    inputs = random.normal(size=(8192, 64)).astype(np.float32)
    labels = np.full((8192, tasks.num_leaves), 0.5, np.float32)
    net = build(tasks, precomputed_encoder(64), NetworkConfig())
    training = FitConfig(training=TrainingConfig(num_steps=20, batch_size=1024))

    def statistics() -> float:
        return float(overlap_statistics(votes, mesh=mesh).counts.sum())

    def expectation_maximisation() -> float:
        result = fit_dawid_skene(votes[: num_items // 10], tree, config=config, mesh=mesh)
        return float(result.objective_trace[-1])

    def network() -> float:
        examples = Examples(inputs, labels)
        fitted = fit(net, examples, examples, key=jax.random.key(0), config=training, mesh=mesh)
        return float(sum(jax.numpy.sum(x) for x in jax.tree.leaves(fitted.params)))

    return [statistics, expectation_maximisation, network]


def _serve(num_items: int, num_devices: int) -> None:
    """Do the work whose number is read, and print how long it took."""
    works = _works(num_items, num_devices)
    for work in works:
        work()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        begun = time.perf_counter()
        number = works[int(line)]()
        sys.stdout.write(json.dumps([time.perf_counter() - begun, number]) + "\n")
        sys.stdout.flush()


def _start(num_items: int, num_devices: int) -> subprocess.Popen[str]:
    flags = f"--xla_force_host_platform_device_count={num_devices}"
    command = [sys.executable, "-m", "benchmarks.studies.devices", "--serve", str(num_devices)]
    return subprocess.Popen(
        [*command, "--items", str(num_items)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _ask(process: subprocess.Popen[str], work: int) -> list[float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{work}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def main() -> None:
    """Parse the arguments and print one JSON line for each work."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--items", type=int, default=10**6)
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        _serve(options.items, options.serve)
        return
    processes = [_start(options.items, devices) for devices in (1, options.devices)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for work, name in enumerate(WORKS):
        rounds = [[_ask(process, work) for process in processes] for _ in range(options.rounds)]
        seconds = np.array([[found[0] for found in each] for each in rounds])
        results = np.array([[found[1] for found in each] for each in rounds])
        row: dict[str, Any] = {"study": "devices", "work": name, "items": options.items}
        row |= {"devices": options.devices, "cores": os.cpu_count()}
        row |= {"one": spread(list(seconds[:, 0])), "many": spread(list(seconds[:, 1]))}
        row |= {"many over one": spread(list(seconds[:, 1] / seconds[:, 0]))}
        row |= {"largest difference": float(np.abs(results[:, 1] / results[:, 0] - 1).max())}
        sys.stdout.write(json.dumps(row | {"load": os.getloadavg()[0]}) + "\n")
    for process in processes:
        process.communicate()


if __name__ == "__main__":
    main()
