"""Forward pass of trunk and heads: encoded features to conditional log-probabilities.

Inside, items are the last axis: the heads of a level that read the same are one product of
`[T W, h]` and `[h, b]`, and picking tasks or label nodes moves whole rows.

Legend: `b` batch, `f` features, `h` units of a trunk layer, `N` label nodes, `T` tasks of a level,
`W` widest of them, `V` widest of the level above, `c` tasks that read their parent's prediction,
`e` tasks with an encoder of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from metal_jax.network._compiler.keys import name_key
from metal_jax.network._compiler.plan import LevelPlan, Plan, Reading
from metal_jax.task_tree import Level


def apply_tower(
    plan: Plan,
    params: Mapping[str, Any],
    features: jax.Array,
    own_features: Mapping[str, jax.Array],
    key: jax.Array | None,
    *,
    dropout: ArrayLike,
    stop_parent_gradient: bool,
) -> jax.Array:
    """Conditional log-probabilities of every label node.

    Args:
        plan: of the tree.
        params: from `init_tower`; everything is computed in their dtype.
        features: [b, f], of the shared encoder.
        own_features: task name -> [b, features], of the task's own encoder.
        key: drives dropout, folded by name; None when predicting.
        dropout: after each trunk layer.
        stop_parent_gradient: see `NetworkConfig`.

    Returns:
        float[b, N], `log P(label | parent label)`.
    """
    features = features.astype(params["trunk_0"]["kernel"].dtype)
    hidden, layers = features, []
    for i in range(len(plan.widths)):
        layer = params[f"trunk_{i}"]
        hidden = jax.nn.relu(hidden @ layer["kernel"] + layer["bias"])
        hidden = drop(hidden, dropout, key, f"trunk_{i}")
        layers.append(hidden)
    by_level: list[jax.Array] = []
    above: jax.Array | None = None  # [T, W, b] logits of the level above, -inf where padded
    for depth, level in enumerate(plan.levels):
        heads = params[f"heads_{depth}"]
        logits = _read(level.trunk, heads["kernel"], layers, key) + heads["bias"][..., None]
        if level.wide:
            more = _read(level.wide, heads["wide_kernel"], [features], key)
            logits = _add_rows(logits, level.wide_rows, more)
        if above is not None and level.passed:
            passed = _predictions(level.passed, above, plan.levels[depth - 1].level)
            if stop_parent_gradient:
                passed = jax.lax.stop_gradient(passed)
            more = jnp.einsum("cvw,cvb->cwb", heads["parent_kernel"], passed[level.passed_rows])
            logits = _add_rows(logits, level.child_rows, more)
        if level.encoder_tasks:
            more = _read_own(level, heads["encoder_kernels"], own_features)
            logits = _add_rows(logits, level.encoder_rows, more)
        mask = level.level.mask
        if not mask.all():
            logits = jnp.where(mask[..., None], logits, -jnp.inf)
        # Sums of exponentials want more than the half precision that the rest may be in.
        exact = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        by_level.append(_label_rows(jax.nn.log_softmax(exact, axis=1), mask))
        above = logits
    return jnp.concatenate(by_level).T


def drop(x: jax.Array, rate: ArrayLike, key: jax.Array | None, *names: str) -> jax.Array:
    """Inverted dropout with the key of a name; nothing without a key or a rate."""
    if key is None or (isinstance(rate, int | float) and rate == 0):
        return x
    kept = jax.random.bernoulli(name_key(key, "dropout", *names), 1 - rate, x.shape)
    return jnp.where(kept, x / jnp.asarray(1 - rate, x.dtype), 0)


def _read(
    readings: Sequence[Reading],
    kernel: jax.Array,
    sources: Sequence[jax.Array],
    key: jax.Array | None,
) -> jax.Array:
    """float[heads, W, b], what heads make of [b, h] sources: a product for each reading."""
    parts = []
    for reading in readings:
        read = drop(sources[reading.source], reading.dropout, key, *map(str, reading[1:]))
        own = kernel if len(readings) == 1 else kernel[reading.rows, : read.shape[-1]]
        parts.append(jnp.einsum("thw,bh->twb", own, read))
    if len(parts) == 1:
        return parts[0]
    order = np.argsort(np.concatenate([reading.rows for reading in readings]))
    return jnp.concatenate(parts)[order.astype(np.int32)]


def _predictions(kinds: Sequence[str], logits: jax.Array, level: Level) -> jax.Array:
    """float[kinds T, W, b], what the heads of a level pass down, 0 where padded."""
    passed = {
        "logits": lambda: jnp.where(level.mask[..., None], logits, 0),
        "probabilities": lambda: jax.nn.softmax(logits, axis=1),
    }
    return jnp.concatenate([passed[kind]() for kind in kinds])


def _read_own(
    level: LevelPlan, kernels: Mapping[str, jax.Array], features: Mapping[str, jax.Array]
) -> jax.Array:
    """float[e, W, b], what heads make of encoders of their own."""
    parts = []
    for name in level.encoder_tasks:
        part = kernels[name].T @ features[name].astype(kernels[name].dtype).T
        padding = level.level.nodes.shape[1] - len(part)
        parts.append(jnp.pad(part, ((0, padding), (0, 0))))
    return jnp.stack(parts)


def _add_rows(values: jax.Array, rows: np.ndarray, more: jax.Array) -> jax.Array:
    """`values[rows] + more`, the other rows as they are; ascending rows."""
    if len(rows) == len(values):
        return values + more
    return values.at[rows].add(more, unique_indices=True, indices_are_sorted=True)


def _label_rows(values: jax.Array, mask: np.ndarray) -> jax.Array:
    """float[nodes of the level, b] from float[T, W, b], the padding left out."""
    values = values.reshape(-1, values.shape[-1])
    return values if mask.all() else values[np.flatnonzero(mask).astype(np.int32)]
