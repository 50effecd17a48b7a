"""The same work by peers in the same run: `python -m benchmarks --peers`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from benchmarks import peers
from benchmarks.contest import Contest, Work
from benchmarks.kernels.label_models import votes_of
from benchmarks.kernels.overlaps import random_votes
from benchmarks.network_contests import edit_distances, lstm_steps, network_training
from benchmarks.peers import PeerMissing
from benchmarks.studies.label_models import load
from metal_jax.label_model import (
    DawidSkeneConfig,
    FitResult,
    GladConfig,
    MaceConfig,
    OverlapConfig,
    fit,
    fit_dawid_skene,
    fit_glad,
    fit_mace,
    fit_overlap_from_votes,
    overlap_objective,
    posterior,
)
from metal_jax.labeling import overlap_statistics, synthetic_votes
from metal_jax.task_tree import TaskTree, from_metal_hierarchy, node_sum


def contests(sizes: str, data: Path | None) -> list[Contest]:
    """All contests; those on real votes where their folder is given."""
    if sizes == "ci":
        return [
            *_statistics(2_000, 6, 2, rounds=2),
            *_label_model("n=300 m=5 k=2", votes_of(300, 5, 2), 2, rounds=1),
            *_crowds(200, 6, 2, rounds=1),
            *lstm_steps(5, 4, 8, rounds=1),
            *network_training(3, rounds=1),
        ]
    n = 10_000 if sizes == "small" else 100_000
    found = [
        *_statistics(10 * n, 50, 2),
        *_statistics(n, 200, 5),
        *_label_model(f"n={n:,} m=50 k=2", votes_of(n, 50, 2), 2),
        *_label_model(f"n={n:,} m=50 k=5", votes_of(n, 50, 5), 5),
        *_multi_task(n // 10),
        *_crowds(n, 50, 2, rounds=3),
        *_crowds(n, 50, 5, rounds=3),
        *edit_distances(n // 100),
        *lstm_steps(50, 64, 32),
        *network_training(10),
        *network_training(100),
    ]
    if data is not None:
        for name, k in (("wrench_semeval", 9), ("crowd_20news", 20)):
            votes, _, _ = load(data / "votes", name)
            found += _label_model(name, votes, k, rounds=1, slow=True)
        votes, _, _ = load(data / "votes", "openi_cxr")
        found += [_glad("openi_cxr", votes, 2, 1)]
    return found


def _statistics(n: int, m: int, k: int, rounds: int = 9) -> list[Contest]:
    votes = random_votes(n, m, k)
    ready = (votes[:, :, None] == np.arange(k)).reshape(n, m * k).astype(np.float32)
    return [
        Contest(
            f"overlap statistics n={n:,} d={m * k}",
            "numpy, ready one-hot",
            lambda: overlap_statistics(votes).counts,
            lambda: lambda: ready.T @ ready,
            lambda a, b: {"largest difference": np.abs(a - b).max()},
            rounds,
        )
    ]


def _objectives(votes: np.ndarray, k: int, result: FitResult, other: peers.SnorkelFit) -> dict:
    """Our and Snorkel's values of the objective: of the solutions, and when made probabilities.

    Snorkel's are without the pull to the prior, as is ours of the probabilities.
    """
    statistics = overlap_statistics(votes)
    columns, balance = statistics.columns, jnp.full(k, 1 / k)
    at = columns.lf * k + columns.symbol
    off_block = jnp.asarray(columns.lf[:, None] != columns.lf)
    overlaps = jnp.asarray(statistics.overlaps(), jnp.float32)
    none = jnp.zeros(columns.num_columns)

    def value(rates: ArrayLike) -> float:
        mu = jnp.asarray(rates, jnp.float32)
        return float(overlap_objective(mu, overlaps, balance, off_block, mu, none))

    return {
        "our objective": float(result.objective_trace[-1]),
        "their objective": value(other.trained[at]),
        "ours as probabilities": value(jnp.exp(result.params.log_vote)),  # pyright: ignore[reportAttributeAccessIssue]
        "theirs as probabilities": value(other.conditional_rates[at]),
    }


def _label_model(
    name: str, votes: np.ndarray, k: int, rounds: int = 5, *, slow: bool = False
) -> list[Contest]:
    """Fits and posteriors against Snorkel and, for two classes, FlyingSquid.

    Where Snorkel is `slow` (minutes for its 500 steps) it takes them once, against the same
    objective, and 25 of them against the default; posteriors are left out.
    """
    tree = TaskTree.single(k)
    fitted = fit_overlap_from_votes(votes, tree)
    default = fit(votes, tree)

    def same_labels(a: Any, b: Any) -> dict[str, float]:
        return {"same labels": float(np.mean(np.argmax(a, 1) == np.argmax(b, 1)))}

    def fits(result: FitResult, other: peers.SnorkelFit) -> dict[str, float]:
        labels = same_labels(posterior(result, votes), other.posterior(votes.astype(np.int64)))
        if result.method != "overlap":
            return labels
        return labels | _objectives(votes, k, result, other)

    def with_params(result: FitResult) -> FitResult:
        jax.block_until_ready(result.params)
        return result

    config = OverlapConfig()
    found = [
        Contest(
            f"overlap fit {name}",
            "Snorkel, 500 steps",
            lambda: with_params(fit_overlap_from_votes(votes, tree, config=config)),
            lambda: peers.snorkel_fit(votes, k),
            fits,
            rounds,
        ),
        Contest(
            f"default fit {name}",
            "Snorkel, 25 of 500 steps, extrapolated" if slow else "Snorkel, 500 steps",
            lambda: with_params(fit(votes, tree)),
            lambda: peers.snorkel_fit(votes, k, 25 if slow else 500),
            fits,
            rounds,
            *((499 / 24, lambda: peers.snorkel_fit(votes, k, 1)) if slow else ()),
        ),
    ]
    if slow:
        return found

    def snorkel_posterior() -> Work:
        model, wide = peers.snorkel_fit(votes, k)(), votes.astype(np.int64)
        return lambda: model.posterior(wide)

    def flying_squid() -> Work:
        one = peers.flying_squid_fit(votes)()
        return lambda: _two_columns(one())

    found.append(
        Contest(
            f"posterior {name}",
            "Snorkel",
            lambda: posterior(fitted, votes),
            snorkel_posterior,
            same_labels,
            max(rounds, 5),
        )
    )
    found.append(
        Contest(
            f"posterior of the default {name}",
            "Snorkel",
            lambda: posterior(default, votes),
            snorkel_posterior,
            same_labels,
            rounds,
        )
    )
    if k == 2:
        found.append(
            Contest(
                f"posterior {name}",
                "FlyingSquid",
                lambda: posterior(fitted, votes),
                flying_squid,
                same_labels,
                1,
            )
        )
    return found


def _two_columns(of_one: np.ndarray) -> np.ndarray:
    return np.stack([1 - of_one, of_one], axis=1)


def _multi_task(n: int, m: int = 15) -> list[Contest]:
    """The task tree [2, 3, 3]: two labels, a task of three under each."""
    tree = from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)])
    votes = np.asarray(synthetic_votes(jax.random.key(0), n, m, tree).votes)
    paths = [
        (top + 1, *(label + 1 if task == top else 0 for task in range(2)))
        for top in range(2)
        for label in range(3)
    ]
    # Votes are leaves: the label vector of each.
    vectors = np.zeros((tree.num_nodes + 1, 3), np.int64)
    vectors[tree.leaf_nodes] = paths
    by_task = [vectors[:, task][np.where(votes < 0, -1, votes)] for task in range(3)]

    def ours() -> FitResult:
        result = fit_overlap_from_votes(votes, tree)
        jax.block_until_ready(result.params)
        return result

    def agreement(result: FitResult, others: list[np.ndarray]) -> dict[str, float]:
        nodes = np.asarray(node_sum(tree, posterior(result, votes)))
        top = nodes[:, list(tree.task_nodes[tree.roots[0]])]
        return {"same labels of the root": np.mean(top.argmax(1) == others[0].argmax(1))}

    return [
        Contest(
            f"overlap fit of a tree [2, 3, 3] n={n:,} m={m}",
            "snorkel-metal, 500 steps",
            ours,
            lambda: peers.metal_label_model(by_task, [2, 3, 3], paths),
            agreement,
            3,
        )
    ]


def _voted(votes: np.ndarray) -> np.ndarray:
    """The items that have a vote: others do not occur in crowd-kit's format."""
    return votes[(votes >= 0).any(axis=1)]


def _glad(name: str, votes: np.ndarray, k: int, rounds: int) -> Contest:
    votes, tree = _voted(votes), TaskTree.single(k)
    steps = 2  # after which crowd-kit stops on most data

    def ours() -> FitResult:
        result = fit_glad(votes, tree, config=GladConfig(max_steps=steps, tolerance=0.0))
        jax.block_until_ready(result.params)
        return result

    return Contest(
        f"GLAD, {steps} steps, {name}",
        "crowd-kit",
        ours,
        lambda: peers.crowd_kit("GLAD", votes, k, n_iter=steps),
        lambda a, b: _crowd_agreement(a, b, votes),
        rounds,
    )


def _crowd_agreement(
    result: FitResult, other: peers.CrowdFit, votes: np.ndarray
) -> dict[str, float]:
    probs = np.asarray(posterior(result, votes))
    return {
        "same labels": np.mean(probs.argmax(1) == other.posterior.argmax(1)),
        "mean difference": np.abs(probs - other.posterior).mean(),
        "our steps": result.num_steps,
        "their steps": other.steps,
    }


def _crowds(n: int, m: int, k: int, rounds: int) -> list[Contest]:
    """Dawid-Skene, GLAD and MACE against crowd-kit."""
    votes, tree = _voted(votes_of(n, m, k)), TaskTree.single(k)
    name = f"n={n:,} m={m} k={k}"
    dawid_skene = DawidSkeneConfig(
        all_labels=True, informative_abstains=False, prior_votes=1e-6, balance_items=1e-6
    )

    def with_params(result: FitResult) -> FitResult:
        jax.block_until_ready(result.params)
        return result

    def in_steps(steps: int) -> Work:
        config = dataclasses.replace(dawid_skene, max_steps=steps, tolerance=0.0)
        return lambda: with_params(fit_dawid_skene(votes, tree, config=config))

    try:  # its stopping rule cannot be switched off; ours takes as many steps
        steps = peers.crowd_kit("DawidSkene", votes, k, n_iter=30)().steps
    except PeerMissing:
        steps = 30
    items, hundreds = min(n, 2_000), min(n, 200)
    few = votes[:items]
    mace_steps, restarts = 50, 10
    mace = MaceConfig(max_steps=mace_steps, tolerance=0.0, num_restarts=restarts)
    return [
        Contest(
            f"Dawid-Skene, {steps} steps, {name}",
            "crowd-kit",
            in_steps(steps),
            lambda: peers.crowd_kit("DawidSkene", votes, k, n_iter=30),
            lambda a, b: _crowd_agreement(a, b, votes),
            rounds,
        ),
        _glad(f"n={hundreds:,} m={m} k={k}", votes[:hundreds], k, 1),
        Contest(
            f"MACE, {restarts} restarts of {mace_steps} steps, n={items:,} m={m} k={k}",
            "crowd-kit",
            lambda: with_params(fit_mace(few, tree, config=mace, key=jax.random.key(0))),
            lambda: peers.crowd_kit("MACE", few, k, n_iter=mace_steps, n_restarts=restarts),
            lambda a, b: _crowd_agreement(a, b, few),
            rounds,
        ),
    ]
