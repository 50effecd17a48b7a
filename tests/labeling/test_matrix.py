"""Validation, conversions and the LF summary."""

import json

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from metal_jax._core.intervals import share_text
from metal_jax.labeling import (
    compatible,
    format_summary,
    from_metal,
    from_snorkel,
    from_sparse,
    from_triples,
    read_wrench,
    summarise_lfs,
    to_metal,
    validate,
)
from metal_jax.task_tree import TaskTree, from_metal_graph, from_metal_hierarchy

FLAT = TaskTree.single(3)
TREE = from_metal_hierarchy([2, 3, 3], [(0, 1), (0, 2)])
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": {"c": ["p", "q"]}, "v": None}})


@pytest.mark.parametrize(
    ("votes", "message"),
    [
        (np.zeros(3, int), r"got shape \(3,\), expected \[n items, m LFs\]"),
        (np.zeros((0, 2), int), "there are no items"),
        (np.zeros((2, 0), int), "there are no labelling functions"),
        (np.zeros((2, 2)), "got dtype float64, expected integers"),
        (np.array([[0.0, 1.0], [0.0, np.nan]]), "row 1, LF 'second': got nan"),
        (np.array([[0.0, 0.5]]), "row 0, LF 'second': got 0.5"),
        (np.array([["a", "b"]]), "expected integers"),
        (np.array([[0, 3]]), r"row 0, LF 'second': got 3, expected a node id in 0\.\.2"),
        (np.array([[0, 0], [-3, 0]]), "row 1, LF 'first': got -3"),
        (np.zeros((2, 3), int), "got 2 names for 3 columns"),
    ],
)
def test_bad_votes_are_named(votes, message):
    with pytest.raises(ValueError, match=message):
        validate(votes, FLAT, lf_names=["first", "second"])


def test_an_lf_may_vote_on_two_roots():
    votes = np.array([[0, 2], [4, 1]])
    np.testing.assert_array_equal(validate(votes, FOREST), votes)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(
        st.sampled_from([np.int8, np.int64, np.float32, np.uint8, bool, object]),
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
    )
)
def test_validate_returns_integers_or_raises_value_error(votes):
    try:
        out = validate(votes, FLAT)
    except ValueError:
        return
    assert out.dtype == np.int8
    assert ((out >= -2) & (out < 3)).all()


def test_metal_round_trip():
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, TREE.num_nodes, (50, 4))
    per_task = to_metal(votes, TREE)
    assert per_task[1].min() == 0
    np.testing.assert_array_equal(from_metal(per_task, TREE), votes)
    sparse = [scipy.sparse.csr_matrix(m) for m in per_task]
    np.testing.assert_array_equal(from_metal(sparse, TREE), votes)
    for bad in ([[0.5]], [[99]], [[-3]], [0], [["a"]]):
        with pytest.raises(ValueError, match="votes: "):
            to_metal(np.array(bad), TREE)
    per_task[2][per_task[2] == 0] = -1  # "does not apply"
    np.testing.assert_array_equal(from_metal(per_task, TREE), votes)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_metal_lists_of_any_width(dtype):
    """Labels fit 8 bits where node ids, or the votes of the library's own choice, do not."""
    tree = from_metal_hierarchy([120, 120, 120], [(0, 1), (0, 2)])
    votes = np.arange(tree.num_nodes)[:, None]
    per_task = [matrix.astype(dtype) for matrix in to_metal(votes, tree)]
    np.testing.assert_array_equal(from_metal(per_task, tree), votes)


def test_metal_lists_of_a_forest():
    """As many columns as LFs for each root; what MeTaL's plain `TaskGraph` has."""
    graph = from_metal_graph([2, 3])
    found = from_metal([np.array([[1, 0], [2, -1]]), np.array([[3, 1], [0, 2]])], graph)
    assert found.tolist() == [[0, -1, 4, 2], [1, -1, -1, 3]]
    rng = np.random.default_rng(0)
    votes = rng.integers(-1, FOREST.num_nodes, (50, 8))
    root = np.where(votes >= 0, FOREST.node_root[votes], -1)
    votes[:, :4][root[:, :4] == 1] = -1
    votes[:, 4:][root[:, 4:] == 0] = -1
    joined = [matrix[:, :4] + matrix[:, 4:] for matrix in to_metal(votes, FOREST)]
    np.testing.assert_array_equal(from_metal(joined, FOREST), votes)
    below = [np.array([[label]]) for label in (1, 2, 1)]  # y = v, and v's other label below
    with pytest.raises(ValueError, match=r"row 0, LF 0: votes \('b', 'v'\) and \('c', 'p'\)"):
        from_metal(below, FOREST)


def test_metal_contradictions_are_named():
    per_task = [np.array([[1, 0]]), np.array([[0, 1]]), np.array([[2, 0]])]
    with pytest.raises(ValueError, match=r"row 0, LF 0: votes \('task0', '1'\) and \('task2', '2'"):
        from_metal(per_task, TREE)
    with pytest.raises(ValueError, match="task 'task0': row 0, LF 1: got 3"):
        from_metal([np.array([[1, 3]])] + [np.zeros((1, 2), int)] * 2, TREE)
    with pytest.raises(ValueError, match="got 1 matrices, expected one for each of 3 tasks"):
        from_metal([np.zeros((1, 2), int)], TREE)
    with pytest.raises(ValueError, match=r"task 'task0': got shape \(2,\), expected \[n, m\]"):
        from_metal([np.zeros(2, int)] * 3, TREE)


def test_sparse_and_snorkel():
    votes = np.array([[0, -1], [2, 1]])
    np.testing.assert_array_equal(from_sparse(scipy.sparse.coo_matrix(votes + 1), FLAT), votes)
    asked = from_sparse(scipy.sparse.csc_matrix(votes + 1), FLAT, not_asked=True)
    assert asked.tolist() == [[0, -2], [2, 1]]
    twice = scipy.sparse.coo_matrix(([1, 2], ([0, 0], [1, 1])), shape=(2, 2))
    with pytest.raises(ValueError, match="row 0, LF 1: 2 votes in one cell"):
        from_sparse(twice, FLAT)
    np.testing.assert_array_equal(from_snorkel(votes, FLAT), votes)
    with pytest.raises(ValueError, match="the tree has 3"):
        from_snorkel(votes, TREE)
    for value in (4, -3, 0.5, np.nan):
        bad = scipy.sparse.coo_matrix(([1, value], ([0, 1], [0, 1])), shape=(2, 2))
        with pytest.raises(ValueError, match=f"row 1, LF 1: got {value}, expected a node id"):
            from_sparse(bad, FLAT, zero_is_abstain=False)
    for other in (votes, None, scipy.sparse.coo_array(np.ones(3)), scipy.sparse.eye(2) * 1j):
        with pytest.raises(ValueError, match=r"expected a scipy.sparse matrix \[n, m\] of numbers"):
            from_sparse(other, FLAT)
    zero = scipy.sparse.coo_matrix((np.array([0, 2], np.uint8), ([0, 1], [0, 1])), shape=(2, 2))
    assert from_sparse(zero, FLAT).tolist() == [[-1, -1], [-1, 1]]


def test_names_alone_cannot_fill_the_memory():
    """A line that names a new item and a new worker adds a row and a column."""
    with pytest.raises(ValueError, match="50000 items x 50000 LFs or workers are 2500000000 bytes"):
        from_triples(((i, -i, 0) for i in range(50_000)), FLAT)
    huge = scipy.sparse.coo_matrix(([1], ([0], [0])), shape=(2**40, 2**40))
    with pytest.raises(ValueError, match="over the 2147483648 that a matrix of votes may have"):
        from_sparse(huge, FLAT)
    many = TaskTree.single(300)
    named = from_triples(((i, -i, 299) for i in range(300)), many)
    assert named.votes.dtype == np.int16
    assert (named.votes == np.where(np.eye(300), 299, -2)).all()


def test_triples():
    tree = TaskTree.single(["cat", "dog"])
    named = from_triples([("i1", "w1", "cat"), ("i2", "w2", 1), ("i1", "w2", "dog")], tree)
    assert named.votes.tolist() == [[0, 1], [-2, 1]]
    assert named.items == ("i1", "i2")
    assert named.workers == ("w1", "w2")
    with pytest.raises(ValueError, match="triple 1: unknown label 'cow'"):
        from_triples([("i", "w", "cat"), ("i", "v", "cow")], tree)
    with pytest.raises(ValueError, match="triple 1: worker 'w' voted on item 'i' before"):
        from_triples([("i", "w", "cat"), ("i", "w", "dog")], tree)
    for triple in (("i", "w"), None, "i", ("i", ["w"], "cat"), ("i", "w", {})):
        with pytest.raises(ValueError, match="triple 1: got .*, expected item, worker and label"):
            from_triples([("i", "w", "cat"), triple], tree)
    for label in (2, -1, 0.5, None, float("inf"), True):
        with pytest.raises(ValueError, match=f"triple 0: unknown label {label}"):
            from_triples([("i", "w", label)], tree)
    with pytest.raises(ValueError, match="no triples"):
        from_triples([], tree)


def test_wrench_folder(tmp_path):
    (tmp_path / "label.json").write_text(json.dumps({"0": "ham", "1": "spam"}))
    entries = {
        "0": {"label": 1, "weak_labels": [-1, 1], "data": {"text": "buy"}},
        "1": {"label": None, "weak_labels": [0, -1], "data": {"text": "hi"}},
    }
    (tmp_path / "train.json").write_text(json.dumps(entries))
    tree, split = read_wrench(tmp_path, "train")
    assert tree.tasks[0].labels == ("ham", "spam")
    assert split.votes.tolist() == [[-1, 1], [0, -1]]
    assert split.gold.tolist() == [1, -1]
    assert split.items[0]["text"] == "buy"
    for label in ([1], {}, float("inf"), 1e20, 0.7, 7, -2, 2, True, "1", float("nan")):
        wrong = entries | {"1": entries["1"] | {"label": label}}
        (tmp_path / "train.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"entry '1' has the label .*, expected .* -1\.\.1"):
            read_wrench(tmp_path, "train")
    for vote in (None, 1.5, 1.0, "0", True, 2, -3, [0], float("nan"), 10**30):
        wrong = entries | {"1": entries["1"] | {"weak_labels": [0, vote]}}
        (tmp_path / "train.json").write_text(json.dumps(wrong))
        with pytest.raises(ValueError, match=r"train\.json: entry '1', LF 1: got .* 0\.\.1, -1"):
            read_wrench(tmp_path, "train")
    empty = {"0": entries["0"] | {"weak_labels": []}}
    (tmp_path / "train.json").write_text(json.dumps(empty))
    with pytest.raises(ValueError, match=r"train\.json: entry '0' has 0 votes"):
        read_wrench(tmp_path, "train")
    entry = json.dumps(entries["0"])
    (tmp_path / "train.json").write_text(f'{{"0": {entry}, "7": {entry}, "7": {entry}}}')
    with pytest.raises(ValueError, match=r"train\.json: the name '7' appears twice"):
        read_wrench(tmp_path, "train")
    for names, message in ((["ham", "ham"], "label 'ham' appears twice"), (["ham", ""], "empty")):
        (tmp_path / "label.json").write_text(json.dumps(dict(zip("01", names, strict=True))))
        with pytest.raises(ValueError, match=rf"label\.json: task 'label': .*{message}"):
            read_wrench(tmp_path, "train")
    (tmp_path / "label.json").write_text(json.dumps({"0": "ham", "one": "spam"}))
    with pytest.raises(ValueError, match=r"label\.json: class ids must be 0\.\.k-1"):
        read_wrench(tmp_path, "train")
    (tmp_path / "label.json").write_text(json.dumps({"0": "ham", "1": "spam"}))
    entries["1"]["weak_labels"] = [0]
    (tmp_path / "train.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"train\.json: entry '1' has 1 votes"):
        read_wrench(tmp_path, "train")
    (tmp_path / "train.json").write_text("[1")
    with pytest.raises(ValueError, match=r"train\.json: not JSON"):
        read_wrench(tmp_path, "train")
    with pytest.raises(FileNotFoundError):
        read_wrench(tmp_path, "missing")


def test_summary_against_its_definitions():
    rng = np.random.default_rng(1)
    votes = rng.integers(-1, TREE.num_nodes, (60, 5))
    gold = rng.choice(TREE.leaf_nodes, 60)
    gold[:5] = 0  # known coarsely only
    table = summarise_lfs(votes, TREE, gold=gold)
    on_path = compatible(TREE)
    for j, row in enumerate(table):
        others = [o for o in range(5) if o != j]
        pairs = [(i, o) for i in range(60) for o in others if min(votes[i, j], votes[i, o]) >= 0]
        clash = {i for i, o in pairs if not on_path[votes[i, j], votes[i, o]]}
        assert row.coverage == pytest.approx((votes[:, j] >= 0).mean())
        assert row.overlaps == pytest.approx(len({i for i, _ in pairs}) / 60)
        assert row.conflicts == pytest.approx(len(clash) / 60)
        cast = [(v, g) for v, g in zip(votes[:, j], gold, strict=True) if v >= 0]
        right = sum(v == g or v in TREE.ancestors(g) for v, g in cast)
        wrong = sum(not on_path[v, g] for v, g in cast)
        assert (row.num_correct, row.num_incorrect) == (right, wrong)
        assert row.accuracy == pytest.approx(right / (right + wrong))
    text = format_summary(table)
    assert len(text.splitlines()) == 6
    assert "task0=1" in text
    first = table[0]
    shown = share_text(first.coverage, first.coverage_interval)
    assert shown in text.splitlines()[1]
    assert share_text(first.accuracy, first.accuracy_interval) in text.splitlines()[1]


def test_summary_of_silence():
    (row,) = summarise_lfs(np.full((3, 1), -1), FLAT, gold=np.zeros(3, int))
    assert row.coverage == 0
    assert row.polarity == ()
    assert np.isnan(row.accuracy)
    assert format_summary([row]).splitlines()[1].endswith("-")
    with pytest.raises(ValueError, match="gold: got shape"):
        summarise_lfs(np.zeros((3, 1), int), FLAT, gold=np.zeros(2, int))
