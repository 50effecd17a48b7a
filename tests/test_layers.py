"""The house: imports point downward, names are documented, importing does nothing."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "metal_jax"
LAYERS = {
    "_core": 0,
    "checkpoint": 1,
    "distributed": 2,
    "task_tree": 2,
    "metrics": 2,
    "labeling": 3,
    "exhaust": 4,
    "label_model": 4,
    "network": 4,
    "datasets": 5,
    "interop": 5,
    "report": 6,
    "export": 5,
    "reproduce": 6,
    "cli": 7,
    "__main__": 8,
}
ROOMS = [
    "datasets",
    "distributed",
    "exhaust",
    "export",
    "interop",
    "label_model",
    "labeling",
    "metrics",
    "network",
    "report",
    "reproduce",
    "task_tree",
]


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("metal_jax"):
            rest = node.module.split(".")[1:]
            yield from [rest[0]] if rest else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("metal_jax."):
                    yield alias.name.split(".")[1]


def test_every_room_has_a_layer():
    rooms = {p.stem if p.is_file() else p.name for p in PACKAGE.iterdir()}
    assert rooms - {"__init__", "py", "__pycache__"} == set(LAYERS)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.stem)
def test_imports_point_downward(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for other in imports_of(path):
        assert other == room or LAYERS[other] < LAYERS[room], f"{room} imports {other}"


def test_flax_stays_inside_the_networks():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] not in ("network", "exhaust"):
            assert "flax" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_sorted_and_documented(room):
    module = importlib.import_module(f"metal_jax.{room}")
    names = module.__all__
    assert names == sorted(names, key=lambda n: (not n.isupper(), not n[0].isupper(), n))
    for name in names:
        value = getattr(module, name)
        if inspect.isfunction(value):
            text = inspect.getdoc(value) or ""
            parameters = [p for p in inspect.signature(value).parameters if p != "self"]
            assert text, f"{room}.{name} has no docstring"
            short = "\n" not in text.partition("\n\nExample:")[0]
            assert short or not parameters or "Args:" in text, f"{room}.{name} has no Args"


def test_importing_does_nothing():
    code = (
        "import sys, metal_jax; assert 'jax' not in sys.modules;"
        "import metal_jax.label_model, metal_jax.network, metal_jax.reproduce, jax._src.xla_bridge;"
        "assert not jax._src.xla_bridge._backends, 'a backend was started'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
