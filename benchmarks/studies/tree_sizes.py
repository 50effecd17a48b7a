"""Label model on trees of 4 to 2,000 leaves.

`python -m benchmarks.studies.tree_sizes [--out FILE]`.

Synthetic votes at leaves and at inner nodes, each vote right with probability 0.7 and otherwise at
a node that parts from the true path at a random depth. Time of a warm fit (EM to convergence),
milliseconds of one EM iteration, entries of the annotators' tables, and accuracy of the leaf and of
the root label beside majority vote. The full tables are left out where they pass the default limit.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, metrics
from metal_jax.task_tree import TaskTree, node_sum

NUM_ITEMS, NUM_LFS = 2000, 20
BRANCHES = ((2, 2), (2, 2, 3), (3, 4, 4), (4, 5, 5), (5, 6, 6), (5, 10, 10), (10, 10, 10))
LARGEST = (10, 10, 20)


def tree_of(branches: tuple[int, ...]) -> TaskTree:
    """A tree in which every label at depth h has `branches[h]` child labels."""

    def task(name: str, depth: int) -> dict:
        labels = [f"{name}.{i}" for i in range(branches[depth])]
        deeper = depth + 1 < len(branches)
        return {name: {v: task(v + "t", depth + 1) for v in labels} if deeper else labels}

    return TaskTree.from_dict(task("a", 0))


def votes_on(tree: TaskTree, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Votes int[n, m] and true leaves int[n]; every third LF votes one level above the leaves."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, tree.num_leaves, NUM_ITEMS)
    accuracy = np.clip(rng.normal(0.7, 0.1, NUM_LFS), 0.4, 0.95)
    paths = np.array([[*tree.ancestors(u), u] for u in tree.leaf_nodes.tolist()])
    depth = paths.shape[1]
    votes = np.full((NUM_ITEMS, NUM_LFS), -1)
    for lf in range(NUM_LFS):
        # Wrong votes: a random leaf among those that share a random part of the true path.
        shared = rng.integers(0, depth, NUM_ITEMS)
        other = np.array(
            [
                rng.choice(np.flatnonzero((paths[:, :h] == paths[y, :h]).all(1) & alive))
                if (alive := paths[:, h] != paths[y, h]).any()
                else y
                for y, h in zip(truth, shared, strict=True)
            ]
        )
        leaf = np.where(rng.random(NUM_ITEMS) < accuracy[lf], truth, other)
        level = depth - 2 if lf % 3 == 0 else depth - 1
        asked = rng.random(NUM_ITEMS) < 0.5
        votes[:, lf] = np.where(asked, paths[leaf, level], -1)
    return votes, truth


def run(branches: tuple[int, ...], max_table: int | None) -> dict:
    """One row of the table."""
    tree = tree_of(branches)
    votes, truth = votes_on(tree)
    config = label_model.MixtureConfig()
    if max_table is not None:
        config = label_model.MixtureConfig(max_table=max_table)
    result = label_model.fit(votes, tree, config=config)
    start = time.perf_counter()
    result = label_model.fit(votes, tree, config=config)
    seconds = time.perf_counter() - start
    gold = jnp.asarray(truth)
    root = jnp.asarray(tree.task_labels(tree.leaf_nodes[truth])[:, 0])

    def accuracies(probs: jax.Array) -> list[float]:
        top = node_sum(tree, probs)[:, : len(tree.tasks[0].labels)]
        return [float(metrics.expected_accuracy(p, g)) for p, g in ((probs, gold), (top, root))]

    leaf, top = accuracies(label_model.posterior(result, votes))
    majority = accuracies(jnp.asarray(label_model.majority_vote(votes, tree)))
    params = result.params
    return {
        "leaves": tree.num_leaves,
        "tables": "full" if params.log_vote.ndim == 2 else "tied",
        "entries": params.log_vote.size,
        "fit_seconds": seconds,
        "steps": result.num_steps,
        "ms_per_step": 1e3 * seconds / result.num_steps,
        "accuracy": leaf,
        "root_accuracy": top,
        "majority_accuracy": majority[0],
        "majority_root_accuracy": majority[1],
    }


def main() -> None:
    """Print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="up to 100 leaves")
    options = parser.parse_args()
    print(f"{NUM_ITEMS} items, {NUM_LFS} LFs, {jax.devices()[0].device_kind}\n")
    print("| leaves | tables | entries | fit, s | steps | ms a step | leaf | root | majority |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for branches in (*BRANCHES, LARGEST):
        if options.quick and np.prod(branches) > 100:
            continue
        limit = label_model.MixtureConfig().max_table
        full = np.prod(branches) ** 2 * NUM_LFS <= limit
        for max_table in (None, 0) if full else (0,):
            row = run(branches, max_table)
            rows.append(row)
            print(
                f"| {row['leaves']} | {row['tables']} | {row['entries']:,} "
                f"| {row['fit_seconds']:.2f} | {row['steps']} | {row['ms_per_step']:.1f} "
                f"| {row['accuracy']:.4f} | {row['root_accuracy']:.4f} "
                f"| {row['majority_accuracy']:.4f} / {row['majority_root_accuracy']:.4f} |",
                flush=True,
            )
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
