"""Record real training runs: small networks of a fixed grammar, on any npz of images.

    python examples/record_runs.py IMAGES.npz --out runs.jsonl

`IMAGES.npz` holds `x` uint8 `[n, height, width]` and `y` `[n]`. The script can be stopped at any
time and called again: runs in the file are not repeated, and the one that was cut starts again from
its seed. Each network is trained `--seeds` times, with other initial weights and other batches.

Seconds are CPU seconds of one thread on one core, of the training steps alone (neither compilation
nor evaluation), so that what else the machine does counts as little as possible.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="runs of each network")
    parser.add_argument("--networks", type=int, default=0, help="seed that draws the networks")
    parser.add_argument("--num", type=int, default=400, help="how many networks")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--train", type=int, default=8000, help="images to train on")
    parser.add_argument("--validation", type=int, default=10000, help="images to validate on")
    parser.add_argument("--pool", type=int, default=2, help="images shrink by this factor")
    parser.add_argument("--core", type=int, default=0, help="core to run on")
    return parser.parse_args()


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
if ARGUMENTS is not None:
    # Before JAX starts its threads.
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {ARGUMENTS.core % (os.cpu_count() or 1)})

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402

from metal_jax.exhaust import (  # noqa: E402
    Layer,
    LayerGrammar,
    RunRecorder,
    output_shapes,
    read_runs,
    run_of_jax,
    sample_architectures,
)

BATCH_SIZE = 128
LEARNING_RATES = (0.001, 0.003)
ACTIVATIONS = {"ReLU": jax.nn.relu, "GELU": jax.nn.gelu, "ELU": jax.nn.elu, "Tanh": jnp.tanh}


class Images(NamedTuple):
    """Standardised images and their classes."""

    x: jax.Array  # float32[n, height, width, 1]
    y: jax.Array  # int32[n]


def read_images(
    path: Path, num_train: int, num_validation: int, pool: int
) -> tuple[Images, list[Images]]:
    """The first images to train on, the last ones to validate on, in parts of a thousand."""
    with np.load(path) as file:
        x, y = file["x"], file["y"]
    if len(x) < num_train + num_validation:
        raise SystemExit(f"{path}: got {len(x)} images, expected {num_train + num_validation}")
    height, width = x.shape[1] // pool * pool, x.shape[2] // pool * pool
    x = x[:, :height, :width].reshape(len(x), height // pool, pool, width // pool, pool)
    x = x.mean((2, 4), dtype=np.float32)
    mean, deviation = x[:num_train].mean(), x[:num_train].std()
    x = jnp.asarray((x - mean) / deviation)[..., None]
    y = jnp.asarray(y, jnp.int32)
    parts = np.split(np.arange(len(x) - num_validation, len(x)), max(num_validation // 1000, 1))
    return Images(x[:num_train], y[:num_train]), [Images(x[rows], y[rows]) for rows in parts]


def init(key: jax.Array, network: Sequence[Layer], input_shape: tuple[int, ...]):
    """Weights (He's scale), and running statistics of batch normalisation, for each layer.

    Drawn on the host: on the device every new shape would be compiled.
    """
    rng = np.random.default_rng(jax.random.key_data(key).tolist())
    params, state, before = [], [], input_shape
    for layer, after in zip(network, output_shapes(network, input_shape), strict=True):
        zeros, ones = np.zeros(after[-1], np.float32), np.ones(after[-1], np.float32)
        own: dict[str, np.ndarray] = {}
        statistics: dict[str, np.ndarray] = {}
        if layer.type in ("Conv2d", "Linear"):
            kernel = (layer.hyperparameters["kernel_size"],) * 2 if layer.type == "Conv2d" else ()
            shape = (*kernel, before[-1], after[-1])
            scale = np.sqrt(2 / np.prod(shape[:-1]))
            own = {"weights": (scale * rng.normal(size=shape)).astype(np.float32), "bias": zeros}
        elif layer.type in ("BatchNorm2d", "LayerNorm"):
            own = {"scale": ones, "shift": zeros}
            if layer.type == "BatchNorm2d":
                statistics = {"mean": zeros, "variance": ones}
        params.append(own)
        state.append(statistics)
        before = after
    return params, state


def apply(params, state, network: Sequence[Layer], x: jax.Array, key: jax.Array | None):
    """Logits and the new statistics; `key` drives dropout and is None when evaluating."""
    new_state = []
    for i, layer in enumerate(network):
        own, settings, statistics = params[i], layer.hyperparameters, state[i]
        if layer.type == "Conv2d":
            stride = (settings["stride"],) * 2
            x = jax.lax.conv_general_dilated(
                x, own["weights"], stride, "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            x = x + own["bias"]
        elif layer.type == "Linear":
            x = x @ own["weights"] + own["bias"]
        elif layer.type in ("MaxPool2d", "AvgPool2d"):
            x = pool(x, layer)
        elif layer.type == "Flatten":
            x = x.reshape(len(x), -1)
        elif layer.type == "GlobalAveragePooling2d":
            x = x.mean((1, 2))
        elif layer.type == "LayerNorm":
            mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * own["scale"] + own["shift"]
        elif layer.type == "BatchNorm2d":
            mean, variance = statistics["mean"], statistics["variance"]
            if key is not None:
                axes = tuple(range(x.ndim - 1))
                batch_mean, batch_variance = x.mean(axes), x.var(axes)
                statistics = {
                    "mean": 0.9 * mean + 0.1 * batch_mean,
                    "variance": 0.9 * variance + 0.1 * batch_variance,
                }
                mean, variance = batch_mean, batch_variance
            x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * own["scale"] + own["shift"]
        elif layer.type == "Dropout":
            if key is not None:
                keep = 1 - settings["p"]
                kept = jax.random.bernoulli(jax.random.fold_in(key, i), keep, x.shape)
                x = jnp.where(kept, x / keep, 0)
        else:
            x = ACTIVATIONS[layer.type](x)
        new_state.append(statistics)
    return x, new_state


def pool(x: jax.Array, layer: Layer) -> jax.Array:
    """2 x 2 pooling; averages at the border count only what is there."""
    window = (1, layer.hyperparameters["kernel_size"], layer.hyperparameters["kernel_size"], 1)
    strides = (1, layer.hyperparameters["stride"], layer.hyperparameters["stride"], 1)
    if layer.type == "MaxPool2d":
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, strides, "SAME")
    total = jax.lax.reduce_window(x, 0.0, jax.lax.add, window, strides, "SAME")
    ones = jnp.ones((1, *x.shape[1:3], 1))
    count = jax.lax.reduce_window(ones, 0.0, jax.lax.add, window, strides, "SAME")
    return total / count


def loss_and_accuracy(logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Means over a batch."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()
    return loss, (logits.argmax(-1) == y).mean()


def start(params: Any, state: Any, optimiser: optax.GradientTransformation):
    """What a step takes and gives back; the optimiser's zeros are made on the host too."""
    zeros = jax.tree.map(
        lambda x: np.zeros(x.shape, x.dtype), jax.eval_shape(optimiser.init, params)
    )
    return jax.device_put((params, state, zeros))


def compile_network(
    network: Sequence[Layer], learning_rate: float, images: tuple[Images, list[Images]]
) -> tuple[optax.GradientTransformation, Callable[..., Any], Callable[..., Any]]:
    """One training step and the evaluation, compiled for this network."""
    train, parts = images
    optimiser = optax.flatten(optax.adam(learning_rate))  # one vector compiles faster

    def step(carry, train: Images, rows: jax.Array, key: jax.Array):
        params, state, opt_state = carry

        def objective(params):
            logits, new_state = apply(params, state, network, train.x[rows], key)
            loss, accuracy = loss_and_accuracy(logits, train.y[rows])
            return loss, (accuracy, new_state)

        (loss, (accuracy, state)), grads = jax.value_and_grad(objective, has_aux=True)(params)
        updates, opt_state = optimiser.update(grads, opt_state)
        return (optax.apply_updates(params, updates), state, opt_state), (loss, accuracy)

    def evaluate(carry, part: Images):
        logits, _ = apply(carry[0], carry[1], network, part.x, None)
        return loss_and_accuracy(logits, part.y)

    params, state = init(jax.random.key(0), network, train.x.shape[1:])
    carry = start(params, state, optimiser)
    rows = jnp.zeros(BATCH_SIZE, jnp.int32)
    # Steps are called one by one: XLA's convolutions on a CPU are several times slower in a loop.
    compiled = jax.jit(step, donate_argnums=0).lower(carry, train, rows, jax.random.key(0))
    return optimiser, compiled.compile(), jax.jit(evaluate).lower(carry, parts[0]).compile()


def record(
    recorder: RunRecorder,
    params: Any,
    state: Any,
    compiled: tuple[optax.GradientTransformation, Callable[..., Any], Callable[..., Any]],
    images: tuple[Images, list[Images]],
    key: jax.Array,
    num_epochs: int,
) -> None:
    """Train one network; train metrics are means over the epoch's steps, as Keras logs them."""
    train, parts = images
    optimiser, step, evaluate = compiled
    num_steps = len(train.y) // BATCH_SIZE
    carry = start(params, state, optimiser)
    for epoch_key in jax.random.split(key, num_epochs):
        order_key, noise_key = jax.random.split(epoch_key)
        order = jax.random.permutation(order_key, len(train.y))
        batches = list(order[: num_steps * BATCH_SIZE].reshape(num_steps, BATCH_SIZE))
        keys = list(jax.block_until_ready(jax.random.split(noise_key, num_steps)))
        logs = []
        started = time.process_time()
        for rows, step_key in zip(batches, keys, strict=True):
            carry, metrics = step(carry, train, rows, step_key)
            logs.append(metrics)
        jax.block_until_ready(carry)
        seconds = time.process_time() - started
        loss, accuracy = np.mean(jax.device_get(logs), 0)
        held_out = jax.device_get([evaluate(carry, part) for part in parts])
        held_out_loss, held_out_accuracy = np.mean(held_out, 0)
        metrics = {
            "train/loss": loss,
            "train/accuracy": accuracy,
            "validation/loss": held_out_loss,
            "validation/accuracy": held_out_accuracy,
        }
        # Five digits keep the file small and are more than the metrics are worth.
        recorder.epoch(
            {name: round(float(value), 5) for name, value in metrics.items()}, round(seconds, 5)
        )


def main(arguments: argparse.Namespace) -> None:
    """Record what is not recorded yet."""
    images = read_images(arguments.images, arguments.train, arguments.validation, arguments.pool)
    input_shape = images[0].x.shape[1:]
    grammar = LayerGrammar(input_shape=input_shape)
    networks_key, rates_key = jax.random.split(jax.random.key(arguments.networks))
    networks = sample_architectures(networks_key, arguments.num, grammar)
    rates = jax.random.randint(rates_key, (arguments.num,), 0, len(LEARNING_RATES))
    # The runs that were cut start again from their seeds, so their journals tell nothing new.
    shutil.rmtree(f"{arguments.out}.unfinished", ignore_errors=True)
    done = {run.run for run in read_runs(arguments.out).runs} if arguments.out.exists() else set()
    started = time.perf_counter()
    for i, network in enumerate(networks):
        names = [f"{arguments.networks}-{i:04}-seed{seed}" for seed in range(arguments.seeds)]
        if done.issuperset(names):
            continue
        learning_rate = LEARNING_RATES[int(rates[i])]
        compiled = compile_network(network, learning_rate, images)
        for seed, name in enumerate(names):
            if name in done:
                continue
            init_key, run_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), i))
            params, state = init(init_key, network, input_shape)
            run = run_of_jax(
                name,
                params,
                network,
                optimiser={"name": "adam", "learning_rate": learning_rate},
                batch_size=BATCH_SIZE,
                extra={"network": f"{arguments.networks}-{i:04}", "seed": seed},
            )
            with RunRecorder(arguments.out, run) as recorder:
                record(recorder, params, state, compiled, images, run_key, arguments.epochs)
            accuracy = max(recorder.run.metrics["validation"]["accuracy"].values)
            print(
                f"{name}  {accuracy:.4f}  {sum(recorder.run.seconds):6.2f} s  "
                f"{time.perf_counter() - started:7.0f} s in all",
                flush=True,
            )


if __name__ == "__main__":
    assert ARGUMENTS is not None
    main(ARGUMENTS)
