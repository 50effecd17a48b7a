"""Label models by name, behind one call.

A new family is one line of `METHODS`: what its function accepts is read from its signature.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from metal_jax.label_model import FitResult
    from metal_jax.task_tree import TaskTree


class Method(NamedTuple):
    """A function of `label_model`, by name so that `--help` need not load it.

    `settings` are fields of `DawidSkeneConfig` that differ from its defaults.
    """

    function: str
    summary: str
    settings: dict[str, Any] | None = None


METHODS = {
    "default": Method("fit", "annotators and keyword LFs in one model; nothing to set"),
    "majority": Method("majority_vote", "every vote counts the same, ties are split"),
    "dawid_skene": Method("fit_dawid_skene", "a confusion table for each LF, by EM"),
    "class_conditional": Method(
        "fit_dawid_skene",
        "an accuracy of each LF for each class, abstains ignored",
        {"tying": "class", "informative_abstains": False},
    ),
    "one_coin": Method(
        "fit_dawid_skene",
        "one accuracy for each LF, abstains ignored",
        {"tying": "one_coin", "informative_abstains": False},
    ),
    "glad": Method("fit_glad", "one accuracy for each LF and a difficulty for each item"),
    "mace": Method("fit_mace", "LFs that answer or spam"),
    "overlap": Method("fit_overlap", "MeTaL's objective over pairwise overlaps"),
    "triplets": Method("fit_triplets", "closed form from triples of LFs (FlyingSquid)"),
}


class Fitted(NamedTuple):
    """A label model fitted to votes.

    Attributes:
        posterior: votes int[n, m] -> float[n, s]; given gold labels of the items, it agrees with
            them.
        lf_accuracy: float[m], NaN for an LF without votes.
        class_balance: float[s].
        converged: whether the fit came to rest.
        status: why it stopped, in words.
        num_steps: steps taken.
        num_restarts: fits started elsewhere as a check.
        restarts_agreeing: how many of them label alike.
        result: what the fit returned; None for majority vote.
    """

    posterior: Callable[..., np.ndarray]
    lf_accuracy: np.ndarray
    class_balance: np.ndarray
    converged: bool
    status: str
    num_steps: int
    num_restarts: int = 0
    restarts_agreeing: int = 0
    result: FitResult | None = None


def check_options(name: str, **given: Any) -> None:
    """Complain about an option that a method's function has no argument for."""
    for option, value in given.items():
        if value is not None and option not in _accepted(name):
            able = [other for other in METHODS if option in _accepted(other)]
            hint = f"those that do: {', '.join(able)}" if able else "no method does so far"
            flag = "--" + option.replace("_", "-")
            raise ValueError(f"{flag}: method {name!r} takes none; {hint}")


def takes(name: str, option: str) -> bool:
    """Whether a method's function has an argument."""
    return option in _accepted(name)


def fit(
    name: str,
    votes: np.ndarray,
    tree: TaskTree,
    *,
    class_balance: np.ndarray | None = None,
    gold: np.ndarray | None = None,
    item_weights: np.ndarray | None = None,
    seed: int = 0,
    restarts: bool = False,
) -> Fitted:
    """Fit a method.

    Args:
        name: one of `METHODS`.
        votes: int[n, m] node ids, at least one of them a vote.
        tree: the task tree.
        class_balance: float[s].
        gold: int[n] node ids, -1 = unknown.
        item_weights: float[n], how much each item counts.
        seed: for methods that draw random numbers.
        restarts: whether to start again elsewhere, as a check, where the method can.

    Returns:
        The fitted model.
    """
    import jax

    from metal_jax import label_model, labeling

    if name == "majority":
        return _majority(votes, tree)
    accepted = _accepted(name)
    options: dict[str, Any] = {
        "class_balance": class_balance,
        "gold": gold,
        "item_weights": item_weights,
    }
    options = {key: value for key, value in options.items() if value is not None}
    needed = "key" in accepted and accepted["key"].default is inspect.Parameter.empty
    if needed or (restarts and "key" in accepted):
        options["key"] = jax.random.key(seed)
    if settings := METHODS[name].settings:
        options["config"] = label_model.DawidSkeneConfig(**settings)
    data = labeling.overlap_statistics(votes) if "statistics" in accepted else votes
    result = _function(name)(data, tree, **options)

    def posterior(new: np.ndarray, **known: np.ndarray) -> np.ndarray:
        return np.asarray(label_model.posterior(result, new, **known))

    return Fitted(
        posterior=posterior,
        lf_accuracy=np.asarray(label_model.lf_accuracy(result)),
        class_balance=result.class_balance,
        converged=bool(result.converged),
        status=result.status,
        num_steps=int(result.num_steps),
        num_restarts=result.num_restarts,
        restarts_agreeing=result.restarts_agreeing,
        result=result,
    )


def _function(name: str) -> Callable[..., Any]:
    from metal_jax import label_model

    return getattr(label_model, METHODS[name].function)


def _accepted(name: str) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(_function(name)).parameters


def _majority(votes: np.ndarray, tree: TaskTree) -> Fitted:
    """Majority vote: LF accuracy is agreement with it, class balance is its mean."""
    from metal_jax import label_model, task_tree

    def posterior(new: np.ndarray) -> np.ndarray:
        return np.asarray(label_model.majority_vote(new, tree))

    probs = posterior(votes)
    mass = np.asarray(task_tree.node_sum(tree, probs))
    agreed = np.take_along_axis(mass, np.maximum(votes, 0).astype(np.int64), axis=1)
    with np.errstate(invalid="ignore"):
        accuracy = np.sum(agreed * (votes >= 0), 0) / np.sum(votes >= 0, 0)
    return Fitted(posterior, accuracy, probs.mean(0), True, "nothing to fit", 0)
