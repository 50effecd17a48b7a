"""Successive halving and Hyperband: how many trials go on for how many steps, and which.

Legend: R the most steps of a trial, eta the reduction.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from metal_jax.network._tuning.trials import Trial


class Rung(NamedTuple):
    """A comparison of trials.

    Attributes:
        num_trials: how many get here at most.
        num_steps: steps that each has taken by then.
    """

    num_trials: int
    num_steps: int


def halving_rungs(
    num_trials: int, num_steps: int, min_steps: int, reduction: int
) -> tuple[Rung, ...]:
    """The rungs of successive halving (Jamieson and Talwalkar, AISTATS 2016, section 2).

    Of the trials of a rung one in `reduction` goes on, for so many times the steps; as many rungs
    as leave one trial and the first no fewer than `min_steps`.

    Args:
        num_trials: of the first rung.
        num_steps: R, of the last rung.
        min_steps: the fewest of the first rung.
        reduction: eta.

    Returns:
        The rungs.

    Example:
        >>> halving_rungs(9, 900, 100, 3)
        (Rung(num_trials=9, num_steps=100), Rung(num_trials=3, num_steps=300), \
Rung(num_trials=1, num_steps=900))
    """
    by_steps = _floor_log(num_steps // min_steps, reduction)
    return _rungs(
        num_trials, num_steps, min(by_steps, _floor_log(num_trials, reduction)), reduction
    )


def hyperband_brackets(
    num_steps: int, min_steps: int, reduction: int
) -> tuple[tuple[Rung, ...], ...]:
    """The brackets of Hyperband, from the most trials to the most steps.

    The numbers are those of table 1 of Li et al. (JMLR 2018), that is
    `floor((s_max + 1) / (s + 1)) * eta^s` trials in bracket s: every rung then divides evenly, and
    brackets have sizes, hence compiled programs, in common. Line 2 of algorithm 1 there rounds up
    instead, which for R = 81, eta = 3 starts 34, 15 and 8 trials where the table has 27, 9 and 6.

    Args:
        num_steps: R, of the last rung of every bracket.
        min_steps: the fewest of any rung.
        reduction: eta.

    Returns:
        The rungs of each bracket.
    """
    most = _floor_log(num_steps // min_steps, reduction)
    return tuple(
        _rungs((most + 1) // (s + 1) * reduction**s, num_steps, s, reduction)
        for s in range(most, -1, -1)
    )


def _rungs(num_trials: int, num_steps: int, last: int, reduction: int) -> tuple[Rung, ...]:
    return tuple(
        Rung(num_trials // reduction**i, num_steps // reduction ** (last - i))
        for i in range(last + 1)
    )


def _floor_log(number: int, base: int) -> int:
    """The largest power of the base that is not above a number of one or more."""
    power = 0
    while base ** (power + 1) <= number:
        power += 1
    return power


def select(trials: Sequence[Trial], num_kept: int) -> tuple[list[Trial], list[Trial]]:
    """Those that go on to the next rung, and those that are finished.

    Args:
        trials: of a rung.
        num_kept: how many go on at most; one that has diverged never does.

    Returns:
        Survivors and finished trials, each with the best first.
    """
    ranked = sorted(trials, key=Trial.rank)
    kept = [trial for trial in ranked[:num_kept] if trial.cost() < math.inf]
    return kept, ranked[len(kept) :]
