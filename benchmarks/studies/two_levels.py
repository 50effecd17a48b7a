"""What coarse votes do for fine labels, and fine votes for coarse ones: real votes on trees.

`python -m benchmarks.studies.two_levels [--data FOLDER]`. Fitted without gold by the default model:
with the fine votes alone, with the coarse ones alone, and with all of them; majority vote down the
tree on all of them beside it. Accuracy over the test items that have any vote, ties split.
`crowd_20news`: a worker's vote is coarse where the boxes that he ticked agree on the group only, so
that the same worker votes at both levels; TREC: the package's fine LFs and the coarse ones that
come with the data.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, metrics, reproduce
from metal_jax.task_tree import TaskTree, node_sum


def newsgroups(folder: Path) -> tuple[TaskTree, np.ndarray, np.ndarray, np.ndarray]:
    """Tree, votes to fit on and to judge on, gold nodes."""
    data = np.load(folder / "votes" / "crowd_20news" / "all.npz")
    coarse_of = {int(y): int(c) for y, c in zip(data["Y"], data["Y_coarse"], strict=True)}
    groups = {
        f"group {c}": {f"topic {c}": [f"class {y}" for y in sorted(coarse_of) if coarse_of[y] == c]}
        for c in sorted(set(coarse_of.values()))
    }
    tree = TaskTree.from_dict({"group": groups})
    coarse = np.array([tree.node("group", f"group {c}") for c in range(len(groups))])
    fine = np.array([tree.node(f"topic {coarse_of[y]}", f"class {y}") for y in range(20)])
    votes_fine = np.where(data["L"] >= 0, fine[data["L"]], -1)
    votes_coarse = np.where(data["L_coarse"] >= 0, coarse[data["L_coarse"]], -1)
    votes = np.where(votes_fine >= 0, votes_fine, votes_coarse)
    return tree, votes, votes, fine[data["Y"]]


def trec(folder: Path) -> tuple[TaskTree, np.ndarray, np.ndarray, np.ndarray]:
    """As `newsgroups`."""
    problem = next(p for p in reproduce.load_problems(folder) if p.dataset.name == "trec")
    data, votes = problem.dataset, problem.votes
    train, test = (data.splits[name] for name in ("train", "test"))
    return data.tree, votes[train], votes[test], data.gold[test]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("METAL_JAX_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    options = parser.parse_args()
    print("| data | votes | fine label | coarse label |\n|---|---|---|---|")
    for name, reader in (("crowd_20news", newsgroups), ("TREC", trec)):
        tree, train, test, gold = reader(options.data)
        depth = np.array([len(tree.ancestors(u)) for u in range(tree.num_nodes)] + [-1])
        judged = (test >= 0).any(axis=1)
        leaf = jnp.asarray(np.where(judged, tree.node_leaf[gold], -1))
        root = jnp.asarray(np.where(judged, tree.task_labels(gold)[:, 0], -1))
        width = len(tree.tasks[0].labels)
        for title, levels in (("fine", [1]), ("coarse", [0]), ("both", [0, 1])):
            fitted_to, labelled = (
                np.where(np.isin(depth[votes], levels), votes, -1) for votes in (train, test)
            )
            result = label_model.fit(fitted_to, tree)
            rows = {title: label_model.posterior(result, labelled)}
            if title == "both":
                rows["both, majority vote"] = label_model.majority_vote(test, tree)
            for label, probs in rows.items():
                top = node_sum(tree, probs)[:, :width]
                fine_accuracy = float(metrics.expected_accuracy(jnp.asarray(probs), leaf))
                coarse_accuracy = float(metrics.expected_accuracy(top, root))
                print(f"| {name} | {label} | {fine_accuracy:.4f} | {coarse_accuracy:.4f} |")


if __name__ == "__main__":
    main()
