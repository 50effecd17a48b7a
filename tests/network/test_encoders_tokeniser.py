"""Texts to padded ids: rules, round trips, any text at all."""

import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metal_jax.network import Tokeniser, fit_tokeniser, split_tokens, tokenise

quick = settings(max_examples=60, deadline=None)
TEXTS = ["the red fox", "the red hen", "", "the end."]
# Lone surrogates, marks, emoji and control characters included.
ANY_TEXT = st.text(st.characters(), max_size=20)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("parseHTMLString(get_name)", ["parse", "html", "string", "(", "get", "name", ")"]),
        ("3.5 apples\tÉTÉ", ["3", ".", "5", "apples", "été"]),
        ("cafe\u0301 ＡＢＣ ﬁn", ["café", "abc", "fin"]),
        ("Straße ΤΕΛΟΣ", ["strasse", "τελοσ"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("می‌خواهم", ["می‌خواهم"]),
        ("☎️!", ["☎️", "!"]),
        ("a\ud800b", ["a", "\ud800", "b"]),
        (" \n_ ", []),
    ],
)
def test_tokens(text, tokens):
    assert split_tokens(text) == tokens


@quick
@given(ANY_TEXT)
def test_every_letter_is_in_a_token_and_no_token_holds_space(text):
    tokens = split_tokens(text)
    assert all(token and not any(c.isspace() for c in token) for token in tokens)
    letters = [c for c in "".join(tokens) if c.isalnum()]
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    assert letters == [c for c in folded if c.isalnum()]
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    assert split_tokens(composed) == split_tokens(decomposed) == tokens


def test_vocabulary_is_the_frequent_tokens():
    assert fit_tokeniser(TEXTS).tokens == ("the", "red")
    assert fit_tokeniser(TEXTS, min_count=1).tokens == ("the", "red", ".", "end", "fox", "hen")
    assert fit_tokeniser(TEXTS, min_count=1, max_size=3).tokens == ("the", "red", ".")
    assert fit_tokeniser([]).num_ids == 2


def test_ids_counts_and_truncation():
    tokeniser = fit_tokeniser(TEXTS)
    found = tokenise(["a red red the", "", "the"], tokeniser, max_length=3)
    assert found.tokens.ids.tolist() == [[1, 3, 3], [0, 0, 0], [2, 0, 0]]
    assert found.tokens.ids.dtype == np.int32
    np.testing.assert_array_equal(found.tokens.mask, found.tokens.ids > 0)
    assert found.num_tokens.tolist() == [4, 0, 1]
    assert found.num_unknown.tolist() == [1, 0, 0]
    assert found.num_truncated.tolist() == [1, 0, 0]
    padded = tokenise(["the"], tokeniser, max_length=5, pad_to_max=True).tokens
    assert padded.ids.tolist() == [[2, 0, 0, 0, 0]]
    assert tokenise([], tokeniser).tokens.ids.shape == (0, 1)
    assert tokenise([""], tokeniser).tokens.mask.tolist() == [[False]]


@quick
@given(st.lists(ANY_TEXT, max_size=5), st.integers(1, 8))
def test_any_texts_round_trip(texts, max_length):
    tokeniser = fit_tokeniser(texts, min_count=1)
    again = Tokeniser.from_json(json.loads(json.dumps(tokeniser.to_json())))
    assert again == tokeniser
    assert hash(again) == hash(tokeniser)
    tokens, num_tokens, unknown, truncated = tokenise(texts, again, max_length=max_length)
    assert not unknown.any()
    names = ("", "", *tokeniser.tokens)
    for row, mask, text in zip(tokens.ids, tokens.mask, texts, strict=True):
        assert [names[i] for i in row[mask]] == split_tokens(text)[:max_length]
        assert not row[~mask].any()
    np.testing.assert_array_equal(tokens.mask.sum(1) + truncated, num_tokens)
    others = tokenise(texts, Tokeniser(()))
    np.testing.assert_array_equal(others.num_unknown, num_tokens)
    assert others.tokens.ids.max(initial=0) <= 1


GOOD = {"schema": 1, "tokens": ["a"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema: got 2, expected 1"),
        ({"tokens": "abc"}, "tokens: got 'abc', expected a list of strings"),
        ({"tokens": ["a", 3]}, "expected a list of strings"),
        ({"tokens": ["a", "a"]}, "'a' is listed twice"),
    ],
)
def test_bad_records(change, message):
    with pytest.raises(ValueError, match=message):
        Tokeniser.from_json(GOOD | change)


def test_bad_arguments():
    with pytest.raises(ValueError, match="got one string"):
        fit_tokeniser("abc")
    with pytest.raises(ValueError, match="item 1 is int"):
        tokenise(["a", 1], Tokeniser(()))
    with pytest.raises(ValueError, match="max_length: got 0"):
        tokenise(["a"], Tokeniser(()), max_length=0)
