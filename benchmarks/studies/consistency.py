"""Error against number of items.

`python -m benchmarks.studies.consistency [--max-items N] [--out FILE]`.

Votes drawn from the model (`labeling.synthetic_votes`, 10 LFs). Mean absolute error of the
conditional probabilities P(vote | Y) over all (LF, node, leaf), averaged over seeds, and the slope
of its logarithm against log n: -1/2 for a consistent estimator at the usual rate. Dawid-Skene takes
abstains as evidence, as the generator makes them; the default model takes them as silence, so it is
judged on P(vote | Y, votes at all), where it has a floor.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import jax
import numpy as np

from metal_jax import label_model
from metal_jax.labeling import synthetic_votes
from metal_jax.task_tree import TaskTree

NUM_LFS = 10
TREES = {
    "k = 2": TaskTree.single(2),
    "k = 3": TaskTree.single(3),
    "k = 5": TaskTree.single(5),
    "three levels, 6 leaves": TaskTree.from_dict(
        {"a": {"x": {"b": {"u": {"c": ["p", "q"]}, "v": None}}, "y": {"d": ["r", "s", "t"]}}}
    ),
}
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def errors(tree: TaskTree, num_items: int, seed: int) -> tuple[float, float]:
    """Mean absolute error of Dawid-Skene and of the default model."""
    data = synthetic_votes(jax.random.key(seed), num_items, NUM_LFS, tree)
    abstain = data.conditionals[:, -1]
    config = label_model.DawidSkeneConfig(tolerance=1e-3)
    found = label_model.fit_dawid_skene(data.votes, tree, config=config)
    columns = found.columns
    leaf = tree.node_leaf[columns.symbol]
    truth = data.conditionals[columns.lf, leaf]
    dawid_skene = np.abs(np.exp(found.params.log_vote) - truth).mean()
    default = label_model.fit(data.votes, tree)
    truth = truth / (1 - abstain[columns.lf])
    return float(dawid_skene), float(np.abs(np.exp(default.params.log_vote) - truth).mean())


def slope(sizes: list[int], values: list[float]) -> float:
    """Least-squares slope of log error against log n."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def main() -> None:
    """Print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--max-items", type=int, default=SIZES[-1])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    sizes = [n for n in SIZES if n <= options.max_items]
    heads = " | ".join(f"n = {n:,}" for n in sizes)
    print(f"| votes | model | {heads} | slope |\n|---|---|{'---|' * len(sizes)}---|")
    rows = []
    for name, tree in TREES.items():
        table = np.array(
            [
                np.mean([errors(tree, n, seed) for seed in range(options.seeds)], axis=0)
                for n in sizes
            ]
        )
        for method, values in zip(("dawid_skene", "default"), table.T.tolist(), strict=True):
            rate = slope(sizes, values)
            rows.append({"votes": name, "model": method, "errors": values, "slope": rate})
            cells = " | ".join(f"{v:.5f}" for v in values)
            print(f"| {name} | {method} | {cells} | {rate:+.2f} |", flush=True)
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
