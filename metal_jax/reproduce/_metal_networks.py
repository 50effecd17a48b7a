"""The networks of the MeTaL reproduction: inputs, training side by side, predictions on test.

All share encoder, widths and training settings. Early stopping never sees gold beyond a row's own:
a fifth of its hand labels, or a tenth of the soft-labelled items by their soft labels.

Legend: `n` items of `rows`, `b` test items, `s` leaf states, `r` seeds.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import labeling, network
from metal_jax._core.sharding import replica_mesh
from metal_jax.reproduce._problems import Problem
from metal_jax.task_tree import Task, TaskTree, node_sum

SHAPE = network.NetworkConfig()
"""Shape of every network but for the ablations."""

HELD_OUT = 0.1
"""Share of the soft-labelled items that early stopping looks at."""

SUPERVISED_HELD_OUT = 0.2
"""Share of the hand labels that early stopping looks at."""


class Networks:
    """One data set's inputs, and its networks as far as they have been asked for.

    Attributes:
        train: int[n], the training items with a vote.
    """

    def __init__(
        self, problem: Problem, num_seeds: int, config: network.FitConfig, key: jax.Array
    ) -> None:
        """Make features of the texts, on the vocabulary of train, and of the votes.

        Args:
            problem: data and votes.
            num_seeds: r, networks trained for each row.
            config: training settings of every network.
            key: of the held-out items and the seeds; consumed.
        """
        self._dataset, self._num_seeds, self._config = problem.dataset, num_seeds, config
        train = problem.dataset.splits["train"]
        bag = network.hashed_ngrams([item["text"] for item in problem.dataset.items])
        vocabulary = network.fit_vocabulary(_take(bag, train))
        num_features = len(vocabulary.ids)
        columns = labeling.used_columns(problem.votes[train])
        text = network.select_features(bag, vocabulary)
        self._inputs = {
            False: text,
            True: _join_votes(text, problem.votes, columns, num_features),
        }
        self._encoders = {
            False: network.embedding_bag(num_features),
            True: network.embedding_bag(num_features + columns.num_columns),
        }
        self._split_key, self._seed_key = jax.random.split(key)
        self.train = train[(problem.votes[train] >= 0).any(axis=1)]

    def multi_task(
        self,
        rows: np.ndarray,
        leaf_probs: np.ndarray,
        *,
        share: float = HELD_OUT,
        votes: bool = False,
        repeat_to: int = 0,
        shape: network.NetworkConfig = SHAPE,
        activity_weights: bool = True,
    ) -> np.ndarray:
        """Train the compiled network for each seed and predict the test items.

        Args:
            rows: int[n], the items to train on.
            leaf_probs: float[n, s], their soft labels.
            share: of the items, for early stopping.
            votes: whether it also reads the votes.
            repeat_to: repeat the items to this number, so that few of them and many share one
                compiled program; 0 for never.
            shape: widths, dropout, what the heads read.
            activity_weights: False to count every task's loss fully on every item, against the
                label's probability *given* that the task is active; a task that is impossible on
                an item gets uniform targets there.

        Returns:
            float[r, b, s].
        """
        tree = self._dataset.tree
        # Equal networks are one object: rows of the table share the compiled training program.
        net = network.build(tree, self._encoders[votes], shape)
        if activity_weights:
            params = self._fit(net, rows, leaf_probs, share, votes=votes, repeat_to=repeat_to)
        else:
            # In a forest of its tasks every task is a root, hence active on every item.
            forest = TaskTree.from_tasks([Task(task.name, task.labels) for task in tree.tasks])
            targets, _ = _conditionals(tree, leaf_probs)
            params = self._fit(net._replace(tree=forest), rows, targets, share, votes=votes)
        return self._predict(net, params, votes)

    def single_tasks(self, rows: np.ndarray, leaf_probs: np.ndarray) -> np.ndarray:
        """Train one network for each task on its own soft labels; the path is their product.

        Args:
            rows: int[n], the items to train on.
            leaf_probs: float[n, s], their soft labels.

        Returns:
            float[r, b, s].
        """
        tree, num_seeds = self._dataset.tree, self._num_seeds
        width = max(len(nodes) for nodes in tree.task_nodes)
        net = network.build(TaskTree.single(width), self._encoders[False], SHAPE)
        conditionals, active = _conditionals(tree, leaf_probs)
        targets = np.zeros((tree.num_tasks, len(rows), width), np.float32)
        for t, nodes in enumerate(tree.task_nodes):
            targets[t, :, : len(nodes)] = conditionals[:, nodes.start : nodes.stop]
        # All tasks and seeds train side by side; a narrower task just never sees its spare labels.
        params = self._fit(
            net,
            rows,
            np.repeat(targets, num_seeds, axis=0),
            HELD_OUT,
            weights=np.repeat(active.T, num_seeds, axis=0),
        )
        probs = self._predict(net, params, votes=False).reshape(
            tree.num_tasks, num_seeds, -1, width
        )
        node_probs = np.concatenate(
            [probs[t, ..., : len(nodes)] for t, nodes in enumerate(tree.task_nodes)], axis=-1
        )
        paths = [(*tree.ancestors(leaf), leaf) for leaf in tree.leaf_nodes.tolist()]
        return np.stack([node_probs[..., path].prod(axis=-1) for path in paths], axis=-1)

    def _fit(
        self,
        net: network.Network,
        rows: np.ndarray,
        leaf_probs: np.ndarray,
        share: float,
        *,
        weights: np.ndarray | None = None,
        votes: bool = False,
        repeat_to: int = 0,
    ) -> Any:
        """Parameters of r replicas, or of r for each of several groups with their own targets."""
        order = np.asarray(jax.random.permutation(self._split_key, len(rows)))
        cut = max(1, round(share * len(rows)))
        fitted, stopped = order[cut:], order[:cut]
        if repeat_to:
            fitted = np.resize(fitted, repeat_to)
            stopped = np.resize(stopped, repeat_to // 4)
        num_groups = leaf_probs.shape[0] // self._num_seeds if leaf_probs.ndim == 3 else 1
        keys = jax.random.split(self._seed_key, self._num_seeds)
        keys = keys[np.tile(np.arange(self._num_seeds), num_groups)]

        def examples(at: np.ndarray) -> network.Examples:
            weight = None if weights is None else weights[..., at]
            inputs = _take(self._inputs[votes], rows[at])
            return network.Examples(inputs, leaf_probs[..., at, :], weight)

        # Replicas on as many devices as there are, each with the same number or one less.
        mesh = replica_mesh(min(len(keys), jax.device_count()))
        result = network.fit(
            net, examples(fitted), examples(stopped), self._config, key=keys, mesh=mesh
        )
        return result.params

    def _predict(self, net: network.Network, params: Any, votes: bool) -> np.ndarray:
        """Leaf probabilities of the test items for every replica."""
        test = jax.tree.map(jnp.asarray, _take(self._inputs[votes], self._dataset.splits["test"]))
        params = jax.device_get(params)
        # One after the other: the gathered embeddings of all replicas at once may be gigabytes.
        num_replicas = len(jax.tree.leaves(params)[0])
        log_probs = [_leaf_log_probs(net, _take(params, r), test) for r in range(num_replicas)]
        return np.exp(np.stack(log_probs))


# One program for all rows of the table with the same network.
_leaf_log_probs = jax.jit(network.leaf_log_probs, static_argnums=0)


def _conditionals(tree: TaskTree, leaf_probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probability of each label given that its task is active, and of being active.

    Returns:
        float[n, N], uniform in a task where it cannot be active, and float[n, t].
    """
    node_probs = np.asarray(node_sum(tree, jnp.asarray(leaf_probs)))
    active = np.stack(
        [node_probs[:, nodes.start : nodes.stop].sum(axis=1) for nodes in tree.task_nodes], axis=1
    )
    sizes = np.array([len(nodes) for nodes in tree.task_nodes])
    of_task = active[:, tree.node_task]
    uniform = 1 / sizes[tree.node_task]
    conditionals = np.where(of_task > 0, node_probs / np.where(of_task > 0, of_task, 1), uniform)
    return conditionals.astype(np.float32), active


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


def _take(arrays: Any, index: np.ndarray | int) -> Any:
    return jax.tree.map(lambda x: x[index], arrays)
