"""Peers on the same votes; each says why where it cannot run.

Install with `pip install 'metal-jax[bench]'` (Snorkel needs torch; take its CPU build first).
"""

from __future__ import annotations

import time

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
