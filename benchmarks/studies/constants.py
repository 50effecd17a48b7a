"""What each part and constant of the default model is worth.

`python -m benchmarks.studies.constants`.

Protocol and data as in `benchmarks.studies.label_models`: mean accuracy over the LF sets and over
the crowds with one setting changed at a time. Last, leave one set out: for every set the setting is
taken, among all those of the table that only move a constant, that is best on the *other* sets (LF
sets and crowds weighted alike), and judged on the set itself.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from benchmarks.studies.label_models import CROWDS, LF_SETS, correctness, load
from metal_jax import label_model
from metal_jax.label_model import DetectorPrior, MixtureConfig
from metal_jax.task_tree import TaskTree

DEFAULT = MixtureConfig()
ABLATIONS = {
    "no temperature": {"correlation_scale": 0.0},
    "balance not learnt": {"balance_items": 1e9},
    "no class-pair shift": {"detectors.shift_sd": 1e-6},
    "no sensitivity cap": {"detectors.sensitivity": 1e3},
    "no copy discount": {"detectors.copy_shrinkage": 1e9},
    "all annotators": {"annotator": 1.0},
    "all detectors": {"annotator": 0.0},
}
CONSTANTS = {
    "prior_accuracy": (0.6, 0.8),
    "prior_votes": (1.0, 4.0),
    "balance_items": (2.5, 10.0),
    "detectors.sensitivity": (0.7, 0.9),
    "detectors.max_precision": (0.95, 0.99),
    "detectors.odds": (5.0, 20.0),
    "detectors.shift_sd": (0.05, 0.2),
    "detectors.copy_shrinkage": (10.0, 40.0),
}


def configured(changes: dict[str, float]) -> MixtureConfig:
    """The default with some fields changed, those of the detectors by `detectors.name`."""
    own = {name: value for name, value in changes.items() if "." not in name}
    prior = {name.partition(".")[2]: v for name, v in changes.items() if "." in name}
    detectors = DetectorPrior(**{**DEFAULT.detectors._asdict(), **prior})
    return dataclasses.replace(DEFAULT, detectors=detectors, **own)


def accuracies(folder: Path, name: str, settings: dict[str, MixtureConfig]) -> dict[str, float]:
    """Accuracy of every setting on one set."""
    tree = TaskTree.single({**LF_SETS, **CROWDS}[name])
    train, test, gold = load(folder, name)
    found = {}
    for setting, config in settings.items():
        result = label_model.fit(train, tree, config=config)
        found[setting] = float(
            correctness(np.asarray(label_model.posterior(result, test)), gold).mean()
        )
    return found


def main() -> None:
    """Print the tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = os.environ.get("METAL_JAX_DATA", "../shared/data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    constants = {
        f"{name} = {value:g}": {name: value}
        for name, values in CONSTANTS.items()
        for value in values
    }
    settings = {
        name: configured(changes)
        for name, changes in ({"default": {}} | ABLATIONS | constants).items()
    }
    names = [n for n in [*LF_SETS, *CROWDS] if not options.sets or n in options.sets]
    table = {}
    for name in names:
        table[name] = accuracies(options.data / "votes", name, settings)
        print(f"{name}: {table[name]['default']:.4f}", flush=True)
        if options.out:
            options.out.write_text(json.dumps(table))

    def mean(setting: str, sets: list[str]) -> float:
        return float(np.mean([table[name][setting] for name in sets])) if sets else float("nan")

    lfs, crowds = ([n for n in names if n in group] for group in (LF_SETS, CROWDS))
    print("\n| setting | LF sets | crowds |\n|---|---|---|")
    for setting in settings:
        print(f"| {setting} | {mean(setting, lfs):.4f} | {mean(setting, crowds):.4f} |")
    chosen = {}
    for name in names:
        others = [[n for n in group if n != name] for group in (lfs, crowds)]
        tried = ["default", *constants]
        chosen[name] = max(tried, key=lambda s: sum(mean(s, o) for o in others if o))
    left_out = {name: table[name][setting] for name, setting in chosen.items()}
    means = [np.mean([left_out[n] for n in group]) for group in (lfs, crowds) if group]
    print(f"\nleave one set out: {' / '.join(f'{m:.4f}' for m in means)}; chosen: {chosen}")


if __name__ == "__main__":
    main()
