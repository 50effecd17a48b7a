"""Slicing functions: membership, errors, bad input."""

import numpy as np
import pytest

from metal_jax.labeling import (
    SlicingFunction,
    SlicingFunctionError,
    apply_slices,
    slicing_function,
)


@slicing_function()
def short(item):
    return len(item["text"]) < 5


@slicing_function(name="has a digit")
def digit(item):
    return np.any([c.isdigit() for c in item["text"]])


ITEMS = [{"text": "goal"}, {"text": "the 3rd goal"}, {"text": "2"}]


def test_membership():
    applied = apply_slices([short, digit], iter(ITEMS))
    assert applied.names == ("short", "has a digit")
    assert applied.membership.tolist() == [[True, False], [False, True], [True, True]]
    assert applied.membership.dtype == bool
    assert applied.num_errors.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda item: item["title"], "KeyError"),
        (lambda item: 1, "got 1, expected True or False"),
        (lambda item: None, "got None, expected True or False"),
    ],
)
def test_errors_name_slice_and_item_or_are_counted(function, message):
    def late(item):
        return function(item) if item["text"] == "2" else True

    slices = [short, SlicingFunction("late", late)]
    with pytest.raises(SlicingFunctionError, match=f"slice 'late' failed on item 2: .*{message}"):
        apply_slices(slices, ITEMS)
    applied = apply_slices(slices, ITEMS, on_error="outside")
    assert applied.membership[:, 1].tolist() == [True, True, False]
    assert applied.num_errors.tolist() == [0, 1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="no slicing functions"):
        apply_slices([], ITEMS)
    with pytest.raises(ValueError, match="two slicing functions are called 'short'"):
        apply_slices([short, short], ITEMS)
    with pytest.raises(ValueError, match="no items"):
        apply_slices([short], [])
    with pytest.raises(ValueError, match="on_error: got 'skip'"):
        apply_slices([short], ITEMS, on_error="skip")
