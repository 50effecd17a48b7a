"""What to do next: removal, dependencies, items to look at; nothing of it is compiled."""

import json
import re

import numpy as np
import pages
import pytest

from metal_jax import report
from metal_jax.label_model import LeaveOneOut, SuggestedDependency
from metal_jax.labeling import Span
from metal_jax.report._label_advice import (
    dependency_blocks,
    leave_one_out_blocks,
    next_item_blocks,
)
from metal_jax.report._marks import flat_marks, marked_text, script_offset
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(["a", "b"])


def removal(accuracy=0.8):
    return LeaveOneOut(
        np.array([0.1, 0.0, 0.2]),
        np.array([0.05, 0.0, 0.3]),
        np.array([0, 0, 7]),
        accuracy,
        np.array([0.8, 0.8, 0.6]) if accuracy == accuracy else np.full(3, np.nan),
    )


def page_of(*blocks):
    return report.to_html(report.Report("t", "", [report.Section("s", blocks)]))


def test_removal_is_sorted_and_says_what_stands_out():
    findings, table = leave_one_out_blocks(removal(), ["x", "idle", "<b>"])
    assert [row[0] for row in table.rows] == ["<b>", "x", "idle"]
    assert table.rows[0][3:] == [7, 0.6, pytest.approx(-0.2)]
    assert "Nothing would change without: idle." in findings.sentences
    assert "The only vote on some items: <b> (7)." in findings.sentences
    assert "<b>" not in page_of(findings, table)
    without_gold = leave_one_out_blocks(removal(float("nan")), ["x", "idle", "y"])[1]
    assert [column.name for column in without_gold.columns][-1] == "Left bare"


def test_dependencies():
    pair = SuggestedDependency((0, 1), ("x", "y"), 43.21, 120, 44.4, 118, 40.1)
    (table,) = dependency_blocks([pair])
    assert table.rows == [["x", "y", 120, 44, 118, 40, 43.2]]
    (none,) = dependency_blocks([])
    assert "No two" in none.text


def test_items_to_look_at():
    votes = np.array([[0, 1], [0, 0], [-1, -1], [-1, -1], [1, 0]])
    probs = np.array([[0.5, 0.5], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.0, 1.0]])
    names = {"lf_names": ["x", "y"], "item_names": list("01234")}
    texts = ["one goal", "two", "three words", "three words", "five"]
    spans = {0: [(0, Span(4, 8)), (1, Span(0, 6))]}
    disagreement, bare = next_item_blocks(votes, probs, TREE, 2, texts=texts, spans=spans, **names)
    first = disagreement.items[0]
    assert first.name == "0"
    assert first.lines == ["Model: a 0.50, b 0.50", "Votes: x: a; y: b"]
    assert [mark.label for mark in first.marks] == ["y", "x, y", "x"]
    assert len(disagreement.items) == 1  # one agrees, two have no vote, the last is certain
    assert [item.name for item in bare.items] == ["2"]
    assert bare.items[0].lines == ["Stands for 2 items like it"]
    plain = next_item_blocks(votes, probs, TREE, 1, texts=None, spans={}, **names)
    assert [len(block.items) for block in plain] == [1, 1]
    agreeing = np.where(votes < 0, -1, 0)
    (only,) = next_item_blocks(agreeing, probs, TREE, 1, texts=None, spans={}, **names)
    assert only.name == "Not covered"
    assert next_item_blocks(votes, probs, TREE, 0, texts=None, spans={}, **names) == []


def test_marks_cut_the_text_without_losing_any_of_it():
    rng = np.random.default_rng(0)
    text = "".join(pages.NASTY)
    for _ in range(50):
        ends = rng.integers(-5, len(text) + 9, size=(4, 2))
        spans = [(name, *map(int, pair)) for name, pair in zip("abcd", ends, strict=True)]
        marks = flat_marks(spans, len(text))
        for place in range(len(text)):
            inside = [m.label for m in marks if m.start <= place < m.stop]
            named = [name for name, start, stop in spans if start <= place < stop]
            assert inside == ([", ".join(named)] if named else [])
    drawn = marked_text(text, flat_marks([("<i>", 1, 5)], len(text)))
    assert 'title="&lt;i&gt;"' in drawn
    assert re.findall(r"<(?!/?mark)", drawn) == []


def test_a_script_counts_in_utf_16():
    text = "a\U0001f389b\udc80"
    assert [script_offset(text, at) for at in range(5)] == [0, 1, 3, 4, 5]


def test_marks_of_a_paged_table_are_in_its_data():
    table = report.PagedTable(
        "Items", "", [report.Column("Item"), report.Column("Text")],
        [["0", "\U0001f389 goal"]], marked=1, marks=[[report.Mark(2, 6, "</script>")]],
    )  # fmt: skip
    page = page_of(table)
    (data,) = re.findall(r'application/json" id="[^"]+">(.*?)</script>', page, re.S)
    assert json.loads(data)["marks"] == [[[3, 7, "</script>"]]]
