"""The figures through matplotlib."""

import numpy as np
import pages
import pytest

from metal_jax import label_model, report

figure = pytest.importorskip("matplotlib.figure")


@pytest.fixture(scope="module")
def calls():
    """Each function with its arguments."""
    result, votes, gold, probs = pages.fitted()
    runs = pages.runs_of()
    true = np.array([0.1, 0.5, np.nan])
    forecast = report.Forecast("validation/accuracy", ["a", "b", "c"], true, true, true, true)
    ones, times = np.ones(3), np.arange(1.0, 4)
    found = report.Search("accuracy", ["a", "b", "c"], ones, ones, ones, times, 2.5, [1])
    training = report.Training([1, 2], [0.5, 0.4], {"loss": [0.6, float("nan")]}, 1)
    diagnosis = label_model.diagnose(result, votes)
    return {
        "plot_calibration": (([0.5, 0.9], [0.4, 1.0]), {}),
        "plot_class_balance": ((result, votes), {"gold": gold}),
        "plot_confidence": ((probs,), {}),
        "plot_conflicts": ((votes, pages.TREE), {"lf_names": pages.NASTY}),
        "plot_confusion": (([[3, 1], [0, 2]], ["a", "b"]), {}),
        "plot_contributions": ((result, votes[0]), {"lf_names": pages.NASTY[:6]}),
        "plot_convergence": ((result,), {}),
        "plot_label_distribution": ((probs, pages.TREE), {"level": 1, "gold": gold}),
        "plot_learning_curves": ((training,), {}),
        "plot_lf_accuracy": ((diagnosis,), {"gold_accuracy": np.linspace(0, 1, 6)}),
        "plot_overlaps": ((votes, pages.TREE), {}),
        "plot_predicted": ((forecast,), {}),
        "plot_run_curves": ((runs,), {"best": runs[3].run}),
        "plot_search": ((found,), {}),
        "plot_task_tree": ((pages.TREE,), {"shares": np.full(4, 0.5)}),
    }


def test_every_plot_is_tried(calls):
    assert set(calls) == {name for name in report.__all__ if name.startswith("plot_")}


@pytest.mark.parametrize("name", [name for name in report.__all__ if name.startswith("plot_")])
def test_draws_on_the_axes_that_are_given(calls, name):
    arguments, options = calls[name]
    ax = figure.Figure().subplots()
    assert getattr(report, name)(*arguments, ax=ax, **options) is ax
    assert ax.get_title(loc="left")
    assert ax.lines or ax.patches or ax.images or ax.texts or ax.collections
    assert getattr(report, name)(*arguments, **options).figure is not ax.figure


def test_pictures_of_a_report(tmp_path):
    paths = report.write_png(pages.exhaust_page(), tmp_path / "pictures")
    assert len(paths) == 7
    assert paths[0].name == "figure01_validation_accuracy.png"
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_errors():
    with pytest.raises(ValueError, match="level: got 2"):
        report.plot_label_distribution(np.ones((2, 3)) / 3, pages.TREE, level=2)
    result, votes, _, _ = pages.fitted()
    with pytest.raises(ValueError, match=r"item_votes: got shape \(120, 6\)"):
        report.plot_contributions(result, votes)
