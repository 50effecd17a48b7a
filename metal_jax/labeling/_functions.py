"""Labelling functions: small programs that vote on a task, or on several, or abstain."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from metal_jax.task_tree import TaskTree

ABSTAIN = -1
"""The vote of a labelling function that has no opinion (Snorkel's convention)."""

NOT_ASKED = -2
"""The entry of an LF, or worker, that never saw the item, where that is known."""

Item = Any
Vote = str | tuple[str, str] | int
Votes = Vote | list[Vote] | Mapping[str, Vote]


@dataclasses.dataclass(frozen=True)
class LabelingFunction:
    """A named voter on one task, or on one task of each of several roots of a forest.

    Attributes:
        name: unique among the LFs that are applied together.
        task: the task that it votes on; with a tree of tasks it may also vote beneath it. Or
            several tasks, of different roots; `apply` makes a column of each.
        function: item -> label name, `(task, label)` pair, or `ABSTAIN`; with several tasks also a
            list of those, or a mapping from task to one.
        version: a word for what the function does now; where given, the cache of `apply` goes by it
            rather than by the function's code.
    """

    name: str
    task: str | tuple[str, ...]
    function: Callable[[Item], Votes]
    version: str | None = None

    def __call__(self, item: Item) -> Votes:
        """The vote on one item, as the function returns it."""
        return self.function(item)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks that it votes on."""
        return (self.task,) if isinstance(self.task, str) else tuple(self.task)

    @property
    def column_names(self) -> tuple[str, ...]:
        """The names of its columns: its own, or `name[task]` for each of several tasks."""
        if isinstance(self.task, str):
            return (self.name,)
        return tuple(f"{self.name}[{task}]" for task in self.tasks)


def labeling_function(
    task: str | tuple[str, ...], *, name: str | None = None, version: str | None = None
) -> Callable[[Callable[[Item], Votes]], LabelingFunction]:
    """Decorator that makes a labelling function of a plain function.

    The function returns the name of a label of `task`, or of a label further down the tree beneath
    `task` where the name is unambiguous (else a `(task, label)` pair), or `ABSTAIN`. A label with a
    child task is an inner node: the vote says "the path goes through here" and nothing more.

    On a forest an LF may vote on several roots at once. Give it a task of each, and return a list
    of labels, or a mapping from task to label where a label name is not unique; what is left out is
    an abstain. `apply` makes one column of each task, called `name[task]`.

    Args:
        task: name of the task that it votes on, or names of tasks of different roots.
        name: the LF's name; by default the function's.
        version: see `LabelingFunction`.

    Returns:
        The decorator.

    Example:
        >>> @labeling_function(task="topic")
        ... def mentions_goal(item):
        ...     return "sport" if "goal" in item else ABSTAIN
        >>> mentions_goal("an own goal")
        'sport'
        >>> @labeling_function(task=("topic", "tone"))
        ... def cheers(item):
        ...     return ["sport", "glad"] if "hurrah" in item else ABSTAIN
        >>> cheers.column_names
        ('cheers[topic]', 'cheers[tone]')
    """

    def wrap(function: Callable[[Item], Votes]) -> LabelingFunction:
        return LabelingFunction(name or function.__name__, task, function, version)

    return wrap


class VoteResolver:
    """Node ids of what LFs return; each of the few distinct returns of an LF is resolved once.

    Args:
        lfs: the labelling functions.
        tree: the task tree.
    """

    def __init__(self, lfs: Sequence[LabelingFunction], tree: TaskTree) -> None:
        """Start with nothing known."""
        self._lfs = lfs
        self._tree = tree
        self._known: list[dict[Hashable, tuple[int, ...]]] = [{} for _ in lfs]

    def __call__(self, lf: int, returned: Votes) -> tuple[int, ...]:
        """The nodes of what LF number `lf` returned; see `resolve_votes`."""
        known = self._known[lf]
        try:
            key = _hashable(returned)
            nodes = known.get(key)
        except TypeError:  # nothing that has no hash is a vote: an error that says what is
            return resolve_votes(self._lfs[lf], returned, self._tree)
        if nodes is None:
            nodes = known[key] = resolve_votes(self._lfs[lf], returned, self._tree)
        return nodes


def _hashable(returned: Votes) -> Hashable:
    """Equal for equal votes of equal types; a list never equals a pair, nor 1 True."""
    if isinstance(returned, Mapping):
        return ("mapping", *returned.items())
    if isinstance(returned, list):
        return ("list", *((type(vote), vote) for vote in returned))
    return (type(returned), returned)


def resolve_votes(lf: LabelingFunction, returned: Votes, tree: TaskTree) -> tuple[int, ...]:
    """The node ids of what an LF returned, one for each of its tasks.

    Args:
        lf: the labelling function.
        returned: what it returned.
        tree: the task tree.

    Returns:
        Node ids, `ABSTAIN` on the tasks without a vote.

    Raises:
        ValueError: not a label of one of the LF's tasks nor, unambiguously, of a task beneath one;
            another task; or two votes on one task.
    """
    nodes = [ABSTAIN] * len(lf.tasks)
    if isinstance(returned, Mapping):
        for task in returned:
            if task not in lf.tasks:
                raise ValueError(f"got a vote on task {task!r}, expected {list(lf.tasks)}")
        votes = [((task,), vote) for task, vote in returned.items()]
    else:
        votes = [(lf.tasks, vote) for vote in _as_list(returned)]
    for tasks, vote in votes:
        if isinstance(vote, numbers.Integral) and vote == ABSTAIN:  # NumPy's too
            continue
        task, node = _resolve(vote, tasks, tree)
        if nodes[lf.tasks.index(task)] != ABSTAIN:
            raise ValueError(f"got two votes on task {task!r}: {returned!r}")
        nodes[lf.tasks.index(task)] = node
    return tuple(nodes)


def _as_list(returned: Any) -> list[Vote]:
    return returned if isinstance(returned, list) else [returned]


def _resolve(vote: Vote, tasks: Sequence[str], tree: TaskTree) -> tuple[str, int]:
    """The task, of those given, that a label belongs to, and its node."""
    found: list[tuple[str, int]] = []
    # Arrays are equal to nothing as a whole.
    for name in tasks if isinstance(vote, str | int | tuple) else ():
        task = tree.task_index(name)
        beneath = [
            node
            for node, (other, label) in enumerate(tree.node_names)
            if (vote in (label, (other, label))) and _is_beneath(tree, node, task)
        ]
        own = [node for node in beneath if tree.node_task[node] == task]
        found += [(name, node) for node in own or beneath]
    if len(found) == 1:
        return found[0]
    several = " or ".join(map(repr, tasks))
    if found:
        nodes = [tree.node_names[node] for _, node in found]
        raise ValueError(f"label {vote!r} is ambiguous beneath task {several}: {nodes}")
    labels = [label for name in tasks for label in tree.tasks[tree.task_index(name)].labels]
    raise ValueError(
        f"got {vote!r}, expected ABSTAIN or a label of task {several} {labels} or of a task "
        "beneath it"
    )


def _is_beneath(tree: TaskTree, node: int, task: int) -> bool:
    """Whether `node` is a label of `task` or of a task under it."""
    path = (*tree.ancestors(node), node)
    return task in tree.node_task[list(path)]
