"""Labelling functions: small programs that vote on one task, or abstain."""

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


@dataclasses.dataclass(frozen=True)
class LabelingFunction:
    """A named voter on one task.

    Attributes:
        name: unique among the LFs that are applied together.
        task: the task that it votes on; with a tree of tasks it may also vote beneath it.
        function: item -> label name, `(task, label)` pair, or `ABSTAIN`.
    """

    name: str
    task: str
    function: Callable[[Item], Vote]

    def __call__(self, item: Item) -> Vote:
        """The vote on one item, as the function returns it."""
        return self.function(item)


def labeling_function(
    task: str, *, name: str | None = None
) -> Callable[[Callable[[Item], Vote]], LabelingFunction]:
    """Decorator that makes a labelling function of a plain function.

    The function returns the name of a label of `task`, or of a label further down the tree beneath
    `task` where the name is unambiguous (else a `(task, label)` pair), or `ABSTAIN`. A label with a
    child task is an inner node: the vote says "the path goes through here" and nothing more.

    Args:
        task: name of the task that it votes on.
        name: the LF's name; by default the function's.

    Returns:
        The decorator.

    Example:
        >>> @labeling_function(task="topic")
        ... def mentions_goal(item):
        ...     return "sport" if "goal" in item else ABSTAIN
        >>> mentions_goal("an own goal")
        'sport'
    """

    def wrap(function: Callable[[Item], Vote]) -> LabelingFunction:
        return LabelingFunction(name or function.__name__, task, function)

    return wrap


def item_text(item: Item) -> str:
    """The text of an item: `item["text"]` of a mapping, a string itself."""
    return item["text"] if isinstance(item, Mapping) else item


def regex_lf(
    name: str,
    task: str,
    label: Vote,
    pattern: str,
    *,
    text: Callable[[Item], str] = item_text,
    flags: int = re.IGNORECASE,
) -> LabelingFunction:
    r"""An LF that votes `label` where a regular expression is found in the text.

    Args:
        name: its name.
        task: the task that it votes on.
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

    def vote(item: Item) -> Vote:
        return label if compiled.search(text(item)) else ABSTAIN

    return LabelingFunction(name, task, vote)


def keyword_lf(
    name: str,
    task: str,
    label: Vote,
    keywords: Sequence[str],
    *,
    text: Callable[[Item], str] = item_text,
) -> LabelingFunction:
    """An LF that votes `label` where one of the keywords stands as a whole word, in any case.

    Args:
        name: its name.
        task: the task that it votes on.
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


def resolve_vote(lf: LabelingFunction, vote: Vote, tree: TaskTree) -> int:
    """The node id of what an LF returned.

    Args:
        lf: the labelling function.
        vote: what it returned.
        tree: the task tree.

    Returns:
        A node id, or `ABSTAIN`.

    Raises:
        ValueError: not a label of the LF's task nor, unambiguously, of a task beneath it.
    """
    if isinstance(vote, int) and vote == ABSTAIN:
        return ABSTAIN
    root = tree.task_index(lf.task)
    beneath = [
        node
        for node, (task, label) in enumerate(tree.node_names)
        if (vote in (label, (task, label))) and _is_beneath(tree, node, root)
    ]
    own = [node for node in beneath if tree.node_task[node] == root]
    if len(own or beneath) == 1:
        return (own or beneath)[0]
    if beneath:
        found = [tree.node_names[node] for node in beneath]
        raise ValueError(f"label {vote!r} is ambiguous beneath task {lf.task!r}: {found}")
    raise ValueError(
        f"got {vote!r}, expected ABSTAIN or a label of task {lf.task!r} "
        f"{list(tree.tasks[root].labels)} or of a task beneath it"
    )


def _is_beneath(tree: TaskTree, node: int, task: int) -> bool:
    """Whether `node` is a label of `task` or of a task under it."""
    path = (*tree.ancestors(node), node)
    return task in tree.node_task[list(path)]
