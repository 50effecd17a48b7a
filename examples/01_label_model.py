"""A label model in thirty lines.

    python examples/01_label_model.py

Weak supervision in its plainest form: instead of labelling items by hand, write small functions
that vote on them. Some are good, some are bad, none says which. The label model reads how often
they agree with one another, and from that alone learns how far to trust each.

The items are docstrings of Python's own standard library, to be sorted into the chapters and
modules of its manual: the true answer is known, and is used in the last two lines only, to judge.
"""

import numpy as np

from metal_jax import label_model, labeling, reproduce


def main():
    """Vote, fit, compare with majority vote."""
    # 1. Votes: int[items, LFs]. A vote is a node of the label tree, -1 abstains.
    problem = reproduce.stdlib_docs()  # 80 hand-written LFs, applied by `labeling.apply`
    dataset, votes = problem.dataset, problem.votes
    tree, gold = dataset.tree, dataset.gold
    print(f"{votes.shape[0]:,} items, {votes.shape[1]} LFs, {tree.num_leaves} classes")

    # 2. Fit. There is nothing to set, and no gold label.
    result = label_model.fit(votes, tree)
    probs = label_model.posterior(result, votes)  # float[items, classes]: soft labels

    # 3. How far is each LF to be trusted?
    trust = np.asarray(label_model.lf_accuracy(result))
    coverage = (votes >= 0).mean(axis=0)
    for j in np.argsort(-coverage)[:5]:
        name = problem.lf_names[j]
        print(f"  {name:<20} votes on {coverage[j]:.1%}, right in {trust[j]:.1%}, it thinks")
    print(labeling.format_summary(labeling.summarise_lfs(votes, tree))[:400], "...")

    # 4. Judge, on the items that somebody voted on.
    covered = (votes >= 0).any(axis=1)
    majority = label_model.majority_vote(votes, tree)
    for name, of in (("majority vote", majority), ("label model", probs)):
        best = tree.leaf_nodes[np.asarray(of).argmax(axis=1)]
        print(f"{name}: {np.mean(best[covered] == gold[covered]):.1%} of the modules right")


if __name__ == "__main__":
    main()
