"""Peers on the same votes; each says why where it cannot run.

Install with `pip install 'metal-jax[bench]'` (Snorkel needs torch; take its CPU build first).
snorkel-metal's own requirements are of 2019; `pip install --no-deps --target FOLDER snorkel-metal
pandas tqdm dill python-dateutil six` and `PYTHONPATH=FOLDER` suffice. FlyingSquid needs
`pgmpy==0.1.26`.
"""

from __future__ import annotations

import sys
import time
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np


class PeerMissing(Exception):
    """The peer is not installed, or cannot take the data."""


def _imported(package: str, load: Callable[[], Any]) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load()
    except ImportError as error:
        raise PeerMissing(f"{package}: {error}") from error


class SnorkelFit(NamedTuple):
    """What Snorkel found.

    Attributes:
        conditional_rates: float[m k, k], mu in the paper, in [0, 1].
        trained: float[m k, k], before they were clipped.
        posterior: votes -> float[n, k].
    """

    conditional_rates: np.ndarray
    trained: np.ndarray
    posterior: Callable[[np.ndarray], np.ndarray]


def snorkel_fit(votes: np.ndarray, k: int, steps: int = 500) -> Callable[[], SnorkelFit]:
    """Snorkel's LabelModel as in its tutorials: 500 steps, all other settings as they come.

    Args:
        votes: int[n, m] votes to fit on, -1 = abstain.
        k: number of classes.
        steps: fewer where the time of 500 would be too long.

    Returns:
        A function that fits.

    Raises:
        PeerMissing: Snorkel is not installed, or there are fewer than three LFs.
    """

    def load() -> Any:
        from snorkel.labeling.model import LabelModel

        return LabelModel

    label_model = _imported("snorkel", load)
    if votes.shape[1] < 3:
        raise PeerMissing("snorkel: needs three LFs")
    wide = votes.astype(np.int64)  # as its own appliers return them

    def fit() -> SnorkelFit:
        model, trained = label_model(cardinality=k, verbose=False), []
        clip = model._clamp_params

        def keep_and_clip() -> None:
            trained.append(model.mu.detach().numpy().copy())
            clip()

        model._clamp_params = keep_and_clip
        model.fit(wide, n_epochs=steps, seed=0, progress_bar=False)
        return SnorkelFit(model.mu.detach().numpy().copy(), trained[-1], model.predict_proba)

    return fit


def snorkel(train: np.ndarray, test: np.ndarray, k: int) -> tuple[np.ndarray, float]:
    """Snorkel's posterior float[b, k] of `test`, and the seconds of fit and posterior."""
    fit = snorkel_fit(train, k)
    start = time.perf_counter()
    probs = fit().posterior(test)
    return probs, time.perf_counter() - start


def flying_squid_fit(votes: np.ndarray) -> Callable[[], Callable[[], np.ndarray]]:
    """FlyingSquid's triplet model of binary votes; fitting returns its posterior of class 1.

    Raises:
        PeerMissing: FlyingSquid is not installed.
    """

    def load() -> Any:
        from flyingsquid.label_model import LabelModel

        return LabelModel

    label_model = _imported("flyingsquid", load)
    signs = np.where(votes < 0, 0, 2 * votes.astype(np.int64) - 1)

    def fit() -> Callable[[], np.ndarray]:
        model = label_model(votes.shape[1])
        model.fit(signs)
        return lambda: np.asarray(model.predict_proba_marginalized(signs))

    return fit


def _triples(votes: np.ndarray) -> Any:
    """Votes in the long format of crowd-kit."""

    def load() -> Any:
        import pandas

        return pandas

    item, lf = np.nonzero(votes >= 0)
    columns = {"task": item, "worker": lf, "label": votes[item, lf].astype(np.int64)}
    return _imported("pandas", load).DataFrame(columns)


class CrowdFit(NamedTuple):
    """What crowd-kit found.

    Attributes:
        posterior: float[n, k].
        steps: iterations taken; its stopping rule cannot be switched off.
    """

    posterior: np.ndarray
    steps: int


def crowd_kit(name: str, votes: np.ndarray, k: int, **settings: Any) -> Callable[[], CrowdFit]:
    """A model of crowd-kit, from votes in its long format.

    Args:
        name: "DawidSkene", "GLAD" or "MACE".
        votes: int[n, m], -1 = abstain; every item has a vote.
        k: number of classes.
        settings: of its constructor.

    Returns:
        A function that fits.

    Raises:
        PeerMissing: crowd-kit is not installed.
    """

    def load() -> Any:
        import crowdkit.aggregation

        return crowdkit.aggregation

    model = getattr(_imported("crowd-kit", load), name)
    triples = _triples(votes)

    def fit() -> CrowdFit:
        fitted = model(**settings).fit(triples)
        steps = len(getattr(fitted, "loss_history_", ())) or settings.get("n_iter", 0)
        table = fitted.probas_.reindex(columns=range(k), fill_value=0)
        return CrowdFit(np.asarray(table.sort_index()), steps)

    return fit


def metal_label_model(
    votes: Sequence[np.ndarray], cardinalities: Sequence[int], paths: Sequence[Sequence[int]]
) -> Callable[[], list[np.ndarray]]:
    """snorkel-metal's `MTLabelModel`, 500 steps; fitting returns a posterior for each task.

    Version 0.5.0 needs shims: `tensorboardX`, which it imports and we do not use, `Graph.node` of
    networkx, and a `TaskGraph` with the label vectors of a tree.

    Args:
        votes: for each task int[n, m], 0 = abstain or not on the path.
        cardinalities: of the tasks.
        paths: label vectors that can occur, 0 where a task is not on the path.

    Raises:
        PeerMissing: snorkel-metal cannot be imported.
    """
    sys.modules.setdefault("tensorboardX", types.SimpleNamespace(SummaryWriter=None))  # pyright: ignore

    def load() -> Any:
        import networkx
        from metal.multitask import MTLabelModel

        if not hasattr(networkx.Graph, "node"):  # its name until networkx 2.4
            networkx.Graph.node = property(lambda graph: graph.nodes)
        from metal.multitask.task_graph import TaskGraph

        return MTLabelModel, TaskGraph

    label_model, task_graph = _imported("snorkel-metal", load)

    class Graph(task_graph):
        def feasible_set(self):
            return (np.array(path) for path in paths)

    tables = [task.astype(np.int64) for task in votes]

    def fit() -> list[np.ndarray]:
        model = label_model(task_graph=Graph(list(cardinalities)), seed=0, verbose=False)
        model.train_model(tables, n_epochs=500, verbose=False, log_train_every=0)
        return model.predict_proba(tables)

    return fit


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

    def load() -> Any:
        from metal.multitask import MTEndModel
        from metal.multitask.task_graph import TaskGraph

        return MTEndModel, TaskGraph

    end_model, task_graph = _imported("snorkel-metal", load)

    class Graph(task_graph):
        def feasible_set(self):
            return iter(())

    return end_model, Graph


def torch_lstm(
    inner: np.ndarray, outer: np.ndarray, x: np.ndarray
) -> Callable[[], tuple[float, np.ndarray]]:
    """A training step of PyTorch's `LSTM` without biases; loss: mean square of the last state.

    Args:
        inner: float32[h, 4 h] recurrent weights; gates: input, forget, output, candidate.
        outer: float32[h, 4 h] input weights, likewise.
        x: float32[l, b, h].

    Returns:
        A step from the same weights, which returns the loss and the gradient of `inner`.

    Raises:
        PeerMissing: PyTorch is not installed.
    """

    def load() -> Any:
        import torch

        return torch

    torch = _imported("torch", load)
    h = len(inner)
    order = [0, 1, 3, 2]  # PyTorch has the candidate before the output gate

    def turned(weights: np.ndarray) -> np.ndarray:
        return weights.T.reshape(4, h, h)[order].reshape(4 * h, h)

    model = torch.nn.LSTM(h, h, bias=False)
    with torch.no_grad():
        model.weight_hh_l0.copy_(torch.tensor(turned(inner)))
        model.weight_ih_l0.copy_(torch.tensor(turned(outer)))
    inputs = torch.tensor(x)

    def step() -> tuple[float, np.ndarray]:
        model.zero_grad()
        loss = (model(inputs)[0][-1] ** 2).mean()
        loss.backward()
        grad = model.weight_hh_l0.grad.numpy().reshape(4, h, h)[order].reshape(4 * h, h).T
        return float(loss.detach()), grad

    return step
