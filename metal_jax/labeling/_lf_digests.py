"""Digests of labelling functions: a changed LF, or one that reads what has changed, has another."""

from __future__ import annotations

import ast
import collections
import dataclasses
import dis
import enum
import functools
import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal_jax.labeling._digests import digest_of, encode
from metal_jax.labeling._functions import LabelingFunction

_NAMED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)
# What Python writes into every class by itself.
_OF_EVERY_CLASS = {
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__orig_bases__",
    "__parameters__", "__qualname__", "__static_attributes__", "__weakref__", "_abc_impl",
}  # fmt: skip
# Stand for a field that is described elsewhere.
_FIELDS = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    type(vars(collections.namedtuple("_", "field"))["field"]),
)
_READS = ("LOAD_ATTR", "LOAD_METHOD")


def lf_digest(lf: LabelingFunction) -> str:
    """A hash of what a labelling function does: it changes when the LF's votes may.

    It goes by the compiled code of the function and of the functions and classes of your own that
    it uses (comments and layout do not count), by the defaults, closures, globals and attributes of
    your modules that it reads, and by the settings of ready-made LFs. Where a module of yours is
    used as a whole, its text counts, with that of the modules of yours that it imports. What is
    installed counts by name and package version.

    Args:
        lf: the labelling function. If it has a `version`, that stands for its code, or for the
            model of a ready-made one; name, task and settings count beside it.

    Returns:
        32 hexadecimal digits.

    Raises:
        ValueError: the LF reads something that cannot be followed, such as a model; names it.

    Example:
        >>> from metal_jax.labeling import keyword_lf
        >>> goal = keyword_lf("goal", "topic", "sport", ["goal"])
        >>> lf_digest(goal) == lf_digest(keyword_lf("goal", "topic", "sport", ["goals"]))
        False
    """
    describe = _Description().of
    parts: list[bytes] = []
    try:
        if lf.version is not None:
            settings = describe(_settings(lf.function), "a setting")
            described: Any = ("version", lf.name, lf.version, settings)
        else:
            described = describe(lf.function, "the function")
        encode((sys.version_info[:2], list(lf.tasks), described), parts.append)
    except (TypeError, RecursionError) as error:
        raise ValueError(
            f"LF {lf.name!r}: cannot tell when it changes: {error}; give it (or the "
            "preprocessor it calls) a version, and a new one when it changes"
        ) from error
    return digest_of(parts).hex()


def _settings(function: Any) -> dict[str, Any]:
    """Of a ready-made LF, all but the functions it calls, such as a score's model."""
    if not (dataclasses.is_dataclass(function) and type(function).__module__.startswith(_HERE)):
        return {}
    fields = {field.name: getattr(function, field.name) for field in dataclasses.fields(function)}
    return {name: value for name, value in fields.items() if not callable(value)}


_HERE = __name__.rpartition(".")[0]


class _Description:
    """Plain data that stand for code, without running into circles."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._keep: list[Any] = []  # an id is only unique while its object lives

    def of(self, value: Any, what: str) -> Any:
        """Describe a value; `what` names it in complaints."""
        kind = type(value)
        if value is None or kind in (bool, int, float, str, bytes):
            return value
        if isinstance(value, complex | types.EllipsisType):
            return repr(value)
        if id(value) in self._seen:
            return ("seen", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        self._keep.append(value)
        if isinstance(value, enum.Enum) and value.name is not None:
            return ("member", self.of(kind, what), value.name, self.of(value.value, what))
        for plain in (int, float, str, bytes):  # flags of `re` among them
            if isinstance(value, plain) and not isinstance(value, np.generic):
                return (self.of(kind, what), plain.__repr__(value))  # pyright: ignore[reportArgumentType]
        if isinstance(value, list | tuple):
            parts = [self.of(part, f"a part of {what}") for part in value]
            return ("sequence", self._class_of(value, (list, tuple), what), parts)
        if isinstance(value, set | frozenset):
            parts = sorted(repr(self.of(part, f"a part of {what}")) for part in value)
            return ("set", self._class_of(value, (set, frozenset), what), parts)
        if isinstance(value, Mapping):
            made = self.of(getattr(value, "default_factory", None), f"the default of {what}")
            pairs = [(self.of(k, what), self.of(v, f"{what}[{k!r}]")) for k, v in value.items()]
            return ("mapping", self._class_of(value, (dict,), what), made, pairs)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSUmM":
            return np.asarray(value)
        if isinstance(value, re.Pattern):
            return ("pattern", value.pattern, value.flags)
        return self._code(value, what)

    def _class_of(self, value: Any, plain: tuple[type, ...], what: str) -> Any:
        """The name of a plain container's class; what there is to say of another."""
        kind = type(value)
        return kind.__name__ if kind in plain else self.of(kind, f"the class of {what}")

    def _code(self, value: Any, what: str) -> Any:
        if isinstance(value, types.ModuleType):
            return ("module", *_module(value.__name__), _texts(value.__name__))
        if isinstance(value, functools.partial):
            return ("partial", self.of([value.func, value.args, value.keywords], what))
        if isinstance(value, types.MethodType):
            return ("method", self.of(value.__self__, what), value.__name__)
        if isinstance(value, types.FunctionType) and not _is_installed(value.__module__):
            return ("function", self._function(value))
        if isinstance(value, type) and not _is_installed(value.__module__):
            return ("class", self._class(value))
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(
            value.__self__, types.ModuleType | type | None
        ):
            return ("method", self.of(value.__self__, what), value.__name__)
        if isinstance(value, _NAMED):
            owner = getattr(value, "__objclass__", value)
            return ("named", *_module(owner.__module__ or ""), value.__qualname__)
        if callable(inner := getattr(value, "function", None)):  # an LF or a preprocessor
            if (version := getattr(value, "version", None)) is not None:
                return ("version", type(value).__qualname__, value.name, version)
            return ("wrapped", type(value).__qualname__, self.of(inner, what))
        if dataclasses.is_dataclass(value):
            fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
            return ("record", self.of(type(value), what), self.of(fields, what))
        raise TypeError(f"{what} is a {type(value).__qualname__}")

    def _function(self, function: types.FunctionType) -> Any:
        code = function.__code__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        own = {name: value for name, value in vars(function).items() if not _is_dunder(name)}
        return [
            self._bytecode(code),
            self.of([function.__defaults__, function.__kwdefaults__], "a default"),
            self.of(own, "an attribute of a function"),
            [self.of(cell.cell_contents, f"{name!r}, of the enclosing function,")
             for name, cell in cells],
            [self.of(value, what) for what, value in _read_by(code, function.__globals__)],
        ]  # fmt: skip

    def _class(self, kind: type) -> Any:
        """Its bases and what it defines; the text of its module for what cannot be followed."""
        members, by_text = [], False
        for name, value in sorted(vars(kind).items()):
            for function in _functions_of(value):
                generated = getattr(function, "__code__", None) is not None and (
                    function.__code__.co_filename == "<string>"  # by dataclass and namedtuple
                )
                if name in _OF_EVERY_CLASS or name.startswith("__dataclass_") or generated:
                    continue
                try:
                    members.append((name, self.of(function, f"{kind.__qualname__}.{name}")))
                except TypeError:
                    by_text = True
        bases = [self.of(base, "a base class") for base in kind.__bases__]
        texts = _texts(kind.__module__) if by_text else []
        if by_text and not texts:
            raise TypeError(f"{kind.__qualname__} is a class that cannot be followed")
        return [kind.__qualname__, bases, members, texts]

    def _bytecode(self, code: types.CodeType) -> Any:
        constants = [
            self._bytecode(constant)
            if isinstance(constant, types.CodeType)
            else self.of(constant, "a constant")
            for constant in code.co_consts
        ]
        names = [list(code.co_names), list(code.co_varnames), list(code.co_freevars)]
        return [code.co_code, code.co_exceptiontable, constants, names]


def _functions_of(member: Any) -> Iterator[Any]:
    """What stands behind a member of a class."""
    if isinstance(member, staticmethod | classmethod):
        yield member.__func__
    elif isinstance(member, property):
        yield from (part for part in (member.fget, member.fset, member.fdel) if part)
    elif not isinstance(member, _FIELDS):
        yield member


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _read_by(code: types.CodeType, namespace: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Name and value of the globals that code reads, and of what it reads of your modules."""
    found: dict[str, Any] = {}
    steps = [step for step in dis.get_instructions(code) if step.opname != "EXTENDED_ARG"]
    for at, step in enumerate(steps):
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in namespace:
            name, value = str(step.argval), namespace[step.argval]
            for following in steps[at + 1 :]:
                own = isinstance(value, types.ModuleType) and not _is_installed(value.__name__)
                if not own or following.opname not in _READS:
                    break
                if not hasattr(value, following.argval):
                    break
                name, value = f"{name}.{following.argval}", getattr(value, following.argval)
            found[f"the global {name!r}"] = value
        elif step.opname == "IMPORT_NAME":
            level, names = (steps[at - 2].argval, steps[at - 1].argval)
            module = _imported(step.argval, level, namespace)
            if module is None or _is_installed(module.__name__):
                found[f"the module {step.argval!r}"] = ["import", step.argval, module]
            elif names:
                for name in names:
                    value = getattr(module, name, None)
                    found[f"the global {module.__name__ + '.' + name!r}"] = value
            else:
                found[f"the module {step.argval!r}"] = module
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _read_by(constant, namespace)
    return sorted(found.items(), key=lambda pair: pair[0])


def _imported(name: str, level: int, namespace: Mapping[str, Any]) -> types.ModuleType | None:
    """The module that an import within a function finds; it would be imported on the first call."""
    try:
        package = namespace.get("__package__") or ""
        full = importlib.util.resolve_name("." * level + name, package) if level else name
        return importlib.import_module(full)
    except Exception:  # whatever it raises it raises in the LF, whose failure that is
        return None


def _is_installed(module: str | None) -> bool:
    """Whether a module is Python's or a package's rather than the user's own."""
    if not module or module == "__main__":
        return False
    if module.partition(".")[0] in sys.stdlib_module_names:
        return True
    path = getattr(sys.modules.get(module), "__file__", None)
    return bool(path) and bool({"site-packages", "dist-packages"} & set(Path(path).parts))


def _module(name: str) -> tuple[str, str]:
    """A module's name, and the version of its package if it is installed."""
    if not _is_installed(name):
        return name, ""
    top = sys.modules.get(name.partition(".")[0])
    return name, str(getattr(top, "__version__", ""))


def _texts(name: str) -> list[tuple[str, str]]:
    """Names and hashes of the text of a user's module and of those of the user's it imports."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one in found or _is_installed(one) or (path := _path_of(one)) is None:
            continue
        content = path.read_bytes()
        found[one] = digest_of([content]).hex()
        if path.suffix == ".py":
            waiting += _imports(content, one, is_package=path.name == "__init__.py")
    return sorted(found.items())


def _path_of(module: str) -> Path | None:
    """The file of a module, imported yet or not; None for what is no module or has no file."""
    path = getattr(sys.modules.get(module), "__file__", None)
    if path is None and module not in sys.modules:
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            return None
        path = spec.origin if spec is not None and spec.has_location else None
        if path is None or {"site-packages", "dist-packages"} & set(Path(path).parts):
            return None
    return Path(path) if path is not None and Path(path).is_file() else None


def _imports(source: bytes, module: str, *, is_package: bool) -> list[str]:
    """The modules that a text imports, anywhere in it, and what may be one."""
    package = module if is_package else module.rpartition(".")[0]
    names: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                names += [".".join(parts[: i + 1]) for i in range(len(parts))]
        elif isinstance(node, ast.ImportFrom):
            relative = "." * node.level + (node.module or "")
            try:
                base = importlib.util.resolve_name(relative, package) if node.level else relative
            except ImportError:
                continue
            names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return names
