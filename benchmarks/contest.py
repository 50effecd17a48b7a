"""Two contenders, one piece of work.

They take turns, so that a busy machine is busy for all; the ratio is taken in each round, by the
clock and by processor time (on a machine shared with other programs the second is the fairer: it
does not count waiting). Each contest also says how far the results agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.harness import spread
from benchmarks.peers import PeerMissing

Work = Callable[[], Any]

# Seconds before each turn: threads of OpenMP and OpenBLAS keep waiting busily for up to 0.2 s after
# their work, on the cores that the next one needs.
_REST = 0.5


class Contest(NamedTuple):
    """One piece of work for two.

    Attributes:
        name: what is done.
        peer: by whom else.
        ours: the work; its result is on the device or the host.
        theirs: prepares the peer's work, or raises `PeerMissing`.
        agreement: from both results, numbers that say how far they agree.
        rounds: how often each takes its turn.
        factor: where they do a part of the work, and the peer's name says so: their time is that of
            `setup` plus the rest multiplied by this.
        setup: prepares the part of their work that does not grow.
    """

    name: str
    peer: str
    ours: Work
    theirs: Callable[[], Work]
    agreement: Callable[[Any, Any], Mapping[str, float]]
    rounds: int = 5
    factor: float = 1.0
    setup: Callable[[], Work] | None = None


def run(contest: Contest) -> dict[str, Any]:
    """A row: times of both, their ratios, the agreement; or why the peer was skipped."""
    row: dict[str, Any] = {"kind": "contest", "contest": contest.name, "peer": contest.peer}
    try:
        theirs = contest.theirs()
    except PeerMissing as missing:
        return row | {"skipped": str(missing)}
    fixed = np.zeros(2) if contest.setup is None else _setup_seconds(contest.setup())
    result = jax.block_until_ready(contest.ours())
    seconds: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
    other = None
    for _ in range(contest.rounds):
        for name, work in (("ours", contest.ours), ("theirs", theirs)):
            time.sleep(_REST)
            starts = time.perf_counter(), time.process_time()
            done = jax.block_until_ready(work()) if name == "ours" else work()
            seconds[name].append([time.perf_counter() - starts[0], time.process_time() - starts[1]])
            other = done if name == "theirs" else other
    ours, others = (np.array(seconds[name]) for name in ("ours", "theirs"))
    others = fixed + contest.factor * (others - fixed)
    for i, clock in enumerate(("wall", "cpu")):
        row |= {
            f"ours_{clock}": spread(ours[:, i]),
            f"theirs_{clock}": spread(others[:, i]),
            f"ratio_{clock}": spread(others[:, i] / ours[:, i]),
        }
    return row | {
        "rounds": contest.rounds,
        "theirs_extrapolated": {"setup_seconds": fixed.tolist(), "factor": contest.factor},
        "load_average": os.getloadavg()[0],
        "agreement": {key: float(x) for key, x in contest.agreement(result, other).items()},
    }


def _setup_seconds(work: Work) -> np.ndarray:
    """By the clock and of processor time, of a second call."""
    work()
    starts = time.perf_counter(), time.process_time()
    work()
    return np.array([time.perf_counter() - starts[0], time.process_time() - starts[1]])
