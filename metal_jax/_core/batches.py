"""Batches for training: random order of data on the device, or a stream that does not fit there.

Legend: n items, b of a batch, k batches.
"""

from __future__ import annotations

import base64
import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.checks import leaf_types
from metal_jax._core.sharding import tree_map_axes


def epoch_order(key: jax.Array, epoch: jax.Array, num_items: int) -> jax.Array:
    """The items of an epoch in random order, a fresh one for each from `fold_in(key, epoch)`.

    Args:
        key: folded, not consumed.
        epoch: int32[].
        num_items: n (static).

    Returns:
        int32[n].
    """
    return jax.random.permutation(jax.random.fold_in(key, epoch), num_items)


class BatchStream:
    """Batches of an iterable, pass after pass, with a position that can be saved and restored.

    Where the iterator has `get_state` and `set_state`, as those of Grain, its state is saved;
    otherwise `restore` reads and drops as many batches as were read, and says so in a warning: for
    a bit-identical resumption the iterable must then yield the same batches every time.

    Args:
        batches: pytrees of arrays with a leading axis of items, all of the same shapes; passed
            through again and again, but an iterator only once.
        prepare: applied to each batch that is taken.

    Example:
        >>> stream = BatchStream([np.zeros(2), np.ones(2)])
        >>> [batch.tolist() for batch in stream.take(3)]
        [[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]
        >>> stream.state()
        {'num_read': 3, 'iterator': None}
    """

    def __init__(self, batches: Iterable[Any], prepare: Callable[[Any], Any] = lambda batch: batch):
        """Begin the first pass."""
        self._batches = batches
        self.prepare = prepare
        self._iterator = iter(batches)
        self._once = self._iterator is batches
        self._ahead: list[Any] = []
        self._num_read = 0

    def first(self) -> Any:
        """The first batch as the iterable gave it, which `take` will give again, prepared.

        Raises:
            ValueError: there is none.
        """
        if not self._ahead:
            self._ahead = self._read(1)
        if not self._ahead:
            raise ValueError("the iterable of batches is empty")
        return self._ahead[0]

    def take(self, num: int) -> list[Any]:
        """The next batches; fewer than `num` when an iterator has come to its end."""
        taken, self._ahead = self._ahead[:num], self._ahead[num:]
        taken += self._read(num - len(taken))
        self._num_read += len(taken)
        return [self.prepare(batch) for batch in taken]

    def _read(self, num: int) -> list[Any]:
        batches = []
        fresh = False
        while len(batches) < num:
            try:
                batch = next(self._iterator)
            except StopIteration:
                if self._once or fresh:  # a pass without a batch would go on for ever
                    break
                self._iterator, fresh = iter(self._batches), True
                continue
            fresh = False
            batches.append(batch)
        return batches

    def state(self) -> dict[str, Any]:
        """The position, as plain JSON.

        Raises:
            ValueError: the iterator's state is neither bytes nor JSON, or the first batch was
                looked at but not taken.
        """
        if self._ahead:
            raise ValueError("the first batch was not taken yet")
        get_state = getattr(self._iterator, "get_state", None)
        found = None if get_state is None else _state_to_json(get_state())
        return {"num_read": self._num_read, "iterator": found}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go to a position.

        Args:
            state: from `state`, of a stream of the same batches.

        Raises:
            ValueError: the batches end before it, or the iterator cannot take the state.
        """
        found, num = state["iterator"], state["num_read"]
        if found is not None:
            set_state = getattr(self._iterator, "set_state", None)
            if set_state is None:
                raise ValueError("the saved position is an iterator's state; this one has none")
            set_state(_state_from_json(found))
            self._ahead, self._num_read = [], num
            return
        warnings.warn(
            f"the iterator of batches has no get_state: {num} batches are read and dropped",
            stacklevel=2,
        )
        if len(self.take(num - self._num_read)) < num:
            raise ValueError(f"the batches end before the saved position, {num}")


def _state_to_json(state: Any) -> Any:
    if isinstance(state, bytes):
        return {"base64": base64.b64encode(state).decode("ascii")}
    try:
        return {"json": json.loads(json.dumps(state))}
    except TypeError as error:
        raise ValueError(
            f"got an iterator state of type {type(state).__name__}, expected bytes or JSON: {error}"
        ) from error


def _state_from_json(state: Mapping[str, Any]) -> Any:
    return base64.b64decode(state["base64"]) if "base64" in state else state["json"]


def stack_batches(batches: list[Any], axes: Any, size: int) -> Any:
    """Stack batches so that a compiled loop can pick them one by one.

    Args:
        batches: k pytrees of the same structure and shapes.
        axes: of the replicas, as `in_axes` of `over_replicas`: the new axis stands after theirs.
        size: length of the new axis; the last batch is repeated, so that one program serves all.

    Returns:
        The pytree, each leaf with the new axis.

    Raises:
        ValueError: batches that differ in structure or shapes.
    """
    shapes = [leaf_types(batch) for batch in batches]
    for number, other in enumerate(shapes):
        if other != shapes[0]:
            raise ValueError(
                f"batch {number} of {len(batches)} read: got {other}, expected {shapes[0]}; drop "
                "the remainder, or fill it with items of weight 0"
            )
    padded = batches + batches[-1:] * (size - len(batches))

    def stack(axis: int | None, *parts: Any) -> Any:
        at = 0 if axis is None else 1
        return jax.tree.map(lambda *x: _stacker(x[0])(x, axis=at), *parts)

    return tree_map_axes(stack, axes, *padded)


def _stacker(leaf: Any) -> Callable[..., Any]:
    """Arrays on the host stay there until the whole block moves."""
    return jnp.stack if isinstance(leaf, jax.Array) else np.stack
