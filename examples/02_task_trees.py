"""Task trees: labels that depend on one another.

    python examples/02_task_trees.py

Many problems are several problems: is this scan abnormal, and if it is, how urgent? A task tree
states how they hang together. Every task hangs on one label of another and is asked only where that
label is true. From then on the tree does the book-keeping: labelling functions may vote at any
level, the label model makes one consistent distribution of all votes, and the network has a head
for each task.
"""

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax import label_model, network, task_tree

# A mapping from a task's name to its labels. A label that leads to another task has that task
# beneath it, the others have None; a list is short for labels that lead nowhere.
TREE = task_tree.TaskTree.from_dict(
    {
        "finding": {
            "normal": None,
            "abnormal": {
                "urgency": ["routine", "urgent"],
            },
        }
    }
)


def main():
    """Draw the tree, label at two levels, compile a network."""
    print(task_tree.draw(TREE))
    print("leaf states:", [TREE.node_names[node][1] for node in TREE.leaf_nodes])

    # A vote is a node. "abnormal" is an honest answer of one who cannot tell how urgent it is.
    normal, abnormal = TREE.node("finding", "normal"), TREE.node("finding", "abnormal")
    routine, urgent = TREE.node("urgency", "routine"), TREE.node("urgency", "urgent")
    votes = np.array(
        [
            [normal, normal, -1],
            [abnormal, urgent, urgent],
            [abnormal, routine, -1],
            [abnormal, -1, -1],
            [normal, routine, -1],  # they disagree
        ]
        * 20
    )
    result = label_model.fit(votes, TREE)
    leaf_probs = label_model.posterior(result, votes[:5])

    # Marginals of every label at every level: sums over the leaves beneath it. What a child task
    # says adds up to the probability of the label that it hangs on.
    node_probs = task_tree.node_sum(TREE, leaf_probs)
    for item, probs in enumerate(np.asarray(node_probs)):
        named = zip(TREE.node_names, probs, strict=True)
        print(item, "  ".join(f"{task}={label} {p:.2f}" for (task, label), p in named))
    below = node_probs[:, routine] + node_probs[:, urgent]
    assert jnp.allclose(below, node_probs[:, abnormal], atol=1e-6)

    # The network is compiled from the same tree; nothing else needs to be said.
    net = network.build(TREE, network.mlp((32,)))
    print(network.draw(net, jax.ShapeDtypeStruct((1, 10), jnp.float32)))


if __name__ == "__main__":
    main()
