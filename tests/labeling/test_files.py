"""Votes and gold labels from files: every form, and what is wrong with bad ones."""

import csv
import json
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.labeling import read_gold, read_votes, to_metal
from metal_jax.task_tree import TaskTree

VOTES = np.array([[0, -1, 2], [1, 1, -1], [-1, -1, -1], [2, 0, 2]])
TREE = TaskTree.from_dict({"triage": {"normal": None, "abnormal": {"urgency": ["low", "high"]}}})
TREE_VOTES = np.array([[0, -1], [1, 2], [3, 3], [-1, 1]])


@pytest.fixture
def write(tmp_path):
    """Write a file: text, or the arrays of an .npz."""

    def write(name, content=None, **arrays):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if content is None:
            np.savez(path, **arrays)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content, encoding="utf-8")
        return path

    return write


def labels_of(tree):
    return [label for _, label in tree.node_names]


# ---- forms --------------------------------------------------------------------------------------


def test_npz_and_npy(write, tmp_path):
    file = read_votes(write("v.npz", L=VOTES))
    np.testing.assert_array_equal(file.votes, VOTES)
    assert labels_of(file.tree) == ["0", "1", "2"]
    assert file.classes_from == "the highest vote + 1"
    assert (file.items, file.lf_names) == (None, None)
    np.save(tmp_path / "v.npy", VOTES)
    np.testing.assert_array_equal(read_votes(tmp_path / "v.npy").votes, VOTES)


def test_number_of_classes_and_names(write, tmp_path):
    path = write("v.npz", L=VOTES, k=5, lf_names=["a", "b", "c"], items=list("wxyz"))
    file = read_votes(path)
    assert (file.tree.num_nodes, file.classes_from) == (5, "k in the file")
    assert (file.lf_names, file.items) == (("a", "b", "c"), ("w", "x", "y", "z"))
    assert read_votes(write("w.npz", L=VOTES), num_classes=4).classes_from == "as given"
    (tmp_path / "label.json").write_text('{"1": "ham", "0": "spam", "2": "other"}')
    file = read_votes(write("w.npz", L=VOTES))
    assert labels_of(file.tree) == ["spam", "ham", "other"]
    assert file.classes_from == "label.json"
    with pytest.raises(ValueError, match="label.json names 3 classes, but there are 5"):
        read_votes(path)
    assert read_votes(path, TaskTree.single(6)).tree.num_nodes == 6  # a tree overrules all


def test_wrench_folder_and_file(write, tmp_path):
    entries = {
        str(i): {"label": int(max(row)), "weak_labels": row.tolist(), "data": {"text": "x"}}
        for i, row in enumerate(VOTES)
    }
    path = write("train.json", json.dumps(entries))
    with pytest.raises(ValueError, match=r"needs its label.json"):
        read_votes(path)
    write("label.json", '{"0": "a", "1": "b", "2": "c"}')
    for source in (path, tmp_path):
        file = read_votes(source)
        np.testing.assert_array_equal(file.votes, VOTES)
        assert labels_of(file.tree) == ["a", "b", "c"]
        assert read_gold(source, file.tree, 4).tolist() == [2, 1, -1, 2]
    write("test.npz", L=VOTES[:2])
    assert len(read_votes(tmp_path, split="test").votes) == 2


@pytest.mark.parametrize("form", ["arrays", "npz", "csv"])
def test_metal_list(write, tmp_path, form):
    matrices = to_metal(TREE_VOTES, TREE)
    if form == "arrays":
        path = write("v.npz", **{f"L_{t}": matrix for t, matrix in enumerate(matrices)})
    elif form == "npz":
        path = tmp_path
        for t, matrix in enumerate(matrices):
            write(f"L_{t}.npz", L=matrix)
    else:
        path = tmp_path
        for task, matrix in zip(TREE.tasks, matrices, strict=True):
            write(f"{task.name}.csv", "\n".join(",".join(map(str, row)) for row in matrix) + "\n")
    np.testing.assert_array_equal(read_votes(path, TREE).votes, TREE_VOTES)
    with pytest.raises(ValueError, match="task tree"):
        read_votes(path)


def test_lines_with_names(write):
    text = "when,Worker,Item,label\n1,w1,i2,ham\n2,w2,i1,spam\n3,w2,i2,spam\n"
    file = read_votes(write("v.csv", "\ufeff" + text))
    assert (file.items, file.lf_names) == (("i2", "i1"), ("w1", "w2"))
    assert labels_of(file.tree) == ["ham", "spam"]
    assert file.votes.tolist() == [[0, 1], [-2, 1]]
    file = read_votes(write("v.tsv", text.replace(",", "\t")))
    assert file.votes.tolist() == [[0, 1], [-2, 1]]


def test_lines_with_class_ids(write):
    file = read_votes(write("v.csv", "task,annotator,label\na,x,2\nb,x,0\n"))
    assert labels_of(file.tree) == ["0", "1", "2"]
    assert read_votes(write("v.csv", "item,worker,label\na,x,2\n"), num_classes=9).tree.num_nodes


def test_lines_over_a_tree(write):
    text = "item,worker,label\na,x,normal\na,y,urgency=high\nb,x,1\n"
    assert read_votes(write("v.csv", text), TREE).votes.tolist() == [[0, 3], [1, -2]]
    twins = TaskTree.from_dict({"a": {"no": None, "yes": {"b": ["no", "yes"]}}})
    with pytest.raises(ValueError, match="line 2: label 'no' occurs in several tasks"):
        read_votes(write("v.csv", "item,worker,label\na,x,no\n"), twins)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(
    lambda text: text == text.strip() and text.lower() != "nan"
)


@settings(deadline=None, max_examples=60)
@given(
    votes=st.dictionaries(
        st.tuples(NAMES, NAMES), st.sampled_from(["x", "a, b", 'say "c"', "7"]), min_size=1
    )
)
def test_csv_round_trip(votes):
    tree = TaskTree.single(["x", "a, b", 'say "c"', "7"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "votes.csv"
        with path.open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["label", "worker", "item"])
            writer.writerows([label, worker, item] for (item, worker), label in votes.items())
        file = read_votes(path, tree)
    assert file.items is not None
    assert file.lf_names is not None
    read = {
        (file.items[i], file.lf_names[j]): tree.node_names[file.votes[i, j]][1]
        for i, j in np.argwhere(file.votes >= 0)
    }
    assert read == votes


# ---- gold ---------------------------------------------------------------------------------------


def test_gold_forms(write, tmp_path):
    gold = np.array([3, 0, -1, 1])
    assert read_gold(write("g.npz", Y=gold), TREE, 4).tolist() == gold.tolist()
    np.save(tmp_path / "g.npy", gold)
    assert read_gold(tmp_path / "g.npy", TREE, 4).tolist() == gold.tolist()
    lines = write("g.csv", "item,label\nd,abnormal\na,high\nnobody,low\n")
    assert read_gold(lines, TREE, 4, items=list("abcd")).tolist() == [3, -1, -1, 1]
    rows = write("g.csv", "item,label\n3,abnormal\n0,high\n")
    assert read_gold(rows, TREE, 4).tolist() == [3, -1, -1, 1]


def test_numbers_in_lines_are_names_where_labels_are_numbers(write):
    tree = TaskTree.single(["1", "2"])
    assert read_gold(write("g.csv", "item,label\n0,2\n1,1\n"), tree, 2).tolist() == [1, 0]
    with pytest.raises(ValueError, match="line 2: unknown label '0' .a number is no node id"):
        read_gold(write("g.csv", "item,label\n0,0\n"), tree, 2)


def test_gold_of_no_or_repeated_items(write):
    lines = write("g.csv", "item,label\na,low\n")
    for number in (0, -3):
        with pytest.raises(ValueError, match=f"num_items: got {number}, expected at least 1"):
            read_gold(lines, TREE, number)
    for items in (["a"], ["a", "a"]):
        with pytest.raises(ValueError, match=f"items: got {len(items)} names, 1 of them distinct"):
            read_gold(lines, TREE, 2, items=items)


def test_gold_of_a_forest(write):
    forest = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})
    lines = write("g.csv", "item,label\n0,y\n0,u\n1,v\n")
    assert read_gold(lines, forest, 2).tolist() == [[1, 2], [-1, 3]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y": [0, 1]}, r"shape \(2,\), the votes have 4 items"),
        ({"Y": [0.0, 1, 0, 0]}, "dtype float64"),
        ({"Y": [0, 9, 0, 0]}, "row 1: got 9, expected a node id in 0..3"),
        ({"L": [0]}, "no array Y"),
    ],
)
def test_bad_gold(write, arrays, message):
    with pytest.raises(ValueError, match=message):
        read_gold(write("g.npz", **arrays), TREE, 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("item,label\na,low\na,high\n", "line 3: item 'a' had another label"),
        ("item,label\nq,low\n", "none of its items is one of the votes'"),
        ("item,label\na,huge\n", "line 2: unknown label 'huge'; known: normal"),
        ("item\na\n", "line 1: expected the columns item, label, got item"),
    ],
)
def test_bad_gold_lines(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_gold(write("g.csv", text), TREE, 1, items=["a"])


# ---- bad votes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"L": VOTES.astype(float)}, "got dtype float64, expected integers"),
        ({"L": np.where(VOTES < 0, np.nan, VOTES)}, "row 0, LF 1: got nan"),
        ({"L": np.zeros((0, 3), int)}, "there are no items"),
        ({"L": np.zeros((3, 0), int)}, "there are no labelling functions"),
        ({"L": VOTES[0]}, r"got shape \(3,\)"),
        ({"L": VOTES * 3}, "row 0, LF 1: got -3"),
        ({"L": VOTES, "k": 2}, "row 0, LF 2: got 2, expected a node id in 0..1"),
        ({"L": VOTES, "k": [2, 3]}, "k: got"),
        ({"L": VOTES, "lf_names": ["a"]}, "lf_names: got shape"),
        ({"L": np.full((2, 2), -1)}, "every LF abstains"),
        ({"L": np.zeros((2, 2), int)}, "say how many classes"),
        ({"L": np.array([[0, 10**9]])}, "row 0, LF 1: got 1000000000"),
        ({"L": VOTES.astype(object)}, "never unpickled"),
        ({"votes": VOTES}, "no array L"),
        ({"L_1": VOTES, "L_2": VOTES}, "no array L_0, although 2"),
    ],
)
def test_bad_matrix(write, arrays, message):
    path = write("v.npz", **arrays)
    with pytest.raises(ValueError, match=message) as error:
        read_votes(path)
    assert str(error.value).startswith(str(path))


def test_damaged_files(write, tmp_path):
    whole = write("v.npz", L=VOTES).read_bytes()
    for content in (whole[:100], whole[:-40], b"", b"not an archive", pickle.dumps({"L": 1})):
        with pytest.raises(ValueError, match=r"damaged, or no NumPy file"):
            read_votes(write("w.npz", content))
    with pytest.raises(FileNotFoundError):
        read_votes(tmp_path / "nothing.npz")
    with pytest.raises(ValueError, match="unknown kind of file"):
        read_votes(write("v.txt", "0 1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns item, worker, label"),
        ("item,worker,vote,label\n", "line 1: expected the columns"),
        ("item,label\na,0\n", "line 1: expected the columns item, worker, label, got item, label"),
        ("item,worker,label\n", "no lines beneath the header"),
        ("item,worker,label\na,x,0\na,y,\n", "line 3: the label is blank"),
        ("item,worker,label\na,x,NaN\n", "line 2: the label is NaN"),
        ("item,worker,label\n ,x,0\n", "line 2: the item is blank"),
        ("item,worker,label\na,x,0\na,y\n", "line 3: 2 cells, the header has 3"),
        ("item,worker,label\na,x,0\nb,x,1\na,x,1\n", "line 4: worker 'x'.*in line 2 already"),
        ("item,worker,label\na,x,yes\na,y,-1\n", "line 3: label '-1'; leave out"),
        ("item,worker,label\na,x,yes\n", "every label is 'yes'"),
        ('item,worker,label\na,x,1\nb,x,"0\nc,x,1\n', "line 3: unexpected end of data"),
        (b"item,worker,label\na,x,1\nb,x,\xff\n", "line 3: not UTF-8"),
    ],
)
def test_bad_lines(write, text, message):
    path = write("v.csv", text)
    with pytest.raises(ValueError, match=message) as error:
        read_votes(path)
    assert str(error.value).startswith(str(path))


def test_bad_encoding(write):
    with pytest.raises(ValueError, match="line 2: not UTF-8"):
        read_votes(write("v.csv", "item,worker,label\né,x,0\n".encode("latin-1")))


@pytest.mark.parametrize("text", ["[1]", "{}", '{"0": "a", "2": "b"}', "{"])
def test_bad_label_json(write, text):
    names = write("label.json", text)
    with pytest.raises(ValueError) as error:  # noqa: PT011
        read_votes(write("v.npz", L=VOTES))
    assert str(error.value).startswith(str(names))


def test_bad_metal_list(write, tmp_path):
    write("triage.csv", "1,2\n")
    with pytest.raises(ValueError, match="no file for task 'urgency'"):
        read_votes(tmp_path, TREE)
    for text, message in (("1,x\n", "could not convert"), ("", "empty"), ("1,2,0\n", "shape")):
        write("urgency.csv", text)
        with pytest.raises(ValueError, match=message):
            read_votes(tmp_path, TREE)


def test_contradicting_arguments(write):
    path = write("v.npz", L=VOTES, k=3)
    with pytest.raises(ValueError, match="the tree already says"):
        read_votes(path, TREE, num_classes=3)
    with pytest.raises(ValueError, match="k is 3 in the file, but 4"):
        read_votes(path, num_classes=4)
    with pytest.raises(ValueError, match="at least 2"):
        read_votes(path, num_classes=1)
