"""Every public name is shown: by its own example, or as what another's takes or gives."""

import ast
import importlib
import inspect
import re

import pytest
from test_layers import ROOMS

# Functions whose example would need what a doctest cannot count on, or too long.
_DATA = "a folder of real data"
_TRAINING = "a training, which compiles for long: README.md and examples/ show it"
WITHOUT_EXAMPLE = {
    "datasets.load_openi": _DATA,
    "datasets.load_trec": _DATA,
    "distributed.initialize": "other processes",
    "exhaust.fit_predictor": _TRAINING,
    "exhaust.predict": _TRAINING,
    "exhaust.read_open_logs": _DATA,
    "exhaust.load_predictor": _TRAINING,
    "exhaust.read_tensorboard": "binary files",
    "exhaust.save_predictor": _TRAINING,
    "interop.soft_labels_from_frame": "pandas",
    "labeling.apply_dask": "Dask",
    "network.plot_tuning": _TRAINING,
    "network.sentence_embeddings": "the extra `text`",
    "reproduce.clinc150": _DATA,
    "reproduce.draw_exhaust": _TRAINING,
    "reproduce.load_problems": "every module of the standard library",
    "reproduce.openi": _DATA,
    "reproduce.run_exhaust": _TRAINING,
    "reproduce.run_metal": _TRAINING,
    "reproduce.stdlib_docs": "every module of the standard library",
    "reproduce.trec": _DATA,
}


def functions_and_classes():
    for room in ROOMS:
        module = importlib.import_module(f"metal_jax.{room}")
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield room, name, value


NAMES = [pytest.param(*each, id=f"{each[0]}.{each[1]}") for each in functions_and_classes()]


def has_example(value):
    """An example in its docstring, or in one of its methods'."""
    methods = vars(value).values() if inspect.isclass(value) else ()
    return any(">>>" in (inspect.getdoc(x) or "") for x in (value, *methods))


def annotations(value):
    """All annotations of a function, or of a class's fields and methods, as one text."""
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(value)))
    nodes = [*ast.walk(tree)]
    found = [node.annotation for node in nodes if isinstance(node, ast.arg | ast.AnnAssign)]
    found += [node.returns for node in nodes if isinstance(node, ast.FunctionDef)]
    return " ".join(ast.unparse(x) for x in found if x is not None)


SHOWN = " ".join(
    annotations(value) for _, _, value in functions_and_classes() if has_example(value)
)


@pytest.mark.parametrize(("room", "name", "value"), NAMES)
def test_has_an_example(room, name, value):
    assert inspect.getdoc(value), f"{room}.{name} has no docstring"
    if f"{room}.{name}" in WITHOUT_EXAMPLE:
        assert not has_example(value), f"{room}.{name} has an example: strike it off the list"
    elif not has_example(value):
        record = inspect.isclass(value) and not issubclass(value, Exception)
        taken_or_given = record and re.search(rf"\b{name}\b", SHOWN)
        assert taken_or_given or (inspect.isclass(value) and issubclass(value, Exception)), (
            f"{room}.{name} has no example, and none of the functions with one takes or gives it"
        )


def test_exceptions_exist():
    assert set(WITHOUT_EXAMPLE) <= {f"{room}.{name}" for room, name, _ in functions_and_classes()}
