r"""Several processes, on one machine or many, as one computation.

Every process runs the same script, starts with `initialize` and has devices of its own; a mesh
(`data_mesh`) spans the devices of all. `examples/09_many_devices.py` shows how to launch them on a
TPU pod slice, on a cluster under Slurm and on one machine.

Who holds what:

- *Label models from streams* (`label_model.fit_stream`): each process reads votes of its own files;
  sums over items are added up over processes, and all end with the same parameters.
- *Networks*: with examples in memory every process holds all of them, and computes its devices'
  share of each batch; with an iterable each process gives its own share of each batch.
- *Checkpoints*: process 0 writes, and what it reads is sent to all.

When a process is lost the others cannot go on. Collectives that wait for it fail at once where the
connection breaks, and otherwise after `heartbeat_seconds`; started again, all go on from the last
checkpoint.
"""

from metal_jax._core.processes import (
    gather_arrays,
    gather_bytes,
    initialize,
    lost_process,
    send_to_all,
    sum_over_processes,
)
from metal_jax._core.sharding import data_mesh, replica_mesh

__all__ = [
    "data_mesh",
    "gather_arrays",
    "gather_bytes",
    "initialize",
    "lost_process",
    "replica_mesh",
    "send_to_all",
    "sum_over_processes",
]
