"""What the figures show, against brute force."""

import math
import re

import numpy as np
import pages
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metal_jax import exhaust, report
from metal_jax.report._draw_rows import draw_dots, draw_heat_map
from metal_jax.report._exhaust_figures import target_figure
from metal_jax.report._exhaust_report import _errors
from metal_jax.report._figures import Dots, DotSeries
from metal_jax.report._label_figures import level_figures, overlap_figures
from metal_jax.report._label_report import _unvoted_tasks
from metal_jax.report._scales import number, round_ticks, scale_of, tick_labels
from metal_jax.report._score_figures import (
    joined_bins,
    judge,
    judge_ties_shared,
    log_conditionals,
    score_blocks,
)
from metal_jax.report._svg import width_of
from metal_jax.task_tree import TaskTree, node_sum

TREE = pages.TREE


@pytest.fixture(scope="module")
def items():
    """The table of items of the votes."""
    return pages.label_page().sections[-1].blocks[0]


def contradict(u, v):
    """Whether two labels of one root are on different paths."""
    paths = [(*TREE.ancestors(int(node)), int(node)) for node in (u, v)]
    return u not in paths[1] and v not in paths[0]


def test_overlaps_and_conflicts():
    votes, _ = pages.votes_of(40)
    votes[0, 1] = -2  # never asked
    names = [f"lf{j}" for j in range(6)]
    both, against = overlap_figures(votes, TREE, names)
    assert both.rows == both.columns == against.rows
    for j in range(6):
        for k in range(6):
            pairs = [(u, v) for u, v in votes[:, [j, k]].tolist() if u >= 0 and v >= 0 and j != k]
            at = both.rows.index(names[j]), both.rows.index(names[k])
            assert both.values[at] == pytest.approx(len(pairs) / 40)
            clashes = sum(contradict(u, v) for u, v in pairs)
            assert against.values[at] == pytest.approx(clashes / 40)
    assert both.shades.max() == pytest.approx(1)


def test_most_lfs_are_kept_where_there_are_too_many():
    votes = np.zeros((4, 60), int)
    votes[:2, :20] = -1
    both, _ = overlap_figures(votes, TaskTree.single(2), [str(j) for j in range(60)])
    assert len(both.rows) == 42
    assert {str(j) for j in range(20, 60)} < set(both.rows)
    assert "of 60" in both.caption


def test_long_names_that_begin_alike_are_told_apart():
    names = [f"mentions_a_word_of_the_dictionary_of_{word}" for word in ("sport", "trade")]
    both, _ = overlap_figures(np.zeros((4, 2), int), TaskTree.single(2), names)
    drawn = re.findall(r'"tick name"[^>]*>([^<]+)<', draw_heat_map(both)[0])
    assert len(drawn) == 4  # of rows and of columns
    assert len({name[-5:] for name in drawn}) == 2
    assert all(name.startswith("mentio") for name in drawn)


def test_overlaps_of_long_names_fit_half_a_page():
    votes = np.zeros((4, 60), int)
    for m in (60, 42, 30, 20):
        names = [f"keyword_mentions_{j}_long" for j in range(m)]
        both, _ = overlap_figures(votes[:, :m], TaskTree.single(2), names)
        assert draw_heat_map(both)[1] <= 520, m


@pytest.mark.parametrize(
    ("confidence", "accuracy", "num_items", "joined"),
    [
        ([0.2, 0.4, 0.6], [0.1, 0.3, 0.5], 30, ([0.2, 0.4, 0.6], [0.1, 0.3, 0.5])),
        ([0.2, 0.4, 0.6, 0.8], [0.1, 0.3, 0.5, 0.7], 20, ([0.3, 0.7], [0.2, 0.6])),
        ([0.2, 0.4, 0.6, 0.8], [0.0, 0.3, 0.6, 0.7], 16, ([0.5], [0.4])),
        ([0.5, 0.5, 0.51, 0.9], [0.0, 1.0, 0.5, 1.0], 400, ([1.51 / 3, 0.9], [0.5, 1.0])),
    ],
)
def test_bins_that_say_little_are_joined(confidence, accuracy, num_items, joined):
    found = joined_bins(np.array(confidence), np.array(accuracy), num_items)
    for part, expected in zip(found, joined, strict=True):
        assert part == pytest.approx(expected)


def test_without_ties_sharing_them_changes_nothing():
    forest = TaskTree.from_dict({"t": {"a": {"g": ["x", "y"]}, "b": None}, "u": ["m", "n"]})
    rng = np.random.default_rng(0)
    probs = np.concatenate([rng.dirichlet(np.ones(3), 50), rng.dirichlet(np.ones(2), 50)], axis=1)
    nodes = [np.r_[-1, [n for n in range(forest.num_nodes) if forest.node_root[n] == root]]
             for root in range(2)]  # fmt: skip
    gold = np.stack([rng.choice(some, 50) for some in nodes], axis=1)
    plain, shared = (
        judge(forest, log_conditionals(forest, probs), gold), judge_ties_shared(forest, probs, gold)
    )  # fmt: skip
    for one, other in ((plain.tasks, shared.tasks), (plain.levels, shared.levels),
                       (plain.path, shared.path)):  # fmt: skip
        np.testing.assert_allclose(other.accuracy, one.accuracy, atol=1e-6)


def test_a_tie_is_right_as_often_as_a_draw():
    forest = TaskTree.from_dict({"t": {"a": {"g": ["x", "y"]}, "b": None}, "u": ["m", "n"]})
    probs = np.array([[0.4, 0.4, 0.2, 0.5, 0.5], [0.0, 0.0, 1.0, 1.0, 0.0]])
    gold = np.array([[forest.node("g", "y"), forest.node("u", "n")],
                     [forest.node("t", "a"), -1]])  # fmt: skip
    found = judge_ties_shared(forest, probs, gold)
    by_name = dict(zip([task.name for task in forest.tasks], found.tasks.accuracy, strict=True))
    assert by_name == {"t": 0.5, "g": 0.5, "u": 0.5}
    np.testing.assert_allclose(found.levels.accuracy, [(1 + 0 + 0.5) / 3, 0.5])
    assert found.path.accuracy == pytest.approx((0.25 + 0) / 2)


def test_a_task_without_votes_has_no_calibration():
    _, votes, gold, probs = pages.fitted()
    assert _unvoted_tasks(TREE, votes) == set()
    top = TREE.task_nodes[0]
    others = {task.name for task in TREE.tasks[1:]}
    assert _unvoted_tasks(TREE, np.array([[top.start, -1], [-2, top.start + 1]])) == others
    below = TREE.task_nodes[1].start
    assert _unvoted_tasks(TREE, np.array([[below]])) == set()

    found = judge(TREE, log_conditionals(TREE, probs), gold[:, None])
    whole = score_blocks(TREE, found)
    part = score_blocks(TREE, found, unknown=others, reason="no LF votes there")
    assert f"not drawn for {', '.join(sorted(others))}: no LF votes there." in part[0].note
    for blocks, drawn in ((whole, 2), (part, 1)):
        titles = [figure.title for block in blocks[1:] for figure in block.figures]
        assert sum(title.startswith("Calibration") for title in titles) == drawn
        assert sum(title.startswith("Confusion") for title in titles) == TREE.num_tasks


def test_names_stay_inside_the_drawing():
    for name in ("measurement_conversion", "W" * 30, "i" * 30, "m"):
        drawn, _, _ = draw_dots(Dots("", "", "x", [name], [DotSeries("", [0.5], "dot", "main")]))
        pattern = r'<text x="([\d.]+)"[^>]*><title>[^<]*</title>([^<]*)'
        ((end, shown),) = re.findall(pattern, drawn)
        assert width_of(shown, 11) <= float(end), name


def test_labels_of_each_level():
    _, _, gold, probs = pages.fitted()
    figures = level_figures(TREE, [("model", probs)], gold[:, None])
    mass = np.asarray(node_sum(TREE, probs)).mean(axis=0)
    assert len(figures) == TREE.depth == 2
    shown = dict(zip(figures[1].rows, figures[1].series[0].values, strict=True))
    assert shown == pytest.approx({"ball": mass[2], pages.NASTY[1]: mass[3]}, abs=1e-6)
    truth = dict(zip(figures[0].rows, figures[0].series[1].values, strict=True))
    assert truth["trade"] == pytest.approx((gold == 1).mean())
    assert truth[pages.SCRIPT] == pytest.approx((gold != 1).mean())


def test_the_evidence_of_an_item_adds_up_to_its_log_odds(items):
    _, votes, _, probs = pages.fitted()
    for row, (detail,) in zip(items.rows[:40], items.details, strict=False):
        top = np.sort(probs[int(row[0])])[::-1]
        total = sum(value for _, _, value in detail.bars)
        assert total == pytest.approx(math.log(top[0] / top[1]), abs=0.02)
        cast = [note for _, note, _ in detail.bars if items.words[note].startswith("votes ")]
        assert len(cast) == (votes[int(row[0])] >= 0).sum() == row[4]


def test_the_least_certain_items_come_first_those_without_a_vote_last(items):
    keys = [(row[4] == 0, row[3]) for row in items.rows]
    assert keys == sorted(keys)


def test_groups_of_items(items):
    _, votes, gold, probs = pages.fitted()
    groups = dict(zip(items.groups, items.members, strict=True))
    rows = [int(row[0]) for row in items.rows]
    none = {rows[place] for place in groups.get("No vote", [])}
    assert none == set(np.flatnonzero((votes < 0).all(axis=1)).tolist())
    clash = {rows[place] for place in groups["Votes in conflict"]}
    cast = [[v for v in item if v >= 0] for item in votes.tolist()]
    assert clash == {
        i for i, item in enumerate(cast) if any(contradict(u, v) for u in item for v in item)
    }
    labels = TREE.leaf_nodes[probs.argmax(axis=1)]
    wrong = {rows[place] for place in groups["Wrong by gold"]}
    assert wrong == set(np.flatnonzero(labels != gold).tolist())


def test_errors_of_predictions():
    true = np.array([1.0, 2.0, 4.0, np.nan])
    mean = np.array([1.5, 2.0, 3.0, 9.0])
    forecast = report.Forecast("validation/loss", list("abcd"), mean, mean - 0.5, mean + 0.5, true)
    name, count, error, plain, rank, inside = _errors(forecast)
    assert (name, count) == ("validation/loss", 3)
    assert error == pytest.approx(0.5)
    assert plain == pytest.approx(np.abs(true[:3] - true[:3].mean()).mean())
    assert rank == pytest.approx(1)
    assert inside == pytest.approx(2 / 3)
    logs = _errors(forecast._replace(target="seconds"))
    assert logs[2] == pytest.approx(np.abs(np.log(mean[:3] / true[:3])).mean())


def test_runs_that_lack_everything():
    runs = [exhaust.Run("a"), exhaust.Run("b")]
    page = report.exhaust_report(runs)
    assert report.to_html(page)
    with pytest.raises(ValueError, match="runs: got none"):
        report.exhaust_report([])


def test_lengths_are_checked():
    result, votes, gold, _ = pages.fitted()
    for options, match in (
        ({"texts": ["a"]}, "texts: got 1, expected 120"),
        ({"item_names": ["a"]}, "item_names: got 1"),
        ({"gold": gold[:5]}, "gold: got shape"),
    ):
        with pytest.raises(ValueError, match=match):
            report.label_model_report(result, votes, **options)


# ---- scales -------------------------------------------------------------------------------------


@given(
    st.floats(-1e12, 1e12),
    st.floats(1e-9, 1e12).map(lambda x: float(np.float32(x))),
    st.integers(2, 9),
)
def test_ticks_are_round_within_the_ends_and_told_apart(low, width, count):
    high = low + width
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-6):
        return
    ticks = round_ticks(low, high, count)
    assert len(ticks) <= 3 * count
    slack = 1e-6 * (high - low) + 1e-12
    assert all(low - slack <= tick <= high + slack for tick in ticks)
    assert len(tick_labels(ticks)) == len(ticks)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=6), st.booleans())
def test_a_scale_keeps_all_values_in_the_frame(values, log):
    scale = scale_of(values, 0.0, 100.0, log=log)
    for value in values:
        if (
            math.isfinite(value)
            and math.isfinite(scale.high - scale.low)
            and scale.high > scale.low
        ):
            assert 0 <= scale(value) <= 100


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (3, "3"),
        (12345, "12,345"),
        (0.5, "0.500"),
        (-0.25, "\u22120.250"),
        (0.0001, "<0.001"),
        (float("nan"), "\u2013"),
        (None, "\u2013"),
        (1234.56, "1,234.6"),
    ],
)
def test_numbers_as_a_reader_likes_them(value, shown):
    assert number(value) == shown


def test_the_text_of_a_cell_can_be_read_on_its_shade():
    labels = ["a", "b"]
    counts = np.array([[90, 10], [0, 5]])
    shades = counts / 100
    drawing, _, _ = draw_heat_map(
        report.HeatMap("t", "c", "gold", "predicted", labels, labels, shades, counts, counts=True)
    )
    assert "<text x=" in drawing
    assert drawing.count('class="cell-text strong"') == 1
    assert drawing.count('class="cell"') == 3  # a cell without items is left empty


def test_seconds_are_on_a_logarithmic_scale_where_they_differ_much():
    near = target_figure("seconds", np.array([1400.0, 1500.0, np.nan]))
    assert (near.edges[0], near.edges[-1]) == (1400, 1500)
    far = target_figure("seconds", np.array([10.0, 1000.0]))
    assert far.edges[0] == pytest.approx(1)
    assert far.edges[-1] == pytest.approx(3)
    target_figure("seconds", np.array([0.0, np.nan]))
