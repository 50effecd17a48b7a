"""Settings of the training engine."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """Settings of `train`.

    Attributes:
        batch_size: items in a step; all of them when there are fewer. Batches of a stream have
            their own size.
        num_steps: most optimiser steps.
        steps_per_chunk: steps between evaluations.
        patience: stop after this many evaluations without a better score; 0 never stops early.
        micro_batches: parts that a batch is computed in, one after the other, to save memory; the
            gradient is that of the whole batch.
        ema_decay: evaluate and keep an exponential moving average of the parameters, which in a
            step keeps this share of itself (e.g. 0.99); 0 for the parameters themselves.
        watch: name of the score that decides which parameters are best.
        lower_is_better: of that score.
        batches_per_transfer: batches of a stream that move to the device together.
    """

    batch_size: int = 128
    num_steps: int = 1000
    steps_per_chunk: int = 50
    patience: int = 5
    micro_batches: int = 1
    ema_decay: float = 0.0
    watch: str = "loss"
    lower_is_better: bool = True
    batches_per_transfer: int = 10

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "num_steps",
            "steps_per_chunk",
            "micro_batches",
            "batches_per_transfer",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected at least 1")
        if self.patience < 0:
            raise ValueError(f"patience: got {self.patience}, expected 0 or more")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay: got {self.ema_decay}, expected a number in [0, 1)")
