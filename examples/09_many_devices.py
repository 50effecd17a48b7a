r"""Many devices and many hosts: one script for a laptop, a GPU cluster and a TPU pod.

Every process runs this file. It counts and fits the votes of its own files, sums are added up over
processes, and a network is trained on the labels with each batch spread over all devices.

One machine, all of its devices in one process:

    python examples/09_many_devices.py

One machine, two processes (here over loopback, on CPUs as well):

    for i in 0 1; do
      python examples/09_many_devices.py --coordinator 127.0.0.1:12345 --processes 2 --process $i &
    done; wait

A GPU cluster under Slurm, a process for each node; JAX asks Slurm for the rest:

    srun --nodes=4 --ntasks-per-node=1 --gpus-per-node=8 \
      python examples/09_many_devices.py --cluster

A TPU pod slice; the same line on all hosts, and JAX asks the metadata server:

    gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all \
      --command="python examples/09_many_devices.py --cluster"

When a process is lost the others end within `heartbeat_seconds` and say so. Start all of them
again: label model and network go on from the checkpoints in --folder, which all hosts must see.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from metal_jax import distributed, label_model, labeling, network
from metal_jax.task_tree import TaskTree

NUM_ITEMS = 4000  # of each process
TREE = TaskTree.single(["no", "yes", "maybe"])


def write_items(path: Path, number: int) -> None:
    """What would be there already: features and votes of this process's own items."""
    data = labeling.synthetic_votes(jax.random.key(0), NUM_ITEMS * jax.process_count(), 12, TREE)
    own = slice(NUM_ITEMS * number, NUM_ITEMS * (number + 1))
    noise = np.random.default_rng(number).normal(size=(NUM_ITEMS, 8))
    features = noise + 2 * np.eye(3, 8)[np.asarray(data.leaves[own])]
    np.save(path / f"votes-{number}.npy", np.asarray(data.votes[own], np.int8))
    np.save(path / f"features-{number}.npy", features.astype(np.float32))


def main(arguments: list[str] | None = None) -> float:
    """Fit, label, train; the accuracy of the network's labels against the label model's."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--coordinator", help="host:port of process 0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int, default=0)
    parser.add_argument("--cluster", action="store_true", help="let JAX find the processes")
    parser.add_argument("--folder", type=Path, default=Path("many_devices"))
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args(arguments)

    # Before anything else of JAX.
    if options.cluster:
        distributed.initialize(heartbeat_seconds=30)
    elif options.processes > 1:
        distributed.initialize(options.coordinator, options.processes, options.process)
    number, folder = jax.process_index(), options.folder
    folder.mkdir(exist_ok=True, parents=True)
    write_items(folder, number)

    # The label model: files of this process, batches over its devices, sums over all processes.
    own = distributed.data_mesh(local=True)
    votes = labeling.VoteStream(folder / f"votes-{number}.npy", batch_items=2048)
    result = label_model.fit_stream(votes, TREE, mesh=own, checkpoint=folder / "label_model.npz")
    parts = label_model.label_stream(result, votes, folder / "labels", mesh=own)
    soft = label_model.read_stream_labels(parts)

    # The network: each process gives its share of every batch; XLA adds up the gradients.
    features = np.load(folder / f"features-{number}.npy")
    share = 256 // jax.process_count()
    batches = [
        network.Examples(features[i : i + share], soft[i : i + share])
        for i in range(0, NUM_ITEMS - share + 1, share)
    ]
    # Validation items are few: process 0 sends its own to all, as all must hold the same.
    held_out = {"features": features[:256], "soft": soft[:256]}
    held_out = distributed.send_to_all(held_out)
    encoder = network.Encoder(lambda key, x: {}, lambda params, x, key: x)
    net = network.build(TREE, encoder)
    training = network.TrainingConfig(num_steps=options.steps, steps_per_chunk=50)
    fitted = network.fit(
        net,
        batches,
        network.Examples(held_out["features"], held_out["soft"]),
        network.FitConfig(training=training),
        key=jax.random.key(0),
        mesh=distributed.data_mesh(),
    )
    params = jax.tree.map(np.asarray, fitted.params)  # the same on all processes
    probs = np.exp(network.leaf_log_probs(net, params, features))
    agreement = float(np.mean(probs.argmax(axis=1) == soft.argmax(axis=1)))
    print(
        f"process {number} of {jax.process_count()}, {jax.local_device_count()} devices: "
        f"network and label model agree on {agreement:.1%} of its {NUM_ITEMS} items"
    )
    return agreement


if __name__ == "__main__":
    main()
