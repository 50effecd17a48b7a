"""Developer exhaust: logs in, the networks to train next out.

    python examples/08_developer_exhaust.py

Every training run leaves a log behind. This example writes a few of the embedded runs as the CSV
files that Keras leaves, reads them back as anyone's logs are read, trains the LSTM ensemble on
recorded runs, and asks it about networks that nobody has trained: which of 200 random ones would be
best, if it has to train faster than half of them?

The ensemble here is smaller than the default, so that this takes seconds rather than minutes.
"""

import csv
import tempfile
from pathlib import Path

import jax
import numpy as np

from metal_jax import datasets, exhaust

TARGETS = ("validation/accuracy", "seconds")
CONFIG = exhaust.PredictorConfig(num_members=2, num_steps=150)


def write_keras_log(path, run):
    """One line an epoch, as `keras.callbacks.CSVLogger` writes it."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", "accuracy", "loss", "val_accuracy", "val_loss"])
        curves = [
            run.metrics[role][metric].values
            for role in ("train", "validation")
            for metric in ("accuracy", "loss")
        ]
        writer.writerows([epoch, *row] for epoch, row in enumerate(zip(*curves, strict=True)))


def main():
    """Read, predict, search."""
    runs = datasets.load_fashion_runs()

    # 1. Import. Ten kinds of logs have a reader; what cannot be read is reported, never dropped.
    with tempfile.TemporaryDirectory() as folder:
        for run in runs[:3]:
            write_keras_log(Path(folder, f"{run.run}.csv"), run)
        Path(folder, "broken.csv").write_text("epoch,accuracy\n0,not a number\n")
        reading = exhaust.read_keras_logs(folder)
    print(f"{len(reading.runs)} runs read; problems: {[p.reason for p in reading.problems]}")

    # 2. Fit on runs whose architecture is known, and ask about networks of the same grammar.
    predictor = exhaust.fit_predictor(runs[:400], TARGETS, key=jax.random.key(0), config=CONFIG)
    later = exhaust.predict(predictor, runs[400:])
    true = np.array([exhaust.target(run, TARGETS[0]) for run in runs[400:]])
    error = np.abs(later.mean[:, 0] - true).mean()
    print(f"runs kept back: validation accuracy off by {100 * error:.1f} points on average")

    candidates = exhaust.sample_architectures(jax.random.key(1), 200)
    unseen = [exhaust.Run(f"candidate {i}", net) for i, net in enumerate(candidates)]
    found = exhaust.predict(predictor, unseen)

    # 3. Search: the predicted best three that fit the limit.
    accuracy, seconds = found.mean.T
    limit = float(np.median(seconds))
    choice = exhaust.search(accuracy, found.std[:, 0], 3, seconds=seconds, seconds_limit=limit)
    print(f"best of {len(unseen)} candidates within {limit:.2f} s of training:")
    for i in choice.chosen:
        low, high = found.low[i, 0], found.high[i, 0]
        layers = " ".join(layer.type for layer in candidates[i])
        print(f"{accuracy[i]:.1%} ({low:.1%} to {high:.1%}), {seconds[i]:.2f} s: {layers}")


if __name__ == "__main__":
    main()
