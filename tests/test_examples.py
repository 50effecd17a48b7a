"""The examples run as a reader would run them, and stay short; the calls listed are possible."""

import ast
import functools
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_layers import ROOMS

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[0-9]*.py"))
QUICK = {"04_own_objective"}  # the others say `slow`: each compiles a dozen programs


def code_lines(path):
    """Lines with code: neither blank, nor a comment, nor in the first docstring."""
    text = path.read_text(encoding="utf-8")
    end = ast.parse(text).body[0].end_lineno
    lines = (line.strip() for line in text.splitlines()[end:])
    return sum(bool(line) and not line.startswith("#") for line in lines)


def test_each_is_listed_short_and_has_prose():
    readme = (EXAMPLES[0].parent / "README.md").read_text(encoding="utf-8")
    for path in EXAMPLES:
        assert f"`{path.name}`" in readme, path.name
        assert code_lines(path) <= 80, path.name
        assert len(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))) > 400, path.name


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in EXAMPLES],
    ids=lambda path: path.stem,
)
def test_example_runs(path, tmp_path):
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert not done.stderr


def listed_code():
    """The right column of the page for those who come from another library, as expressions."""
    page = (EXAMPLES[0].parent / "README.md").read_text(encoding="utf-8")
    page = page[page.index("## Coming from another library") :]
    rows = [line.rsplit(" | ", 1)[-1] for line in page.splitlines() if line.startswith("| ")]
    for code in re.findall(r"`@?([^`]+)`", " ".join([page.split("|")[0], *rows])):
        yield from ast.walk(ast.parse(code))


def public(expression):
    """What `room.name` or `room.Class.method` stands for; None for other expressions."""
    room, *names = ast.unparse(expression).split(".")
    if room not in ROOMS:
        return None
    return functools.reduce(getattr, names, importlib.import_module(f"metal_jax.{room}"))


def test_what_is_listed_for_other_libraries_can_be_called():
    names, calls = set(), set()
    for node in listed_code():
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and public(node):
            names.add(ast.unparse(node))
        if isinstance(node, ast.Call) and public(node.func):
            keywords = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(public(node.func)).bind(*node.args, **keywords)  # or TypeError
            calls.add(ast.unparse(node))
    assert len(names) > 25
    assert len(calls) > 25
