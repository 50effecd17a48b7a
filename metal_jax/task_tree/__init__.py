"""Task trees: hierarchically related classification tasks, static and hashable."""

from metal_jax.task_tree._io import (
    draw,
    from_metal_graph,
    from_metal_hierarchy,
    read_json,
    write_json,
)
from metal_jax.task_tree._sums import (
    log_normalise_roots,
    log_normalise_tasks,
    node_logsumexp,
    node_sum,
    path_sum,
    subtree_sum,
    task_max,
    task_sum,
)
from metal_jax.task_tree._tasks import Task
from metal_jax.task_tree._tree import Level, TaskTree

__all__ = [
    "Level",
    "Task",
    "TaskTree",
    "draw",
    "from_metal_graph",
    "from_metal_hierarchy",
    "log_normalise_roots",
    "log_normalise_tasks",
    "node_logsumexp",
    "node_sum",
    "path_sum",
    "read_json",
    "subtree_sum",
    "task_max",
    "task_sum",
    "write_json",
]
