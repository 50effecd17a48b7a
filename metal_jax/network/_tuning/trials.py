"""Trials of a tuning: settings, trained on several seeds, and their scores so far."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from metal_jax._core.training_state import TrainState


@dataclasses.dataclass
class Replica:
    """A trial on one seed.

    Attributes:
        seed: its number.
        traced: name -> float32 value, the settings that the loss and the optimiser are handed.
        state: where its training stands, without an axis of replicas; None before the first step.
        steps: at which it was evaluated.
        scores: the watched score there.
    """

    seed: int
    traced: Mapping[str, np.ndarray]
    state: TrainState | None = None
    steps: list[int] = dataclasses.field(default_factory=list)
    scores: list[float] = dataclasses.field(default_factory=list)

    def num_steps(self) -> int:
        """Steps taken."""
        return self.steps[-1] if self.steps else 0

    def diverged(self) -> bool:
        """Whether the newest score is not a number, or infinite."""
        return not (self.scores and math.isfinite(self.scores[-1]))

    def best_score(self, lower_is_better: bool) -> float | None:
        """Of the evaluations so far; None without a finite one."""
        finite = [score for score in self.scores if math.isfinite(score)]
        if not finite:
            return None
        return min(finite) if lower_is_better else max(finite)


@dataclasses.dataclass
class Trial:
    """Settings that are tried.

    Attributes:
        index: its number.
        settings: name -> value.
        program: number of the program that trains it.
        replicas: one for each seed.
        lower_is_better: of the watched score.
        bracket: number of the bracket that it belongs to.
        rung: the last that it reached there.
    """

    index: int
    settings: dict[str, Any]
    program: int
    replicas: list[Replica]
    lower_is_better: bool
    bracket: int = 0
    rung: int = 0

    def score(self) -> float | None:
        """Mean over the seeds of their best scores; None for a trial that has diverged."""
        scores = [replica.best_score(self.lower_is_better) for replica in self.replicas]
        if any(replica.diverged() for replica in self.replicas):
            return None
        return float(np.mean([score for score in scores if score is not None]))

    def cost(self) -> float:
        """The score with the sign that makes less better; infinite without a score."""
        score = self.score()
        if score is None:
            return math.inf
        return score if self.lower_is_better else -score

    def rank(self) -> tuple[float, int]:
        """The lower, the better; of equals the first."""
        return self.cost(), self.index

    def best_params(self) -> Any:
        """Copies of the best parameters of the best seed."""
        sign = 1 if self.lower_is_better else -1
        states = [replica.state for replica in self.replicas if replica.state is not None]
        best = min(states, key=lambda state: sign * float(state.best_score))
        return jax.tree.map(np.array, best.best_params)

    def num_steps(self) -> int:
        """Steps taken, over the seeds."""
        return sum(replica.num_steps() for replica in self.replicas)

    def release(self) -> None:
        """Forget where the training stands; the curves stay."""
        for replica in self.replicas:
            replica.state = None

    def rows(self) -> list[dict[str, Any]]:
        """Plain JSON, for each seed."""
        return [
            {
                "trial": self.index,
                "bracket": self.bracket,
                "rung": self.rung,
                "settings": dict(self.settings),
                "trial_score": self.score(),
                "seed": replica.seed,
                "steps": replica.num_steps(),
                "score": replica.best_score(self.lower_is_better),
                "diverged": replica.diverged(),
                "curve": {
                    "steps": list(replica.steps),
                    "scores": [x if math.isfinite(x) else None for x in replica.scores],
                },
            }
            for replica in self.replicas
        ]
