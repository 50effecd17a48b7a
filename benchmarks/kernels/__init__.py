"""The kernels that are timed, by name; each makes its cases for a set of sizes.

`ci` is for a test of the harness, `small` for a minute at a desk, `full` for the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.harness import Case
from benchmarks.kernels import label_models, networks, overlaps, sequences

KERNELS: Mapping[str, Callable[[str], list[Case]]] = {
    "overlap_statistics": overlaps.statistics,
    "overlap_counts": overlaps.counts,
    "overlap_objective": overlaps.objective,
    "overlap_objective_from_votes": overlaps.objective_from_votes,
    "fit_overlap": label_models.overlap_fits,
    "fit_default": label_models.default_fits,
    "em_step": label_models.em_steps,
    "posterior": label_models.posteriors,
    "tree_sums": label_models.tree_sums,
    "network_forward": networks.forward,
    "network_step": networks.steps,
    "ensemble_step": networks.ensemble,
    "lstm_forward": sequences.lstm_forward,
    "lstm_step": sequences.lstm_step,
    "edit_distance": sequences.edit_distances,
}
