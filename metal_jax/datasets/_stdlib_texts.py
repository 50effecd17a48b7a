"""The docstrings of Python's standard library, read from the running interpreter.

Only the standard library is used here, so the module can be loaded by file path under an
interpreter that has nothing installed.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

MODULE_MASK = "<module>"
"""What a text shows in place of its module's name."""
MIN_WORDS = 3
"""Shorter docstrings are left out."""
NEAR_DUPLICATE = 0.8
"""Docstrings of one module are near-duplicates from this Jaccard similarity of words on."""

# Chapter of the Library Reference -> documented module -> its submodules that are read as well.
# Each has at least 40 texts under Python 3.11, 3.12 and 3.13, and its largest class leaves
# others over to test on. Modules that open a display, a browser or a connection stay out.
CHAPTERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "data_types": {
        "calendar": (),
        "collections": ("collections.abc",),
        "datetime": (),
    },
    "numeric": {"decimal": (), "math": (), "statistics": ()},
    "os_services": {"io": (), "logging": ("logging.config", "logging.handlers"), "os": ()},
    "concurrency": {
        "multiprocessing": (
            "multiprocessing.connection",
            "multiprocessing.context",
            "multiprocessing.managers",
            "multiprocessing.pool",
            "multiprocessing.process",
            "multiprocessing.reduction",
            "multiprocessing.shared_memory",
            "multiprocessing.util",
        ),
        "threading": (),
    },
    "networking": {"asyncio": (), "socket": (), "ssl": ()},
    "internet_data": {
        "email": (
            "email.charset",
            "email.contentmanager",
            "email.encoders",
            "email.errors",
            "email.generator",
            "email.header",
            "email.headerregistry",
            "email.iterators",
            "email.message",
            "email.mime.application",
            "email.mime.audio",
            "email.mime.base",
            "email.mime.image",
            "email.mime.message",
            "email.mime.multipart",
            "email.mime.text",
            "email.parser",
            "email.policy",
            "email.utils",
        ),
        "mailbox": (),
    },
    "markup": {
        "xml.dom": ("xml.dom.expatbuilder", "xml.dom.minidom", "xml.dom.pulldom"),
        "xml.sax": ("xml.sax.handler", "xml.sax.saxutils", "xml.sax.xmlreader"),
    },
    "internet_protocols": {
        "http": ("http.client", "http.cookiejar", "http.cookies", "http.server"),
        "ipaddress": (),
        "smtplib": (),
        "urllib": (
            "urllib.error",
            "urllib.parse",
            "urllib.request",
            "urllib.response",
            "urllib.robotparser",
        ),
        "wsgiref": (
            "wsgiref.handlers",
            "wsgiref.headers",
            "wsgiref.simple_server",
            "wsgiref.util",
            "wsgiref.validate",
        ),
        "xmlrpc": ("xmlrpc.client", "xmlrpc.server"),
    },
    "development": {
        "pydoc": (),
        "typing": (),
        "unittest": (
            "unittest.async_case",
            "unittest.case",
            "unittest.loader",
            "unittest.main",
            "unittest.mock",
            "unittest.result",
            "unittest.runner",
            "unittest.suite",
        ),
    },
    "runtime": {"builtins": (), "inspect": ()},
    "importing": {
        "importlib": (
            "importlib.abc",
            "importlib.machinery",
            "importlib.resources",
            "importlib.resources.abc",
            "importlib.util",
        ),
        "importlib.metadata": (),
    },
}

_LEAVES = tuple(module for modules in CHAPTERS.values() for module in modules)

# Where a module's objects say they come from, besides the module and its `_` twin in C.
_IMPLEMENTATIONS: Mapping[str, tuple[str, ...]] = {
    "collections": ("_collections_abc",),
    "importlib": ("_frozen_importlib", "_frozen_importlib_external"),
    "os": ("posix", "nt"),
    "threading": ("_thread", "_threading_local"),
}
# Other spellings of a module's name that are hidden from its texts.
_ALIASES: Mapping[str, tuple[str, ...]] = {
    "io": ("_pyio",),
    "os": ("posix", "nt"),
    "xmlrpc": ("xml-rpc", "xmlrpclib"),
}
# Hooks that other programs, test runners among them, put their own functions in.
_HOOKS = frozenset({"threading.excepthook"})
# What named tuples, data classes and `functools.total_ordering` write by themselves.
_GENERATED = re.compile(
    r"Alias for field number \d+|Automatically created by|Create new instance of "
    r"|Return a [<>]=? b\.  Computed by @total_ordering|\w+\([^\n]*\)\Z"
)
_SLOT_WRAPPER = type(int.__add__)


class Text(NamedTuple):
    """One public function, class, method or attribute and its docstring, its module masked."""

    chapter: str
    module: str
    group: str
    """Texts of one group stay on one side of a split: a class, or a lone function."""
    name: str
    """The last part of the qualified name."""
    signature: str
    """The parameter names, comma-separated; empty where the interpreter cannot tell."""
    doc: str

    @property
    def text(self) -> str:
        """The name, the signature and the docstring in one string."""
        return f"{self.name}({self.signature})\n{self.doc}"


def gather(chapters: Mapping[str, Mapping[str, tuple[str, ...]]] = CHAPTERS) -> list[Text]:
    """Read the texts from the running interpreter.

    Left out are objects defined elsewhere, docstrings that a method shares with a parent class
    that is public itself, generated docstrings, docstrings of fewer than `MIN_WORDS` words,
    repeats within a module, and docstrings that occur in more than one module. Near-duplicates join
    their groups into one.

    Args:
        chapters: chapter -> module -> submodules that are read with it.

    Returns:
        The texts, chapter by chapter, module by module, names sorted.

    Raises:
        RuntimeError: the interpreter has no docstrings (``-OO`` or built without them).

    Example:
        >>> texts = gather({"numeric": {"statistics": ()}})
        >>> [text.signature for text in texts if text.name == "fmean"]
        ['data, weights']
    """
    if sys.flags.optimize > 1 or not str.split.__doc__:
        raise RuntimeError(
            "stdlib_docs reads the docstrings of the standard library, but this interpreter has "
            "none: run Python without -OO (PYTHONOPTIMIZE=2), on a build with docstrings"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated names warn when they are looked up
        found = [
            text
            for chapter, modules in chapters.items()
            for module, submodules in modules.items()
            for text in _read_module(chapter, module, submodules)
        ]
    modules_of: dict[str, set[str]] = defaultdict(set)
    for text in found:
        modules_of[normalise(text.doc)].add(text.module)
    kept: dict[tuple[str, str, str], Text] = {}
    for text in found:
        key = normalise(text.doc)
        if len(modules_of[key]) == 1 and len(key.split()) >= MIN_WORDS:
            kept.setdefault((text.module, text.name, key), text)
    return _merge_groups(list(kept.values()))


def normalise(doc: str) -> str:
    """Reduce a docstring to its lower-case words, for finding duplicates.

    Args:
        doc: the docstring.

    Returns:
        The words, one space apart.

    Example:
        >>> normalise("Same as a + b.") == normalise("Same as a - b.")
        True
    """
    return " ".join(re.findall(r"[a-z]+", doc.replace(MODULE_MASK, "").lower()))


def module_mask(module: str, submodules: tuple[str, ...] = ()) -> Callable[[str], str]:
    """Build the function that hides a module's name, and each part of a dotted one, from a text.

    Case does not matter, except that an object of the module keeps its name: `Decimal` stays,
    `decimal` goes.

    Args:
        module: the module's name, as in "xml.dom".
        submodules: full names of submodules to hide too.

    Returns:
        The function from text to masked text.

    Example:
        >>> module_mask("decimal")("decimal.Decimal of the _decimal module")
        '<module>.Decimal of the <module> module'
    """
    names = {module, *module.split("."), *submodules, *_ALIASES.get(module, ())}
    ordered = sorted(names, key=lambda name: (-len(name), name))
    alternatives = "|".join(re.escape(name) for name in ordered)
    pattern = re.compile(rf"(?<!\w)_*(?:{alternatives})(?!\w)", re.IGNORECASE)
    owner = importlib.import_module(module)

    def hide(match: re.Match[str]) -> str:
        word = match.group()
        return word if not word.islower() and hasattr(owner, word) else MODULE_MASK

    return lambda text: pattern.sub(hide, text)


def _read_module(chapter: str, module: str, submodules: tuple[str, ...]) -> Iterator[Text]:
    """Yield the texts of a module and its submodules, repeats included."""
    mask = module_mask(module, submodules)
    for source in (module, *submodules):
        owner = importlib.import_module(source)
        for name in sorted(name for name in vars(owner) if not name.startswith("_")):
            value = getattr(owner, name, None)
            if f"{source}.{name}" in _HOOKS or not _belongs(value, module):
                continue
            own_name = value.__name__ if isinstance(value, type) else name
            if own_name != name and getattr(owner, own_name, None) is value:
                continue  # an alias
            members = _class_members(name, value) if isinstance(value, type) else [(name, value)]
            for member, described in members:
                doc = _docstring(described)
                if doc:
                    yield Text(
                        chapter=chapter,
                        module=module,
                        group=f"{module}:{name}",
                        name=mask(member),
                        signature=mask(_signature(described)),
                        doc=mask(doc),
                    )


def _belongs(value: object, module: str) -> bool:
    """Whether a value is a documented callable that is defined in the module itself."""
    if isinstance(value, types.ModuleType) or not callable(value):
        return False
    # An instance that merely can be called shows its class's docstring, not one of its own.
    own_doc = isinstance(value, type) or value.__doc__ != type(value).__doc__
    home = getattr(value, "__module__", None) or module
    homes = (module, f"_{module}", *_IMPLEMENTATIONS.get(module, ()))
    inside = home in homes or home.startswith(f"{module}.")
    nested = tuple(f"{leaf}." for leaf in _LEAVES if leaf.startswith(f"{module}."))
    return own_doc and inside and not f"{home}.".startswith(nested)


def _class_members(cls_name: str, cls: type) -> Iterator[tuple[str, object]]:
    """Yield the class and its documented members, those of its private parents included."""
    private_parents = [
        parent
        for parent in cls.__mro__[1:]
        if parent.__name__.startswith("_") and parent.__module__ != "builtins"
    ]
    public_parents = [p for p in cls.__mro__[1:] if p not in private_parents]
    if not any(_docstring(parent) == _docstring(cls) for parent in cls.__mro__[1:]):
        yield cls_name, cls
    for owner in (cls, *private_parents):
        for name, value in sorted(vars(owner).items(), key=lambda pair: pair[0]):
            special = name.startswith("__") and name.endswith("__")
            if (name.startswith("_") and not special) or name in {"__doc__", "__weakref__"}:
                continue
            member = getattr(value, "__func__", value)
            if isinstance(member, _SLOT_WRAPPER) or not (
                inspect.isroutine(member) or inspect.isdatadescriptor(member)
            ):
                continue
            inherited = {_docstring(getattr(parent, name, None)) for parent in public_parents}
            if _docstring(member) not in inherited:
                yield name, member


def _docstring(value: object) -> str:
    """The cleaned docstring, or "" where there is none or it was generated."""
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or _GENERATED.match(doc):
        return ""
    return inspect.cleandoc(doc)


def _signature(value: object) -> str:
    """The parameter names: default values may print memory addresses."""
    if not callable(value):
        return ""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return ""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    return ", ".join(
        stars.get(p.kind, "") + p.name for p in parameters if p.name not in {"self", "cls"}
    )


def _merge_groups(texts: list[Text]) -> list[Text]:
    """Join the groups of near-duplicates; the first group's name stands for all."""
    parent = {text.group: text.group for text in texts}

    def root(group: str) -> str:
        while parent[group] != group:
            group = parent[group]
        return group

    earlier: dict[str, list[tuple[Text, set[str]]]] = defaultdict(list)
    for text in texts:
        words = set(normalise(text.doc).split())
        for other, other_words in earlier[text.module]:
            shared = len(words & other_words)
            if shared >= NEAR_DUPLICATE * (len(words) + len(other_words) - shared):
                parent[root(text.group)] = root(other.group)
        earlier[text.module].append((text, words))
    return [text._replace(group=root(text.group)) for text in texts]
