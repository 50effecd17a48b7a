"""Edit distances, LSTMs and networks by peers."""

from __future__ import annotations

import functools
import importlib

import jax
import numpy as np

from benchmarks import peers
from benchmarks.contest import Contest, Work
from benchmarks.kernels.sequences import lstm_step_case
from benchmarks.peers import PeerMissing
from benchmarks.studies import edit_distance, network_peers, network_steps
from metal_jax.exhaust import pairwise
from metal_jax.network import build


def edit_distances(num: int) -> list[Contest]:
    """All pairs of two sets of networks against a loop compiled by numba."""
    a, b = (edit_distance.networks(num, 20, seed) for seed in (0, 1))

    def numba() -> Work:
        try:
            compiler = importlib.import_module("numba")
        except ImportError as error:
            raise PeerMissing(f"numba: {error}") from error
        loop = edit_distance.compile_loop(compiler, parallel=True)
        loop(a[:2], b[:2])
        return lambda: loop(a, b)

    return [
        Contest(
            f"edit distances {num} x {num}",
            "numba, all cores",
            lambda: pairwise(a, b),
            numba,
            lambda x, y: {"largest difference": np.abs(x - y).max()},
            5,
        )
    ]


def lstm_steps(num_steps: int, b: int, h: int, rounds: int = 9) -> list[Contest]:
    """Loss and gradients of an LSTM against PyTorch's."""
    case = lstm_step_case(num_steps, b, h)
    inner, outer, x = (np.asarray(array) for array in case.arguments)
    compiled = jax.jit(case.function)
    rate = 0.01  # of the case's gradient descent, from which its gradient follows

    def ours() -> tuple[float, np.ndarray]:
        value, (after, _) = compiled(*case.arguments)
        return float(value), (inner - np.asarray(after)) / rate

    def agreement(a: tuple[float, np.ndarray], b: tuple[float, np.ndarray]) -> dict[str, float]:
        return {
            "relative difference of the loss": abs(a[0] / b[0] - 1),
            "largest difference of gradients / largest gradient": np.abs(a[1] - b[1]).max()
            / np.abs(b[1]).max(),
        }

    theirs = functools.partial(peers.torch_lstm, inner, outer, x)
    return [Contest(f"LSTM step {case.name}", "PyTorch", ours, theirs, agreement, rounds)]


def network_training(num_tasks: int, rounds: int = 9, steps: int = 5) -> list[Contest]:
    """Training steps of the plain network against PyTorch and MTEndModel."""
    tree = network_steps.tree_of(num_tasks)
    batches = network_steps.batches_for(tree)
    network = build(tree, network_steps.IDENTITY, network_steps.PLAIN)
    found = []
    for peer, start in (
        ("PyTorch, a Linear for each head", network_peers.torch_heads),
        ("PyTorch, stacked heads", network_peers.torch_stacked),
        ("snorkel-metal, MTEndModel", network_peers.metal_steps),
    ):
        compiled = network_steps.ours(network, batches)
        problem = network_steps.problem_of(network, compiled.params, batches)
        losses: dict[str, list[float]] = {"our loss": [], "their loss": []}

        def ours(compiled=compiled, losses=losses) -> None:
            losses["our loss"].append(compiled.steps(steps))

        def theirs(start=start, problem=problem, losses=losses) -> Work:
            taken = start(problem)
            return lambda: losses["their loss"].append(taken(steps))

        def agreement(a: None, b: None, losses=losses) -> dict[str, float]:
            return {f"{name} after {steps} steps": x[0] for name, x in losses.items()}

        name = f"{steps} network steps tasks={num_tasks}"
        found.append(Contest(name, peer, ours, theirs, agreement, rounds))
    return found
