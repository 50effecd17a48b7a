"""Votes and soft labels from and to other libraries' forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.interop import (
    from_crowdkit,
    gold_from_labels,
    read_soft_labels,
    soft_labels_from_frame,
    task_probabilities,
    to_cleanlab,
    to_cleanlab_annotators,
    to_crowdkit,
    to_snorkel,
    votes_from_frame,
    votes_to_frame,
    write_soft_labels,
    write_wrench,
)
from metal_jax.labeling import from_snorkel, read_votes, read_wrench
from metal_jax.task_tree import TaskTree

FLAT = TaskTree.single(["no", "yes", "maybe"])
TREE = TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "other"]}, "trade": {"goods": ["corn", "other"]}}}
)
FOREST = TaskTree.from_dict({"a": ["x", "y"], "b": {"u": None, "v": {"w": ["y", "z"]}}})

matrices = st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**32 - 1))


def random_votes(shape, tree, least=-1):
    n, m, seed = shape
    return np.random.default_rng(seed).integers(least, tree.num_nodes, (n, m))


# ---- a column for each LF -----------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(matrices, st.sampled_from([FLAT, TREE, FOREST]))
def test_frames_of_votes_round_trip(shape, tree):
    votes = random_votes(shape, tree)
    names = [f"lf {j}" for j in range(votes.shape[1])]
    back, columns = votes_from_frame(votes_to_frame(votes, tree, names), tree)
    np.testing.assert_array_equal(back, votes)
    assert list(columns) == names


def test_votes_in_any_notation():
    frame = {"a": ["corn", "game=other", None, -2], "b": [0, 1.0, float("nan"), "topic=sport"]}
    frame["text"] = ["some"] * 4
    votes, names = votes_from_frame(frame, TREE, lfs=["a", "b"])
    corn, other = TREE.node("goods", "corn"), TREE.node("game", "other")
    assert votes.tolist() == [[corn, 0], [other, 1], [-1, -1], [-2, 0]]
    assert names == ("a", "b")
    for bad in ("other", "cricket", 6, -3, 0.5, True, float("inf"), [1]):
        with pytest.raises(ValueError, match="row 1, LF 'a': unknown label"):
            votes_from_frame({"a": [None, bad]}, TREE)
    with pytest.raises(ValueError, match="a name twice"):
        votes_to_frame([[0, 0]], TREE, ["a", "a"])
    for empty in ({}, []):
        with pytest.raises(ValueError, match="frame: there are no columns"):
            votes_from_frame(empty, TREE)
    for lfs in ([], ["a", "a"]):
        with pytest.raises(ValueError, match=r"lfs: got .*, expected names of different columns"):
            votes_from_frame(frame, TREE, lfs=lfs)


# ---- crowd-kit ----------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(matrices)
def test_crowds_round_trip(shape):
    votes = random_votes(shape, FLAT)
    if (votes < 0).all():
        return
    rows, columns = np.nonzero(votes >= 0)
    frame = {
        "task": rows.tolist(),
        "worker": [f"w{c}" for c in columns],
        "label": [FLAT.tasks[0].labels[votes[cell]] for cell in zip(rows, columns, strict=True)],
    }
    tree, named = from_crowdkit(frame, FLAT)
    assert tree is FLAT
    assert (named.votes >= 0).sum() == len(rows)
    assert sorted(zip(*to_crowdkit(named, tree).values(), strict=True)) == sorted(
        zip(*frame.values(), strict=True)
    )


def test_crowds_without_a_tree_and_bad_ones():
    frame = {"item": ["a", "b", "a"], "who": [1, 1, 2], "said": [3, 1, 1]}
    tree, named = from_crowdkit(frame, item="item", worker="who", label="said")
    assert tree.tasks[0].labels == ("1", "3")
    assert named.votes.tolist() == [[1, 0], [0, -2]]
    columns = {"task": [1, 1], "worker": ["u", "u"], "label": ["no", "yes"]}
    for change, message in (
        ({}, "triple 1: worker 'u' voted on item 1 before"),
        ({"label": ["no", None]}, "row 1 has no 'label'"),
        ({"label": ["no", "nay"]}, "frame: row 1: unknown label 'nay'"),
        ({"label": ["no", -1]}, "row 1 has no label"),
    ):
        with pytest.raises(ValueError, match=message):
            from_crowdkit(columns | change, FLAT)
    with pytest.raises(ValueError, match="the only label is"):
        from_crowdkit(columns | {"label": ["no", "no"]})


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(-3, 30), min_size=1, max_size=20).filter(lambda v: len(set(v)) > 1),
    st.sampled_from([int, float, np.int8, np.float64]),
)
def test_labels_that_are_numbers_are_names(values, kind):
    """As numbers of any type and as strings, with a tree and without, they are the same labels."""
    frames = [
        {"task": range(len(values)), "worker": ["u"] * len(values), "label": list(map(to, values))}
        for to in (kind, str)
    ]
    trees, found = zip(*[from_crowdkit(frame) for frame in frames], strict=True)
    assert trees[0].tasks == trees[1].tasks
    labels = [int(label) for label in trees[0].tasks[0].labels]
    assert labels == sorted(set(values))
    nodes = [labels.index(value) for value in values]
    again = [from_crowdkit(frame, trees[0])[1] for frame in frames]
    for named in (*found, *again):
        assert named.votes[:, 0].tolist() == nodes
    least = 0 if min(values) < 0 else -3  # -1 and -2 are refused, see below
    kept = [(value, node) for value, node in zip(values, nodes, strict=True) if value >= least]
    wanted = [node for _, node in kept]
    gold = gold_from_labels(
        {i: kind(v) for i, (v, _) in enumerate(kept)}, range(len(kept)), trees[0]
    )
    assert gold.tolist() == wanted
    if kept:
        votes, _ = votes_from_frame({"a": [kind(value) for value, _ in kept]}, trees[0])
        assert votes[:, 0].tolist() == wanted


def test_numbers_are_not_guessed():
    """No node ids where a label is called a number, even if it has no label of that name."""
    forest = TaskTree.from_dict({"a": ["0", "1"], "b": ["0", "1"]})
    for labels, value, message in (
        (["1", "2"], 0, "unknown label 0 .a number is no node id"),
        (["1", "x"], 0, "unknown label 0 .a number is no node id"),
        (["1.5", "x"], 1, "unknown label 1 .a number is no node id"),
        (["01", "02"], 1, "unknown label 1 .a number is no node id"),
        (["1", "2"], 7, "unknown label 7; known: 1, 2"),
        (["-1", "1"], -1, "got -1, which means no vote and is a label here; write '-1'"),
        (["-1", "1"], -1.0, "got -1.0, which means no vote and is a label here; write '-1'"),
        (None, 0, "unknown label 0 .a number is no node id.*known: a=0, a=1, b=0"),
    ):
        tree = forest if labels is None else TaskTree.single(labels)
        with pytest.raises(ValueError, match=f"item 'x': {message}"):
            gold_from_labels({"x": value}, ["x"], tree)
        with pytest.raises(ValueError, match=f"row 0, LF 'a': {message}"):
            votes_from_frame({"a": [value]}, tree)
    with pytest.raises(ValueError, match="row 1: unknown label 0"):
        from_crowdkit(
            {"task": [1, 2], "worker": ["u", "u"], "label": [1, 0]}, TaskTree.single(["1", "2"])
        )
    stars = TaskTree.single(["0.5", "1.0"])
    votes, _ = votes_from_frame({"a": [0.5, 1.0, -1, -2, None]}, stars)
    assert votes[:, 0].tolist() == [0, 1, -1, -2, -1]
    flags = TaskTree.single(["False", "True"])
    assert gold_from_labels({"x": True}, ["x"], flags).tolist() == [1]


class Series:
    """pandas', as far as labels by item go: an item may be there twice."""

    def __init__(self, index, values):
        self.pairs = list(zip(index, values, strict=True))

    def items(self):
        return iter(self.pairs)

    def to_dict(self):
        return dict(self.pairs)


class NAType:
    """What pandas has for a missing value."""


class Frame:
    """pandas' data frame: by column, with an index of items."""

    def __init__(self, index, columns):
        self.index = np.asarray(index)
        self.columns = [name for name, _ in columns]
        self._values = np.array([values for _, values in columns]).T

    def items(self):
        return zip(self.columns, self._values.T, strict=True)

    def to_dict(self):
        return {name: dict(zip(self.index, column, strict=True)) for name, column in self.items()}

    def to_numpy(self):
        return self._values


def test_gold_by_item():
    values = ["no", float("nan"), None, NAType(), np.int64(1), np.float64(2), np.str_("maybe")]
    wanted = [0, -1, -1, -1, 1, 2, 2]
    for by_item in (dict(enumerate(values)), Series(range(7), values)):
        assert gold_from_labels(by_item, range(7), FLAT).tolist() == wanted
    again = Series(["a", "b", "a", "b"], ["no", None, "no", float("nan")])
    assert gold_from_labels(again, ["a", "b"], FLAT).tolist() == [0, -1]
    with pytest.raises(ValueError, match="labels: item 'a' has both 'no' and 'yes'"):
        gold_from_labels(Series(["a", "b", "a"], ["no", "no", "yes"]), ["a"], FLAT)
    for wrong in (Frame([1, 2], [("label", ["no", "yes"])]), ["no", "yes"], np.array([0, 1])):
        with pytest.raises(ValueError, match="expected a mapping or a Series"):
            gold_from_labels(wrong, [1, 2], FLAT)
    gold = gold_from_labels({"b": "yes", "c": 2, "z": "no"}, ["a", "b", "c"], FLAT)
    assert gold.tolist() == [-1, 1, 2]
    with pytest.raises(ValueError, match="item 'a': unknown label 'nay'"):
        gold_from_labels({"a": "nay"}, ["a"], FLAT)


# ---- Snorkel, WRENCH, cleanlab ------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(matrices)
def test_snorkel_and_cleanlab(shape):
    votes = random_votes(shape, FLAT, least=-2)
    matrix = to_snorkel(votes, FLAT)
    assert matrix.dtype == np.int64
    np.testing.assert_array_equal(from_snorkel(matrix, FLAT), np.maximum(votes, -1))
    kept, items = to_cleanlab_annotators(votes, FLAT)
    assert not np.isnan(kept).all(axis=1).any()
    assert not np.isnan(kept).all(axis=0).any()
    assert np.nansum(kept) == votes[votes > 0].sum()
    assert items.tolist() == np.flatnonzero((votes >= 0).any(axis=1)).tolist()
    with pytest.raises(ValueError, match="one task, the tree has 3"):
        to_snorkel([[0]], TREE)


@settings(max_examples=20, deadline=None)
@given(matrices, st.text(max_size=10))
def test_wrench_round_trip(tmp_path_factory, shape, text):
    folder = tmp_path_factory.mktemp("wrench") / "new"
    votes = random_votes(shape, FLAT)
    gold = np.arange(len(votes)) % 4 - 1
    items = [text, {"text": text, "entity": [1, 2]}, *[str(i) for i in range(len(votes))]]
    items = items[: len(votes)]
    write_wrench(folder, "train", votes, FLAT, items=items, gold=gold)
    tree, split = read_wrench(folder, "train")
    assert tree.tasks[0].labels == FLAT.tasks[0].labels
    np.testing.assert_array_equal(split.votes, votes)
    assert split.gold.tolist() == gold.tolist()
    assert split.items[0] == {"text": text}
    json.loads((folder / "train.json").read_text(), parse_constant=pytest.fail)
    assert sorted(path.name for path in folder.iterdir()) == ["label.json", "train.json"]
    if (votes >= 0).any():
        np.testing.assert_array_equal(read_votes(folder).votes, votes)


def test_bad_wrench(tmp_path):
    for options, message in (
        ({"items": []}, "got 1 rows of votes, 0 items"),
        ({"items": ["x"], "gold": [0, 1]}, "gold of shape"),
        ({"items": ["x"], "gold": [3]}, r"gold: item 0: got 3, expected a class id in -1\.\.2"),
        ({"items": ["x"], "gold": [0.7]}, "gold: item 0: got 0.7"),
        ({"items": ["x"], "gold": [np.nan]}, "gold: item 0: got nan"),
        ({"items": ["x"], "gold": ["no"]}, "gold: got dtype <U2, expected integers"),
        ({"items": ["x"], "gold": [True]}, "gold: got dtype bool, expected integers"),
        ({"items": [{"x": object()}]}, "items: item 0: Object of type object"),
        ({"items": [{"x": [1, np.nan]}]}, "items: item 0: Out of range float"),
        ({"items": [{"x": np.float32("inf")}]}, "items: item 0: Out of range float"),
    ):
        with pytest.raises(ValueError, match=message):
            write_wrench(tmp_path, "train", [[0]], FLAT, **options)
    with pytest.raises(ValueError, match="split: got '../x'"):
        write_wrench(tmp_path, "../x", [[0]], FLAT, items=["x"])
    assert not list(tmp_path.iterdir())


def test_cleanlab_inputs():
    leaf = TREE.leaf_nodes
    q = np.eye(4) * 0.6 + 0.1
    inputs = to_cleanlab([leaf[2], 0, -1, leaf[0]], q, TREE)  # an inner node is left out
    assert inputs.labels.tolist() == [2, 0]
    assert inputs.items.tolist() == [0, 3]
    np.testing.assert_allclose(inputs.pred_probs.sum(axis=1), 1)
    for labels, probabilities, tree, message in (
        ([0], [[1, 0, 0, 0, 0]], FOREST, "the tree has 2 roots"),
        ([0, 1], [[1, 0, 0]], FLAT, "got labels of shape"),
        ([3], [[1, 0, 0]], FLAT, "expected node ids in -1..2"),
        ([0], [[0.5, 0, 0]], FLAT, r"row 0: got \[0.5, 0.0, 0.0\], expected numbers"),
        ([0, 1], [[1, 0, 0], [1.5, -0.5, 0]], FLAT, r"row 1: got \[1.5, -0.5, 0.0\], expected"),
    ):
        with pytest.raises(ValueError, match=message):
            to_cleanlab(labels, probabilities, tree)
    empty = to_cleanlab([], np.zeros((0, 3)), FLAT)
    assert [part.shape for part in empty] == [(0,), (0, 3), (0,)]
    assert empty.labels.dtype == np.int64


# ---- soft labels --------------------------------------------------------------------------------


def random_probabilities(n, tree, seed):
    rng = np.random.default_rng(seed)
    widths = [span.stop - span.start for span in tree.root_leaves]
    return np.concatenate([rng.dirichlet(np.ones(w) / 2, n) for w in widths], axis=1)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
    st.sampled_from([FLAT, TREE, FOREST]),
    st.dictionaries(st.text().filter(lambda k: k != "labels"), st.text()),
)
def test_soft_labels_round_trip(tmp_path_factory, n, seed, tree, item):
    path = tmp_path_factory.mktemp("soft") / "soft.jsonl"
    q = random_probabilities(n, tree, seed)
    write_soft_labels(path, q, tree, items=[item] * n)
    records, back = read_soft_labels(path, tree)
    assert records == [item] * n
    np.testing.assert_array_equal(back, q)
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    by_task = task_probabilities(q, tree)
    for task in tree.tasks:
        for row, line in enumerate(lines):
            assert list(line["labels"][task.name]) == list(task.labels)
            np.testing.assert_allclose(
                list(line["labels"][task.name].values()), by_task[task.name][row]
            )
    for root in tree.roots:
        np.testing.assert_allclose(by_task[tree.tasks[root].name].sum(axis=1), 1)


def test_bad_soft_labels(tmp_path):
    path = tmp_path / "soft.jsonl"
    for q, items, message in (
        ([[1, 0]], None, "got shape"),
        ([[1, 0, 0], [0.5, 0, 0]], None, "row 1: got .* for task 'label'"),
        ([[np.nan, 0, 0]], None, "row 0: got"),
        ([[2, -1, 0]], None, "row 0: got"),
        ([[1, 0, 0]], ["a", "b"], "items: got 2, the probabilities have 1"),
        ([[1, 0, 0]], [{"labels": 1}], 'item 0: has "labels"'),
        ([[1, 0, 0]], [object()], "item 0: Object of type object"),
        ([[1, 0, 0]], [{"x": float("nan")}], "item 0: "),
    ):
        with pytest.raises(ValueError, match=message):
            write_soft_labels(path, q, FLAT, items=items)
        assert not list(tmp_path.iterdir())  # nothing half-written
    write_soft_labels(path, [[1, 0, 0]], FLAT)
    assert read_soft_labels(path, FLAT)[0] == [{"item": 0}]
    good = path.read_text()
    path.write_text(good * 2, encoding="utf-8-sig")
    assert read_soft_labels(path, FLAT)[1].tolist() == [[1, 0, 0]] * 2
    for content in (
        "",
        "[1]\n",
        "{}\n",
        "nothing\n",
        good.replace('"no"', '"nay"'),
        "[" * 100000,
        good.replace("1.0", "9" * 401),
        good.replace("1.0", "true"),
        good.replace("1.0", '"1"'),
        good.replace('"no"', '"eggs": 0.5, "no"'),
        good.replace('"label"', '"mail": {"no": 1}, "label"'),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=r"soft\.jsonl: (line 1|there are no lines)"):
            read_soft_labels(path, FLAT)
    path.write_text(good.replace("1.0", "7.0"))
    with pytest.raises(ValueError, match=r"soft\.jsonl: probabilities: row 0"):
        read_soft_labels(path, FLAT)


def test_items_of_numpy_are_written_as_their_values(tmp_path):
    items = [np.int64(3), np.str_("x"), {"stars": np.float32(0.5), "seen": [np.bool_(True)]}]
    write_soft_labels(tmp_path / "soft.jsonl", np.eye(3), FLAT, items=items)
    records, _ = read_soft_labels(tmp_path / "soft.jsonl", FLAT)
    assert records == [{"item": 3}, {"item": "x"}, {"stars": 0.5, "seen": [True]}]
    write_wrench(tmp_path, "train", [[0]] * 3, FLAT, items=items)
    assert read_wrench(tmp_path, "train")[1].items == ({"text": 3}, {"text": "x"}, records[2])
    with pytest.raises(ValueError, match="item 0: Object of type datetime"):
        write_soft_labels(
            tmp_path / "soft.jsonl", [[1, 0, 0]], FLAT, items=[np.datetime64("2026-01-01T00")]
        )


def test_soft_labels_by_item():
    soft = Frame(["a", "b"], [("yes", [0.25, 1]), ("no", [0.75, 0])])
    assert soft_labels_from_frame(soft, ["b", "a"], FLAT).tolist() == [[0, 1, 0], [0.75, 0.25, 0]]
    for index, names, message in (
        (["a", "a"], ["yes", "no"], "item 'a' has several rows"),
        (["a", "b"], ["no", "no"], "two columns are called 'no'"),
        (["a", "b"], ["no", "nay"], "column 'nay' is no label of"),
        (["b", "c"], ["no", "yes"], "there is no item 'a'"),
    ):
        with pytest.raises(ValueError, match=f"frame: {message}"):
            soft_labels_from_frame(
                Frame(index, [(name, [0.5, 0.5]) for name in names]), ["a"], FLAT
            )


# ---- the libraries themselves -------------------------------------------------------------------


def test_pandas_by_item():
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency of the tests")
    frame = pandas.DataFrame({"task": [1, 2, 3], "label": ["no", "yes", None]}).set_index("task")
    with pytest.raises(ValueError, match="labels: got DataFrame, expected a mapping or a Series"):
        gold_from_labels(frame, [1, 2], FLAT)
    assert gold_from_labels(frame["label"], [3, 2, 1], FLAT).tolist() == [-1, 1, 0]
    nullable = pandas.Series([2, None], index=["a", "b"], dtype="Int64")
    assert gold_from_labels(nullable, ["a", "b"], FLAT).tolist() == [2, -1]
    with pytest.raises(ValueError, match="labels: item 1 has both 'no' and 'yes'"):
        gold_from_labels(pandas.Series(["no", "yes"], index=[1, 1]), [1], FLAT)
    soft = pandas.DataFrame([[1.0, 0], [0, 1]], index=["a", "a"], columns=["no", "yes"])
    with pytest.raises(ValueError, match="frame: item 'a' has several rows"):
        soft_labels_from_frame(soft, ["a"], FLAT)


@pytest.mark.filterwarnings("ignore")
def test_crowdkit_itself():
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency of the tests")
    aggregation = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is only a peer")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 60)
    votes = np.where(rng.random((60, 5)) < 0.8, truth[:, None], rng.integers(0, 3, (60, 5)))
    votes[rng.random(votes.shape) < 0.3] = -1
    votes[:, 0] = truth
    labels = FLAT.tasks[0].labels
    rows, columns = np.nonzero(votes >= 0)
    cells = zip(rows, columns, strict=True)
    frame = pandas.DataFrame(
        {"task": rows, "worker": columns, "label": [labels[votes[cell]] for cell in cells]}
    )
    tree, named = from_crowdkit(frame, FLAT)
    again = pandas.DataFrame(to_crowdkit(named, tree))
    soft = aggregation.DawidSkene(n_iter=10).fit_predict_proba(again)
    q = soft_labels_from_frame(soft, named.items, tree)
    order = np.argsort(named.items)
    assert (q[order].argmax(axis=1) == truth).mean() > 0.85
    best = aggregation.MajorityVote().fit_predict(again)
    gold = gold_from_labels(best, named.items, tree)
    assert (gold[order] == truth).mean() > 0.8


@pytest.mark.filterwarnings("ignore")
def test_cleanlab_itself():
    count = pytest.importorskip("cleanlab.filter", reason="cleanlab is only a peer")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 200)
    q = np.eye(3)[truth] * 0.9 + 0.1 / 3
    labels = truth.copy()
    labels[:10] = (truth[:10] + 1) % 3
    inputs = to_cleanlab(labels, q, FLAT)
    issues = count.find_label_issues(inputs.labels, inputs.pred_probs, n_jobs=1)
    assert set(inputs.items[issues].tolist()) == set(range(10))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_snorkel_itself():
    model = pytest.importorskip("snorkel.labeling.model", reason="Snorkel is only a peer")
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, (300, 1))
    votes = np.where(rng.random((300, 6)) < 0.75, truth, rng.integers(-1, 3, (300, 6)))
    label_model = model.LabelModel(cardinality=3, verbose=False)
    label_model.fit(to_snorkel(votes, FLAT), n_epochs=50, seed=0, progress_bar=False)
    predicted = from_snorkel(label_model.predict(to_snorkel(votes, FLAT))[:, None], FLAT)
    assert (predicted == truth).mean() > 0.8
