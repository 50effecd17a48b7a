"""Labelling functions: small programs that vote on a task, or on several, or abstain."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
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
    """

    name: str
    task: str | tuple[str, ...]
    function: Callable[[Item], Votes]

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
    task: str | tuple[str, ...], *, name: str | None = None
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
        return LabelingFunction(name or function.__name__, task, function)

    return wrap


def item_text(item: Item) -> str:
    """The text of an item: `item["text"]` of a mapping, a string itself."""
    return item["text"] if isinstance(item, Mapping) else item


def regex_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    pattern: str,
    *,
    text: Callable[[Item], str] = item_text,
    flags: int = re.IGNORECASE,
) -> LabelingFunction:
    r"""An LF that votes `label` where a regular expression is found in the text.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        pattern: a regular expression, searched anywhere in the text.
        text: item -> the text to search; by default `item["text"]`, or the item if it is a string.
        flags: flags of `re`.

    Returns:
        The labelling function.

    Raises:
        ValueError: the pattern does not compile; names the LF.

    Example:
        >>> asks_when = regex_lf("asks_when", "answer", "date", r"^(when|what year)\b")
        >>> asks_when({"text": "When did it end?"})
        'date'
    """
    try:
        compiled = re.compile(pattern, flags)
    except re.error as error:
        raise ValueError(f"LF {name!r}: bad pattern {pattern!r}: {error}") from error

    def vote(item: Item) -> Votes:
        return label if compiled.search(text(item)) else ABSTAIN

    return LabelingFunction(name, task, vote)


def keyword_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    keywords: Sequence[str],
    *,
    text: Callable[[Item], str] = item_text,
) -> LabelingFunction:
    """An LF that votes `label` where one of the keywords stands as a whole word, in any case.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        keywords: words or phrases.
        text: item -> the text to search; by default `item["text"]`, or the item if it is a string.

    Returns:
        The labelling function.

    Raises:
        ValueError: no keywords, or an empty one; names the LF.

    Example:
        >>> sport = keyword_lf("sport_words", "topic", "sport", ["goal", "match"])
        >>> sport("A rematch"), sport("The match!")
        (-1, 'sport')
    """
    if isinstance(keywords, str) or not keywords or not all(keywords):
        raise ValueError(f"LF {name!r}: expected a list of non-empty keywords, got {keywords!r}")
    alternatives = "|".join(re.escape(word) for word in keywords)
    return regex_lf(name, task, label, rf"(?<!\w)(?:{alternatives})(?!\w)", text=text)


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
        if isinstance(vote, int) and vote == ABSTAIN:
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
    for name in tasks:
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
