"""The embedded training runs: small networks on Fashion-MNIST, recorded for this library."""

from __future__ import annotations

import gzip
import json
from importlib import resources

from metal_jax.exhaust import Run, from_json

_FILE = "fashion_runs.jsonl.gz"


def load_fashion_runs() -> list[Run]:
    """Runs of 400 networks of `LayerGrammar`, each with two seeds, on Fashion-MNIST.

    8,000 images to train on, 10,000 to validate on, shrunk to 14 x 14; Adam at one of two learning
    rates, 10 epochs. Seconds are CPU seconds of one thread, of the training steps alone, on a
    machine that did other work beside (mostly on its other core). Recorded by
    `examples/record_runs.py`; command, machine and date are in each run's source.

    Returns:
        800 runs, in the order of networks and then seeds; `extra` holds "network" and "seed".

    Example:
        >>> runs = load_fashion_runs()
        >>> len(runs), sorted(runs[0].metrics["validation"])
        (800, ['accuracy', 'loss'])
    """
    file = resources.files("metal_jax.datasets").joinpath(_FILE)
    lines = gzip.decompress(file.read_bytes()).decode().splitlines()
    return [
        from_json(json.loads(line), file=_FILE, line=number)
        for number, line in enumerate(lines, start=1)
    ]
