"""Picture of a tuning. Needs matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from metal_jax.network._tuning.tune import TuneResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_tuning(result: TuneResult, ax: Axes | None = None, *, setting: str | None = None) -> Axes:
    """Draw the trials' scores against steps, or against one of the settings.

    Args:
        result: from `tune`.
        ax: where to draw; by default the axes of a new figure, which is `ax.figure`.
        setting: name of a setting; None for curves over the steps, in which a trial that was
            stopped ends early and the best is drawn bold.

    Returns:
        The axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the search had no such setting.
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(layout="constrained").subplots()
    watch = result.config.training.watch
    if setting is None:
        ax.set(xlabel="steps", ylabel=f"validation {watch}", xscale="log")
    elif setting in result.best_settings:
        ax.set(xlabel=setting, ylabel=f"best validation {watch}")
    else:
        raise ValueError(f"setting: got {setting!r}, expected one of {list(result.best_settings)}")
    # The best on top of the others.
    for row in sorted(result.table, key=lambda row: row["trial"] == result.best_trial):
        is_best = row["trial"] == result.best_trial
        style = {"color": "C1" if is_best else "C0", "alpha": 1.0 if is_best else 0.4}
        label = "best" if is_best and row["seed"] == 0 else None
        if setting is None:
            curve = row["curve"]
            scores = [math.nan if score is None else score for score in curve["scores"]]
            ax.plot(curve["steps"], scores, marker=".", label=label, **style)
        elif row["score"] is not None and not row["diverged"]:
            value = row["settings"][setting]
            number = isinstance(value, int | float)
            ax.plot([value if number else str(value)], [row["score"]], "o", label=label, **style)
    ax.legend()
    return ax
