"""Ready-made labelling functions and preprocessors."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.labeling import (
    ABSTAIN,
    LabelingFunction,
    apply,
    classifier_lf,
    gazetteer_lf,
    keyword_lf,
    labeling_function,
    length_lf,
    preprocessor,
    regex_lf,
    score_lf,
    trigger_spans,
    votes_of_probabilities,
)
from metal_jax.task_tree import TaskTree

TREE = TaskTree.from_dict(
    {"topic": {"sport": {"game": ["ball", "other"]}, "trade": {"goods": ["corn", "other"]}}}
)
WORDS = ["new york", "york", "new", "c++", "U.S.", "straße", "york city"]
texts = st.text(st.sampled_from("newyorkcity+. USstraße\n'"), max_size=40) | st.text(max_size=40)


# ---- gazetteers ---------------------------------------------------------------------------------


def longest_matches(text, phrases):
    """The same by brute force: at each place the longest phrase as a whole word, no overlaps."""
    patterns = []
    for phrase in phrases:
        tokens = re.findall(r"\w+|[^\w\s]", phrase)
        patterns.append((len(tokens), r"\s*".join(map(re.escape, tokens)), phrase))
    found, at = [], 0
    while at < len(text):
        best = None
        for _, pattern, phrase in sorted(patterns, reverse=True):
            match = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE).match(text, at)
            if match and (best is None or match.end() > best[0]):
                best = (match.end(), phrase)
        if best is None:
            at += 1
        else:
            found.append((at, best[0]))
            at = best[0]
    return found


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*WORDS, "the", "old", ",", "yorks"]), max_size=8))
def test_gazetteer_matches_are_the_longest_phrases(words):
    text = " ".join(words)
    phrases = [w for w in WORDS if w != "straße"]
    lf = gazetteer_lf("g", "topic", {"sport": phrases})
    found = longest_matches(text, phrases)
    assert list(trigger_spans(lf, text)) == found
    assert lf(text) == ("sport" if found else ABSTAIN)


def test_gazetteer_votes_for_what_its_phrases_agree_on():
    lf = gazetteer_lf("g", "topic", {"sport": ["new york"], "trade": ["york", "STRASSE"]})
    assert lf("From New \n York") == "sport"
    assert lf("Straße") == "trade"
    assert lf("yorkshire") == ABSTAIN
    assert lf("york and new york") == ABSTAIN
    assert trigger_spans(lf, "york and new york") == ()


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ({}, "there are no phrases"),
        ({"sport": "goal"}, "label 'sport': got one string"),
        ({"sport": ["goal", " "]}, "label 'sport': ' ' has no word"),
        ({"sport": [3]}, "label 'sport': 3 has no word"),
        (
            {"sport": ["Goal"], "trade": ["goal"]},
            "phrase 'goal' has the labels 'sport' and 'trade'",
        ),
    ],
)
def test_bad_gazetteers(phrases, message):
    with pytest.raises(ValueError, match=f"LF 'g': {message}"):
        gazetteer_lf("g", "topic", phrases)


@settings(max_examples=100, deadline=None)
@given(texts, st.lists(texts.filter(lambda t: t.strip()), min_size=1, max_size=5))
def test_any_text_is_read(text, phrases):
    lfs = [
        gazetteer_lf("g", "topic", {"sport": phrases}),
        keyword_lf("k", "topic", "sport", phrases),
        length_lf("l", "topic", "sport", longest=3),
    ]
    for lf in lfs:
        assert lf(text) in ("sport", ABSTAIN)
    for lf in lfs[:2]:
        spans = trigger_spans(lf, text)
        assert bool(spans) == (lf(text) == "sport")
        assert all(0 <= start < stop <= len(text) for start, stop in spans)


# ---- spans, lengths -----------------------------------------------------------------------------


def test_spans_are_of_the_text_that_was_read():
    lf = regex_lf("r", "topic", "sport", r"g\w+", text=lambda item: item["title"])
    assert trigger_spans(lf, {"title": "a goal, a game"}) == ((2, 6), (10, 14))
    plain = LabelingFunction("p", "topic", lambda item: "sport")
    assert trigger_spans(plain, "x") is None


def test_lengths():
    lf = length_lf("l", "topic", "sport", shortest=2, longest=3)
    assert [lf(t) for t in ("a", "a b", "a b c", "a b c d")] == [-1, "sport", "sport", -1]
    assert length_lf("l", "topic", "sport", shortest=4, unit="characters")("a b c") == "sport"
    for bad, message in (
        ({}, "give shortest"),
        ({"shortest": 3, "longest": 2}, "no text has a length in 3..2"),
        ({"longest": 2, "unit": "lines"}, "unit: got 'lines'"),
    ):
        with pytest.raises(ValueError, match=f"LF 'l': {message}"):
            length_lf("l", "topic", "sport", **bad)


# ---- models -------------------------------------------------------------------------------------


def test_scores():
    lf = score_lf("s", "topic", "sport", float, at_least=0.2, at_most=0.5)
    assert [lf(x) for x in (0.1, 0.2, 0.5, 0.6)] == [-1, "sport", "sport", -1]
    with pytest.raises(ValueError, match="NaN"):
        lf(float("nan"))
    with pytest.raises(ValueError, match="LF 's': give at_least"):
        score_lf("s", "topic", "sport", float)
    with pytest.raises(ValueError, match="LF 's': no score lies in 2..1"):
        score_lf("s", "topic", "sport", float, at_least=2, at_most=1)


def test_classifiers():
    lf = classifier_lf(
        "c", "topic", ["sport", "corn"], lambda row: np.array([row]), thresholds={"corn": 0.8}
    )
    rows = [[0.6, 0.4], [0.4, 0.6], [0.1, 0.9], [0.45, 0.4]]
    assert apply([lf], rows, TREE).votes[:, 0].tolist() == [0, -1, TREE.node("goods", "corn"), -1]
    for row, message in (([0.5], "shape"), ([0.5, float("nan")], "NaN")):
        with pytest.raises(ValueError, match=message):
            lf(row)
    for labels, thresholds, message in (
        ([], 0.5, "expected different labels"),
        (["a", "a"], 0.5, "expected different labels"),
        (["a"], {"b": 0.5}, "a threshold for 'b'"),
        (["a"], 1.5, "expected numbers in"),
    ):
        with pytest.raises(ValueError, match=f"LF 'c': .*{message}"):
            classifier_lf("c", "topic", labels, float, thresholds=thresholds)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_votes_of_probabilities_are_likely_enough_and_deepest(seed, threshold):
    probabilities = np.random.default_rng(seed).dirichlet(np.ones(TREE.num_leaves) / 2, 20)
    votes = votes_of_probabilities(probabilities, TREE, thresholds=threshold)[:, 0]
    mass = probabilities @ TREE.covers.T
    for row, vote in enumerate(votes):
        best = int(mass[row, :2].argmax())
        if vote < 0:
            assert mass[row, best] < threshold
            continue
        assert mass[row, vote] >= threshold
        assert best in (*TREE.ancestors(vote), vote)
        if TREE.node_leaf[vote] < 0:
            child = TREE.task_nodes[TREE.node_child[vote]]
            assert mass[row, child.start : child.stop].max() < threshold


def test_votes_of_one_task_and_of_a_forest():
    votes = votes_of_probabilities(
        [[0.9, 0.1], [0.4, 0.6]], TREE, task="goods", thresholds=[1, 0.5]
    )
    assert votes.tolist() == [[-1], [TREE.node("goods", "other")]]
    forest = TaskTree.from_dict({"a": ["x", "y"], "b": ["u", "v"]})
    assert votes_of_probabilities([[0.9, 0.1, 0.45, 0.55]], forest).tolist() == [[0, 3]]
    for bad, options, message in (
        (np.zeros(4), {}, "shape"),
        (np.zeros((1, 3)), {}, "expected \\[n, 4\\]"),
        ([[0, 0, np.nan, 0]], {}, "row 0, column 2: got nan"),
        ([[0, 0, 2, 0]], {}, "row 0, column 2: got 2.0"),
        (np.zeros((1, 4)), {"thresholds": [1, 2]}, "thresholds: got shape"),
        (np.zeros((1, 4)), {"task": "c"}, "no task 'c'"),
    ):
        with pytest.raises(ValueError, match=message):
            votes_of_probabilities(bad, forest, **options)


# ---- preprocessors ------------------------------------------------------------------------------


def test_a_preprocessor_runs_once_for_each_item():
    calls = []

    @preprocessor()
    def words(item):
        calls.append(item)
        return item.split()

    @preprocessor()
    def longest(item):
        calls.append("longest")
        return max(words(item), key=len)

    @labeling_function(task="topic")
    def first(item):
        return "sport" if "goal" in words(item) else ABSTAIN

    @labeling_function(task="topic")
    def second(item):
        return "trade" if longest(item) == "market" else ABSTAIN

    third = keyword_lf("third", "topic", "sport", ["market"], text=longest)
    votes = apply([first, second, third], ["a goal", "the market", "a goal"], TREE).votes
    assert votes.tolist() == [[0, -1, -1], [-1, 1, 0], [0, -1, -1]]
    assert calls == ["a goal", "longest", "the market", "longest"]


def test_a_failing_preprocessor_fails_once_for_each_item():
    calls = []

    @preprocessor()
    def broken(item):
        calls.append(item)
        raise KeyError(item)

    lfs = [keyword_lf(name, "topic", "sport", ["a"], text=broken) for name in "xyz"]
    applied = apply(lfs, ["a", "b"], TREE, on_error="abstain")
    assert applied.num_errors.tolist() == [2, 2, 2]
    assert calls == ["a", "b"]


def test_remembering_many_items():
    calls = []
    words = preprocessor(name="words", remember=2)(lambda item: calls.append(item["text"]))
    for text in "abab":
        words({"text": text})
    assert calls == ["a", "b"]
    for text in "cb":  # a is forgotten, b is not
        words({"text": text})
    words({"text": "a"})
    assert calls == ["a", "b", "c", "a"]
    opaque = object()
    words = preprocessor(name="words", remember=2)(lambda item: calls.append(id(item)))
    words(opaque)
    words(None)
    words(opaque)  # cannot be hashed: not remembered
    assert calls[-3:] == [id(opaque), id(None), id(opaque)]
    with pytest.raises(ValueError, match="preprocessor 'words': remember: got 0"):
        preprocessor(name="words", remember=0)(len)


def keyword(*words):
    return keyword_lf("k", "t", "yes", words)


def gazetteer(*phrases):
    return gazetteer_lf("g", "t", {"yes": phrases})


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("of", [keyword, gazetteer])
@pytest.mark.parametrize(
    ("word", "text", "found"),
    [
        ("goal\n", "a goal", True),
        (" new york ", "in new \n york", True),
        ("c++", "use C++ now", True),
        (NFC, f"the {NFD.upper()}!", True),
        (NFD, f"the {NFC}!", True),
        (NFC, f"{NFD}s", False),
        ("cafe", NFD, False),
        ("goal", "goal\u0301", False),  # a letter that Unicode has only in two parts
        ("\u0939\u093f\u0928\u094d\u0926", "\u0939\u093f\u0928\u094d\u0926\u0940", False),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940!", True),
        ("\u0928", "\u0939\u093f\u0928", False),  # after a vowel sign
        ("\u0647\u0627", "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627", False),  # a joiner
    ],
)
def test_whole_words_of_any_script(of, word, text, found):
    assert (of(word)(text) == "yes") == found
    spans = trigger_spans(of(word), text)
    assert bool(spans) == found


def test_keywords_may_be_read_once():
    made = keyword_lf("k", "t", "yes", (word for word in ["goal", "match"]))
    assert (made("a match"), made("well - no")) == ("yes", ABSTAIN)


def test_cases_that_change_the_length_of_a_word():
    assert gazetteer("stra\u00dfe")("STRASSE") == "yes"
    assert keyword("stra\u00dfe")("STRA\u1e9eE") == "yes"
    assert keyword("stra\u00dfe")("STRASSE") == ABSTAIN  # said in the docstring


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keyword(5), r"LF 'k': expected a list of non-empty keywords, got \[5\]"),
        (lambda: keyword("a", " "), r"LF 'k': expected a list of non-empty keywords"),
        (lambda: gazetteer_lf("g", "t", ["a"]), "LF 'g': got phrases in a list, expected label"),
        (lambda: regex_lf("r", "t", "y", b"z"), "LF 'r': got the pattern b'z', expected a string"),
        (lambda: regex_lf("r", "t", "y", re.compile("z")), "LF 'r': got the pattern re.compile"),
        (lambda: length_lf("l", "t", "y", shortest=np.nan), "LF 'l': got the bound nan"),
        (lambda: length_lf("l", "t", "y", longest="3"), "LF 'l': got the bound '3'"),
    ],
)
def test_settings_that_are_none(make, message):
    with pytest.raises(ValueError, match=message):
        make()
