"""Digests: of items, so that equal ones are known; and of LFs, so that a changed one is."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import dis
import functools
import hashlib
import re
import sys
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal_jax.labeling._functions import Item, LabelingFunction

_SIZE = 16  # bytes
_BY_REPR = (datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal)
_NAMED = (
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
)


def item_digest(item: Item) -> bytes | None:
    """A hash of an item's value, equal for equal items and, in practice, for no others.

    Args:
        item: anything made of strings, numbers, dates, bytes, None, lists, tuples, mappings,
            dataclasses and numeric arrays.

    Returns:
        16 bytes, or None where it holds something else.

    Example:
        >>> item_digest({"text": "a"}) == item_digest({"text": "a"}) != item_digest({"text": "b"})
        True
        >>> item_digest(object()) is None
        True
    """
    parts: list[bytes] = []
    try:
        _encode(item, parts.append)
    except (TypeError, RecursionError):
        return None
    return digest_of(parts)


def digest_of(parts: list[bytes]) -> bytes:
    """16 bytes of hash of the parts in their order."""
    return hashlib.blake2b(b"".join(parts), digest_size=_SIZE).digest()


def _encode(value: Any, put: Callable[[bytes], None]) -> None:
    """Write a value so that different values, or values of different types, differ."""
    kind = type(value)
    if issubclass(kind, str):
        content = value.encode("utf-8", "surrogatepass")
        put(b"s%d:" % len(content))
        put(content)
    elif kind is int:
        put(b"i%x;" % value)
    elif value is None or kind in (bool, float):
        put(f"{kind.__name__}{value!r};".encode())
    elif kind in _BY_REPR:
        put(f"{kind.__qualname__}{value!r};".encode())
    elif kind is bytes:
        put(b"b%d:" % len(value))
        put(value)
    elif isinstance(value, Mapping):
        put(f"{kind.__qualname__}{len(value)}{{".encode())
        for key, content in value.items():
            _encode(key, put)
            _encode(content, put)
    elif isinstance(value, list | tuple):
        put(f"{kind.__qualname__}{len(value)}[".encode())
        for content in value:
            _encode(content, put)
    elif isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSUmM":
        array = np.asarray(value)
        put(f"array{array.dtype.str}{array.shape}:".encode())
        put(array.tobytes())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [field.name for field in dataclasses.fields(value)]
        _encode((kind.__qualname__, [(name, getattr(value, name)) for name in fields]), put)
    else:
        raise TypeError(f"cannot hash a {kind.__qualname__}")


def lf_digest(lf: LabelingFunction) -> str:
    """A hash of what a labelling function does: it changes when the LF's votes may.

    It goes by the compiled code of the function and of the functions of your own that it calls
    (comments and layout do not count), by defaults, closures and globals that it reads, and by the
    settings of ready-made LFs. Functions of installed packages count by name and package version.

    Args:
        lf: the labelling function. If it has a `version`, that alone counts, with name and task.

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
    if lf.version is not None:
        described: Any = ("version", lf.name, lf.version)
    else:
        try:
            described = _Description().of(lf.function, "the function")
        except (TypeError, RecursionError) as error:
            raise ValueError(
                f"LF {lf.name!r}: cannot tell when it changes: {error}; give it (or the "
                "preprocessor it calls) a version, and a new one when it changes"
            ) from error
    parts: list[bytes] = []
    _encode((sys.version_info[:2], list(lf.tasks), described), parts.append)
    return digest_of(parts).hex()


class _Description:
    """Plain data that stand for code, without running into circles."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._keep: list[Any] = []  # an id is only unique while its object lives

    def of(self, value: Any, what: str) -> Any:
        """Describe a value; `what` names it in complaints."""
        if value is None or isinstance(value, bool | int | float | str | bytes):
            return value
        if isinstance(value, complex | types.EllipsisType):
            return repr(value)
        if id(value) in self._seen:
            return ("seen", self._seen[id(value)])
        self._seen[id(value)] = len(self._seen)
        self._keep.append(value)
        if isinstance(value, list | tuple):
            return (type(value).__name__, [self.of(part, f"a part of {what}") for part in value])
        if isinstance(value, set | frozenset):
            return ("set", sorted(repr(self.of(part, f"a part of {what}")) for part in value))
        if isinstance(value, Mapping):
            pairs = [(self.of(k, what), self.of(v, f"{what}[{k!r}]")) for k, v in value.items()]
            return ("mapping", pairs)
        if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufcSUmM":
            return np.asarray(value)
        if isinstance(value, re.Pattern):
            return ("pattern", value.pattern, value.flags)
        return self._code(value, what)

    def _code(self, value: Any, what: str) -> Any:
        if isinstance(value, types.ModuleType):
            return ("module", *_module(value.__name__))
        if isinstance(value, functools.partial):
            return ("partial", self.of([value.func, value.args, value.keywords], what))
        if isinstance(value, types.MethodType):
            return ("method", self.of(value.__self__, what), value.__name__)
        if isinstance(value, types.FunctionType) and not _is_installed(value.__module__):
            return ("function", self._function(value))
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
            return ("record", *_module(type(value).__module__), self.of(fields, what))
        raise TypeError(f"{what} is a {type(value).__qualname__}")

    def _function(self, function: types.FunctionType) -> Any:
        code = function.__code__
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        return [
            self._bytecode(code),
            self.of([function.__defaults__, function.__kwdefaults__], "a default"),
            [self.of(cell.cell_contents, f"{name!r}, of the enclosing function,")
             for name, cell in cells],
            [self.of(function.__globals__[name], f"the global {name!r}")
             for name in sorted(_globals_of(code)) if name in function.__globals__],
        ]  # fmt: skip

    def _bytecode(self, code: types.CodeType) -> Any:
        constants = [
            self._bytecode(constant)
            if isinstance(constant, types.CodeType)
            else self.of(constant, "a constant")
            for constant in code.co_consts
        ]
        names = [list(code.co_names), list(code.co_varnames), list(code.co_freevars)]
        return [code.co_code, constants, names]


def _globals_of(code: types.CodeType) -> set[str]:
    """Names of globals that the code reads, inner functions included."""
    names = {
        str(step.argval)
        for step in dis.get_instructions(code)
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _globals_of(constant)
    return names


def _is_installed(module: str) -> bool:
    """Whether a module is Python's or a package's rather than the user's own."""
    if module.partition(".")[0] in sys.stdlib_module_names and module != "__main__":
        return True
    path = getattr(sys.modules.get(module), "__file__", None)
    return bool(path) and bool({"site-packages", "dist-packages"} & set(Path(path).parts))


def _module(name: str) -> tuple[str, str]:
    """A module's name, and its version: of the package, or of its text if it is the user's."""
    module = sys.modules.get(name)
    if _is_installed(name):
        top = sys.modules.get(name.partition(".")[0])
        return name, str(getattr(top, "__version__", ""))
    path = getattr(module, "__file__", None)
    return name, "" if path is None else digest_of([Path(path).read_bytes()]).hex()
