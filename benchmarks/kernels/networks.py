"""The compiled network: forward pass, training step, several members at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from benchmarks.harness import Case
from benchmarks.studies.network_steps import (
    DEFAULT,
    IDENTITY,
    LEARNING_RATE,
    WEIGHT_DECAY,
    batches_for,
    tree_of,
)
from metal_jax.network import build, leaf_log_probs, soft_label_loss

_TASKS = {"ci": (3,), "small": (1, 10), "full": (1, 10, 100, 1000)}


def _problem(num_tasks: int) -> tuple[Any, Any, jax.Array, jax.Array]:
    tree = tree_of(num_tasks)
    network, batches = build(tree, IDENTITY, DEFAULT), batches_for(tree)
    features, labels = jnp.asarray(batches.features[0]), jnp.asarray(batches.node_probs[0])
    params = jax.jit(network.init)(jax.random.key(0), features)
    return network, params, features, labels


def _products(params: Any, batch: int) -> int:
    """Operations of the matrix products of a forward pass."""
    return 2 * batch * sum(x.size for x in jax.tree.leaves(params) if x.ndim > 1)


def forward(sizes: str) -> list[Case]:
    """Log-probabilities of the leaves of 256 items."""
    cases = []
    for num_tasks in _TASKS[sizes]:
        network, params, features, _ = _problem(num_tasks)
        cases.append(
            Case(
                f"tasks={num_tasks}",
                lambda params, x, network=network: leaf_log_probs(network, params, x),
                (params, features),
                operations=_products(params, len(features)),
                note="matrix products",
            )
        )
    return cases


def _step(network: Any):
    optimiser = optax.adamw(LEARNING_RATE, weight_decay=WEIGHT_DECAY)

    def step(params: Any, state: Any, x: jax.Array, node_probs: jax.Array):
        def loss(params: Any) -> jax.Array:
            return jnp.mean(soft_label_loss(network.apply(params, x), node_probs))

        value, grads = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(grads, state, params)
        return optax.apply_updates(params, updates), state, value

    return optimiser, step


def steps(sizes: str) -> list[Case]:
    """A training step on 256 items: forward, backward, AdamW."""
    return [step_case(num_tasks) for num_tasks in _TASKS[sizes]]


def step_case(num_tasks: int) -> Case:
    """The training step of one network."""
    network, params, features, labels = _problem(num_tasks)
    optimiser, step = _step(network)
    return Case(
        f"tasks={num_tasks}",
        step,
        (params, optimiser.init(params), features, labels),
        operations=3 * _products(params, len(features)),
        note="matrix products, the backward pass as two forward ones",
    )


def ensemble(sizes: str) -> list[Case]:
    """A training step of several members at once, on the same items."""
    members, num_tasks = (2, 2) if sizes == "ci" else (8, 10)
    network, params, features, labels = _problem(num_tasks)
    optimiser, step = _step(network)
    keys = jax.random.split(jax.random.key(0), members)
    many = jax.vmap(network.init, in_axes=(0, None))(keys, features)
    return [
        Case(
            f"members={members} tasks={num_tasks}",
            jax.vmap(step, in_axes=(0, 0, None, None)),
            (many, jax.vmap(optimiser.init)(many), features, labels),
            operations=3 * members * _products(params, len(features)),
            note="matrix products, the backward pass as two forward ones",
        )
    ]
