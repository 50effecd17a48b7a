"""The figures of recorded runs one by one, for papers and notebooks. They need matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from metal_jax.exhaust import Run
from metal_jax.report._exhaust_figures import (
    Forecast,
    Search,
    predicted_figure,
    run_curves_figure,
    search_figure,
)
from metal_jax.report._matplotlib import draw_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_predicted(forecast: Forecast, *, ax: Axes | None = None) -> Axes:
    """Draw predicted against true values, with intervals.

    Args:
        forecast: predictions of one target.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> ones = np.ones(2)
        >>> true = np.array([1.5, 2.5])
        >>> forecast = Forecast("seconds", ["a", "b"], 2 * ones, ones, 3 * ones, true)
        >>> axes = plot_predicted(forecast)
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(predicted_figure(forecast), ax)


def plot_run_curves(
    runs: Sequence[Run],
    metric: str = "accuracy",
    *,
    role: str = "validation",
    best: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a metric of many runs over their epochs.

    Args:
        runs: the runs; those without the metric are left out.
        metric: its name.
        role: "train", "validation" or "test".
        best: id of a run to point out.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> from metal_jax.exhaust import curve
        >>> run = Run("a", metrics={"validation": {"accuracy": curve([0.5, 0.8])}})
        >>> axes = plot_run_curves([run])
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(run_curves_figure(runs, role, metric, best), ax)


def plot_search(found: Search, *, ax: Axes | None = None) -> Axes:
    """Draw candidates by predicted time and target; the chosen ones stand out.

    Args:
        found: the search.
        ax: where to draw; by default the axes of a new figure.

    Returns:
        The axes.

    Example:
        >>> import numpy as np
        >>> ones = np.ones(2)
        >>> seconds = np.array([1.0, 9.0])
        >>> found = Search("accuracy", ["a", "b"], ones, ones, ones, seconds, 5.0, [0])
        >>> axes = plot_search(found)
        >>> axes is axes.figure.axes[0]
        True
    """
    return draw_axes(search_figure(found), ax)
