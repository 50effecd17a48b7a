"""How a label model can know who is right, in one picture.

    python examples/03_how_it_works.py [PICTURE.png]

Nobody tells the label model the truth. What it sees is how often any two labelling functions agree.
Suppose that they err independently. Then two good ones agree often, a good one and a coin agree
half of the time, and two coins agree half of the time too: agreement is the product of two
qualities. With three LFs there are three agreements and three unknowns, and the qualities follow.
MeTaL's objective is this idea for any number of LFs and classes: it finds the rates `mu` for which
`mu P mu'` matches the observed overlaps of votes of different LFs.

The votes are drawn from a known model, so the picture can show the truth beside what was found:
left the observed overlaps, middle those that the fitted rates explain (the diagonal blocks, where
an LF meets itself, are not fitted), right the accuracy of each LF.
"""

import sys

import jax
import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from metal_jax import label_model, labeling
from metal_jax.task_tree import TaskTree


def main(picture="how_it_works.png"):
    """Draw votes, fit, plot."""
    tree = TaskTree.single(2)
    data = labeling.synthetic_votes(jax.random.key(3), 20_000, 10, tree)
    statistics = labeling.overlap_statistics(data.votes)  # all that the objective will see
    result = label_model.fit_overlap(statistics, tree)

    rates = np.exp(np.asarray(result.params.log_vote))  # P(vote c | class y), the `mu` of the paper
    balance = np.exp(np.asarray(result.params.log_prior))
    observed = statistics.counts / statistics.num_items
    explained = rates @ np.diag(balance) @ rates.T

    conditionals = data.conditionals  # [LF, vote or abstain, class]
    right = np.einsum("mss,s->m", conditionals[:, :2], data.class_balance)
    cast = np.einsum("mvs,s->m", conditionals[:, :2], data.class_balance)
    truth = right / cast
    found = np.asarray(label_model.lf_accuracy(result))
    print(f"largest error of an LF's accuracy: {np.abs(found - truth).max():.3f}")

    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    own = statistics.columns.lf[:, None] == statistics.columns.lf
    top = observed[~own].max()
    for axis, matrix, title in zip(
        axes, (observed, explained), ("observed overlaps", "explained overlaps"), strict=False
    ):
        axis.imshow(np.where(own, np.nan, matrix), vmin=0, vmax=top, cmap="cividis")
        ticks = range(0, len(matrix), 5)
        axis.set(title=title, xlabel="LF and vote", xticks=ticks, yticks=ticks)
    axes[2].plot([0.4, 1], [0.4, 1], color="0.7", linewidth=1)
    axes[2].scatter(truth, found, s=22)
    axes[2].set(title="accuracy of each LF", xlabel="true", ylabel="found without gold")
    figure.savefig(picture, dpi=150)
    print(f"wrote {picture}")


if __name__ == "__main__":
    main(*sys.argv[1:])
