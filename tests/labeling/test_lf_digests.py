"""A digest changes with whatever an LF reads, and with nothing else."""

import importlib
import importlib.util
import re
import sys
import textwrap

import numpy as np
import pytest

from metal_jax.labeling import (
    LabelingFunction,
    apply,
    classifier_lf,
    labeling_function,
    lf_digest,
    preprocessor,
    score_lf,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.single(["sport", "trade"], name="topic")

SOURCE = """
import re
from metal_jax.labeling import ABSTAIN, keyword_lf, labeling_function, preprocessor
WORDS = ["goal"]
PATTERN = re.compile("goal")
def helper(text):
    return any(word in text for word in WORDS)
@preprocessor()
def words(item):
    return item.split()
@labeling_function(task="topic")
def calls_a_helper(item):
    # a comment
    return "sport" if helper(item) else ABSTAIN
@labeling_function(task="topic")
def uses_words(item):
    return "sport" if "goal" in words(item) else ABSTAIN
@labeling_function(task="topic")
def uses_a_pattern(item, limit=3):
    return "sport" if PATTERN.search(item[:limit]) else ABSTAIN
@labeling_function(task="topic")
def counts(item):
    def long(word):
        return len(word) > 3
    return "sport" if sum(long(word) for word in item.split()) else ABSTAIN
made = keyword_lf("made", "topic", "sport", ["goal"], text=str.upper)
"""
NAMES = ("calls_a_helper", "uses_words", "uses_a_pattern", "counts", "made")


def digests_of(tmp_path, source):
    path = tmp_path / "user_lfs.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("user_lfs", path)
    module = importlib.util.module_from_spec(spec)
    exec(compile(source, str(path), "exec"), module.__dict__)  # no cached byte code
    return {name: lf_digest(getattr(module, name)) for name in NAMES}


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("", "", ()),
        ("# a comment", "# another\n\n", ()),
        ('WORDS = ["goal"]', 'WORDS = ["goals"]', ("calls_a_helper",)),
        ("any(word", "all(word", ("calls_a_helper",)),
        ("item.split()\n@", "item.lower().split()\n@", ("uses_words",)),
        ('compile("goal")', 'compile("goal", re.I)', ("uses_a_pattern",)),
        ("limit=3", "limit=4", ("uses_a_pattern",)),
        ("> 3", "> 4", ("counts",)),
        ("sum(long", "max(long", ("counts",)),
        ('["goal"], text', '["goal", "x"], text', ("made",)),
        ("str.upper", "str.lower", ("made",)),
        ('"made", "topic", "sport"', '"made", "topic", "trade"', ("made",)),
    ],
)
def test_lf_digests_follow_what_an_lf_reads(tmp_path, old, new, changed):
    before = digests_of(tmp_path, SOURCE)
    after = digests_of(tmp_path, SOURCE.replace(old, new, 1) if old else SOURCE)
    assert {name for name in NAMES if before[name] != after[name]} == set(changed)
    assert len(set(before.values())) == len(NAMES)


FILES = {
    "lfs.py": """
        import collections, enum, functools, re, typing
        import words, pack.inner
        from helper import Lexicon, Record, Place
        FLAGS = re.I | re.M
        DEFAULT = collections.defaultdict(lambda: "sport", a="b")
        class Kind(str, enum.Enum):
            A = "a"
            def shown(self):
                return "sport"
        class Words(enum.Enum):
            GOOD = ["goal"]
        GOOD = Words.GOOD
        class Items(list):
            def first(self):
                return "sport"
        class Pair(typing.NamedTuple):
            left: str
            right: str
            def both(self):
                return "sport"
        KIND, ITEMS, PAIR = Kind.A, Items(["a"]), Pair("a", "b")
        def tagged(item):
            return tagged.label
        tagged.label = "sport"
        def in_body(item):
            from helper import hit
            return hit(item)
        def by_module(item):
            return words.hit(item)
        def by_data(item):
            return "sport" if item in words.WORDS else -1
        def by_package(item):
            return pack.inner.hit(item)
        def by_class(item):
            return Lexicon.hit(item)
        def by_record(item):
            return Record("sport").label
        def by_place(item):
            return Place(1, 2).far()
        def by_flags(item):
            return re.search("a", item, FLAGS) and "sport"
        def by_default(item):
            return DEFAULT[item]
        def by_kind(item):
            return KIND.shown()
        def by_member(item):
            return "sport" if item in GOOD.value else -1
        def by_list(item):
            return ITEMS.first()
        def by_pair(item):
            return PAIR.both()
        def tries(item):
            a = -1
            try: a = int(item); b = len(item)
            except ValueError: pass
            return a
        def whole(item):
            return getattr(words, "hit")(item)
    """,
    "words.py": """
        import pathlib
        from helper import hit
        WORDS = pathlib.Path(__file__.replace(".py", ".txt")).read_text().split()
    """,
    "words.txt": "goal match",
    "helper.py": """
        # a comment
        import dataclasses, functools
        import deeper
        def hit(item):
            return deeper.label(item)
        class Base:
            label = "sport"
        class Lexicon(Base):
            words = ["goal"]
            @staticmethod
            def hit(item):
                return deeper.label(item)
        @dataclasses.dataclass(frozen=True)
        class Record:
            label: str
        class Place(tuple):
            def __new__(cls, *parts):
                return super().__new__(cls, parts)
            @functools.cached_property
            def size(self):
                return len(self)
            def far(self):
                return "sport"
    """,
    "deeper.py": """
        def label(item):
            return "sport"
    """,
    "pack/__init__.py": "",
    "pack/inner.py": """
        from .sibling import hit
    """,
    "pack/sibling.py": """
        def hit(item):
            return "sport"
    """,
}
HIT = {"in_body", "by_module", "by_class", "by_place", "whole"}  # all through `deeper`


def digests_of_files(folder, files):
    """Of every function of `lfs.py`, imported anew."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    modules = {name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
               for name in files}  # fmt: skip
    for name in modules:
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    lfs = importlib.import_module("lfs")
    functions = {n: f for n, f in vars(lfs).items() if getattr(f, "__module__", "") == "lfs"}
    found = {
        name: lf_digest(LabelingFunction(name, "topic", function))
        for name, function in functions.items()
        if not isinstance(function, type) and callable(function)
    }
    for name in modules:
        sys.modules.pop(name, None)
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # edits follow each other in a second
    return tmp_path


@pytest.fixture(scope="module")
def as_they_are(tmp_path_factory):
    """The digests of the files without a change."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("modules")
        patch.syspath_prepend(str(folder))
        patch.setattr(sys, "dont_write_bytecode", True)
        return digests_of_files(folder, FILES)


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("lfs.py", "import collections", "import collections", set()),
        # A module that is used as a whole, or a class with a member that hides its code, counts by
        # its text.
        ("helper.py", "# a comment", "# another", {"by_place", "whole"}),
        ("deeper.py", '"sport"', '"trade"', HIT),
        ("words.txt", "match", "market", {"by_data"}),
        ("words.py", "import hit", "import hit as other\n        def hit(item): return -1",
         {"by_module", "whole"}),
        ("pack/sibling.py", '"sport"', '"trade"', {"by_package"}),
        ("helper.py", 'label = "sport"', 'label = "trade"', {"by_class", "by_place", "whole"}),
        ("helper.py", '["goal"]', '["match"]', {"by_class", "by_place", "whole"}),
        ("helper.py", "label: str", 'label: str = "x"', {"by_record", "by_place", "whole"}),
        ("helper.py", 'far(self):\n                return "sport"',
         'far(self):\n                return "trade"', {"by_place", "whole"}),
        ("lfs.py", "re.I | re.M", "re.I", {"by_flags"}),
        ("lfs.py", 'lambda: "sport"', 'lambda: "trade"', {"by_default"}),
        ("lfs.py", 'shown(self):\n                return "sport"',
         'shown(self):\n                return "trade"', {"by_kind"}),
        ("lfs.py", 'A = "a"', 'A = "c"', {"by_kind"}),
        ("lfs.py", 'GOOD = ["goal"]', 'GOOD = ["match"]', {"by_member"}),
        ("lfs.py", 'first(self):\n                return "sport"',
         'first(self):\n                return "trade"', {"by_list"}),
        ("lfs.py", 'both(self):\n                return "sport"',
         'both(self):\n                return "trade"', {"by_pair"}),
        ("lfs.py", "left: str\n            right: str", "right: str\n            left: str",
         {"by_pair"}),
        ("lfs.py", 'tagged.label = "sport"', 'tagged.label = "trade"', {"tagged"}),
        ("lfs.py", "a = -1\n            try: a = int(item); b = len(item)",
         "a = -1; a = int(item)\n            try: b = len(item)", {"tries"}),
    ],
)  # fmt: skip
def test_what_lies_in_other_modules_and_classes(folder, as_they_are, file, old, new, changed):
    assert old in FILES[file]
    after = digests_of_files(folder, FILES | {file: FILES[file].replace(old, new, 1)})
    assert {name for name in after if after[name] != as_they_are[name]} == changed


def test_same_digests_in_another_folder(folder, as_they_are):
    assert digests_of_files(folder, FILES) == as_they_are


def test_a_version_of_a_model_does_not_stand_for_the_settings():
    model = object()

    def score(item):
        return float(bool(model))

    def of(version="1", label="sport", **bounds):
        return lf_digest(score_lf("s", "topic", label, score, version=version, **bounds))

    assert of(at_least=0.5) == of(at_least=0.5)
    assert len({of(at_least=0.5), of(at_least=0.9), of(at_most=0.5), of("2", at_least=0.5),
                of(label="trade", at_least=0.5)}) == 5  # fmt: skip

    def classifier(labels=("sport", "trade"), thresholds=0.5):
        made = classifier_lf("c", "topic", labels, score, thresholds=thresholds, version="1")
        return lf_digest(made)

    assert len({classifier(), classifier(("trade", "sport")), classifier(thresholds=0.9)}) == 3


def test_a_changed_threshold_runs_again(tmp_path):
    for bound, votes in ((0.5, [[0], [0]]), (0.9, [[-1], [0]])):
        lf = score_lf("s", "topic", "sport", {"a": 0.6, "b": 0.95}.get, at_least=bound, version="1")
        assert apply([lf], ["a", "b"], TREE, cache=tmp_path).votes.tolist() == votes


@pytest.mark.parametrize("value", [re.I | re.M, np.float64(0.5), np.str_("a"), 1j, ..., {1: {2}}])
def test_globals_of_many_types(value):
    lf = labeling_function(task="topic", name="f")(lambda item: str(value))
    assert lf_digest(lf) == lf_digest(lf)


def test_what_cannot_be_followed_is_named():
    @preprocessor()
    def words(item):
        return model(item)

    model = type("Model", (), {"__slots__": ()})()
    with pytest.raises(ValueError, match="LF 'f': cannot tell .*'model'.* is a Model; give it"):
        lf_digest(labeling_function(task="topic", name="f")(lambda item: words(item)))
