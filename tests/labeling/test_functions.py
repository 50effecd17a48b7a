"""Labelling functions and their application."""

import numpy as np
import pytest

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunctionError,
    apply,
    keyword_lf,
    labeling_function,
    regex_lf,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "other"]}, "trade": {"goods": ["corn", "other"]}}}
)


@labeling_function(task="topic")
def long_text(item):
    return "trade" if len(item) > 20 else ABSTAIN


@labeling_function(task="game", name="renamed")
def names_a_ball(item):
    return "ball" if "ball" in item else ABSTAIN


def votes_of(lf, *items, **kwargs):
    return apply([lf], items, TREE, **kwargs).votes[:, 0].tolist()


def test_votes_are_nodes_of_the_tree():
    assert votes_of(long_text, "short", "a text of more than twenty characters") == [-1, 1]
    assert votes_of(names_a_ball, "a ball") == [TREE.node("game", "ball")]
    assert names_a_ball.name == "renamed"


def test_a_vote_may_lie_beneath_the_task():
    @labeling_function(task="topic")
    def fine(item):
        return item

    assert votes_of(fine, "corn", "sport") == [TREE.node("goods", "corn"), 0]

    @labeling_function(task="topic")
    def pair(item):
        return ("goods", "other")

    assert votes_of(pair, "x") == [TREE.node("goods", "other")]


FOREST = TaskTree.from_dict(
    {"topic": {"sport": None, "trade": {"goods": ["corn", "other"]}}, "tone": ["glad", "other"]}
)


def test_one_lf_may_vote_on_several_roots():
    @labeling_function(task=("topic", "tone"))
    def both(item):
        return item

    items = ["corn", ["glad", "sport"], {"tone": "other"}, ABSTAIN, ("tone", "other"), []]
    other = keyword_lf("word", ("tone", "topic"), {"topic": "trade", "tone": "glad"}, ["sport"])
    with pytest.raises(LabelingFunctionError, match="LF 'both' failed on item 0: .* ambiguous"):
        apply([both], ["other"], FOREST)
    votes, names, errors = apply([both], [*items, "other"], FOREST, on_error="abstain")
    corn, glad, tone = (
        FOREST.node("goods", "corn"),
        FOREST.node("tone", "glad"),
        FOREST.node("tone", "other"),
    )
    expected = [[corn, -1], [0, glad], [-1, tone], [-1, -1], [-1, tone], [-1, -1], [-1, -1]]
    assert votes.tolist() == expected
    assert names == ("both[topic]", "both[tone]")
    assert errors.tolist() == [1, 1]
    assert apply([other], ["a sport"], FOREST).votes.tolist() == [[glad, 1]]


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["sport", "trade"], "two votes on task 'topic'"),
        ({"goods": "corn"}, "got a vote on task 'goods', expected"),
        ({"tone": "sport"}, "got 'sport', expected ABSTAIN or a label of task 'tone'"),
        (["nothing"], "got 'nothing', expected ABSTAIN or a label of task 'topic' or 'tone'"),
        ([["sport"]], r"got \['sport'\], expected ABSTAIN or a label"),
        ({"sport"}, r"got \{'sport'\}, expected ABSTAIN or a label"),
        (np.array([1, 2]), r"got array\(\[1, 2\]\), expected ABSTAIN or a label"),
        (np.int64(1), r"got np.int64\(1\), expected ABSTAIN or a label"),
    ],
)
def test_bad_votes_on_several_roots(returned, message):
    lf = labeling_function(task=("topic", "tone"), name="lf")(lambda item: returned)
    with pytest.raises(LabelingFunctionError, match=f"LF 'lf' failed on item 0: .*{message}"):
        apply([lf], [""], FOREST)


def test_tasks_of_an_lf_have_different_roots():
    lf = labeling_function(task=("topic", "goods"), name="lf")(lambda item: ABSTAIN)
    with pytest.raises(ValueError, match="LF 'lf': the tasks .* are not of different roots"):
        apply([lf], [""], FOREST)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("other", "label 'other' is ambiguous beneath task 'topic'"),
        ("nothing", "got 'nothing', expected ABSTAIN or a label of task 'topic'"),
        (None, "got None"),
        (0, "got 0"),
    ],
)
def test_bad_labels_name_lf_and_item(label, message):
    @labeling_function(task="topic")
    def bad(item):
        return label if item == "second" else ABSTAIN

    with pytest.raises(LabelingFunctionError, match=rf"LF 'bad' failed on item 1: .*{message}"):
        apply([bad], ["first", "second"], TREE)


def test_a_raising_lf_is_named_or_counted():
    @labeling_function(task="topic")
    def fragile(item):
        return ["sport"][len(item)]

    with pytest.raises(LabelingFunctionError, match="LF 'fragile' failed on item 2: IndexError"):
        apply([long_text, fragile], ["", "", "x"], TREE)
    result = apply([long_text, fragile], ["", "", "x"], TREE, on_error="abstain")
    assert result.num_errors.tolist() == [0, 1]
    assert result.votes[:, 1].tolist() == [0, 0, -1]


def test_bad_calls():
    with pytest.raises(ValueError, match="no labelling functions"):
        apply([], ["x"], TREE)
    with pytest.raises(ValueError, match="no items"):
        apply([long_text], [], TREE)
    with pytest.raises(ValueError, match="two labelling functions are called 'long_text'"):
        apply([long_text, long_text], ["x"], TREE)
    with pytest.raises(ValueError, match="no task 'missing'"):
        apply([keyword_lf("k", "missing", "x", ["a"])], ["x"], TREE)
    with pytest.raises(ValueError, match="on_error"):
        apply([long_text], ["x"], TREE, on_error="ignore")  # pyright: ignore


def test_keywords_are_whole_words_in_any_case():
    lf = keyword_lf("k", "topic", "sport", ["goal", "c++"])
    items = ["GOAL!", "goals", "a c++ goalie", "regoal", ""]
    assert votes_of(lf, *items) == [0, -1, 0, -1, -1]
    with pytest.raises(ValueError, match="LF 'k': expected a list"):
        keyword_lf("k", "topic", "sport", "goal")
    with pytest.raises(ValueError, match="LF 'k': expected a list"):
        keyword_lf("k", "topic", "sport", [""])


def test_patterns_and_text_fields():
    lf = regex_lf("r", "topic", "sport", r"^go", text=lambda item: item["title"])
    assert votes_of(lf, {"title": "Go!"}, {"title": "ago"}) == [0, -1]
    with pytest.raises(ValueError, match="LF 'r': bad pattern"):
        regex_lf("r", "topic", "sport", "(")


def test_progress_and_dtype():
    seen = []
    result = apply([long_text], ["a", "b"], TREE, on_progress=seen.append)
    assert [progress.num_items for progress in seen] == [1, 2]
    assert result.votes.dtype == np.int8
    wide = TaskTree.single(200)
    lf = keyword_lf("k", "label", "199", ["x"])
    assert apply([lf], ["x"], wide).votes.dtype == np.int16
