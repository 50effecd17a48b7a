"""Training steps of the compiled network against the number of tasks, and against peers.

`python -m benchmarks.studies.network_steps [--out FILE] [--plot PICTURE]`. A step is forward pass,
loss, backward pass and AdamW; trunk of three layers of 256 units, 256 items in a batch, five labels
a task, tasks on three levels (one task: the top of the same trunk), float32, no dropout.

The first table is ours alone, lowering, compilation and run apart: "plain" (256 features, heads
read the trunk), "default" (they read the features and their parents' predictions too) and "text"
(the default network on the default encoder: 96 n-grams an item, 8,192 embeddings of width 64).

The second is the plain network beside peers that compute the same function from the same start on
the same batches: PyTorch eager and `torch.compile`d with a `Linear` for each head, PyTorch eager
with stacked heads, and snorkel-metal's MTEndModel.

Contenders take turns, a few steps each, so that a busy machine is busy for all; ratios are taken
within a round. Medians and quartiles. `--cores 1` pins all of them to one core, where CPU time is
fair even beside other programs (on several, waiting threads spin).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.peers import PeerMissing
from benchmarks.studies import network_peers
from benchmarks.studies.network_peers import Problem, Steps
from metal_jax.network import (
    BagOfFeatures,
    Encoder,
    Network,
    NetworkConfig,
    build,
    embedding_bag,
    soft_label_loss,
    task_params,
)
from metal_jax.task_tree import Task, TaskTree, node_sum

WIDTH, BATCH, ARITY, LAYERS, NUM_BATCHES = 256, 256, 5, 3, 8
LEARNING_RATE, WEIGHT_DECAY = 1e-3, 1e-4
PLAIN = NetworkConfig((WIDTH,), LAYERS, 0.0, pass_parent="none", wide=False)
DEFAULT = NetworkConfig((WIDTH,), LAYERS, 0.0)
IDENTITY = Encoder(lambda key, inputs: {}, lambda params, inputs, key: inputs)
VOCABULARY, NGRAMS = 2**13, 96
NETWORKS = {
    "plain": (IDENTITY, PLAIN),
    "default": (IDENTITY, DEFAULT),
    "text": (embedding_bag(VOCABULARY), DEFAULT),
}


def tree_of(num_tasks: int) -> TaskTree:
    """A forest of tasks with `ARITY` labels, filled root by root, on up to three levels."""
    labels = tuple(map(str, range(ARITY)))
    num_roots = -(-num_tasks // (1 + ARITY + ARITY**2))
    num_middle = min(ARITY * num_roots, num_tasks - num_roots)
    num_bottom = num_tasks - num_roots - num_middle
    tasks = [Task(f"root {i}", labels) for i in range(num_roots)]
    for name, above, number in (("middle", "root", num_middle), ("bottom", "middle", num_bottom)):
        tasks += [
            Task(f"{name} {i}", labels, (f"{above} {i // ARITY}", labels[i % ARITY]))
            for i in range(number)
        ]
    return TaskTree.from_tasks(tasks)


class Batches(NamedTuple):
    """float32[batches, b, f] features or a bag, and float32[batches, b, N] soft labels of nodes."""

    features: Any
    node_probs: np.ndarray


def text_batches(tree: TaskTree) -> Batches:
    """Random bags of n-grams."""
    rng = np.random.default_rng(1)
    shape = (NUM_BATCHES, BATCH, NGRAMS)
    weights = rng.random(shape).astype(np.float32) / NGRAMS
    bag = BagOfFeatures(rng.integers(0, VOCABULARY, shape).astype(np.int32), weights)
    return batches_for(tree)._replace(features=bag)


def batches_for(tree: TaskTree) -> Batches:
    """Random features, and soft labels that depend on them."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(NUM_BATCHES, BATCH, WIDTH)).astype(np.float32)
    scores = 0.1 * features @ rng.normal(size=(WIDTH, tree.num_leaves))
    leaves = [jax.nn.softmax(jnp.asarray(scores[..., span])) for span in tree.root_leaves]
    node_probs = node_sum(tree, jnp.concatenate(leaves, axis=-1).astype(jnp.float32))
    return Batches(features, np.asarray(node_probs))


class Compiled(NamedTuple):
    """Our step, and what it took to get it."""

    steps: Steps
    params: Any
    lower_seconds: float
    compile_seconds: float
    memory: Mapping[str, int]


def ours(network: Network, batches: Batches) -> Compiled:
    """The step of a network, compiled."""
    optimiser = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(params: Any, state: Any, x: Any, node_probs: jax.Array):
        def loss(params: Any) -> jax.Array:
            return jnp.mean(soft_label_loss(network.apply(params, x), node_probs))

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    data = [jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), batches) for i in range(NUM_BATCHES)]
    params = jax.jit(network.init)(jax.random.key(0), data[0][0])
    state = optimiser.init(params)
    first = jax.tree.map(np.asarray, params)
    start = time.perf_counter()
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(params, state, *data[0])
    lower_seconds = time.perf_counter() - start
    start = time.perf_counter()
    compiled = lowered.compile()
    compile_seconds = time.perf_counter() - start
    taken = 0

    def steps(num_steps: int) -> float:
        nonlocal params, state, taken
        value = jnp.zeros(())
        for _ in range(num_steps):
            params, state, value = compiled(params, state, *data[taken % len(data)])
            taken += 1
        return float(value)

    analysis = compiled.memory_analysis()
    names = ("argument_size_in_bytes", "temp_size_in_bytes")
    memory = {name: int(getattr(analysis, name)) for name in names if analysis is not None}
    return Compiled(steps, first, lower_seconds, compile_seconds, memory)


def problem_of(network: Network, params: Any, batches: Batches) -> Problem:
    """The same network for peers."""
    tree, tower = network.tree, params["tower"]
    tasks = [task_params(network, params, task.name) for task in tree.tasks]
    depths = [tree.node_depth[nodes[0]] for nodes in tree.task_nodes]
    return Problem(
        [(tower[f"trunk_{i}"]["kernel"], tower[f"trunk_{i}"]["bias"]) for i in range(LAYERS)],
        [(task["kernel"], task["bias"]) for task in tasks],
        [int(depth) + LAYERS - tree.depth for depth in depths],
        batches.features,
        [np.ascontiguousarray(batches.node_probs[..., list(nodes)]) for nodes in tree.task_nodes],
        LEARNING_RATE,
        WEIGHT_DECAY,
    )


class Race(NamedTuple):
    """Of each contender the wall and CPU seconds of a step in each round, and the last loss."""

    wall: dict[str, np.ndarray]
    cpu: dict[str, np.ndarray]
    loss: dict[str, float]


def race(contenders: Mapping[str, Steps], rounds: int, steps: int) -> Race:
    """Rounds in which each contender takes its steps, after one that is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    loss: dict[str, float] = {}
    for contender in contenders.values():
        contender(steps)
    for _ in range(rounds):
        for name, contender in contenders.items():
            starts = time.perf_counter(), time.process_time()
            loss[name] = contender(steps)
            wall[name].append((time.perf_counter() - starts[0]) / steps)
            cpu[name].append((time.process_time() - starts[1]) / steps)
    wall_times, cpu_times = (
        {name: np.array(times) for name, times in each.items()} for each in (wall, cpu)
    )
    return Race(wall_times, cpu_times, loss)


def quartiles(values: np.ndarray, scale: float = 1.0) -> str:
    """Median and the quartiles around it."""
    low, middle, high = np.quantile(values * scale, (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} - {high:.2f})"


def scaling(sizes: list[int], rounds: int, steps: int) -> list[dict[str, Any]]:
    """Rows of the first table: ours at every size, in turns."""
    compiled: dict[str, Compiled] = {}
    for kind, (encoder, config) in NETWORKS.items():
        for size in sizes:
            tree = tree_of(size)
            batches = text_batches(tree) if kind == "text" else batches_for(tree)
            compiled[f"{kind} {size}"] = ours(build(tree, encoder, config), batches)
    result = race({name: one.steps for name, one in compiled.items()}, rounds, steps)
    print(
        "| network | tasks | wall, ms | CPU, ms | wall / fewest tasks | CPU / fewest tasks "
        "| lower, s | compile, s | MB |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    rows = []
    for name, one in compiled.items():
        kind, size = name.split()
        first = f"{kind} {sizes[0]}"
        wall, cpu = result.wall[name], result.cpu[name]
        megabytes = sum(one.memory.values()) / 1e6
        print(
            f"| {kind} | {size} | {quartiles(wall, 1e3)} | {quartiles(cpu, 1e3)} "
            f"| {quartiles(wall / result.wall[first])} | {quartiles(cpu / result.cpu[first])} "
            f"| {one.lower_seconds:.2f} | {one.compile_seconds:.2f} | {megabytes:.1f} |",
            flush=True,
        )
        rows.append(
            {
                "table": "scaling",
                "network": kind,
                "tasks": int(size),
                "wall_seconds": wall.tolist(),
                "cpu_seconds": cpu.tolist(),
                "lower_seconds": one.lower_seconds,
                "compile_seconds": one.compile_seconds,
                **one.memory,
            }
        )
    return rows


def plot_scaling(rows: list[dict[str, Any]], path: Path) -> None:
    """Time of a step, compile time and memory against the number of tasks, on one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    def megabytes(row: dict[str, Any]) -> float:
        return sum(value for name, value in row.items() if name.endswith("_in_bytes")) / 1e6

    panels: list[tuple[str, Callable[[dict[str, Any]], float]]] = [
        ("step, ms", lambda row: 1e3 * float(np.median(row["wall_seconds"]))),
        ("lowering and compilation, s", lambda row: row["lower_seconds"] + row["compile_seconds"]),
        ("memory of a step, MB", megabytes),
    ]
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    for axis, (label, value) in zip(axes, panels, strict=True):
        for kind in NETWORKS:
            own = [row for row in rows if row["network"] == kind]
            axis.plot([row["tasks"] for row in own], list(map(value, own)), marker="o", label=kind)
        axis.set(xscale="log", yscale="log", xlabel="tasks", ylabel=label)
        axis.grid(color="0.9")
    axes[1].set(yscale="linear", ylim=(0, None))
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)


def against_peers(size: int, rounds: int, steps: int, torch_compile: bool) -> list[dict[str, Any]]:
    """Rows of the second table for one size."""
    tree = tree_of(size)
    network, batches = build(tree, IDENTITY, PLAIN), batches_for(tree)
    own = ours(network, batches)
    problem = problem_of(network, own.params, batches)
    peers: dict[str, Callable[[Problem], Steps]] = {
        "PyTorch eager": network_peers.torch_heads,
        "PyTorch eager, stacked heads": network_peers.torch_stacked,
        "MTEndModel": network_peers.metal_steps,
    }
    if torch_compile:
        peers["torch.compile"] = lambda problem: network_peers.torch_heads(problem, compiled=True)
    contenders = {"metal_jax": own.steps}
    for name, start in peers.items():
        try:
            contenders[name] = start(problem)
        except PeerMissing as missing:
            print(f"| {size} | {name} | skipped: {missing} | | | | | |")
    result = race(contenders, rounds, steps)
    rows = []
    for name, wall in result.wall.items():
        cpu = result.cpu[name]
        ratios = wall / result.wall["metal_jax"], cpu / result.cpu["metal_jax"]
        print(
            f"| {size} | {name} | {quartiles(wall, 1e3)} | {quartiles(cpu, 1e3)} "
            f"| {BATCH / np.median(wall):,.0f} | {quartiles(ratios[0])} | {quartiles(ratios[1])} "
            f"| {result.loss[name]:.5f} |",
            flush=True,
        )
        rows.append(
            {
                "table": "peers",
                "contender": name,
                "tasks": size,
                "wall_seconds": wall.tolist(),
                "cpu_seconds": cpu.tolist(),
                "steps": steps * (rounds + 1),
                "loss": result.loss[name],
            }
        )
    return rows


def main() -> None:
    """Print both tables and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 10, 100, 1000])
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--steps", type=int, default=5, help="a contender's steps in a round")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument(
        "--torch-compile", type=int, default=100, help="most tasks to torch.compile (minutes)"
    )
    parser.add_argument("--cores", type=int, help="use so many; all by default")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path, metavar="PICTURE")
    options = parser.parse_args()
    if options.cores:  # before the first array: thread pools are made for the cores there are
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    cores = options.cores or os.cpu_count()
    print(f"{jax.devices()[0].device_kind}, {cores} cores, jax {jax.__version__}\n")
    rows = scaling(options.tasks, options.rounds, options.steps)
    if options.plot:
        plot_scaling(rows, options.plot)
    if not options.no_peers:
        print(
            "\n| tasks | contender | wall, ms | CPU, ms | items / s | wall / ours | CPU / ours "
            "| loss |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for size in options.tasks:
            rows += against_peers(
                size, options.rounds, options.steps, size <= options.torch_compile
            )
    if options.out:
        options.out.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
