"""What grows, along which axis, and at which sizes; run by `benchmarks.studies.growth`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.harness import Case
from benchmarks.kernels.label_models import em_step_case, posterior_case, tree_sum_case, votes_of
from benchmarks.kernels.networks import step_case
from benchmarks.kernels.overlaps import all_columns, random_votes, statistics_case
from benchmarks.kernels.sequences import edit_distance_case, lstm_step_case
from benchmarks.studies import tree_sizes
from metal_jax.exhaust import Curve, LogPatterns, Run, read_runs, read_text_logs, write_runs
from metal_jax.label_model import MixtureConfig, fit, fit_overlap_from_votes
from metal_jax.labeling import overlap_counts
from metal_jax.task_tree import TaskTree

_BLOCK = 10**6


class Growth(NamedTuple):
    """One piece of work along one axis.

    Attributes:
        axis: what grows.
        work: what is done.
        fixed: the sizes that do not grow.
        sizes: from small to large.
        case: the work at a size.
    """

    axis: str
    work: str
    fixed: str
    sizes: tuple[int, ...]
    case: Callable[[int], Case]


def _fit_default(n: int, m: int, k: int) -> Case:
    votes, tree = votes_of(n, m, k), TaskTree.single(k)
    return Case("", lambda: fit(votes, tree).params)


def _fit_overlap(n: int, m: int, k: int) -> Case:
    votes, tree = votes_of(n, m, k), TaskTree.single(k)
    return Case("", lambda: fit_overlap_from_votes(votes, tree).params)


def _em_step(n: int, m: int, k: int) -> Case:
    return em_step_case("", votes_of(n, m, k), TaskTree.single(k))


def _posterior(n: int, m: int, k: int) -> Case:
    few = votes_of(min(n, 10_000), m, k)
    result = fit_overlap_from_votes(few, TaskTree.single(k))
    return posterior_case("", np.tile(few, (-(-n // len(few)), 1))[:n], result)


def _block_counts(n: int) -> Case:
    """Counts of n items in blocks, added up; the votes of one block serve for all."""
    size, m, k = min(n, _BLOCK), 50, 2
    votes, columns = jnp.asarray(random_votes(size, m, k)), all_columns(m, k)

    @jax.jit
    def add(total: jax.Array, votes: jax.Array) -> jax.Array:
        return total + overlap_counts(votes, columns)

    def run() -> jax.Array:
        total = jnp.zeros((m * k, m * k), jnp.int32)
        for _ in range(n // size):
            total = add(total, votes)
        return total

    d = m * k
    return Case("", run, (), n * d * (d + 1), n * m + 4 * d * d, "int8")


def _branches(leaves: int) -> tuple[int, ...]:
    """A tree of three levels with so many leaves."""
    return next(b for b in (*tree_sizes.BRANCHES, tree_sizes.LARGEST) if np.prod(b) == leaves)


def _fit_leaves(leaves: int) -> Case:
    tree = tree_sizes.tree_of(_branches(leaves))
    votes, _ = tree_sizes.votes_on(tree)
    config = MixtureConfig(max_table=0)  # the tied tables at every size
    return Case("", lambda: fit(votes, tree, config=config).params)


def _record(epochs: int) -> Run:
    values = tuple(np.random.default_rng(0).random(epochs).round(4).tolist())
    curve = Curve(tuple(range(1, epochs + 1)), values)
    return Run("a", metrics={"train": {"loss": curve}, "validation": {"accuracy": curve}})


def _read_records(epochs: int) -> Case:
    path = Path(tempfile.mkdtemp()) / "runs.jsonl"
    write_runs(path, [_record(epochs)] * 1)
    return Case("", lambda: read_runs(path) and None)


def _read_text(epochs: int) -> Case:
    path = Path(tempfile.mkdtemp()) / "a.log"
    values = np.random.default_rng(0).random((epochs, 2))
    lines = (f"epoch {i}: loss {a:.4f} accuracy {b:.4f}\n" for i, (a, b) in enumerate(values, 1))
    path.write_text("".join(lines))
    pattern = r"epoch (?P<epoch>\d+): loss (?P<loss>\S+) accuracy (?P<accuracy>\S+)"
    patterns = LogPatterns([pattern], {"loss": "train/loss", "accuracy": "validation/accuracy"})
    return Case("", lambda: read_text_logs(path, patterns) and None)


def growths() -> Iterator[Growth]:
    """All of them, by axis."""
    items = (1_000, 10_000, 100_000, 1_000_000)
    far = (10_000, 100_000, 1_000_000, 10_000_000, 100_000_000)
    yield Growth("items", "overlap counts", "m = 50, k = 2", far, _block_counts)
    yield Growth("items", "overlap fit", "m = 50, k = 2", items, lambda n: _fit_overlap(n, 50, 2))
    yield Growth("items", "default fit", "m = 50, k = 2", items, lambda n: _fit_default(n, 50, 2))
    yield Growth("items", "EM step", "m = 50, k = 2", items, lambda n: _em_step(n, 50, 2))
    yield Growth(
        "items", "posterior", "m = 50, k = 2", (*items, 10_000_000), lambda n: _posterior(n, 50, 2)
    )
    lfs = (30, 100, 300, 1000, 3000)
    few = "n = 5,000, k = 2"
    yield Growth("LFs", "overlap statistics", few, lfs, lambda m: statistics_case(5_000, m, 2))
    yield Growth("LFs", "overlap fit", few, lfs, lambda m: _fit_overlap(5_000, m, 2))
    yield Growth("LFs", "default fit", few, lfs, lambda m: _fit_default(5_000, m, 2))
    yield Growth("LFs", "EM step", few, lfs, lambda m: _em_step(5_000, m, 2))
    yield Growth("LFs", "posterior", few, lfs, lambda m: _posterior(5_000, m, 2))
    classes = (2, 5, 10, 30, 100)
    wide = "n = 5,000, m = 30"
    yield Growth(
        "classes", "overlap statistics", wide, classes, lambda k: statistics_case(5_000, 30, k)
    )
    yield Growth("classes", "overlap fit", wide, classes, lambda k: _fit_overlap(5_000, 30, k))
    yield Growth("classes", "default fit", wide, classes, lambda k: _fit_default(5_000, 30, k))
    yield Growth("classes", "EM step", wide, classes, lambda k: _em_step(5_000, 30, k))
    yield Growth("classes", "posterior", wide, classes, lambda k: _posterior(5_000, 30, k))
    yield Growth(
        "leaves", "default fit", "n = 2,000, m = 20", (12, 48, 180, 500, 1000, 2000), _fit_leaves
    )
    yield Growth(
        "leaves",
        "tree sums",
        "n = 2,000",
        (16, 64, 256, 1024, 1936),
        lambda s: tree_sum_case(2_000, s),
    )
    yield Growth("tasks", "network step", "256 items", (1, 3, 10, 30, 100, 300, 1000), step_case)
    lengths = (5, 10, 20, 40, 80, 160, 320)
    yield Growth(
        "layers",
        "LSTM step",
        "64 networks, 32 units",
        lengths,
        lambda length: lstm_step_case(length, 64, 32),
    )
    yield Growth(
        "layers",
        "edit distances",
        "100 x 100 networks",
        lengths[:6],
        lambda length: edit_distance_case(100, length),
    )
    epochs = (100, 1_000, 10_000, 100_000)
    yield Growth("epochs of a log", "run records", "2 curves", epochs, _read_records)
    yield Growth("epochs of a log", "text log", "2 curves", epochs, _read_text)
