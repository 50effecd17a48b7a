"""The examples run as a reader would run them, and stay short."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

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
