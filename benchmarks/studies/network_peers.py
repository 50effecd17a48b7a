"""Training steps of multi-task networks by peers: the same function, start, data and optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers import PeerMissing, metal_end_model

Steps = Callable[[int], float]
"""Take so many further steps; the loss of the last."""


class Problem(NamedTuple):
    """A network without `wide` and without parents' predictions, as plain arrays.

    Attributes:
        trunk: kernel [f, h] and bias [h] of each layer.
        heads: kernel [h, k] and bias [k] of each task.
        layers: the trunk layer that each head reads.
        features: float32[batches, b, f].
        labels: for each task float32[batches, b, k], soft labels that sum to its activity.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
    """

    trunk: Sequence[tuple[np.ndarray, np.ndarray]]
    heads: Sequence[tuple[np.ndarray, np.ndarray]]
    layers: Sequence[int]
    features: np.ndarray
    labels: Sequence[np.ndarray]
    learning_rate: float
    weight_decay: float


def torch_heads(problem: Problem, *, compiled: bool = False) -> Steps:
    """PyTorch as it is commonly written: a `Linear` for each task, a sum of cross-entropies."""
    torch = _torch()
    trunk = torch.nn.ModuleList(_linear(torch, *layer) for layer in problem.trunk)
    heads = torch.nn.ModuleList(_linear(torch, *head) for head in problem.heads)
    cross_entropy = torch.nn.functional.cross_entropy

    def loss(x: Any, labels: Sequence[Any]) -> Any:
        hidden = []
        for layer in trunk:
            x = torch.relu(layer(x))
            hidden.append(x)
        return sum(
            cross_entropy(head(hidden[layer]), target)
            for head, layer, target in zip(heads, problem.layers, labels, strict=True)
        )

    features = torch.tensor(problem.features)
    labels = [torch.tensor(target) for target in problem.labels]
    batches = [(x, [target[i] for target in labels]) for i, x in enumerate(features)]
    parameters = [*trunk.parameters(), *heads.parameters()]
    return _torch_steps(
        torch, problem, torch.compile(loss) if compiled else loss, parameters, batches
    )


def torch_stacked(problem: Problem) -> Steps:
    """PyTorch with one `Linear` for the heads of a layer, equal label counts, fused AdamW."""
    torch = _torch()
    trunk = torch.nn.ModuleList(_linear(torch, *layer) for layer in problem.trunk)
    used = sorted(set(problem.layers))
    tasks = {layer: [t for t, at in enumerate(problem.layers) if at == layer] for layer in used}
    heads = torch.nn.ModuleList(
        _linear(
            torch,
            np.concatenate([problem.heads[t][0] for t in tasks[layer]], axis=1),
            np.concatenate([problem.heads[t][1] for t in tasks[layer]]),
        )
        for layer in used
    )

    def loss(x: Any, labels: Sequence[Any]) -> Any:
        hidden = []
        for layer in trunk:
            x = torch.relu(layer(x))
            hidden.append(x)
        total = 0
        for head, layer, target in zip(heads, used, labels, strict=True):
            log_p = torch.log_softmax(head(hidden[layer]).view(target.shape), dim=-1)
            total = total - (target * log_p).sum() / len(target)
        return total

    features = torch.tensor(problem.features)
    labels = [
        torch.tensor(np.stack([problem.labels[t] for t in tasks[layer]], axis=2)) for layer in used
    ]
    batches = [(x, [target[i] for target in labels]) for i, x in enumerate(features)]
    parameters = [*trunk.parameters(), *heads.parameters()]
    return _torch_steps(torch, problem, loss, parameters, batches, fused=True)


def metal_steps(problem: Problem) -> Steps:
    """snorkel-metal's `MTEndModel` with its loss, fed whole batches past its own data loader.

    It cannot pass predictions here: it stacks tensors of unequal width.
    """
    torch = _torch()
    end_model, task_graph = metal_end_model()
    widths = [problem.features.shape[-1], *(kernel.shape[1] for kernel, _ in problem.trunk)]
    model = end_model(
        widths,
        task_graph=task_graph([kernel.shape[1] for kernel, _ in problem.heads]),
        task_head_layers=[layer + 1 for layer in problem.layers],
        verbose=False,
        seed=0,
    )
    with torch.no_grad():
        modules = [layer[0] for layer in model.middle_layers]
        pairs = zip([*modules, *model.heads], [*problem.trunk, *problem.heads], strict=True)
        for module, (kernel, bias) in pairs:
            module.weight.copy_(torch.tensor(kernel.T))
            module.bias.copy_(torch.tensor(bias))
    model.train()
    features = torch.tensor(problem.features)
    labels = [torch.tensor(target) for target in problem.labels]
    batches = [(x, [target[i] for target in labels]) for i, x in enumerate(features)]
    return _torch_steps(torch, problem, model._get_loss_fn(), [*model.parameters()], batches)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise PeerMissing(f"torch: {error}") from error
    return torch


def _linear(torch: Any, kernel: np.ndarray, bias: np.ndarray) -> Any:
    module = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        module.weight.copy_(torch.tensor(kernel.T))
        module.bias.copy_(torch.tensor(bias))
    return module


def _torch_steps(
    torch: Any,
    problem: Problem,
    loss: Callable[[Any, Any], Any],
    parameters: Sequence[Any],
    batches: Sequence[tuple[Any, Any]],
    *,
    fused: bool = False,
) -> Steps:
    optimiser = torch.optim.AdamW(
        parameters, lr=problem.learning_rate, weight_decay=problem.weight_decay, fused=fused or None
    )
    taken = 0

    def steps(num_steps: int) -> float:
        nonlocal taken
        value = None
        for _ in range(num_steps):
            optimiser.zero_grad()
            value = loss(*batches[taken % len(batches)])
            value.backward()
            optimiser.step()
            taken += 1
        return float(value.detach())

    return steps
