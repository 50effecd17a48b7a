"""Settings of the training loss."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np


@dataclasses.dataclass(frozen=True)
class ConsistencyConfig:
    """What the network teaches itself on items, or tasks of an item, without a trusted label.

    These are items of weight 0, rows of zeros in `leaf_probs`, and tasks whose label falls under
    `LossConfig.confidence_threshold`; never what `task_mask` excludes. The target is the network's
    prediction without dropout, for the prediction with it; see `consistency_loss`.

    Attributes:
        weight: of this loss beside the supervised one.
        threshold: least top conditional probability of a target.
        temperature: of the target; below 1 sharpens it.
        ramp_up_steps: steps over which the weight grows from 0, as `exp(-5 (1 - step / steps)^2)`
            (Laine and Aila, Temporal Ensembling, ICLR 2017, section 2.1).
    """

    weight: float = 0.3
    threshold: float = 0.6
    temperature: float = 1.0
    ramp_up_steps: int = 100

    def __post_init__(self) -> None:
        _check_range("weight", self.weight, 0, np.inf)
        _check_range("threshold", self.threshold, 0, 1)
        if not self.temperature > 0:
            raise ValueError(f"temperature: got {self.temperature}, expected a positive number")
        if self.ramp_up_steps < 1:
            raise ValueError(f"ramp_up_steps: got {self.ramp_up_steps}, expected at least 1")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """The training loss; the defaults are the soft cross-entropy weighted by activity.

    Attributes:
        robust_exponent: of the generalised cross-entropy in `soft_label_loss`; 0 is cross-entropy,
            1 the mean absolute error.
        confidence_threshold: a task of an item counts only where the top conditional probability
            of its soft label reaches this; 0 counts all.
        smoothing: how far soft labels are softened towards the class balance, in proportion to
            their entropy, see `smooth_labels`; 0 not at all, 1 replaces a uniform label.
        task_weights: weight of each task's loss, in the order of `tree.tasks`; all 1 by default.
        class_weights: weight of each label node, in the order of the node ids; all 1 by default.
        task_balance: how task weights arise beside `task_weights`: "fixed", learned by
            "uncertainty" or by "gradient_norm", see `uncertainty_weighted_loss` and
            `gradient_norm_loss`. The state is trained as `params["loss"]`.
        balance_learning_rate: of Adam for learned task weights.
        restoring_force: alpha of the gradient norm balance.
        shared_layer: where in the parameters the layer lies whose gradient norms are balanced; by
            default the highest layer of the trunk that lies beneath all heads.
        consistency: what is learned from items without a label; None for nothing.
    """

    robust_exponent: float = 0.0
    confidence_threshold: float = 0.0
    smoothing: float = 0.0
    task_weights: tuple[float, ...] | None = None
    class_weights: tuple[float, ...] | None = None
    task_balance: Literal["fixed", "uncertainty", "gradient_norm"] = "fixed"
    balance_learning_rate: float = 0.025
    restoring_force: float = 1.5
    shared_layer: tuple[str, ...] | None = None
    consistency: ConsistencyConfig | None = None

    def __post_init__(self) -> None:
        for name in ("robust_exponent", "confidence_threshold", "smoothing"):
            _check_range(name, getattr(self, name), 0, 1)
        for name in ("task_weights", "class_weights"):
            weights = getattr(self, name)
            if weights is not None and not all(np.isfinite(w) and w >= 0 for w in weights):
                raise ValueError(f"{name}: got {weights}, expected finite, non-negative numbers")
        if self.task_balance not in ("fixed", "uncertainty", "gradient_norm"):
            raise ValueError(
                f"task_balance: got {self.task_balance!r}, expected 'fixed', 'uncertainty' or "
                "'gradient_norm'"
            )
        if not self.balance_learning_rate > 0:
            raise ValueError(
                f"balance_learning_rate: got {self.balance_learning_rate}, expected a positive "
                "number"
            )
        _check_range("restoring_force", self.restoring_force, 0, np.inf)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}: got {value}, expected a number in [{low}, {high}]")
