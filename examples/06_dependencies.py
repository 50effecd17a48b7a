"""Labelling functions that copy one another.

    python examples/06_dependencies.py

Three keyword lists that were edited from one another do not give three opinions. A label model that
takes them for independent sees them agree, concludes that they are excellent, and lets them outvote
the rest. `discover_dependencies` finds such groups from the votes alone; `fit_with_dependencies`
counts them as what they are.

The votes are simulated, so that the truth is known: ten independent LFs and two copies of the
first, which differ from it on a tenth of the items.

Discovery has its limit, and it is one of all such methods: if the copies were the majority, nothing
in the votes would say that they are not the truth. Then only you can say so, by naming the edges.
"""

import jax
import numpy as np

from metal_jax import label_model, labeling
from metal_jax.task_tree import TaskTree

NUM_ITEMS, NUM_LFS, NUM_COPIES = 4_000, 10, 2


def main():
    """Make copies, find them, fit with and without them."""
    tree = TaskTree.single(2)
    data = labeling.synthetic_votes(
        jax.random.key(1), NUM_ITEMS, NUM_LFS, tree, theta_range=(0.2, 0.8)
    )
    random = np.random.default_rng(0)
    copies = np.repeat(data.votes[:, :1], NUM_COPIES, axis=1)
    changed = random.random(copies.shape) < 0.1
    copies = np.where(changed, random.integers(-1, 2, size=copies.shape), copies)
    votes = np.concatenate([data.votes, copies], axis=1)

    found = label_model.discover_dependencies(votes, tree)
    print("dependent pairs (10 and 11 are copies of 0):", found.edges.tolist())

    table = data.conditionals[0]  # of the copied LF: [vote or abstain, class]
    truth = np.trace(table[:2]) / table[:2].sum()
    for name, edges in (
        ("none", []),
        ("found", found.edges),
        ("known", [(0, 10), (0, 11), (10, 11)]),
    ):
        result = label_model.fit_with_dependencies(votes, tree, edges)
        labels = np.asarray(label_model.posterior(result, votes)).argmax(axis=1)
        right = np.mean(labels == data.leaves)
        trust = float(label_model.lf_accuracy(result)[0])
        print(f"dependencies {name}: labels right {right:.3f}; LF 0 {trust:.3f} (true {truth:.3f})")


if __name__ == "__main__":
    main()
