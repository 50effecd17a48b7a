"""Tasks, read from nested dicts, validated and put into canonical order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Task(NamedTuple):
    """One classification task.

    Attributes:
        name: unique in its tree.
        labels: the mutually exclusive labels, in the order of their class ids.
        parent: `(task name, label)` under which the task is active; None for a root task.
    """

    name: str
    labels: tuple[str, ...]
    parent: tuple[str, str] | None = None


def tasks_from_dict(spec: dict) -> list[Task]:
    """The tasks of a nested dict; see `TaskTree.from_dict`."""
    tasks: list[Task] = []

    def read(name: object, labels: object, parent: tuple[str, str] | None) -> None:
        if not isinstance(name, str):
            raise ValueError(f"a task name must be a string, got {name!r}")
        if isinstance(labels, dict):
            children = labels
        elif isinstance(labels, Sequence) and not isinstance(labels, str):
            children = {}
            for label in labels:
                if not isinstance(label, str):
                    raise ValueError(f"task {name!r}: label must be a string, got {label!r:.60}")
                if label in children:
                    raise ValueError(f"task {name!r}: label {label!r} appears twice")
                children[label] = None
        else:
            raise ValueError(f"task {name!r}: labels must be a list or a dict, got {labels!r}")
        for label in children:
            if not isinstance(label, str):
                raise ValueError(f"task {name!r}: label must be a string, got {label!r}")
        tasks.append(Task(name, tuple(children), parent))
        for label, child in children.items():
            if child is None or child == {}:
                continue
            if not isinstance(child, dict):
                raise ValueError(
                    f"task {name!r}, label {label!r}: expected None or one child task as a "
                    f"dict, got {child!r}"
                )
            for child_name, child_labels in child.items():
                read(child_name, child_labels, (name, label))

    if not isinstance(spec, dict):
        raise ValueError(f"a task tree must be a dict of task name -> labels, got {spec!r}")
    for name, labels in spec.items():
        read(name, labels, None)
    return tasks


def canonical_order(tasks: tuple[Task, ...]) -> tuple[Task, ...]:
    """Validate `tasks` and sort them breadth first."""
    if not tasks:
        raise ValueError("a task tree needs at least one task")
    by_name: dict[str, Task] = {}
    labels_of: dict[str, set[str]] = {}
    for task in tasks:
        if task.name in by_name:
            raise ValueError(f"two tasks are called {task.name!r}")
        if not task.name:
            raise ValueError("a task name must not be empty")
        if not task.labels:
            raise ValueError(f"task {task.name!r} has no labels")
        seen = labels_of[task.name] = set()
        for i, label in enumerate(task.labels):
            if not label:
                raise ValueError(f"task {task.name!r}: label {i} is empty")
            if label in seen:
                raise ValueError(f"task {task.name!r}: label {label!r} appears twice")
            seen.add(label)
        by_name[task.name] = task

    child_of: dict[tuple[str, str], Task] = {}
    for task in tasks:
        if task.parent is None:
            continue
        parent, label = task.parent
        if parent not in by_name:
            raise ValueError(f"task {task.name!r}: unknown parent task {parent!r}")
        if label not in labels_of[parent]:
            raise ValueError(
                f"task {task.name!r}: its parent task {parent!r} has no label {label!r} "
                f"(labels: {list(by_name[parent].labels)})"
            )
        if task.parent in child_of:
            raise ValueError(
                f"task {parent!r}, label {label!r}: two child tasks, "
                f"{child_of[task.parent].name!r} and {task.name!r}; a label has at most one"
            )
        child_of[task.parent] = task

    ordered = [task for task in tasks if task.parent is None]
    for task in ordered:  # grows while it is read: a breadth-first queue
        ordered += [
            child_of[task.name, label] for label in task.labels if (task.name, label) in child_of
        ]
    reached = {task.name for task in ordered}
    unreached = [task.name for task in tasks if task.name not in reached]
    if unreached:
        raise ValueError(f"tasks {unreached} hang under each other in a cycle, not under a root")
    return tuple(ordered)
