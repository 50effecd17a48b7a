"""The label model in scikit-learn's form."""

import functools
import subprocess
import sys

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

from metal_jax import label_model
from metal_jax.interop import LabelModelEstimator
from metal_jax.label_model import DawidSkeneConfig, MixtureConfig
from metal_jax.task_tree import TaskTree


def crowd_model(votes, tree, **settings):
    """The model of a crowd: no detectors, so that little is compiled."""
    return label_model.fit(votes, tree, config=MixtureConfig(annotator=1.0), **settings)


REAL_NUMBERS = "its data are real numbers, and votes are class ids"
NOT_VOTES = {
    name: REAL_NUMBERS
    for name in (
        "check_dict_unchanged",
        "check_dont_overwrite_parameters",
        "check_dtype_object",
        "check_estimators_dtypes",
        "check_estimators_fit_returns_self",
        "check_estimators_nan_inf",
        "check_estimators_overwrite_params",
        "check_estimators_pickle",
        "check_f_contiguous_array_estimator",
        "check_fit2d_1feature",
        "check_fit2d_1sample",
        "check_fit2d_predict1d",
        "check_fit_check_is_fitted",
        "check_fit_idempotent",
        "check_fit_score_takes_y",
        "check_methods_sample_order_invariance",
        "check_methods_subset_invariance",
        "check_n_features_in",
        "check_n_features_in_after_fitting",
        "check_pipeline_consistency",
        "check_positive_only_tag_during_fit",
        "check_readonly_memmap_input",
    )
}


@pytest.fixture(scope="module")
def crowd():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 120)
    votes = np.where(rng.random((120, 5)) < 0.8, truth[:, None], 1 - truth[:, None])
    return truth, np.where(rng.random(votes.shape) < 0.7, votes, -1)


def test_it_is_the_label_model(crowd):
    truth, votes = crowd
    estimator = LabelModelEstimator(["ham", "spam"], model=crowd_model).fit(votes)
    result = crowd_model(votes, TaskTree.single(["ham", "spam"]))
    q = np.asarray(label_model.posterior(result, votes))
    np.testing.assert_allclose(estimator.predict_proba(votes), q, atol=1e-6)
    assert estimator.predict(votes).tolist() == estimator.classes_[q.argmax(axis=1)].tolist()
    assert (estimator.predict(votes) == np.array(["ham", "spam"])[truth]).mean() > 0.8
    np.testing.assert_allclose(estimator.lf_accuracy_, label_model.lf_accuracy(result))
    assert estimator.n_features_in_ == 5
    known = LabelModelEstimator(model=crowd_model).fit(votes, np.where(truth == 0, 0, -1))
    assert known.classes_.tolist() == [0, 1]
    assert known.class_balance_.shape == (2,)


def test_settings():
    estimator = LabelModelEstimator(model=crowd_model, class_balance=[0.5, 0.5])
    assert clone(estimator).get_params() == estimator.get_params()
    assert estimator.set_params(class_balance=None).class_balance is None
    with pytest.raises(ValueError, match="row 0, LF 1: got 0.5, expected a class id"):
        estimator.fit([[0, 0.5]])
    with pytest.raises(ValueError, match="classes: the tree already says"):
        LabelModelEstimator(["a", "b"], tree=TaskTree.single(2)).fit([[0, 1]])


@pytest.mark.slow
def test_labels_are_predicted_as_they_were_given():
    votes = np.array([[0, 0, -1], [1, -1, 1], [0, 1, 0], [-1, 1, 1]] * 10)
    for classes in (["a", "b"], [3, 7], [1, "a"], [(0, 1), (0, 2)], [False, True]):
        found = LabelModelEstimator(classes=classes).fit(votes).predict(votes[:2]).tolist()
        assert found == classes
        assert list(map(type, found)) == list(map(type, classes))


def test_trees_and_other_models(crowd):
    truth, votes = crowd
    tree = TaskTree.from_dict({"top": {"a": None, "b": {"below": ["x", "y"]}}})
    estimator = LabelModelEstimator(tree=tree).fit(votes)
    assert estimator.classes_.tolist() == ["top=a", "below=x", "below=y"]
    assert estimator.predict_proba(votes).shape == (120, 3)
    forest = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})
    estimator = LabelModelEstimator(tree=forest).fit(votes)
    np.testing.assert_allclose(estimator.predict_proba(votes).sum(axis=1), 2)
    with pytest.raises(ValueError, match="several roots"):
        estimator.predict(votes)
    one_coin = functools.partial(
        label_model.fit_dawid_skene,
        config=DawidSkeneConfig(tying="one_coin", informative_abstains=False),
    )
    estimator = LabelModelEstimator(model=one_coin, class_balance=[0.5, 0.5]).fit(votes)
    assert (estimator.predict(votes) == truth).mean() > 0.8


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_check_estimator():
    """All of scikit-learn's checks that do not feed it something else than votes."""
    done = check_estimator(
        LabelModelEstimator(model=crowd_model), expected_failed_checks=NOT_VOTES, on_fail=None
    )
    failed = {
        check["check_name"]: check["exception"] for check in done if check["status"] == "failed"
    }
    assert not failed
    assert sum(check["status"] == "passed" for check in done) >= 17
    refused = [check for check in done if check["status"] == "xfail"]
    assert {check["check_name"] for check in refused} == set(NOT_VOTES)  # none is excused for long
    for check in refused:
        assert isinstance(check["exception"], ValueError | AssertionError), check


def test_importing_the_room_needs_no_other_library():
    code = (
        "import sys, metal_jax.interop; "
        "found = {'sklearn', 'pandas', 'polars', 'datasets', 'pyarrow', 'dask'} & set(sys.modules);"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
