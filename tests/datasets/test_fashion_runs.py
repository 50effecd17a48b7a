from collections import Counter
from importlib import resources

import numpy as np

from metal_jax.datasets import load_fashion_runs
from metal_jax.exhaust import num_layers, output_shapes, sample_architectures, unknown_layers


def test_each_network_was_trained_twice_to_the_end():
    runs = load_fashion_runs()
    counts = Counter(run.extra["network"] for run in runs)
    assert len(counts) == 400
    assert set(counts.values()) == {2}
    assert len({run.run for run in runs}) == len(runs)
    for run in runs:
        assert run.status == "finished"
        assert len(run.seconds) == 10
        assert min(run.seconds) > 0
        for curves in run.metrics.values():
            assert all(np.isfinite(curve.values).all() for curve in curves.values())


def test_seeds_share_the_network_and_differ_in_the_curves():
    runs = load_fashion_runs()
    for first, second in zip(runs[::2], runs[1::2], strict=True):
        assert first.architecture == second.architecture
        assert first.optimiser == second.optimiser
        assert first.num_params == second.num_params
        assert first.metrics != second.metrics


def test_networks_are_the_grammars():
    runs = load_fashion_runs()[::2]
    assert not unknown_layers(runs)
    assert {output_shapes(run.architecture, (14, 14, 1))[-1] for run in runs} == {(10,)}
    assert len({num_layers(run.architecture) for run in runs}) > 20


def test_the_script_would_draw_the_same_networks():
    import jax

    key = jax.random.split(jax.random.key(0))[0]
    recorded = [run.architecture for run in load_fashion_runs()[:20:2]]
    assert sample_architectures(key, 10) == recorded


def test_the_file_is_small():
    file = resources.files("metal_jax.datasets").joinpath("fashion_runs.jsonl.gz")
    assert len(file.read_bytes()) < 1_500_000
