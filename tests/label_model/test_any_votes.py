"""Votes that are no votes are refused by every label model, before anything is compiled."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from metal_jax import label_model
from metal_jax.labeling import validate
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict({"a": {"x": {"b": ["u", "v"]}, "y": None}})
KEY = jax.random.key(0)
FIT = label_model.fit_dawid_skene(np.array([[0, 1, -1, 2], [2, -1, 3, 0]] * 4), TREE)

FAMILIES = {
    "fit": lambda votes: label_model.fit(votes, TREE),
    "fit_dawid_skene": lambda votes: label_model.fit_dawid_skene(votes, TREE),
    "fit_glad": lambda votes: label_model.fit_glad(votes, TREE),
    "fit_mace": lambda votes: label_model.fit_mace(votes, TREE, key=KEY),
    "fit_overlap_from_votes": lambda votes: label_model.fit_overlap_from_votes(votes, TREE),
    "fit_triplets": lambda votes: label_model.fit_triplets(votes, TREE),
    "fit_with_dependencies": lambda v: label_model.fit_with_dependencies(v, TREE, [(0, 1)]),
    "discover_dependencies": lambda votes: label_model.discover_dependencies(votes, TREE),
    "fit_stream": lambda votes: label_model.fit_stream([votes], TREE),
    "validate": lambda votes: validate(votes, TREE),
    "checked_votes": lambda votes: label_model.checked_votes(votes, TREE),
    "majority_vote": lambda votes: label_model.majority_vote(votes, TREE),
    "posterior": lambda votes: label_model.posterior(FIT, votes),
    "log_posterior": lambda v: label_model.log_posterior(FIT.params, v, FIT.columns, TREE),
    "explain": lambda votes: label_model.explain(FIT, votes),
    "diagnose": lambda votes: label_model.diagnose(FIT, votes),
    "leave_one_out": lambda votes: label_model.leave_one_out(votes, TREE),
    "add_lfs": lambda votes: label_model.add_lfs(FIT, votes),
    "suggest_dependencies": lambda votes: label_model.suggest_dependencies(votes, TREE),
    "bootstrap_lf_accuracy": lambda votes: label_model.bootstrap_lf_accuracy(
        label_model.fit, votes, TREE, key=KEY
    ),
}

numbers = arrays.floating_dtypes(sizes=(16, 32, 64)) | arrays.complex_number_dtypes()
not_integers = arrays.arrays(
    numbers | arrays.boolean_dtypes() | arrays.datetime64_dtypes() | arrays.unicode_string_dtypes(),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
not_a_matrix = arrays.arrays(
    arrays.integer_dtypes(),
    arrays.array_shapes(min_dims=0, max_dims=1) | arrays.array_shapes(min_dims=3, max_dims=4),
    elements=st.integers(-1, 3),
)
nothing = st.sampled_from([np.zeros((0, 4), int), np.zeros((4, 0), int), np.zeros((0, 0), int)])
matrices = arrays.arrays(
    np.int64, st.tuples(st.integers(1, 4), st.integers(1, 4)), elements=st.integers(-1, 3)
)


@st.composite
def with_a_bad_vote(draw):
    matrix = draw(matrices)
    bad = draw(st.integers(4, 2**63 - 1) | st.integers(-(2**63), -3))
    matrix[draw(st.integers(0, len(matrix) - 1)), 0] = bad
    return matrix


objects = st.sampled_from([[["u"]], [[None, 1]], [[1, 2], [3]], "votes", None, {"a": 1}, [[2**70]]])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(votes=not_integers | not_a_matrix | nothing | with_a_bad_vote() | objects)
def test_no_votes(family, votes):
    with pytest.raises(ValueError, match="."):
        FAMILIES[family](votes)
