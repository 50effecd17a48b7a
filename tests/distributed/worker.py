"""One of several processes; see `test_processes`."""

import functools
import os
import signal
import sys
from pathlib import Path

import jax
import numpy as np

from metal_jax import distributed
from metal_jax.label_model import StreamConfig, fit_stream
from metal_jax.labeling import (
    Columns,
    OverlapStatistics,
    VoteStream,
    merge_statistics,
    overlap_statistics_of_batches,
)
from metal_jax.network import (
    Encoder,
    Examples,
    FitConfig,
    NetworkConfig,
    TrainingConfig,
    build,
    fit,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(3)


def statistics(folder, count, number):
    """How often LFs vote together, from a file of this process's own."""
    own = overlap_statistics_of_batches(VoteStream(folder / f"votes-{number}.npy", batch_items=200))
    arrays = {"lf": own.columns.lf, "symbol": own.columns.symbol, "counts": own.counts}
    parts = [
        OverlapStatistics(
            Columns(part["lf"], part["symbol"], own.columns.num_lfs), part["counts"], int(part["n"])
        )
        for part in distributed.gather_arrays({**arrays, "n": np.asarray(own.num_items)})
    ]
    total = functools.reduce(merge_statistics, parts)
    told = distributed.send_to_all({"by": np.asarray(number)})["by"]
    twice = distributed.sum_over_processes(np.float64(0.1))
    return {"counts": total.counts, "n": total.num_items, "told": told, "twice": twice}


def labels(folder, count, number):
    """The default model, from a file of this process's own."""
    stream = VoteStream(folder / f"votes-{number}.npy", batch_items=200)
    settings = StreamConfig(sample_items=256)
    result = fit_stream(stream, TREE, stream=settings, checkpoint=folder / "fit.npz")
    return {str(i): x for i, x in enumerate(jax.tree.leaves(result.params))}


def _examples(rng, n):
    x = rng.normal(size=(n, 5)).astype(np.float32)
    return Examples(x, np.eye(3, dtype=np.float32)[np.argmax(x[:, :3], axis=1)])


def network(folder, count, number, on_progress=None, streamed=False):
    """A network, its batches spread over the processes."""
    rng = np.random.default_rng(0)
    data, validation = _examples(rng, 64), _examples(rng, 32)
    if streamed:  # each process has its share of every batch
        share = 32 // count
        starts = [first + number * share for first in (0, 32)]
        data = [jax.tree.map(lambda x, i=i: x[i : i + share], data) for i in starts]
    encoder = Encoder(lambda key, x: {}, lambda params, x, key: x)
    training = TrainingConfig(batch_size=32, num_steps=40, steps_per_chunk=10, patience=0)
    result = fit(
        build(TREE, encoder, NetworkConfig(widths=(8,))),
        data,
        validation,
        FitConfig(training=training),
        key=jax.random.key(1),
        mesh=distributed.data_mesh(),
        checkpoints=None if streamed else folder / "checkpoints",
        log=None if streamed else folder / "runs.jsonl",
        on_progress=on_progress,
    )
    arrays = jax.tree.leaves_with_path(result.params)
    return {"loss": result.valid_loss, **{jax.tree_util.keystr(p): x for p, x in arrays}}


def streamed(folder, count, number):
    """The same, from batches that no process has whole."""
    return network(folder, count, number, streamed=True)


def killed(folder, count, number):
    """The same as `network`, but the last process is lost in the middle of it."""

    def lose(step, scores):
        if step == 20 and number == count - 1:
            os.kill(os.getpid(), signal.SIGKILL)

    return network(folder, count, number, lose)


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    port, count, number = map(int, sys.argv[3:])
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_disable_most_optimizations", True)
    distributed.initialize(
        f"127.0.0.1:{port}", count, number, heartbeat_seconds=10, shutdown_seconds=10
    )
    tasks = {f.__name__: f for f in (statistics, labels, network, streamed, killed)}
    arrays = tasks[task](folder, count, number)
    np.savez(folder / f"{task}-{number}.npz", **{name: np.asarray(x) for name, x in arrays.items()})
