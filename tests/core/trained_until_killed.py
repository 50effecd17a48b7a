"""A training for `test_resumption.py`, in a process of its own: it may be killed at any moment."""

import os
import random
import signal
import sys
import threading
import time
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_disable_most_optimizations", True)

from metal_jax._core.batches import BatchStream  # noqa: E402
from metal_jax._core.sharding import replica_mesh  # noqa: E402
from metal_jax._core.training import train  # noqa: E402
from metal_jax._core.training_config import TrainingConfig  # noqa: E402
from metal_jax._core.training_logs import LogConfig  # noqa: E402
from metal_jax.checkpoint import CheckpointConfig, TrainingCheckpoints  # noqa: E402

RNG = np.random.default_rng(0)
DATA = {"x": RNG.normal(size=(60, 20)).astype(np.float32)}
DATA["y"] = np.sin(DATA["x"].sum(1))
KEYS = jax.random.split(jax.random.key(0), 3)
OPTIMISER = optax.adam(1e-2)


def init(key, batch):
    return {"in": jax.random.normal(key, (batch["x"].shape[1], 30)), "out": jnp.zeros(30)}


def loss(params, batch, key):
    hidden = jnp.tanh(batch["x"] @ params["in"])
    if key is not None:
        hidden = hidden * jax.random.bernoulli(key, 0.8, hidden.shape)
    return jnp.mean((hidden @ params["out"] - batch["y"]) ** 2)


def score(params, validation):
    return loss(params, validation, None)


def run(folder, log=None, num_steps=100, streamed=False, store=TrainingCheckpoints, **options):
    """Train, with checkpoints where there is a folder, and from them where they are."""
    data = DATA
    if streamed:
        data = BatchStream([{k: x[i : i + 12] for k, x in DATA.items()} for i in range(0, 60, 12)])
    checkpoints = None if folder is None else store(CheckpointConfig(folder))
    return train(
        init,
        loss,
        score,
        OPTIMISER,
        data,
        DATA,
        TrainingConfig(16, num_steps, 10, 0, ema_decay=0.9),
        KEYS,
        mesh=replica_mesh(2),  # one of the three replicas is padded
        log=None if log is None else LogConfig(log, run="a"),
        checkpoints=checkpoints,
        **options,
    )


class Doomed(TrainingCheckpoints):
    """Kills the process a random time after one of the next saves has begun."""

    left = random.randint(1, 3)

    def save(self, *arguments, **named):
        self.left -= 1
        if not self.left:
            threading.Thread(target=self.kill, daemon=True).start()
        super().save(*arguments, **named)

    @staticmethod
    def kill():
        time.sleep(random.random() * 0.5)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "True", Doomed)
