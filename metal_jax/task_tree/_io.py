"""Task trees from and to files, other libraries' descriptions, and text drawings."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from metal_jax._core.files import replaced
from metal_jax._core.json_text import parse_json
from metal_jax.task_tree._tasks import Task
from metal_jax.task_tree._tree import TaskTree


def read_json(path: str | os.PathLike[str]) -> TaskTree:
    """Read a tree from a JSON file that holds the nested dict of `TaskTree.from_dict`.

    Args:
        path: the file.

    Returns:
        The tree.

    Raises:
        ValueError: not JSON, a repeated key, or not a valid tree; names the file.
        OSError: the file cannot be read.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "tree.json")
        ...     _ = path.write_text('{"pet": ["cat", "dog"]}')
        ...     read_json(path).num_leaves
        2
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        return TaskTree.from_dict(parse_json(text, unique_names=True))
    except (ValueError, RecursionError) as error:  # JSONDecodeError and bad UTF-8 are ValueErrors
        raise ValueError(f"{os.fspath(path)}: not a task tree: {error}") from error


def write_json(tree: TaskTree, path: str | os.PathLike[str]) -> None:
    """Write a tree so that `read_json` gives it back.

    Args:
        tree: the tree.
        path: the file, replaced in one step if it exists.

    Example:
        >>> import pathlib, tempfile
        >>> tree = TaskTree.from_dict({"pet": ["cat", "dog"]})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_json(tree, pathlib.Path(folder, "tree.json"))
        ...     read_json(pathlib.Path(folder, "tree.json")) == tree
        True
    """
    text = json.dumps(tree.to_dict(), indent=2, ensure_ascii=False)
    with replaced(Path(path)) as file:
        file.write(f"{text}\n".encode())


def from_metal_hierarchy(
    cardinalities: Sequence[int], edges: Sequence[tuple[int, int]] = ()
) -> TaskTree:
    """The tree of snorkel-metal's `TaskHierarchy(cardinalities, edges)`.

    There, the children of a task belong to its labels in the order of the edges: the first child
    is active under the first label, and so on; further labels are leaves. Here they are called
    "task0", "task1", ... and their labels "1", "2", ... (MeTaL's class ids).

    Args:
        cardinalities: number of labels of each task.
        edges: `(parent, child)` pairs of task indices.

    Returns:
        The tree.

    Raises:
        ValueError: an edge to an unknown task, a task with two parents, more children than
            labels, several roots, or a cycle.

    Example:
        >>> from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)]).num_leaves
        6
    """
    names = [f"task{t}" for t in range(len(cardinalities))]
    parents: dict[int, tuple[str, str]] = {}
    num_children = [0] * len(cardinalities)
    for parent, child in edges:
        for end in (parent, child):
            if not 0 <= end < len(cardinalities):
                raise ValueError(
                    f"edge {(parent, child)}: no task {end} among {len(cardinalities)} tasks"
                )
        if child in parents:
            raise ValueError(f"edge {(parent, child)}: {names[child]} already has a parent")
        num_children[parent] += 1
        if num_children[parent] > cardinalities[parent]:
            raise ValueError(
                f"edge {(parent, child)}: {names[parent]} has {cardinalities[parent]} labels "
                "but more children"
            )
        parents[child] = (names[parent], str(num_children[parent]))
    tasks = [
        Task(names[t], tuple(str(label + 1) for label in range(k)), parents.get(t))
        for t, k in enumerate(cardinalities)
    ]
    roots = [task.name for task in tasks if task.parent is None]
    if len(roots) > 1:
        raise ValueError(
            f"a hierarchy has one root, got {roots}; use from_metal_graph for a forest"
        )
    return TaskTree.from_tasks(tasks)


def from_metal_graph(cardinalities: Sequence[int]) -> TaskTree:
    """The forest of snorkel-metal's plain `TaskGraph(cardinalities)`.

    A plain `TaskGraph` allows every combination of labels (its edges carry no constraint), so each
    task becomes a root of its own.

    Args:
        cardinalities: number of labels of each task.

    Returns:
        A forest with one root for each task, named as in `from_metal_hierarchy`.

    Example:
        >>> tree = from_metal_graph([2, 3])
        >>> len(tree.roots), tree.num_leaves
        (2, 5)
    """
    return TaskTree.from_tasks(
        Task(f"task{t}", tuple(str(label + 1) for label in range(k)))
        for t, k in enumerate(cardinalities)
    )


def draw(tree: TaskTree) -> str:
    """A drawing of the tree as text, with node ids in brackets.

    Args:
        tree: the tree.

    Returns:
        One line for each task and label.

    Example:
        >>> print(draw(TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})))
        a
        ├─ x [0]
        │  └─ b
        │     ├─ u [2]
        │     └─ v [3]
        └─ y [1]
    """
    lines: list[str] = []
    stack: list[tuple[str, str, int, int]] = [
        ("", "", root, -1) for root in reversed(tree.roots)
    ]  # (prefix of this line, prefix of the lines beneath, task or -1, node or -1)
    while stack:
        lead, below, task, node = stack.pop()
        if node >= 0:
            lines.append(f"{lead}{tree.node_names[node][1]} [{node}]")
            child = int(tree.node_child[node])
            if child >= 0:
                stack.append((below + "└─ ", below + "   ", child, -1))
            continue
        lines.append(lead + tree.tasks[task].name)
        nodes = tree.task_nodes[task]
        for n in reversed(nodes):
            last = n == nodes[-1]
            stack.append(
                (below + ("└─ " if last else "├─ "), below + ("   " if last else "│  "), -1, n)
            )
    return "\n".join(lines)
