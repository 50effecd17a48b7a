"""Peers on the same votes; each says why where it cannot run.

Install with `pip install 'metal-jax[bench]'` (Snorkel needs torch; take its CPU build first).
snorkel-metal's own requirements are of 2019; `pip install --no-deps --target FOLDER snorkel-metal
pandas tqdm dill python-dateutil six` and `PYTHONPATH=FOLDER` suffice.
"""

from __future__ import annotations

import sys
import time
import types
import warnings
from typing import Any

import numpy as np


class PeerMissing(Exception):
    """The peer is not installed, or cannot take the data."""


def snorkel(train: np.ndarray, test: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Snorkel's LabelModel as in its tutorials: 500 steps, all other settings as they come.

    Args:
        train: int[n, m] votes to fit on, -1 = abstain.
        test: int[b, m] votes to label.
        k: number of classes.

    Returns:
        Posterior float[b, k], and the seconds of fit and posterior.

    Raises:
        PeerMissing: Snorkel is not installed, or there are fewer than three LFs.
    """
    try:
        from snorkel.labeling.model import LabelModel
    except ImportError as error:
        raise PeerMissing(f"snorkel: {error}") from error
    if train.shape[1] < 3:
        raise PeerMissing("snorkel: needs three LFs")
    start = time.perf_counter()
    model = LabelModel(cardinality=k, verbose=False)
    model.fit(train, n_epochs=500, seed=0, progress_bar=False)
    probs = model.predict_proba(test)
    return probs, time.perf_counter() - start


def metal_end_model() -> tuple[Any, Any]:
    """snorkel-metal's `MTEndModel`, and a task graph for it that does not enumerate labels.

    Version 0.5.0 needs two shims: `tensorboardX`, which it imports and we do not use, and its
    `TaskGraph`, which lists every combination of all tasks' labels (5^100 for a hundred tasks).

    Returns:
        The model's class, and a function from cardinalities to a task graph.

    Raises:
        PeerMissing: snorkel-metal cannot be imported.
    """
    sys.modules.setdefault("tensorboardX", types.SimpleNamespace(SummaryWriter=None))  # pyright: ignore
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in its docstrings
            from metal.multitask import MTEndModel
            from metal.multitask.task_graph import TaskGraph
    except ImportError as error:
        raise PeerMissing(f"snorkel-metal: {error}") from error

    class Graph(TaskGraph):
        def feasible_set(self):
            return iter(())

    return MTEndModel, Graph
