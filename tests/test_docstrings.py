"""Every public name has a docstring that names every parameter, and an example that the suite runs.

A function has an example of its own. So has a class, unless it is a record that is part of what a
function takes or gives: then the function's example shows it.
"""

import ast
import functools
import re
from pathlib import Path

import pytest
from test_layers import PACKAGE, ROOMS

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
# Parameters of one model, forms of one operator, cells and entries: plain types, met as
# `FitResult.params`, `VoteData.votes`, `Table.rows` and `OPEN_LOGS`; and a protocol.
PLAIN_TYPES = {
    "exhaust.OpenLogs",
    "label_model.CliqueTables",
    "label_model.GladParams",
    "label_model.MaceParams",
    "label_model.MixtureParams",
    "label_model.RelationIncidence",
    "labeling.VoteReader",
    "report.Interval",
}
# Type aliases have no body; a string stands beneath them.
ALIASES = {
    "exhaust.Architecture",
    "exhaust.CurvePredictor",
    "label_model.Incidence",
    "network.SearchSpace",
}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules(room: str) -> list[Path]:
    """A room's modules, and those that rooms share."""
    place = PACKAGE / room
    own = sorted(place.rglob("*.py")) if place.is_dir() else [PACKAGE / f"{room}.py"]
    return [*own, PACKAGE / "checkpoint.py", *sorted((PACKAGE / "_core").glob("*.py"))]


def public_names(room: str) -> list[str]:
    (names,) = (
        node.value
        for node in parsed(modules(room)[0]).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    return ast.literal_eval(names)


def definitions(room: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """The public functions and classes of a room."""
    names = set(public_names(room))
    return {
        node.name: node
        for path in reversed(modules(room))
        for node in parsed(path).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names
    }


def has_example(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """In its docstring or in that of a method."""
    methods = [x for x in node.body if isinstance(x, ast.FunctionDef)] if is_class(node) else []
    return any(">>>" in (ast.get_docstring(x) or "") for x in (node, *methods))


def is_class(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef)


def annotations(node: ast.AST) -> set[str]:
    """The names in all annotations of a function, or of a class's fields and methods."""
    found = [x.annotation for x in ast.walk(node) if isinstance(x, ast.arg | ast.AnnAssign)]
    found += [x.returns for x in ast.walk(node) if isinstance(x, ast.FunctionDef)]
    return set(re.findall(r"\w+", " ".join(ast.unparse(x) for x in found if x is not None)))


@functools.cache
def taken_or_given() -> set[str]:
    """Names in the annotations of public functions, of what these name, and so on."""
    nodes = [node for room in ROOMS for node in definitions(room).values()]
    meaning: dict[str, set[str]] = {}
    for node in filter(is_class, nodes):  # several rooms have a `FitResult`
        meaning[node.name] = meaning.get(node.name, set()) | annotations(node)
    for path in PACKAGE.rglob("*.py"):
        for node in parsed(path).body:  # aliases: `Block = Table | Facts | ...`
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                name = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                if re.fullmatch(r"[A-Z]\w*[a-z]\w*", ast.unparse(name)):
                    words = set(re.findall(r"\w+", ast.unparse(node.value)))
                    meaning[ast.unparse(name)] = words | meaning.get(ast.unparse(name), set())
    found: set[str] = set()
    new = set().union(*(annotations(node) for node in nodes if not is_class(node)))
    while new:
        found |= new
        new = set().union(*(meaning.get(name, set()) for name in new)) - found
    return found


NAMES = [(room, name) for room in ROOMS for name in definitions(room)]


@pytest.mark.parametrize(("room", "name"), NAMES)
def test_has_an_example(room, name):
    node = definitions(room)[name]
    assert ast.get_docstring(node), f"{room}.{name} has no docstring"
    if f"{room}.{name}" in WITHOUT_EXAMPLE:
        assert not has_example(node), f"{room}.{name} has an example: strike it off the list"
    elif not has_example(node) and not (is_class(node) and is_exception(node)):
        assert is_class(node), f"{room}.{name} has no example"
        plain = f"{room}.{name}" in PLAIN_TYPES
        assert plain != (name in taken_or_given()), f"{room}.{name} has no example"


def described(docstring: str) -> set[str]:
    """The names in a docstring's section of arguments."""
    section = re.search(r"^Args:\n(.*?)(?=^\S|\Z)", docstring, re.DOTALL | re.MULTILINE)
    entries = re.findall(r"^    (\S[*\w, ]*):", section[1], re.MULTILINE) if section else []
    return {name for entry in entries for name in re.split(r"[ ,*]+", entry) if name}


def parameters(node: ast.FunctionDef) -> set[str]:
    taken = node.args
    several = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
    return {arg.arg for arg in (*several, taken.vararg, taken.kwarg) if arg is not None}


def test_every_parameter_is_described():
    missing = {
        f"{room}.{name}": parameters(node) - described(ast.get_docstring(node))
        for room, name in NAMES
        if not is_class(node := definitions(room)[name])
    }
    assert len(missing) > 300
    assert {name: left for name, left in missing.items() if left} == {}


def test_described_parameters_are_found():
    entries = "    one: of two.\n        three: no.\n    **four, five: so.\n"
    assert described(f"What.\n\nArgs:\n{entries}\nX:\n    y: z") == {"one", "four", "five"}
    assert described("What: this.\n\nReturns:\n    one: of two.") == set()


def is_exception(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith("Error") for base in node.bases)


def test_all_public_functions_and_classes_are_found():
    missing = {
        f"{room}.{name}"
        for room in ROOMS
        for name in set(public_names(room)) - set(definitions(room))
        if not name.isupper()
    }
    assert missing == ALIASES


@pytest.mark.parametrize("alias", sorted(ALIASES))
def test_type_aliases_have_a_docstring(alias):
    room, name = alias.split(".")
    (after,) = (
        body[number + 1]
        for body in (parsed(path).body for path in modules(room))
        for number, node in enumerate(body[:-1])
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and name == ast.unparse(node.target if isinstance(node, ast.AnnAssign) else node.targets[0])
    )
    assert isinstance(after, ast.Expr)
    assert isinstance(after.value, ast.Constant)
    assert isinstance(after.value.value, str)


def test_exceptions_exist():
    assert set(WITHOUT_EXAMPLE) | PLAIN_TYPES <= {f"{room}.{name}" for room, name in NAMES}
