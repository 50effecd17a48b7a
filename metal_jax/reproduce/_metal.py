"""Snorkel MeTaL's table: does programming supervision beat labelling by hand?

Rows, for each data set, all judged on the same test items:

- supervised network on the first 25, 50, 100, 200, 400, 800 hand-labelled items, as many as the
  data set has;
- the labelling functions by majority vote, and by the label model;
- one network for each task, and one multi-task network, on the label model's soft labels;
- the same multi-task network on the gold labels of all training items, as the ceiling;
- "+ votes": the multi-task network, one supervised row and the ceiling again, reading the LFs'
  votes beside the text. An LF is a program that runs on new items too, and where LFs cover
  everything and read more than a bag of words, the text alone cannot reach the label model;
- if asked for, ablations: the multi-task network with one of its parts changed.

All networks share encoder, widths and training settings. Early stopping never sees gold beyond a
row's own: a fifth of its hand labels, or a tenth of the soft-labelled items by their soft labels.
The label model is fitted on training votes. Items without a vote are left out of training and count
in the test, where their vote is uniform.

Sources: Ratner et al., "Snorkel MeTaL", DEEM 2018 (the published gains); the data differ.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from metal_jax import label_model, network
from metal_jax._core.steps import OnProgress, Remember, make_again, no_progress
from metal_jax.reproduce._metal_networks import SHAPE, SUPERVISED_HELD_OUT, Networks
from metal_jax.reproduce._metal_scores import compare_hits, gold_leaf_probs, item_hits, score_hits
from metal_jax.reproduce._problems import Problem

PUBLISHED = {"over_supervised": 11.2, "over_lfs": 9.5}
"""Published gains in points of accuracy (DEEM 2018, abstract): radiology and news, not our data."""

MULTI_TASK = "multi-task network"
SINGLE_TASK = "single-task networks"
_VOTES_SIZE = 100
"""Hand labels of the supervised row that reads votes too."""
_SHAPES = {
    "all heads at the top": dataclasses.replace(SHAPE, attach="top"),
    "parent's logits passed": dataclasses.replace(SHAPE, pass_parent="logits"),
    "no parent passing": dataclasses.replace(SHAPE, pass_parent="none"),
}
"""Ablations that change the shape of the network."""


@dataclasses.dataclass(frozen=True)
class MetalConfig:
    """Settings of `run_metal`.

    Attributes:
        num_seeds: networks trained for each row; the split and the LFs stay fixed.
        sizes: numbers of hand labels of the supervised rows; those beyond the data set's own
            number are left out.
        fit: training settings of every network.
        comparisons: whether to train what the multi-task network is compared with beside the hand
            labels: single-task networks, all gold labels, the supervised network with votes.
        ablations: whether to train the multi-task network with one part changed at a time: all
            heads on the top layer of the trunk; the parent's logits passed in place of its
            probabilities, or nothing; hard labels (the most probable leaf of the posterior, ties
            shared); no activity weights (every task's loss counts fully on every item, against the
            label's probability given that the task is active); items without a vote kept, with the
            posterior that the label model gives them, where there are any.
        seed: of the root key.
    """

    num_seeds: int = 5
    sizes: tuple[int, ...] = (25, 50, 100, 200, 400, 800)
    fit: network.FitConfig = network.FitConfig()
    comparisons: bool = True
    ablations: bool = False
    seed: int = 0


def run_metal(
    problem: Problem,
    config: MetalConfig = MetalConfig(),
    *,
    on_progress: OnProgress = no_progress,
    remember: Remember = make_again,
) -> dict[str, Any]:
    """Run the protocol on one data set.

    Args:
        problem: data and votes.
        config: seeds, sizes, training settings.
        on_progress: told what comes next.
        remember: may keep the predictions of each row, so that a run that is interrupted need not
            train its networks again.

    Returns:
        A JSON-able record: data set, sizes, and for each row the scores of every seed on `"all"`
        and on `"covered"` test items; with `comparisons` also `"significance"`, how sure it is
        that one multi-task network is better than a network for each task.
    """
    dataset, votes = problem.dataset, problem.votes
    tree, splits = dataset.tree, dataset.splits
    sizes = [size for size in config.sizes if size <= len(splits["small"])]
    num_steps, done = _num_steps(problem, config, sizes), 0

    def say(step: str) -> None:
        nonlocal done
        on_progress(f"{dataset.name}: {step}", done, num_steps)
        done += 1

    say("features")
    networks = Networks(problem, config.num_seeds, config.fit, jax.random.key(config.seed))
    test_votes = votes[splits["test"]]
    covered = (test_votes >= 0).any(axis=1)
    rows: dict[str, Any] = {}

    def judge(row: str, predict: Callable[[], np.ndarray]) -> np.ndarray:
        """Keep the scores of float[r, b, s]; the hits float[r, t + 1, b] of all test items."""
        kept = remember(f"{dataset.name}: {row}", lambda: {"predictions": predict()})
        predictions = kept["predictions"]
        hits = np.stack([item_hits(dataset, p, splits["test"]) for p in predictions])
        rows[row] = {}
        for name, part in (("all", hits), ("covered", hits[..., covered])):
            scores = [score_hits(tree, of_seed) for of_seed in part]
            rows[row][name] = {field: [s[field] for s in scores] for field in scores[0]}
        return hits

    def supervised(size: int, *, votes_too: bool = False) -> np.ndarray:
        labelled = splits["small"][:size]
        gold = gold_leaf_probs(tree, dataset.gold[labelled])
        options: dict[str, Any] = {"share": SUPERVISED_HELD_OUT, "repeat_to": max(sizes)}
        return networks.multi_task(labelled, gold, votes=votes_too, **options)

    for size in sizes:
        say(f"supervised network, {size} labels")
        judge(f"supervised, {size} labels", functools.partial(supervised, size))

    say("label model")
    majority = np.asarray(label_model.majority_vote(test_votes, tree))
    judge("LFs, majority vote", lambda: majority[None])
    fit = label_model.fit(votes[splits["train"]], tree)

    def posterior(of: np.ndarray) -> np.ndarray:
        return np.asarray(label_model.posterior(fit, votes[of]))

    judge("LFs, label model", lambda: posterior(splits["test"])[None])
    soft = posterior(networks.train)

    significance = {}
    single = None
    if config.comparisons:
        say(f"{tree.num_tasks} {SINGLE_TASK}")
        single = judge(SINGLE_TASK, lambda: networks.single_tasks(networks.train, soft))
    gold = gold_leaf_probs(tree, dataset.gold[networks.train])
    for suffix, votes_too in (("", False), (" + votes", True)):
        say(f"{MULTI_TASK}{suffix}")
        train = functools.partial(networks.multi_task, networks.train, votes=votes_too)
        hits = judge(f"{MULTI_TASK}{suffix}", functools.partial(train, soft))
        if single is not None and not votes_too:
            significance = {"significance": compare_hits(hits, single, config.seed)}
        if config.comparisons:
            say(f"{MULTI_TASK}{suffix} on all gold labels")
            judge(f"all gold labels{suffix}", functools.partial(train, gold))
    if config.comparisons and _VOTES_SIZE in sizes:
        say(f"supervised network + votes, {_VOTES_SIZE} labels")
        predict = functools.partial(supervised, _VOTES_SIZE, votes_too=True)
        judge(f"supervised, {_VOTES_SIZE} + votes", predict)
    if config.ablations:
        for name, train in _ablations(networks, soft, splits["train"], posterior).items():
            say(f"{MULTI_TASK}, {name}")
            judge(f"{MULTI_TASK}, {name}", train)
    return {
        "data": dataset.name,
        "note": problem.note,
        "items": {name: len(index) for name, index in splits.items()},
        "trained_on": len(networks.train),
        "test_coverage": float(covered.mean()),
        "tasks": [task.name for task in tree.tasks],
        "num_leaves": tree.num_leaves,
        "num_lfs": votes.shape[1],
        "label_model": {"converged": fit.converged, "status": fit.status},
        "seeds": config.num_seeds,
        "rows": rows,
        **significance,
    }


def _num_steps(problem: Problem, config: MetalConfig, sizes: list[int]) -> int:
    """How many steps `run_metal` tells of."""
    number = 4 + len(sizes)  # features, the label model, two multi-task networks
    if config.comparisons:
        number += 3 + (_VOTES_SIZE in sizes)
    if config.ablations:
        voted = (problem.votes[problem.dataset.splits["train"]] >= 0).any(axis=1)
        number += len(_SHAPES) + 2 + (not voted.all())
    return number


def _ablations(
    networks: Networks,
    soft: np.ndarray,
    train: np.ndarray,
    posterior: Callable[[np.ndarray], np.ndarray],
) -> dict[str, Callable[[], np.ndarray]]:
    """How to train the multi-task network with one part changed, and predict float[r, b, s]."""
    rows = networks.train

    def hard_labels() -> np.ndarray:
        hard = soft == soft.max(axis=1, keepdims=True)
        return networks.multi_task(rows, hard / hard.sum(axis=1, keepdims=True))

    ablations: dict[str, Callable[[], np.ndarray]] = {
        name: functools.partial(networks.multi_task, rows, soft, shape=shape)
        for name, shape in _SHAPES.items()
    }
    ablations["hard labels"] = hard_labels
    ablations["no activity weights"] = functools.partial(
        networks.multi_task, rows, soft, activity_weights=False
    )
    if len(rows) < len(train):
        ablations["uncovered items kept"] = lambda: networks.multi_task(train, posterior(train))
    return ablations
