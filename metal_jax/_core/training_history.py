"""What a training run leaves behind: its curves, and arrays by name for checkpoints."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax._core.checks import leaf_types

Tree = TypeVar("Tree")


class Checkpoints(Protocol):
    """Where `train` saves; see `metal_jax.checkpoint.TrainingCheckpoints`."""

    every: int

    def restore(
        self, identity: Mapping[str, Any]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
        """Arrays and record of the newest whole checkpoint, if there is one.

        Args:
            identity: plain JSON that tells this training from others; ValueError where it differs.
        """
        ...

    def save(
        self, step: int, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any], cost: float
    ) -> None:
        """Save in the background.

        Args:
            step: steps taken.
            arrays: host arrays that nobody changes.
            record: plain JSON.
            cost: the lower, the better.
        """
        ...

    def close(self) -> None:
        """Wait until everything is saved; a second call does nothing."""
        ...


@dataclasses.dataclass
class History:
    """Curves over e evaluations of r replicas.

    Attributes:
        steps: e step numbers.
        train_loss: e arrays float[r], mean over the steps since the last evaluation.
        scores: name -> e arrays float[r].
        seconds: e wall times since the last evaluation.
    """

    steps: list[int] = dataclasses.field(default_factory=list)
    train_loss: list[np.ndarray] = dataclasses.field(default_factory=list)
    scores: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)

    def add(
        self, step: int, train_loss: np.ndarray, scores: Mapping[str, np.ndarray], seconds: float
    ) -> None:
        """Append an evaluation."""
        self.steps.append(step)
        self.train_loss.append(train_loss)
        for name, values in scores.items():
            self.scores.setdefault(name, []).append(values)
        self.seconds.append(seconds)

    def curves(self) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Train loss float[e, r] and name -> float[e, r]."""
        return np.stack(self.train_loss), {n: np.stack(v) for n, v in self.scores.items()}

    def newest(self) -> dict[str, np.ndarray]:
        """The last evaluation, as a progress callback is told: names -> float[r]."""
        scores = {f"valid_{name}": values[-1] for name, values in self.scores.items()}
        return {"train_loss": self.train_loss[-1]} | scores

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays by name, for a checkpoint."""
        train_loss, scores = self.curves()
        return {
            "history.steps": np.asarray(self.steps, np.int64),
            "history.train_loss": train_loss,
            "history.seconds": np.asarray(self.seconds, np.float64),
        } | {f"history.scores.{name}": values for name, values in scores.items()}

    @staticmethod
    def from_arrays(arrays: Mapping[str, np.ndarray]) -> History:
        """The reverse of `to_arrays`."""
        prefix = "history.scores."
        return History(
            arrays["history.steps"].tolist(),
            list(arrays["history.train_loss"]),
            {
                name.removeprefix(prefix): list(values)
                for name, values in arrays.items()
                if name.startswith(prefix)
            },
            arrays["history.seconds"].tolist(),
        )


def tree_to_arrays(tree: Any, num_replicas: int) -> dict[str, np.ndarray]:
    """Copies of the leaves on the host, by name.

    Args:
        tree: pytree of arrays with a leading axis of replicas, typed keys included.
        num_replicas: r; what is beyond them is padding.

    Returns:
        Name -> array that no later computation changes.
    """
    return {
        name: np.array(jax.random.key_data(x) if _is_key(x) else x)[:num_replicas]
        for name, x in _named(tree)
    }


def tree_from_arrays(arrays: Mapping[str, np.ndarray], like: Tree) -> Tree:
    """The reverse of `tree_to_arrays`, in the structure of `like`; keys as in `like`."""
    leaves = [
        jax.random.wrap_key_data(jnp.asarray(arrays[name]), impl=jax.random.key_impl(x))
        if _is_key(x)
        else arrays[name]
        for name, x in _named(like)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: Any) -> list[tuple[str, Any]]:
    return [
        ("state." + jax.tree_util.keystr(path, simple=True, separator="."), x)
        for path, x in jax.tree.leaves_with_path(tree)
    ]


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jax.dtypes.prng_key)


def fingerprints(tree: Any) -> dict[str, str]:
    """Name of each leaf -> its dtype, shape and checksum, to tell data from other data."""
    return {
        name: f"{kind} crc32 {zlib.crc32(np.asarray(x).tobytes()):08x}"
        for (name, kind), x in zip(leaf_types(tree).items(), jax.tree.leaves(tree), strict=True)
    }
