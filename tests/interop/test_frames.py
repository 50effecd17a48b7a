"""Data frames of any library as plain columns."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.interop import frame_columns, frame_items
from metal_jax.interop._interchange import interchange_columns

COLUMNS = {
    "text": ["a goal", None, "straße \U0001f600", ""],
    "stars": [5, None, -1, 0],
    "score": [0.5, None, 1e300, -0.0],
    "flag": [True, None, False, True],
}


def same(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name] == values, name
        known = [type(v) for v in found[name] if v is not None and name != "stars"]
        assert set(known) <= {str, float, bool, int}


# ---- frames without a library -------------------------------------------------------------------


def test_mappings_and_rows():
    same(frame_columns(COLUMNS), COLUMNS)
    same(frame_columns(frame_items(COLUMNS)), COLUMNS)
    assert frame_columns({"x": np.array([1, 2])}) == {"x": [1, 2]}
    assert frame_columns({"x": np.array([1.5, np.nan])}) == {"x": [1.5, None]}
    assert frame_items([], None) == []
    assert frame_columns(COLUMNS, ["flag", "text"]) == {k: COLUMNS[k] for k in ("flag", "text")}


class Frame:
    """Speaks the interchange protocol in pure Python: chunks, offsets, every kind of null."""

    def __init__(self, columns):
        self.columns_ = columns

    def __dataframe__(self, nan_as_null=False, allow_copy=True):
        return self

    def column_names(self):
        return list(self.columns_)

    def get_column_by_name(self, name):
        return self.columns_[name]


class Buffer:
    def __init__(self, array):
        self.array = np.ascontiguousarray(array)
        self.ptr = self.array.ctypes.data


class Column:
    def __init__(self, dtype, buffers, size, offset=0, null=(0, None), categories=None):
        self.dtype, self.buffers, self._size = dtype, buffers, size
        self.offset, self.describe_null = offset, null
        self.describe_categorical = {"categories": categories}

    def size(self):
        return self._size

    def get_buffers(self):
        return self.buffers

    def get_chunks(self, n_chunks=None):
        half = self._size // 2
        for offset, size in ((self.offset, half), (self.offset + half, self._size - half)):
            categories = self.describe_categorical["categories"]
            yield Column(self.dtype, self.buffers, size, offset, self.describe_null, categories)


def strings(values, offset=0):
    content = "".join(values).encode()
    ends = np.cumsum([0, *(len(v.encode()) for v in values)]).astype(np.int64)
    return {
        "data": (Buffer(np.frombuffer(content or b"\0", np.uint8)), (21, 8, "U", "=")),
        "offsets": (Buffer(ends), (0, 64, "l", "=")),
        "validity": None,
    }


def numbers(array, kind, validity=None):
    return {
        "data": (Buffer(array), (kind, 8 * array.itemsize, "", "=")),
        "validity": None if validity is None else (Buffer(validity), (20, 8, "b", "=")),
        "offsets": None,
    }


def test_the_interchange_protocol_from_buffers():
    integer, double, text = (0, 64, "l", "="), (2, 64, "g", "="), (21, 8, "u", "=")
    bits = np.packbits([1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 1], bitorder="little")
    words = ["skipped", "é", "", "three", "\U0001f600"]
    categories = Column(text, strings(["low", "high"]), 2)
    frame = Frame(
        {
            "i": Column(integer, numbers(np.arange(11), 0, bits), 9, 2, (3, 0)),
            "f": Column(double, numbers(np.array([1.0, np.nan, 3.0]), 2), 3, 0, (1, None)),
            "s": Column(text, strings(words), 4, 1, (0, None)),
            "sentinel": Column(integer, numbers(np.array([4, -9, 5]), 0), 3, 0, (2, -9)),
            "bytes": Column(
                (1, 8, "C", "="),
                numbers(np.array([1, 2], np.uint8), 1, np.array([1, 0], np.uint8)),
                2, 0, (4, 0),
            ),
            "b": Column((20, 8, "b", "="), numbers(np.array([1, 0], np.uint8), 20), 2),
            "c": Column(
                (23, 8, "c", "="), numbers(np.array([1, -1, 0], np.int8), 0), 3, 0, (2, -1),
                categories,
            ),
            "empty": Column(integer, numbers(np.zeros(0, np.int64), 0), 0),
        }
    )  # fmt: skip
    assert interchange_columns(frame) == {
        "i": [None, 3, None, 5, 6, 7, 8, None, 10],
        "f": [1.0, None, 3.0],
        "s": ["é", "", "three", "\U0001f600"],
        "sentinel": [4, None, 5],
        "bytes": [1, None],
        "b": [True, False],
        "c": ["high", None, "low"],
        "empty": [],
    }
    with pytest.raises(ValueError, match="different lengths"):
        frame_columns(frame)
    dates = Frame({"when": Column((22, 64, "tsn:", "="), numbers(np.zeros(1, np.int64), 22), 1)})
    with pytest.raises(ValueError, match=r"column 'when': its type \(kind 22, 64 bits\)"):
        frame_columns(dates)


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (3, "got int, expected a data frame"),
        ("text", "got str, expected a data frame"),
        ([1], "row 0 is a int"),
        ({"a": "text"}, "column 'a' is a str"),
        ({"a": 3}, "column 'a' is a int"),
        ({"train": {"a": [1]}}, "'train' is a table itself"),
        ({"a": [1], "b": [1, 2]}, "columns of different lengths"),
        ({1: [1], "1": [2]}, "two columns are called '1'"),
        ([{"a": 0, 1: 1}, {"1": 2}], "two columns are called '1'"),
    ],
)
def test_bad_frames(frame, message):
    with pytest.raises(ValueError, match=f"frame: {message}"):
        frame_columns(frame)
    with pytest.raises(ValueError, match="no column 'z'"):
        frame_columns({"a": [1]}, ["z"])


class Table:
    """Columns by name, as pandas has them: names may be anything, also repeated."""

    def __init__(self, columns):
        self.columns, self._of = [name for name, _ in columns], dict(columns)

    def __getitem__(self, name):
        return self._of[name]


column_names = st.none() | st.integers(0, 3) | st.tuples(st.text(max_size=2)) | st.text(max_size=2)


@settings(max_examples=100, deadline=None)
@given(st.lists(column_names, max_size=4))
def test_names_that_are_no_strings(names):
    columns = [(name, [number]) for number, name in enumerate(names)]
    expected = {str(name): values for name, values in columns}
    rows = [{name: values[0] for name, values in columns}]
    for frame, count in ((Table(columns), len(names)), (dict(columns), len(set(names))),
                         (rows, len(set(names)))):  # fmt: skip
        if len(expected) == count:
            assert frame_columns(frame) == expected
            for name, values in expected.items():
                assert frame_columns(frame, [name]) == {name: values}
        else:
            with pytest.raises(ValueError, match="two columns are called"):
                frame_columns(frame)


class LazyFrame:
    """Polars' has `columns`, with a warning, and no values."""

    @property
    def columns(self):
        raise AssertionError("not to be asked")

    def __getitem__(self, name):
        raise TypeError


def test_lazy_frames():
    with pytest.raises(ValueError, match=r"call \.collect\(\) first"):
        frame_columns(LazyFrame())


cells = st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=True)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 5).flatmap(lambda n: st.dictionaries(
    st.text(), st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=4)))  # fmt: skip
def test_rows_and_columns_are_the_same(columns):
    expected = {
        name: [None if isinstance(v, float) and math.isnan(v) else v for v in values]
        for name, values in columns.items()
    }
    assert frame_columns(columns) == expected
    rows = frame_items(columns)
    if rows:
        assert frame_columns(rows) == expected


# ---- frames of libraries ------------------------------------------------------------------------


def test_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency of the tests")
    frame = pandas.DataFrame(COLUMNS).astype({"stars": "Int64", "flag": "boolean"})
    same(frame_columns(frame), COLUMNS)
    frame["kind"] = pandas.Categorical(["u", None, "v", "u"])
    frame["when"] = pandas.to_datetime(["2026-01-01", None, "2026-01-02", None])
    found = frame_columns(frame)
    assert found["kind"] == ["u", None, "v", "u"]
    assert found["when"][1] is None
    assert found["when"][0].year == 2026
    plain = {name: [values[0], *values[2:]] for name, values in COLUMNS.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the protocol's retirement is not the user's business
        if hasattr(frame, "__dataframe__"):
            assert interchange_columns(pandas.DataFrame(plain)) == plain
            assert interchange_columns(frame[["text", "kind", "score"]]) == {
                name: found[name] for name in ("text", "kind", "score")
            }
    assert frame_columns(pandas.DataFrame([[1, 2], [3, 4]])) == {"0": [1, 3], "1": [2, 4]}
    nested = pandas.DataFrame([[1, 2]], columns=pandas.MultiIndex.from_tuples([("a", 0), ("a", 1)]))
    assert frame_columns(nested) == {"('a', 0)": [1], "('a', 1)": [2]}
    frame.columns = ["a"] * len(frame.columns)
    with pytest.raises(ValueError, match="two columns are called 'a'"):
        frame_columns(frame)


def test_polars():
    polars = pytest.importorskip("polars", reason="Polars is no dependency of the tests")
    frame = polars.DataFrame(COLUMNS)
    same(frame_columns(frame), COLUMNS)
    same(frame_columns(frame.slice(1, 2)), {k: v[1:3] for k, v in COLUMNS.items()})
    with pytest.raises(ValueError, match=r"call \.collect\(\) first"):
        frame_columns(frame.lazy())


def test_hugging_face_and_arrow():
    # By a module of its own: a folder of the tests is called datasets too.
    reason = "Hugging Face datasets is no dependency of the tests"
    arrow = pytest.importorskip("datasets.arrow_dataset", reason=reason)
    data = arrow.Dataset.from_dict(COLUMNS)
    same(frame_columns(data), COLUMNS)
    same(frame_columns(data.select([2, 3])), {k: v[2:] for k, v in COLUMNS.items()})
    table = data.data.table
    same(frame_columns(table), COLUMNS)
    assert interchange_columns(table.select(["text", "stars", "score"])) == {
        name: COLUMNS[name] for name in ("text", "stars", "score")
    }
    with pytest.raises(ValueError, match="'train' is a table itself"):
        frame_columns({"train": data})  # what a DatasetDict is
