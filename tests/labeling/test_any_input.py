"""Whatever comes in: a sound answer or a ValueError, never another error or nonsense."""

import contextlib

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metal_jax._core.intervals import wilson_interval
from metal_jax.interop import (
    from_crowdkit,
    gold_from_labels,
    read_soft_labels,
    soft_labels_from_frame,
    task_probabilities,
    to_cleanlab,
    votes_from_frame,
)
from metal_jax.labeling import (
    contested_items,
    from_metal,
    from_sparse,
    from_triples,
    gazetteer_lf,
    item_digest,
    keyword_lf,
    length_lf,
    posterior_entropy,
    regex_lf,
    representative_items,
    uncovered_items,
    vote_conflict,
    votes_of_probabilities,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y"]}}, "other": ["u", "v"]})
FLAT = TaskTree.single(3)
ONE_ROOT = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y"]}}})
refused = contextlib.suppress(ValueError)
many = settings(max_examples=80, deadline=None)

dtypes = (
    arrays.integer_dtypes()
    | arrays.unsigned_integer_dtypes()
    | arrays.floating_dtypes(sizes=(16, 32, 64))
    | arrays.boolean_dtypes()
)
shapes = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
anything = arrays.arrays(dtypes, shapes)
matrices = arrays.arrays(dtypes, st.tuples(st.integers(0, 5), st.sampled_from([3, 5])))
votes = arrays.arrays(
    arrays.integer_dtypes(), st.tuples(st.integers(0, 5), st.integers(0, 4)),
    elements=st.integers(-3, 7),
)  # fmt: skip
cells = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
cells |= st.sampled_from(["a", "b", "top=a", "0", "-1", "<script>", "\ud800"])


@many
@given(anything | votes)
def test_votes(array):
    with refused:
        conflict = vote_conflict(array, TREE)
        assert conflict.shape == array.shape[:1]
        assert ((conflict >= 0) & (conflict < 1)).all()
    with refused:
        chosen = contested_items(array, TREE, 3)
        assert len(set(chosen.tolist())) == len(chosen) <= 3
    with refused:
        found = uncovered_items(array, [str(i) for i in range(len(array))] if array.ndim else [])
        assert (array[found.items] < 0).all()


@many
@given(anything | matrices, anything)
def test_probabilities(array, thresholds):
    for tree in (TREE, FLAT):
        with refused:
            found = votes_of_probabilities(array, tree, thresholds=thresholds)
            assert found.shape == (len(array), len(tree.roots))
            assert ((thresholds >= 0) & (thresholds <= 1)).all()
            assert ((found >= -1) & (found < tree.num_nodes)).all()
        with refused:
            entropy = posterior_entropy(array, tree)
            assert entropy.shape == array.shape[:1]
        with refused:
            by_task = task_probabilities(array, tree)
            assert all(np.isfinite(q).all() for q in by_task.values())
    with refused:
        inputs = to_cleanlab(thresholds, array, FLAT)
        assert ((inputs.pred_probs >= 0) & (inputs.pred_probs <= 1)).all()


@pytest.mark.parametrize("wrong", [70, -0.1, float("nan"), float("inf")])
def test_thresholds_are_shares(wrong):
    """A threshold in percent would silence the classifier."""
    for thresholds in (wrong, [0.5, 0.5, wrong]):
        for task in (None, FLAT.tasks[0].name):
            with pytest.raises(ValueError, match=f"thresholds: got {wrong}.*, expected numbers in"):
                votes_of_probabilities([[1, 0, 0]], FLAT, task=task, thresholds=thresholds)
    assert votes_of_probabilities([[1, 0, 0]], FLAT, thresholds=[1, 0, 0]).tolist() == [[0]]


@many
@given(anything, st.none() | anything, st.integers(-2, 4))
def test_features(features, weights, num_items):
    with refused:
        found = representative_items(features, num_items, weights=weights)
        assert len(set(found.items.tolist())) == len(found.items) <= num_items
        assert (found.items < len(features)).all()


@many
@given(arrays.arrays(np.float64, 4, elements=st.floats(0, 1)), st.integers(0, 10**18))
def test_intervals(share, count):
    interval = wilson_interval(share, count)
    assert interval.shape == (4, 2)
    if count:
        assert ((interval[:, 0] <= share + 1e-9) & (share <= interval[:, 1] + 1e-9)).all()
        assert ((interval >= 0) & (interval <= 1)).all()


@many
@given(st.dictionaries(st.text(), st.lists(cells, max_size=4), max_size=3))
def test_frames(frame):
    with refused:
        matrix, names = votes_from_frame(frame, TREE)
        assert matrix.shape[1] == len(names)
        assert ((matrix >= -2) & (matrix < TREE.num_nodes)).all()


@many
@given(st.lists(st.tuples(cells, cells, cells), max_size=4), st.booleans())
def test_crowds(rows, with_tree):
    names = ("task", "worker", "label")
    frame = {name: [row[i] for row in rows] for i, name in enumerate(names)}
    with refused:
        tree, named = from_crowdkit(frame, FLAT if with_tree else None)
        assert named.votes.shape == (len(named.items), len(named.workers))
        assert (named.votes < tree.num_nodes).all()


unhashable = cells | st.just([]) | st.just({}) | st.tuples(cells)


@many
@given(st.lists(st.tuples(unhashable, unhashable, unhashable) | unhashable, max_size=4))
def test_triples(triples):
    with refused:
        named = from_triples(triples, TREE)
        assert named.votes.shape == (len(named.items), len(named.workers))
        for item, worker, label in triples:
            node = named.votes[named.items.index(item), named.workers.index(worker)]
            assert label in (node, TREE.node_names[node][1])


@many
@given(st.dictionaries(cells, unhashable, max_size=4) | unhashable, st.lists(cells, max_size=4))
def test_gold_by_item(labels, items):
    with refused:
        gold = gold_from_labels(labels, items, TREE)
        assert gold.shape == (len(items),)
        assert ((gold >= -2) & (gold < TREE.num_nodes)).all()


@many
@given(st.lists(anything | votes, min_size=1, max_size=4))
def test_metal_lists(per_task):
    for tree in (FLAT, ONE_ROOT, TREE):
        with refused:
            found = from_metal(per_task, tree)
            n, m = np.shape(per_task[0])
            assert len(per_task) == tree.num_tasks
            assert found.shape == (n, m * len(tree.roots))
            voted = (found.reshape(n, -1, m) >= 0).any(axis=1)
            assert (voted == np.any([np.asarray(m) > 0 for m in per_task], axis=0)).all()


@many
@given(anything | votes, st.sampled_from(["coo", "csr", "lil"]), st.booleans(), st.booleans())
def test_sparse_matrices(array, form, zero_is_abstain, as_array):
    array = array if as_array and array.ndim == 1 else np.atleast_2d(array)
    try:
        matrix = scipy.sparse.coo_array(array).asformat(form)
    except (TypeError, ValueError):  # of SciPy: too many axes, or none of its types
        matrix = array
    with refused:
        found = from_sparse(matrix, FLAT, zero_is_abstain=zero_is_abstain)
        assert found.shape == array.shape
        wanted = array.astype(int) - zero_is_abstain
        assert (found == np.where(array == 0, -1, wanted)).all()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.just([]) | st.just({}),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text(), inner, min_size=1, max_size=3)
    ),
    max_leaves=6,
)


@many
@given(st.text() | st.binary() | json_values.map(repr))
def test_files_of_soft_labels(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "soft.jsonl"
    path.write_bytes(
        content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    )
    with refused:
        _, q = read_soft_labels(path, FLAT)
        assert np.isfinite(q).all()


class Frame:
    """What a data frame of another library looks like."""

    def __init__(self, columns, index, values):
        self.columns, self.index, self.values = columns, np.asarray(index), values

    def to_numpy(self):
        return self.values


@many
@given(st.lists(st.sampled_from(["0", "1", "2", "3"]), max_size=4), matrices)
def test_frames_of_soft_labels(columns, values):
    with refused:
        frame = Frame(columns, range(len(values)), values)
        q = soft_labels_from_frame(frame, range(len(values)), FLAT)
        np.testing.assert_allclose(q.sum(axis=1), 1, atol=2e-3)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of patterns such as "[["
@many
@given(st.text(), st.lists(st.text(), max_size=3), st.text())
def test_texts(text, phrases, pattern):
    for make in (
        lambda: keyword_lf("k", "t", "a", phrases),
        lambda: gazetteer_lf("g", "t", {"a": phrases[:1], "b": phrases[1:]}),
        lambda: length_lf("l", "t", "a", shortest=1, longest=len(pattern)),
        lambda: regex_lf("r", "t", "a", pattern[:5]),
    ):
        with refused:
            assert make()(text) in ("a", "b", -1)


items = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(()),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3)
        | st.dictionaries(st.text(), inner, min_size=1, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@many
@given(items, items)
def test_digests_tell_items_apart(first, second):
    """Equal digests, equal representations; no two of different values were ever found."""
    assert item_digest(first) is not None
    assert (item_digest(first) == item_digest(second)) == (repr(first) == repr(second))
