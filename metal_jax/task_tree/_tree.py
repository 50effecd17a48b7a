"""The task tree: hierarchically related classification tasks as one static, hashable value.

A task has labels; a child task hangs under **one label** of its parent and is *active* on the items
whose path goes through that label. A leaf state is a root-to-leaf path of labels. Several roots
make a forest. (Ratner et al., "Snorkel MeTaL", DEEM 2018, section 3; "Training Complex Models with
Multi-Task Weak Supervision", AAAI 2019, section 3.)

Numbering. A *label node* is a (task, label) pair. Nodes are numbered task by task, breadth first,
so the labels of a single task are 0 .. k-1 and a coarse class keeps its number when finer tasks are
hung beneath it. *Leaves* are numbered depth first, so those beneath any node are contiguous.

Legend: `N` label nodes, `s` leaf states, `t` tasks.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from metal_jax.task_tree._tasks import Task, canonical_order, tasks_from_dict


class Level(NamedTuple):
    """The tasks of one depth, stacked and padded to the widest.

    Attributes:
        tasks: int32[T], indices into `TaskTree.tasks`.
        nodes: int32[T, W], label nodes of each task, -1 where padded.
        mask: bool[T, W], which entries of `nodes` are real.
        parents: int32[T], the label node that each task hangs under, -1 for roots.
    """

    tasks: np.ndarray
    nodes: np.ndarray
    mask: np.ndarray
    parents: np.ndarray


@dataclasses.dataclass(frozen=True)
class TaskTree:
    """Hierarchically related tasks. Static and hashable: pass it as a static argument to `jax.jit`.

    Build one with `TaskTree.from_tasks`, `from_dict`, `single`, or the readers of this package; the
    bare constructor expects tasks that are already validated and in canonical order.

    Attributes:
        tasks: the tasks, breadth first: roots as given, then children in the order of their
            parent's labels.

    Example:
        >>> tree = TaskTree.from_dict(
        ...     {"triage": {"normal": None, "abnormal": {"urgency": ["chronic", "urgent"]}}}
        ... )
        >>> tree.num_leaves, tree.num_nodes
        (3, 4)
        >>> tree.leaf_paths[1]
        (('triage', 'abnormal'), ('urgency', 'chronic'))
        >>> tree.node("urgency", "urgent")
        3
    """

    tasks: tuple[Task, ...]

    # ---- constructors ---------------------------------------------------------------------------

    @classmethod
    def from_tasks(cls, tasks: Iterable[Task]) -> TaskTree:
        """Validate tasks given in any order and put them into canonical order.

        Args:
            tasks: the tasks; the order matters for roots only.

        Returns:
            The tree.

        Raises:
            ValueError: no task, a repeated task or label, an empty label list, an unknown parent
                task or label, two child tasks under one label, or a cycle; names the task and
                label.
        """
        return cls(canonical_order(tuple(tasks)))

    @classmethod
    def from_dict(cls, spec: dict) -> TaskTree:
        """Read a nested dict: task name -> labels, a label -> None (leaf) or one child task.

        Args:
            spec: `{task: labels}` with one entry for each root. `labels` is a list of label names
                (all leaves) or a dict from label name to None or `{child task: its labels}`.

        Returns:
            The tree; `from_dict(tree.to_dict()) == tree`.

        Raises:
            ValueError: a malformed entry, or anything that `from_tasks` rejects.
        """
        return cls.from_tasks(tasks_from_dict(spec))

    @classmethod
    def single(cls, labels: int | Sequence[str], name: str = "label") -> TaskTree:
        """A tree of one task: `labels` names, or their number (then named "0", "1", ...)."""
        names = [str(i) for i in range(labels)] if isinstance(labels, int) else labels
        return cls.from_tasks([Task(name, tuple(names))])

    def to_dict(self) -> dict:
        """The nested dict that `from_dict` reads."""

        def labels_of(task: Task) -> dict | list:
            children = {label: self._child_of.get((task.name, label)) for label in task.labels}
            if not any(children.values()):
                return list(task.labels)
            return {
                label: None if child is None else {child.name: labels_of(child)}
                for label, child in children.items()
            }

        return {task.name: labels_of(task) for task in self.tasks if task.parent is None}

    # ---- sizes and names ------------------------------------------------------------------------

    @property
    def num_tasks(self) -> int:
        """Number of tasks, `t`."""
        return len(self.tasks)

    @property
    def num_nodes(self) -> int:
        """Number of label nodes, `N`."""
        return sum(len(task.labels) for task in self.tasks)

    @property
    def num_leaves(self) -> int:
        """Number of leaf states, `s`, summed over the roots of a forest."""
        return len(self.leaf_nodes)

    @property
    def depth(self) -> int:
        """Number of levels of tasks; 1 for a single task."""
        return len(self.levels)

    @functools.cached_property
    def node_names(self) -> tuple[tuple[str, str], ...]:
        """`(task, label)` of every node."""
        return tuple((task.name, label) for task in self.tasks for label in task.labels)

    @functools.cached_property
    def _node_index(self) -> dict[tuple[str, str], int]:
        return {name: i for i, name in enumerate(self.node_names)}

    @functools.cached_property
    def _child_of(self) -> dict[tuple[str, str], Task]:
        return {task.parent: task for task in self.tasks if task.parent is not None}

    @functools.cached_property
    def _task_index(self) -> dict[str, int]:
        return {task.name: i for i, task in enumerate(self.tasks)}

    def task_index(self, name: str) -> int:
        """Index of the task called `name`; ValueError when there is none."""
        if name not in self._task_index:
            raise ValueError(f"no task {name!r}; the tasks are {[t.name for t in self.tasks]}")
        return self._task_index[name]

    def node(self, task: str, label: str) -> int:
        """Node id of `label` of `task`; ValueError when there is none."""
        found = self._node_index.get((task, label))
        if found is None:
            labels = self.tasks[self.task_index(task)].labels
            raise ValueError(f"task {task!r} has no label {label!r}; its labels are {list(labels)}")
        return found

    # ---- node table -----------------------------------------------------------------------------

    @functools.cached_property
    def task_nodes(self) -> tuple[range, ...]:
        """The contiguous node ids of each task."""
        stops = np.cumsum([len(task.labels) for task in self.tasks]).tolist()
        starts = [0, *stops[:-1]]
        return tuple(range(a, b) for a, b in zip(starts, stops, strict=True))

    @functools.cached_property
    def node_task(self) -> np.ndarray:
        """int32[N], the task of each node."""
        sizes = [len(task.labels) for task in self.tasks]
        return np.repeat(np.arange(self.num_tasks, dtype=np.int32), sizes)

    @functools.cached_property
    def node_label(self) -> np.ndarray:
        """int32[N], the class id of each node within its task."""
        return np.concatenate([np.arange(len(t.labels), dtype=np.int32) for t in self.tasks])

    @functools.cached_property
    def task_parent(self) -> np.ndarray:
        """int32[t], the node that each task hangs under, -1 for roots."""
        parents = [-1 if t.parent is None else self._node_index[t.parent] for t in self.tasks]
        return np.asarray(parents, np.int32)

    @functools.cached_property
    def node_parent(self) -> np.ndarray:
        """int32[N], the node above each node, -1 for labels of a root."""
        return self.task_parent[self.node_task]

    @functools.cached_property
    def node_child(self) -> np.ndarray:
        """int32[N], the task that hangs under each node, -1 for leaves."""
        child = np.full(self.num_nodes, -1, np.int32)
        inner = self.task_parent >= 0
        child[self.task_parent[inner]] = np.flatnonzero(inner)
        return child

    @functools.cached_property
    def node_depth(self) -> np.ndarray:
        """int32[N], 0 for labels of a root task."""
        depth = np.zeros(self.num_nodes, np.int32)
        for node, parent in enumerate(self.node_parent):  # parents come first
            depth[node] = 0 if parent < 0 else depth[parent] + 1
        return depth

    @functools.cached_property
    def leaf_nodes(self) -> np.ndarray:
        """int32[s], the node of each leaf, depth first."""
        order: list[int] = []
        stack = [n for task in self.roots[::-1] for n in self.task_nodes[task][::-1]]
        while stack:
            node = stack.pop()
            child = self.node_child[node]
            if child < 0:
                order.append(node)
            else:
                stack.extend(self.task_nodes[child][::-1])
        return np.asarray(order, np.int32)

    @functools.cached_property
    def node_leaf(self) -> np.ndarray:
        """int32[N], the leaf of each node, -1 for inner nodes."""
        leaf = np.full(self.num_nodes, -1, np.int32)
        leaf[self.leaf_nodes] = np.arange(self.num_leaves)
        return leaf

    @functools.cached_property
    def node_leaves(self) -> np.ndarray:
        """int32[N, 2], first and past-the-last leaf beneath each node."""
        spans = np.empty((self.num_nodes, 2), np.int32)
        for node in range(self.num_nodes - 1, -1, -1):  # children come last
            child = self.node_child[node]
            if child < 0:
                spans[node] = self.node_leaf[node], self.node_leaf[node] + 1
            else:
                nodes = self.task_nodes[child]
                spans[node] = spans[nodes[0], 0], spans[nodes[-1], 1]
        return spans

    @functools.cached_property
    def roots(self) -> tuple[int, ...]:
        """Indices of the root tasks; one for a tree, several for a forest."""
        return tuple(np.flatnonzero(self.task_parent < 0).tolist())

    @functools.cached_property
    def root_leaves(self) -> tuple[slice, ...]:
        """The contiguous leaves of each root task."""
        spans = [self.node_leaves[list(self.task_nodes[root])] for root in self.roots]
        return tuple(slice(int(span[0, 0]), int(span[-1, 1])) for span in spans)

    @functools.cached_property
    def node_root(self) -> np.ndarray:
        """int32[N], position in `roots` of the root above each node."""
        root = np.empty(self.num_nodes, np.int32)
        for position, span in enumerate(self.root_leaves):
            first = self.node_leaves[:, 0]
            root[(first >= span.start) & (first < span.stop)] = position
        return root

    @functools.cached_property
    def covers(self) -> np.ndarray:
        """bool[N, s], whether the path to a leaf goes through a node."""
        leaf = np.arange(self.num_leaves)
        return (self.node_leaves[:, :1] <= leaf) & (leaf < self.node_leaves[:, 1:])

    @functools.cached_property
    def levels(self) -> tuple[Level, ...]:
        """The tasks of each depth, stacked and padded to the widest task of the level."""
        task_depth = self.node_depth[[nodes[0] for nodes in self.task_nodes]]
        levels = []
        for depth in range(int(task_depth.max()) + 1):
            tasks = np.flatnonzero(task_depth == depth).astype(np.int32)
            width = max(len(self.task_nodes[t]) for t in tasks)
            nodes = np.full((len(tasks), width), -1, np.int32)
            for row, t in enumerate(tasks):
                nodes[row, : len(self.task_nodes[t])] = self.task_nodes[t]
            levels.append(Level(tasks, nodes, nodes >= 0, self.task_parent[tasks]))
        return tuple(levels)

    # ---- paths ----------------------------------------------------------------------------------

    def ancestors(self, node: int) -> tuple[int, ...]:
        """The nodes strictly above `node`, from the root down."""
        if not 0 <= node < self.num_nodes:
            raise ValueError(f"node must be in 0..{self.num_nodes - 1}, got {node}")
        path = []
        while (node := int(self.node_parent[node])) >= 0:
            path.append(node)
        return tuple(path[::-1])

    @functools.cached_property
    def leaf_paths(self) -> tuple[tuple[tuple[str, str], ...], ...]:
        """For each leaf its `(task, label)` pairs from the root down."""
        return tuple(
            tuple(self.node_names[n] for n in (*self.ancestors(leaf), leaf))
            for leaf in self.leaf_nodes.tolist()
        )

    @functools.cached_property
    def node_task_labels(self) -> np.ndarray:
        """int32[N, t], the label of each task on the path to a node, -1 off the path."""
        table = np.full((self.num_nodes, self.num_tasks), -1, np.int32)
        for node in range(self.num_nodes):
            if self.node_parent[node] >= 0:
                table[node] = table[self.node_parent[node]]
            table[node, self.node_task[node]] = self.node_label[node]
        return table

    def task_labels(self, nodes: np.ndarray) -> np.ndarray:
        """Gold node ids as one column of class ids for each task.

        Args:
            nodes: int[...], node ids, -1 where unknown.

        Returns:
            int32[..., t], -1 where the node is unknown or the task is not on its path.
        """
        nodes = np.asarray(nodes)
        table = np.vstack([self.node_task_labels, np.full((1, self.num_tasks), -1, np.int32)])
        return table[nodes]
