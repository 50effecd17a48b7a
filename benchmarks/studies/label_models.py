"""Accuracy of label models on real votes.

`python -m benchmarks.studies.label_models [--data FOLDER]`.

Protocol: labelling-function sets are fitted on `train` and judged on `test` (tennis: `valid`),
crowds are fitted and judged on all items; accuracy over gold items with at least one vote, ties
split; no gold label enters any fit and no setting differs between sets. The interval is a paired
bootstrap over items of the difference between the default and majority vote. With `--peers`
Snorkel's LabelModel is fitted beside it in the same run; times are of fit and posterior, ours warm.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.peers import PeerMissing, snorkel
from metal_jax import label_model, metrics
from metal_jax.labeling import overlap_statistics
from metal_jax.task_tree import TaskTree

LF_SETS = {
    "agnews_9kw": 4,
    "flyingsquid_tennis": 2,
    "openi_cxr": 2,
    "wrench_semeval": 9,
    "wrench_trec": 6,
    "wrench_youtube": 2,
    "wrenchfmt_hausa": 5,
}
CROWDS = {
    "crowd_20news": 20,
    "crowd_bluebird": 2,
    "crowd_cf_weather": 5,
    "crowd_dog": 4,
    "crowd_face": 4,
    "crowd_product": 2,
    "crowd_rte": 2,
    "crowd_web": 5,
    "crowd_zencrowd_in": 2,
}
METHODS = ("majority", "default", "dawid_skene", "overlap")
NUM_BOOTSTRAPS = 4000


def load(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes to fit on, votes to judge on, and gold of the latter, -1 where not judged."""
    splits = ("all", "all") if name in CROWDS else ("train", "test")
    if name == "flyingsquid_tennis":
        splits = ("train", "valid")
    train, test = (np.load(folder / name / f"{split}.npz") for split in splits)
    covered = (test["L"] >= 0).any(axis=1)
    return train["L"], test["L"], np.where(covered, test["Y"], -1)


def fit_posterior(method: str, train: np.ndarray, test: np.ndarray, tree: TaskTree) -> np.ndarray:
    """Posterior of one method on the judged items."""
    if method == "majority":
        return np.asarray(label_model.majority_vote(test, tree))
    if method == "default":
        result = label_model.fit(train, tree)
    elif method == "dawid_skene":
        config = label_model.DawidSkeneConfig(informative_abstains=False)
        result = label_model.fit_dawid_skene(train, tree, config=config)
    else:
        result = label_model.fit_overlap(overlap_statistics(train), tree)
    return np.asarray(label_model.posterior(result, test))


def correctness(probs: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Expected correctness of each judged item, ties split."""
    judged = gold >= 0
    best = probs[judged] >= probs[judged].max(axis=1, keepdims=True)
    return (best / best.sum(1, keepdims=True))[np.arange(judged.sum()), gold[judged]]


def paired_interval(difference: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """95 % interval of the mean by resampling items."""
    rng = np.random.default_rng(seed)
    n = len(difference)
    means = [difference[rng.integers(0, n, n)].mean() for _ in range(NUM_BOOTSTRAPS)]
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def run(folder: Path, name: str, peers: bool) -> dict:
    """One row of the table."""
    tree = TaskTree.single({**LF_SETS, **CROWDS}[name])
    train, test, gold = load(folder, name)
    row: dict = {"set": name, "n": len(train), "m": train.shape[1], "k": tree.num_leaves}
    right = {}
    for method in METHODS:
        probs = fit_posterior(method, train, test, tree)
        right[method] = correctness(probs, gold)
        row[method] = float(right[method].mean())
        ece = metrics.expected_calibration_error(jnp.asarray(probs), jnp.asarray(gold))
        row[f"{method}_ece"] = float(ece)
    row["interval"] = paired_interval(right["default"] - right["majority"])
    start = time.perf_counter()
    fit_posterior("default", train, test, tree)
    row["warm_seconds"] = time.perf_counter() - start
    row["snorkel"] = row["snorkel_ece"] = row["snorkel_seconds"] = float("nan")
    if peers:
        probs, row["snorkel_seconds"] = snorkel(train, test, tree.num_leaves)
        row["snorkel"] = float(correctness(probs, gold).mean())
        ece = metrics.expected_calibration_error(jnp.asarray(probs), jnp.asarray(gold))
        row["snorkel_ece"] = float(ece)
    return row


def main() -> None:
    """Print the table and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("METAL_JAX_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--out", type=Path)
    parser.add_argument("--peers", action="store_true", help="Snorkel beside ours (minutes)")
    options = parser.parse_args()
    folder = options.data / "votes"
    if not folder.is_dir():
        parser.error(f"no folder {folder}")
    print(f"fitted without gold labels on {jax.devices()[0].device_kind}, jax {jax.__version__}\n")
    print(
        "| set | n | m | k | majority | default | difference, 95 % | ECE | Dawid-Skene | overlap "
        "objective | s, warm | Snorkel | its ECE | its s | its s / ours |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    rows = []
    for sets, title in ((LF_SETS, "LF sets"), (CROWDS, "crowds")):
        part = []
        for name in sets:
            try:
                row = run(folder, name, options.peers)
            except PeerMissing as missing:
                print(f"no peers: {missing}")
                options.peers = False
                row = run(folder, name, False)
            part.append(row)
            low, high = row["interval"]
            gain = row["default"] - row["majority"]
            print(
                f"| {name} | {row['n']} | {row['m']} | {row['k']} | {row['majority']:.4f} "
                f"| {row['default']:.4f} | {gain:+.4f} [{low:+.4f}, {high:+.4f}] "
                f"| {row['default_ece']:.3f} | {row['dawid_skene']:.4f} | {row['overlap']:.4f} "
                f"| {row['warm_seconds']:.2f} | {row['snorkel']:.4f} | {row['snorkel_ece']:.3f} "
                f"| {row['snorkel_seconds']:.1f} "
                f"| {row['snorkel_seconds'] / row['warm_seconds']:.0f} |",
                flush=True,
            )
        means = [np.mean([row[method] for row in part]) for method in METHODS]
        print(
            f"| **mean of {len(part)} {title}** | | | | **{means[0]:.4f}** | **{means[1]:.4f}** | "
            f"| | {means[2]:.4f} | {means[3]:.4f} | "
            f"| {np.mean([row['snorkel'] for row in part]):.4f} | | | |"
        )
        rows += part
    names = (*METHODS, "snorkel")
    median = {m: round(float(np.median([row[f"{m}_ece"] for row in rows])), 4) for m in names}
    print(f"\nmedian ECE over the {len(rows)} sets: {median}")
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
