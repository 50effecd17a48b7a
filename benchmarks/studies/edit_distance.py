"""Edit distances of 1,000 x 1,000 networks: `python -m benchmarks.studies.edit_distance`.

Two sets of random networks of 20 layers, so that no half of the table follows from the other. The
same dynamic programme with the same costs three times: `pairwise`; a loop compiled by numba (on one
core, and on all), skipped where numba is missing; the loop in plain Python, on a sample of pairs
and scaled up. Every time is from lists of layers to the table and so includes encoding them, which
is the same code for all; compilation is apart. Tables must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from metal_jax.exhaust import EditCosts, Layer, pairwise
from metal_jax.exhaust._layer_costs import encode_layers

Networks = Sequence[tuple[Layer, ...]]
_SAMPLE = 2_000


def networks(num: int, num_layers: int, seed: int) -> Networks:
    """Random lists of layers."""
    random = np.random.default_rng(seed)

    def layer() -> Layer:
        kind = random.choice(["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU", "Dropout", "Linear"])
        width, kernel, stride = (
            int(random.choice(x)) for x in ((16, 32, 64, 128), (1, 3, 5), (1, 2))
        )
        sizes = {
            "Conv2d": {"out_channels": width, "kernel_size": kernel, "stride": stride},
            "MaxPool2d": {"kernel_size": kernel, "stride": stride},
            "Dropout": {"p": float(random.choice([0.1, 0.25, 0.5]))},
            "Linear": {"out_features": width},
        }
        return Layer(str(kind), sizes.get(str(kind), {}))

    return [tuple(layer() for _ in range(num_layers)) for _ in range(num)]


def distance(kind_a, family_a, cost_a, sizes_a, kind_b, family_b, cost_b, sizes_b) -> float:
    """The dynamic programme row by row; arguments as in `EncodedLayers`, sizes [l, h]."""
    last = [0.0] * (len(kind_b) + 1)
    for j in range(len(kind_b)):
        last[j + 1] = last[j] + cost_b[j]
    for i in range(len(kind_a)):
        corner = last[0]
        last[0] += cost_a[i]
        for j in range(len(kind_b)):
            both = cost_a[i] + cost_b[j]
            if kind_a[i] == kind_b[j]:
                replaced = 0.0
                for h in range(len(sizes_a[i])):
                    replaced += abs(sizes_a[i][h] - sizes_b[j][h])
                replaced = min(replaced, 0.375 * both)
            elif family_a[i] == family_b[j]:
                replaced = 0.5 * both
            else:
                replaced = both
            best = min(corner + replaced, last[j] + cost_b[j], last[j + 1] + cost_a[i])
            corner = last[j + 1]
            last[j + 1] = best
    return last[-1]


def encode(a: Networks, b: Networks) -> tuple[tuple[np.ndarray, ...], ...]:
    """Both sets as arrays [n, l], sizes [n, l, h]."""
    encoded = encode_layers([a, b], EditCosts())
    return tuple(
        (
            np.asarray(x.kind),
            np.asarray(x.family),
            np.asarray(x.cost, np.float64),
            np.ascontiguousarray(np.moveaxis(np.asarray(x.sizes, np.float64), 0, -1)),
        )
        for x in encoded
    )


def compile_loop(numba: Any, *, parallel: bool) -> Callable[[Networks, Networks], np.ndarray]:
    """The loop over all pairs, compiled by numba."""
    compiled = numba.njit(distance)

    @numba.njit(parallel=parallel)
    def table(ka, fa, ca, sa, kb, fb, cb, sb):
        found = np.zeros((len(ka), len(kb)), np.float32)
        for i in numba.prange(len(ka)):
            for j in range(len(kb)):
                found[i, j] = compiled(ka[i], fa[i], ca[i], sa[i], kb[j], fb[j], cb[j], sb[j])
        return found

    def run(a: Networks, b: Networks) -> np.ndarray:
        first, second = encode(a, b)
        return table(*first, *second)

    return run


def plain(a: Networks, b: Networks, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The loop in plain Python on lists, which it reads faster than arrays."""
    first, second = ([x.tolist() for x in each] for each in encode(a, b))
    return np.array(
        [distance(*(x[i] for x in first), *(x[j] for x in second)) for i, j in pairs], np.float32
    )


class Timing(NamedTuple):
    """Seconds of the first call (with compilation), and of each call after it."""

    first: float
    wall: list[float]
    cpu: list[float]

    def scaled(self, fixed: Timing, factor: float) -> Timing:
        """Everything but a fixed part takes `factor` times as long."""
        wall, cpu = statistics.median(fixed.wall), statistics.median(fixed.cpu)
        return Timing(
            wall + (self.first - wall) * factor,
            [wall + (seconds - wall) * factor for seconds in self.wall],
            [cpu + (seconds - cpu) * factor for seconds in self.cpu],
        )


def timed(work: Callable[[], np.ndarray], repeats: int) -> tuple[np.ndarray, Timing]:
    """The result, and the times of one call and `repeats` more."""
    wall, cpu = [], []
    result = np.zeros(0)
    for _ in range(repeats + 1):
        starts = time.perf_counter(), time.process_time()
        result = work()
        wall.append(time.perf_counter() - starts[0])
        cpu.append(time.process_time() - starts[1])
    return result, Timing(wall[0], wall[1:], cpu[1:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=1000, help="networks in each set")
    parser.add_argument("--layers", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    num, repeats = options.num, options.repeats
    a, b = (networks(num, options.layers, seed) for seed in (0, 1))
    table, ours = timed(lambda: pairwise(a, b), repeats)

    def show(name: str, timing: Timing) -> None:
        wall, cpu = statistics.median(timing.wall), statistics.median(timing.cpu)
        ratios = wall / statistics.median(ours.wall), cpu / statistics.median(ours.cpu)
        print(
            f"| {name} | {wall:.3f} | {min(timing.wall):.3f} - {max(timing.wall):.3f} "
            f"| {cpu:.3f} | {timing.first:.2f} | {ratios[0]:.2f} | {ratios[1]:.2f} |",
            flush=True,
        )

    print(f"{num} x {num} networks of {options.layers} layers, {os.cpu_count()} cores, seconds")
    print("| what | median | least - most | CPU | first call | / pairwise | CPU / pairwise |")
    print("|---|---|---|---|---|---|---|")
    show("pairwise", ours)
    _, encoding = timed(lambda: encode(a, b)[0][2], repeats)
    show("encoding the layers, a part of each", encoding)
    try:
        numba = importlib.import_module("numba")
    except ImportError as error:
        print(f"numba: skipped, {error}")
    else:
        for cores in ("one core", "all cores"):
            run = compile_loop(numba, parallel=cores == "all cores")
            other, timing = timed(lambda run=run: run(a, b), repeats)
            if not np.array_equal(table, other):
                raise SystemExit("the table of numba differs from that of pairwise")
            show(f"numba {numba.__version__}, {cores}", timing)
    every = list(itertools.product(range(num), repeat=2))
    random = np.random.default_rng(2)
    pairs = [every[i] for i in random.choice(len(every), min(_SAMPLE, len(every)), replace=False)]
    sample, timing = timed(lambda: plain(a, b, pairs), 3)
    if not np.array_equal(table[tuple(np.transpose(pairs))], sample):
        raise SystemExit("the table of plain Python differs from that of pairwise")
    timing = timing.scaled(encoding, len(every) / len(pairs))
    show(f"plain Python, scaled up from {len(pairs)} pairs", timing)


if __name__ == "__main__":
    main()
