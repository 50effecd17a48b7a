"""Every public reader and array function has a test on any input, or a reason why it has none."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOMS = ("datasets", "exhaust", "export", "interop", "label_model", "labeling", "metrics",
         "network", "task_tree")  # fmt: skip
INNER = "a step of a fit inside jit, on what the library made from checked votes"
OWN = "takes what another function of the library returns, whose input is tested"

EXCEPTIONS = {
    "annotator_probability": INNER,
    "glad_e_step": INNER,
    "glad_m_step": INNER,
    "incidence": INNER,
    "inverse_form_rates": INNER,
    "mace_m_step": INNER,
    "mace_tables": INNER,
    "overlap_objective": INNER,
    "overlap_objective_from_votes": INNER,
    "prior_conditional_rates": INNER,
    "rates_to_tables": INNER,
    "third_order_objective": INNER,
    "overlap_counts": "a kernel inside jit, on votes that overlap_statistics has checked",
    "synthetic_votes": "draws votes; its array is a setting",
    "to_metal": "its votes pass through validate, see tests/labeling/test_matrix.py",
    "estimate_class_balance": OWN,
    "evaluate_model": OWN,
    "junction_tree": "takes pairs of LFs, checked by fit_with_dependencies",
    "lstm_encoder": "takes embeddings of the user's own, checked by Flax when it is built",
    "predict_baseline": "takes runs; the values go to predict_from_neighbours and others tested",
    "predict_from_curve": "takes runs; the values go to the regressors",
    "load_fashion_runs": "reads a file of the package",
    "load_stdlib_docs": "reads the interpreter's own documentation",
}


def array_functions_and_readers():
    """Room and name of each."""
    found = []
    for room in ROOMS:
        module = importlib.import_module(f"metal_jax.{room}")
        for name in module.__all__:
            function = getattr(module, name)
            if not inspect.isfunction(function):
                continue
            takes_array = any(
                re.search(r"\b(Array|ArrayLike|ndarray)\b", str(parameter.annotation))
                for parameter in inspect.signature(function).parameters.values()
                if parameter.name not in ("key", "params") and "Callable" not in str(parameter)
            )
            if takes_array or re.match(r"(read|load|recover)(_|$)", name):
                found.append((room, name))
    return found


def names_in_tests():
    """All words that tests with `@given` use, directly or through the names of their module."""
    words = set()
    for path in TESTS.rglob("test_*.py"):
        source = path.read_text()
        if "@given" not in source:
            continue
        top, tests = {}, []
        for node in ast.parse(source).body:
            targets = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "targets", [])
            for target in targets:
                name = target.name if isinstance(target, ast.FunctionDef) else ast.unparse(target)
                top.setdefault(name, set()).update(re.findall(r"\w+", ast.unparse(node)))
            if isinstance(node, ast.FunctionDef) and "given" in map(_called, node.decorator_list):
                tests.append(node.name)
        seen, open_names = set(), tests
        while open_names:
            name = open_names.pop()
            seen.add(name)
            words |= top[name]
            open_names += [word for word in top[name] & top.keys() if word not in seen]
            seen |= top[name] & top.keys()
    return words


def _called(node):
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""


@pytest.fixture(scope="module")
def tested():
    return names_in_tests()


def test_readers_and_array_functions_are_tested_on_any_input(tested):
    missing = [
        f"{room}.{name}"
        for room, name in array_functions_and_readers()
        if name not in tested and name not in EXCEPTIONS
    ]
    assert missing == []


def test_exceptions_are_needed(tested):
    public = {name for _, name in array_functions_and_readers()}
    assert EXCEPTIONS.keys() - public == set()
    assert EXCEPTIONS.keys() & tested == set()


def test_a_missing_test_is_seen(tested):
    assert "majority_vote" in tested
    assert "no_such_function" not in tested
