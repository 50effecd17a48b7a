"""Searches at equal training seconds: random, successive halving, stopping by predicted curves.

    python -m benchmarks.studies.early_stopping [--orders 100] [--quick]

The embedded runs, first seed. Predictors of the first 1, 3 and 9 epochs are fitted to a random half
of the networks; the other half is searched for the best validation accuracy in random orders, the
same for all methods, by replaying what was recorded. Prints one JSON line for each method: the mean
distance in points to the best network of that half, with its standard error, when 5, 10, 25 and
50 % of the seconds that all networks together take are spent, and the share that a whole pass took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

import jax
import numpy as np

from metal_jax.datasets import load_fashion_runs
from metal_jax.exhaust import (
    PredictorConfig,
    Run,
    SuccessiveConfig,
    best_at,
    fit_predictor,
    predict,
    successive_search,
)

_ROLE, _METRIC = "validation", "accuracy"
_SHARES = (0.05, 0.1, 0.25, 0.5)


def main() -> None:
    """Parse the arguments and print the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--quick", action="store_true", help="small predictors")
    options = parser.parse_args()
    runs = [run for run in load_fashion_runs() if run.extra["seed"] == 0]
    order = np.asarray(jax.random.permutation(jax.random.key(0), len(runs)))
    half = len(runs) // 2
    known, searched = ([runs[i] for i in part] for part in (order[:half], order[half:]))
    config = SuccessiveConfig()
    settings = PredictorConfig(num_members=2, num_steps=200) if options.quick else PredictorConfig()
    begun = time.perf_counter()
    target = f"{_ROLE}/{_METRIC}"
    predictors = {
        check: fit_predictor(
            known, [target], key=jax.random.key(check), epochs_seen=check, config=settings
        )
        for check in config.checks
    }

    def of_curves(cut: Sequence[Run], epochs_seen: int) -> tuple[np.ndarray, np.ndarray]:
        found = predict(predictors[epochs_seen], cut)
        return found.mean[:, 0], found.std[:, 0]

    seconds = sum(sum(run.seconds) for run in searched)
    best = max(max(run.metrics[_ROLE][_METRIC].values) for run in searched)
    for method in ("random", "halving", "predictor"):
        lost, spent = [], []
        for key in jax.random.split(jax.random.key(1), options.orders):
            trace = successive_search(
                searched, _ROLE, _METRIC, method, key=key, predict=of_curves, config=config
            )
            lost.append(100 * (best - best_at(trace, np.array(_SHARES) * seconds)))
            spent.append(trace.spent / seconds)
        row = {"study": "early stopping", "data": "fashion_runs", "method": method}
        row |= {"networks": len(searched), "orders": options.orders, "seconds": seconds}
        row |= {"points under the best": dict(zip(_SHARES, np.mean(lost, 0), strict=True))}
        error = np.std(lost, 0) / np.sqrt(options.orders)
        row |= {"standard error": dict(zip(_SHARES, error, strict=True))}
        row |= {"share of the seconds in a pass": float(np.mean(spent))}
        sys.stdout.write(json.dumps(row | {"took": time.perf_counter() - begun}) + "\n")


if __name__ == "__main__":
    main()
