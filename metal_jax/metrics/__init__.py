"""Metrics of labels, rankings and probabilities: arrays in, arrays out.

Every metric is a pure function of arrays with static shapes: it can be jitted, mapped with
`jax.vmap`, lowered for any platform, and takes float32 or float64 (smaller floats are computed
in float32). `num_classes`, `average` and `num_bins` are static.

- Predictions come first, gold labels second. A gold label of -1 is missing: the item is left out,
  as is an item of weight 0. A prediction of -1 is an abstain.
- `weights` is a mask or one non-negative weight for each item.
- A mean over no items is nan, and so is an area under a curve without both kinds of items. The
  0/0 of a class that is never predicted or has no item is `zero_division`, 0 by default.
"""

from metal_jax.metrics._calibration import (
    ReliabilityBins,
    brier_score,
    expected_calibration_error,
    log_loss,
    reliability_bins,
)
from metal_jax.metrics._classification import (
    accuracy,
    confusion_matrix,
    coverage,
    expected_accuracy,
    f_beta,
    matthews_correlation,
    precision,
    recall,
)
from metal_jax.metrics._hierarchical import HierarchicalScores, hierarchical_scores
from metal_jax.metrics._ranking import roc_auc, roc_auc_one_vs_rest
from metal_jax.metrics._task import path_accuracy, per_task

__all__ = [
    "HierarchicalScores",
    "ReliabilityBins",
    "accuracy",
    "brier_score",
    "confusion_matrix",
    "coverage",
    "expected_accuracy",
    "expected_calibration_error",
    "f_beta",
    "hierarchical_scores",
    "log_loss",
    "matthews_correlation",
    "path_accuracy",
    "per_task",
    "precision",
    "recall",
    "reliability_bins",
    "roc_auc",
    "roc_auc_one_vs_rest",
]
