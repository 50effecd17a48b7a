"""Snorkel MeTaL's table: does programming supervision beat labelling by hand?

Rows, for each data set, all judged on the same test items:

- supervised network on the first 50, 100, 200, 400 hand-labelled items;
- the labelling functions by majority vote, and by the label model;
- one network for each task, and one multi-task network, on the label model's soft labels;
- the same multi-task network on the gold labels of all training items, as the ceiling;
- "+ votes": the multi-task network, one supervised row and the ceiling again, reading the LFs'
  votes beside the text. An LF is a program that runs on new items too, and where LFs cover
  everything and read more than a bag of words, the text alone cannot reach the label model.

All networks share encoder, widths and training settings. Early stopping never sees gold beyond a
row's own: a fifth of its hand labels, or a tenth of the soft-labelled items by their soft labels.
The label model is fitted on training votes. Items without a vote are left out of training and count
in the test, where their vote is uniform.

Sources: Ratner et al., "Snorkel MeTaL", DEEM 2018 (the published gains); the data differ.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, labeling, metrics, network
from metal_jax._core.sharding import replica_mesh
from metal_jax.datasets import TextDataset
from metal_jax.reproduce._problems import Problem
from metal_jax.task_tree import TaskTree, node_sum

PUBLISHED = {"over_supervised": 11.2, "over_lfs": 9.5}
"""Published gains in points of accuracy (DEEM 2018, abstract): radiology and news, not our data."""

_HELD_OUT = 0.1
_SUPERVISED_HELD_OUT = 0.2
_VOTES_SIZE = 100
"""Hand labels of the supervised row that reads votes too."""


@dataclasses.dataclass(frozen=True)
class MetalConfig:
    """Settings of `run_metal`.

    Attributes:
        num_seeds: networks trained for each row; the split and the LFs stay fixed.
        sizes: numbers of hand labels of the supervised rows.
        fit: training settings of every network.
        comparisons: whether to train what the multi-task network is compared with beside the hand
            labels: single-task networks, all gold labels, the supervised network with votes.
        seed: of the root key.
    """

    num_seeds: int = 5
    sizes: tuple[int, ...] = (50, 100, 200, 400)
    fit: network.FitConfig = network.FitConfig()
    comparisons: bool = True
    seed: int = 0


Progress = Callable[[str], None]
"""Called with the name of each step before it starts."""


def gold_leaf_probs(tree: TaskTree, gold: np.ndarray) -> np.ndarray:
    """Gold nodes as soft labels: all mass beneath the node, spread as labels of a task are.

    Args:
        tree: the task tree.
        gold: int[n] node ids, all known.

    Returns:
        float[n, s].
    """
    balance = label_model.uniform_class_balance(tree)
    mass = tree.covers[gold] * balance
    return mass / mass.sum(axis=1, keepdims=True)


def score(dataset: TextDataset, leaf_probs: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Accuracy of each task where gold makes it active, their mean, and of the whole path.

    Args:
        dataset: tree and gold.
        leaf_probs: float[b, s], predictions for `rows`; ties are split.
        rows: int[b], the items judged.

    Returns:
        `"mean over tasks"`, `"path"` and one entry for each task; NaN without gold.
    """
    tree, gold = dataset.tree, dataset.gold[rows]
    node_probs = np.asarray(node_sum(tree, jnp.asarray(leaf_probs)))
    labels = tree.task_labels(gold)
    # Every task padded to the widest: one compilation for all.
    width = max(len(nodes) for nodes in tree.task_nodes)
    padded = np.full((tree.num_tasks, len(rows), width), -1.0, node_probs.dtype)
    for t, nodes in enumerate(tree.task_nodes):
        padded[t, :, : len(nodes)] = node_probs[:, nodes.start : nodes.stop]
    accuracy = np.asarray(_expected_accuracy(padded, labels.T.astype(np.int32)))
    path = metrics.expected_accuracy(jnp.asarray(leaf_probs), jnp.asarray(tree.node_leaf[gold]))
    result = {"mean over tasks": float(np.nanmean(accuracy)), "path": float(path)}
    return result | {task.name: float(a) for task, a in zip(tree.tasks, accuracy, strict=True)}


_expected_accuracy = jax.jit(jax.vmap(metrics.expected_accuracy))


class _Runner:
    """One data set's inputs, networks and bookkeeping."""

    def __init__(self, problem: Problem, config: MetalConfig, key: jax.Array):
        self.problem, self.config, self.dataset = problem, config, problem.dataset
        self.splits = problem.dataset.splits
        bag = network.hashed_ngrams([item["text"] for item in self.dataset.items])
        train = self.splits["train"]
        vocabulary = network.fit_vocabulary(_take(bag, train))
        self.inputs = network.select_features(bag, vocabulary)
        encoder = network.embedding_bag(len(vocabulary.ids))
        columns = labeling.used_columns(problem.votes[train])
        self.inputs_and_votes = _join_votes(
            self.inputs, problem.votes, columns, len(vocabulary.ids)
        )
        with_votes = network.embedding_bag(len(vocabulary.ids) + columns.num_columns)
        self.network_of_votes = network.build(self.dataset.tree, with_votes)
        # Built once: every row of the table shares the compiled training program.
        self.network = network.build(self.dataset.tree, encoder)
        width = max(len(nodes) for nodes in self.dataset.tree.task_nodes)
        self.single_network = network.build(TaskTree.single(width), encoder)
        self.split_key, self.seed_key = jax.random.split(key)
        covered = (problem.votes[train] >= 0).any(axis=1)
        self.train = train[covered]

    def held_out(self, rows: np.ndarray, share: float) -> tuple[np.ndarray, np.ndarray]:
        """Positions to train on and to stop by, split at random."""
        order = np.asarray(jax.random.permutation(self.split_key, len(rows)))
        cut = max(1, round(share * len(rows)))
        return order[cut:], order[:cut]

    def fit(
        self,
        net: network.Network,
        rows: np.ndarray,
        leaf_probs: np.ndarray,
        *,
        share: float,
        weights: np.ndarray | None = None,
        num_groups: int = 1,
        repeat_to: int = 0,
        votes: bool = False,
    ) -> Any:
        """Parameters of `num_groups x num_seeds` replicas; targets may differ between groups."""
        fitted, stopped = self.held_out(rows, share)
        if repeat_to:  # few labels: repeat them, so that all sizes share one compiled program
            fitted = np.resize(fitted, repeat_to)
            stopped = np.resize(stopped, repeat_to // 4)
        keys = jax.random.split(self.seed_key, self.config.num_seeds)
        keys = keys[np.tile(np.arange(self.config.num_seeds), num_groups)]

        def examples(at: np.ndarray) -> network.Examples:
            weight = None if weights is None else weights[..., at]
            inputs = self.inputs_and_votes if votes else self.inputs
            return network.Examples(_take(inputs, rows[at]), leaf_probs[..., at, :], weight)

        # Replicas on as many devices as there are, each with the same number or one less.
        mesh = replica_mesh(min(len(keys), jax.device_count()))
        result = network.fit(
            net, examples(fitted), examples(stopped), self.config.fit, key=keys, mesh=mesh
        )
        return result.params

    def judge(self, predictions: np.ndarray) -> dict[str, dict[str, list[float]]]:
        """Scores of r predictions float[r, b, s] on all test items and on the covered ones."""
        test = self.splits["test"]
        covered = (self.problem.votes[test] >= 0).any(axis=1)
        out: dict[str, dict[str, list[float]]] = {}
        for name, mask in (("all", np.ones(len(test), bool)), ("covered", covered)):
            scores = [score(self.dataset, p[mask], test[mask]) for p in predictions]
            out[name] = {field: [s[field] for s in scores] for field in scores[0]}
        return out

    def multi_task(self, rows: np.ndarray, leaf_probs: np.ndarray, **options: Any) -> np.ndarray:
        """Train the compiled network and predict the test items: float[seeds, b, s]."""
        net = self.network_of_votes if options.get("votes") else self.network
        return self.predict(net, self.fit(net, rows, leaf_probs, **options))

    def predict(self, net: network.Network, params: Any) -> np.ndarray:
        """Leaf probabilities of the test items for every replica."""
        inputs = self.inputs_and_votes if net is self.network_of_votes else self.inputs
        inputs = jax.tree.map(jnp.asarray, _take(inputs, self.splits["test"]))
        predict = jax.jit(jax.vmap(lambda p: network.leaf_log_probs(net, p, inputs)))
        return np.exp(np.asarray(predict(params)))

    def single_tasks(self, rows: np.ndarray, leaf_probs: np.ndarray) -> np.ndarray:
        """One network for each task on its own soft labels; the path is their product."""
        tree, config = self.dataset.tree, self.config
        node_probs = np.asarray(node_sum(tree, jnp.asarray(leaf_probs)))
        width = self.single_network.tree.num_leaves
        targets = np.zeros((tree.num_tasks, len(rows), width), np.float32)
        for t, nodes in enumerate(tree.task_nodes):
            targets[t, :, : len(nodes)] = node_probs[:, nodes.start : nodes.stop]
        active = targets.sum(axis=2)
        targets = targets / np.maximum(active, 1e-9)[..., None]
        targets[..., 0] += targets.sum(axis=2) == 0  # weight 0: any distribution will do
        # All tasks and seeds train side by side; a narrower task just never sees its spare labels.
        repeat = config.num_seeds
        params = self.fit(
            self.single_network,
            rows,
            np.repeat(targets, repeat, axis=0),
            weights=np.repeat(active, repeat, axis=0),
            share=_HELD_OUT,
            num_groups=tree.num_tasks,
        )
        probs = self.predict(self.single_network, params)
        probs = probs.reshape(tree.num_tasks, repeat, -1, width)
        conditionals = np.concatenate(
            [probs[t, ..., : len(nodes)] for t, nodes in enumerate(tree.task_nodes)], axis=-1
        )
        paths = [(*tree.ancestors(leaf), leaf) for leaf in tree.leaf_nodes.tolist()]
        return np.stack([conditionals[..., path].prod(axis=-1) for path in paths], axis=-1)


def _join_votes(
    bag: network.BagOfFeatures, votes: np.ndarray, columns: labeling.Columns, num_features: int
) -> network.BagOfFeatures:
    """Votes as further features, of unit length like the text's; silence adds nothing."""
    codes = np.asarray(labeling.column_ids(votes, columns))
    cast = np.sort(np.where(codes >= 0, codes, columns.num_columns), axis=1)
    cast = cast[:, : max(1, int((codes >= 0).sum(axis=1).max()))]
    exists = cast < columns.num_columns
    length = np.sqrt(np.maximum(exists.sum(axis=1, keepdims=True), 1))
    ids = np.where(exists, num_features + cast, 0).astype(np.int32)
    weights = (exists / length).astype(np.float32)
    return network.BagOfFeatures(
        np.concatenate([bag.ids, ids], axis=1), np.concatenate([bag.weights, weights], axis=1)
    )


def _take(inputs: Any, rows: np.ndarray) -> Any:
    return jax.tree.map(lambda x: x[rows], inputs)


def run_metal(
    problem: Problem, config: MetalConfig = MetalConfig(), *, on_progress: Progress | None = None
) -> dict[str, Any]:
    """Run the protocol on one data set.

    Args:
        problem: data and votes.
        config: seeds, sizes, training settings.
        on_progress: told what comes next.

    Returns:
        A JSON-able record: data set, sizes, and for each row the scores of every seed on `"all"`
        and on `"covered"` test items.
    """

    def say(step: str) -> None:
        if on_progress is not None:
            on_progress(f"{dataset.name}: {step}")

    dataset, votes = problem.dataset, problem.votes
    tree, splits = dataset.tree, dataset.splits
    say("features")
    runner = _Runner(problem, config, jax.random.key(config.seed))
    rows: dict[str, Any] = {}

    sizes = [size for size in config.sizes if size <= len(splits["small"])]

    def supervised(size: int, **options: bool) -> dict:
        labelled = splits["small"][:size]
        gold = gold_leaf_probs(tree, dataset.gold[labelled])
        predictions = runner.multi_task(
            labelled, gold, share=_SUPERVISED_HELD_OUT, repeat_to=max(sizes), **options
        )
        return runner.judge(predictions)

    for size in sizes:
        say(f"supervised network, {size} labels")
        rows[f"supervised, {size} labels"] = supervised(size)

    say("label model")
    test_votes = votes[splits["test"]]
    majority = np.asarray(label_model.majority_vote(test_votes, tree))
    rows["LFs, majority vote"] = runner.judge(majority[None])
    fit = label_model.fit(votes[splits["train"]], tree)
    rows["LFs, label model"] = runner.judge(
        np.asarray(label_model.posterior(fit, test_votes))[None]
    )
    soft = np.asarray(label_model.posterior(fit, votes[runner.train]))

    if config.comparisons:
        say(f"{tree.num_tasks} single-task networks")
        rows["single-task networks"] = runner.judge(runner.single_tasks(runner.train, soft))
    gold = gold_leaf_probs(tree, dataset.gold[runner.train])
    for suffix, votes_too in (("", False), (" + votes", True)):
        say(f"multi-task network{suffix}")
        options = {"share": _HELD_OUT, "votes": votes_too}
        predictions = runner.multi_task(runner.train, soft, **options)
        rows[f"multi-task network{suffix}"] = runner.judge(predictions)
        if config.comparisons:
            say(f"multi-task network{suffix} on all gold labels")
            predictions = runner.multi_task(runner.train, gold, **options)
            rows[f"all gold labels{suffix}"] = runner.judge(predictions)
    if config.comparisons and _VOTES_SIZE in sizes:
        say(f"supervised network + votes, {_VOTES_SIZE} labels")
        rows[f"supervised, {_VOTES_SIZE} + votes"] = supervised(_VOTES_SIZE, votes=True)
    covered = (test_votes >= 0).any(axis=1)
    return {
        "data": dataset.name,
        "note": problem.note,
        "items": {name: len(index) for name, index in splits.items()},
        "trained_on": len(runner.train),
        "test_coverage": float(covered.mean()),
        "tasks": [task.name for task in tree.tasks],
        "num_leaves": tree.num_leaves,
        "num_lfs": votes.shape[1],
        "label_model": {"converged": fit.converged, "status": fit.status},
        "seeds": config.num_seeds,
        "rows": rows,
    }


def summarise_metal(record: dict[str, Any]) -> dict[str, float]:
    """The paper's two gains, and the honest measure, from a record of `run_metal`.

    Args:
        record: from `run_metal`.

    Returns:
        Points of accuracy, averaged over tasks on all test items: `"over_lfs"` (multi-task network
        minus majority vote), `"over_supervised_<size>"`, and `"gap_recovered"`, the percentage of
        the gap between majority vote and the all-gold network that the multi-task network closes
        (NaN where all gold labels do not beat the vote, absent without that row); each also with
        `" + votes"`, both networks reading votes.
    """

    def mean(row: str) -> float:
        return 100 * float(np.mean(record["rows"][row]["all"]["mean over tasks"]))

    lfs = mean("LFs, majority vote")
    gains = {}
    for suffix in ("", " + votes"):
        ours, ceiling = mean(f"multi-task network{suffix}"), f"all gold labels{suffix}"
        gains[f"over_lfs{suffix}"] = ours - lfs
        if ceiling in record["rows"]:
            gap = mean(ceiling) - lfs
            gains[f"gap_recovered{suffix}"] = 100 * (ours - lfs) / gap if gap > 0 else float("nan")
        for row in record["rows"]:
            if row.startswith("supervised") and row.endswith(suffix or "labels"):
                size = row.removeprefix("supervised, ").split()[0]
                gains[f"over_supervised_{size}{suffix}"] = ours - mean(row)
    return gains
