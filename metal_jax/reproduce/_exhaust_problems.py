"""The sets of training logs on which developer exhaust is reproduced, and what is predicted."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from metal_jax.datasets import load_fashion_runs
from metal_jax.exhaust import Curve, Run, read_open_logs


class ExhaustProblem(NamedTuple):
    """Runs of which some are to be predicted from the others.

    Attributes:
        name: of the set.
        runs: one for each network; where there are several seeds, their mean curves and times.
        targets: what is predicted; the first one is searched for.
        held_out: role that overfitting compares with.
        epochs_seen: a quarter of the curve; 0 where the set has no curves.
        repeats: runs of the same networks, one tuple for each seed; empty where there is one seed.
        fixed_test: the networks judged, where the set comes with a split; empty: five folds.
        note: where the runs are from.
    """

    name: str
    runs: tuple[Run, ...]
    targets: tuple[str, ...]
    held_out: str
    epochs_seen: int
    repeats: tuple[tuple[Run, ...], ...] = ()
    fixed_test: tuple[int, ...] = ()
    note: str = ""


class _Logs(NamedTuple):
    targets: tuple[str, ...]
    held_out: str
    epochs_seen: int


_OPEN = {
    "metaqnn_cifar10": _Logs(("validation/accuracy@20",), "validation", 5),
    "cs446": _Logs(("validation/accuracy@50", "overfitting/accuracy@50"), "validation", 12),
    "naap440": _Logs(("test/accuracy",), "test", 22),
    "nats": _Logs(("test/accuracy@200", "overfitting/accuracy@200", "seconds"), "test", 0),
    "nas_bench_nlp": _Logs(("validation/loss", "overfitting/loss", "seconds"), "validation", 12),
}
_NAAP440_TRAIN = 400


def load_exhaust_problems(folder: str | os.PathLike[str] | None = None) -> list[ExhaustProblem]:
    """The embedded runs, and with a folder of real data five sets of open logs.

    Args:
        folder: with the sub-folder `logs`.

    Returns:
        The problems.

    Raises:
        OSError: a set is missing.

    Example:
        >>> len(load_exhaust_problems())
        1
    """
    problems = [fashion_runs()]
    for name, logs in _OPEN.items() if folder is not None else ():
        reading = read_open_logs(Path(str(folder), "logs", name), name)
        fixed = range(_NAAP440_TRAIN, len(reading.runs)) if name == "naap440" else ()
        problems.append(
            ExhaustProblem(
                name,
                reading.runs,
                logs.targets,
                logs.held_out,
                logs.epochs_seen,
                fixed_test=tuple(fixed),
                note=f"{len(reading.runs)} runs read, {len(reading.problems)} set aside",
            )
        )
    return problems


def fashion_runs() -> ExhaustProblem:
    """The embedded runs: small networks on Fashion-MNIST, each with two seeds.

    Example:
        >>> len(fashion_runs().runs)
        400
    """
    seeds: dict[int, list[Run]] = defaultdict(list)
    for run in load_fashion_runs():
        seeds[run.extra["seed"]].append(run)
    repeats = tuple(tuple(seeds[seed]) for seed in sorted(seeds))
    return ExhaustProblem(
        "fashion_runs",
        tuple(mean_run(same) for same in zip(*repeats, strict=True)),
        ("validation/accuracy", "overfitting/accuracy", "seconds"),
        "validation",
        3,
        repeats,
        note=f"embedded; means over {len(repeats)} seeds of each network",
    )


def mean_run(runs: Sequence[Run]) -> Run:
    """Mean curves and times of runs of one network.

    Args:
        runs: with the same metrics at the same epochs.

    Returns:
        The first run, with the means.

    Example:
        >>> from metal_jax.exhaust import curve
        >>> runs = [Run(str(x), metrics={"train": {"loss": curve([x])}}) for x in (1.0, 2.0)]
        >>> mean_run(runs).metrics["train"]["loss"].values
        (1.5,)
    """

    def mean(role: str, name: str) -> Curve:
        values = np.mean([run.metrics[role][name].values for run in runs], 0)
        return runs[0].metrics[role][name]._replace(values=tuple(values.tolist()))

    metrics = {
        role: {name: mean(role, name) for name in named} for role, named in runs[0].metrics.items()
    }
    seconds = tuple(np.mean([run.seconds for run in runs], 0).tolist())
    return runs[0]._replace(metrics=metrics, seconds=seconds)
