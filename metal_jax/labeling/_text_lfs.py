"""Ready-made labelling functions over text: keywords, patterns, dictionaries, lengths.

They are data rather than code, so they go to other processes, and can say which part of the text
made them vote.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

from metal_jax.labeling._functions import ABSTAIN, Item, LabelingFunction, Vote, Votes


class Span(NamedTuple):
    """A part of a text, `text[start:stop]`.

    Attributes:
        start: where it begins.
        stop: where it has ended.
    """

    start: int
    stop: int


def item_text(item: Item) -> str:
    """The text of an item: `item["text"]` of a mapping, a string itself.

    Args:
        item: a string, or a mapping with "text".

    Returns:
        The text.

    Raises:
        KeyError: a mapping without "text".

    Example:
        >>> item_text({"text": "a late goal"}), item_text("a late goal")
        ('a late goal', 'a late goal')
    """
    return item["text"] if isinstance(item, Mapping) else item


def trigger_spans(lf: LabelingFunction, item: Item) -> tuple[Span, ...] | None:
    """The parts of an item's text that made an LF vote.

    Args:
        lf: the labelling function.
        item: the item.

    Returns:
        The parts, in order, of the text that the LF read (what its `text` gave); none where it
        abstains. None if it is no LF that can tell: of those of this library `keyword_lf`,
        `regex_lf` and `gazetteer_lf` can, and so can any whose function has a method
        `spans(item)`.

    Example:
        >>> lf = keyword_lf("sport_words", "topic", "sport", ["goal", "match"])
        >>> trigger_spans(lf, "No goal in this match")
        (Span(start=3, stop=7), Span(start=16, stop=21))
    """
    spans = getattr(lf.function, "spans", None)
    return None if spans is None else tuple(Span(*span) for span in spans(item))


@dataclasses.dataclass(frozen=True)
class _Pattern:
    """Votes where a pattern is found."""

    pattern: re.Pattern[str]
    label: Votes
    text: Callable[[Item], str]

    def __call__(self, item: Item) -> Votes:
        return self.label if self.pattern.search(self.text(item)) else ABSTAIN

    def spans(self, item: Item) -> Iterator[tuple[int, int]]:
        return (match.span() for match in self.pattern.finditer(self.text(item)))


def regex_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    pattern: str,
    *,
    text: Callable[[Item], str] = item_text,
    flags: int = re.IGNORECASE,
) -> LabelingFunction:
    r"""An LF that votes `label` where a regular expression is found in the text.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        pattern: a regular expression, searched anywhere in the text.
        text: item -> the text to search; by default `item["text"]`, or the item if it is a string.
        flags: flags of `re`.

    Returns:
        The labelling function.

    Raises:
        ValueError: the pattern is no text or does not compile; names the LF.

    Example:
        >>> asks_when = regex_lf("asks_when", "answer", "date", r"^(when|what year)\b")
        >>> asks_when({"text": "When did it end?"})
        'date'
    """
    if not isinstance(pattern, str):
        raise ValueError(
            f"LF {name!r}: got the pattern {pattern!r:.80}, expected a string (and `flags`)"
        )
    try:
        compiled = re.compile(pattern, flags)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"LF {name!r}: bad pattern {pattern!r}: {error}") from error
    return LabelingFunction(name, task, _Pattern(compiled, label, text))


def keyword_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    keywords: Iterable[str],
    *,
    text: Callable[[Item], str] = item_text,
) -> LabelingFunction:
    """An LF that votes `label` where one of the keywords stands as a whole word, in any case.

    Words are what letters, digits, underscores and the marks on them form, however a letter and its
    marks are encoded; between the words of a phrase there may be any white space. Languages that
    put no space between words need `regex_lf`. Letters are compared one by one: where "straße" is
    to be found as "STRASSE", `gazetteer_lf` does it.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        keywords: words or phrases; for more than a hundred `gazetteer_lf` is faster.
        text: item -> the text to search; by default `item["text"]`, or the item if it is a string.

    Returns:
        The labelling function.

    Raises:
        ValueError: no keywords, or one that is blank or no text; names the LF.

    Example:
        >>> sport = keyword_lf("sport_words", "topic", "sport", ["goal", "match"])
        >>> sport("A rematch"), sport("The match!")
        (-1, 'sport')
    """
    words = [] if isinstance(keywords, str) else list(keywords)
    if not words or not all(isinstance(word, str) and word.strip() for word in words):
        got = keywords if isinstance(keywords, str) else words
        raise ValueError(f"LF {name!r}: expected a list of non-empty keywords, got {got!r:.200}")
    forms = {unicodedata.normalize(form, word): None for word in words for form in ("NFC", "NFD")}
    alternatives = "|".join(r"\s+".join(map(re.escape, form.split())) for form in forms)
    # Marks are looked for where all else fits: they are many, and it takes time.
    found = rf"(?<!\w)(?=(?:{alternatives})(?!\w))"
    pattern = rf"{found}(?<![{_marks()}])(?:{alternatives})(?![\w{_marks()}])"
    return regex_lf(name, task, label, pattern, text=text)


@functools.cache
def _marks() -> str:
    r"""What belongs to words and is not in `\w`, as ranges in brackets: accents, vowels, joiners.

    Marks above the range searched are those of historic scripts and of notation.
    """
    codes = [0x200C, 0x200D, *(i for i in range(0x300, 0x12000) if _is_mark(chr(i)))]
    inside = {code for code in codes if not re.match(r"\w", chr(code))}
    starts = sorted(code for code in inside if code - 1 not in inside)
    stops = sorted(code for code in inside if code + 1 not in inside)
    return "".join(f"{chr(a)}-{chr(b)}" for a, b in zip(starts, stops, strict=True))


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


_PLAIN_TOKEN = re.compile(r"\w+|[^\w\s]")


@functools.cache
def _any_token() -> re.Pattern[str]:
    return re.compile(rf"[\w{_marks()}]+|[^\w\s{_marks()}]")


def _tokens(text: str) -> Iterator[re.Match[str]]:
    """Words and signs; most texts do without marks, and faster."""
    return (_PLAIN_TOKEN if text.isascii() else _any_token()).finditer(text)


def _folded(token: str) -> str:
    """Equal for words that differ in case or in the encoding of their marks alone."""
    folded = token.casefold()
    return folded if token.isascii() else unicodedata.normalize("NFC", folded)


_END = ""  # no token is empty


@dataclasses.dataclass(frozen=True)
class _Gazetteer:
    """Votes for the label of the phrases found, if they agree.

    The phrases are a trie over tokens: at each token of a text, the longest phrase that starts
    there is found in as many look-ups as it has tokens, however many phrases there are.
    """

    trie: dict[str, Any]
    text: Callable[[Item], str]

    def __call__(self, item: Item) -> Vote:
        label: Vote = ABSTAIN
        for _, _, found in self._matches(item):
            if label not in (ABSTAIN, found):
                return ABSTAIN
            label = found
        return label

    def spans(self, item: Item) -> Iterator[tuple[int, int]]:
        matches = list(self._matches(item))
        one_label = len({found for _, _, found in matches}) == 1
        return ((start, stop) for start, stop, _ in matches if one_label)

    def _matches(self, item: Item) -> Iterator[tuple[int, int, Vote]]:
        tokens = [(_folded(m.group()), m.start(), m.end()) for m in _tokens(self.text(item))]
        at = 0
        while at < len(tokens):
            node, best, end = self.trie, None, at
            for position in range(at, len(tokens)):
                node = node.get(tokens[position][0])
                if node is None:
                    break
                if _END in node:
                    best, end = node[_END], position
            if best is not None:
                yield tokens[at][1], tokens[end][2], best
            at = end + 1


def gazetteer_lf(
    name: str,
    task: str,
    phrases: Mapping[Vote, Iterable[str]],
    *,
    text: Callable[[Item], str] = item_text,
) -> LabelingFunction:
    """An LF that looks up a dictionary: many phrases, each with the label that it speaks for.

    Phrases are found as whole words (as in `keyword_lf`, but with "STRASSE" for "straße"), in any
    case and with any white space between their words;
    where several begin at the same word the longest is taken, and no two overlap. The LF abstains
    on a text with phrases of different labels. Time does not depend on the number of phrases.

    Args:
        name: its name.
        task: the task that it votes on.
        phrases: label -> its words and phrases.
        text: item -> the text to search; by default `item["text"]`, or the item if it is a string.

    Returns:
        The labelling function.

    Raises:
        ValueError: no phrases by label, one without a word or sign, or one of two labels; names
            the LF.

    Example:
        >>> phrases = {"us": ["York, PA", "New York"], "uk": ["York"]}
        >>> places = gazetteer_lf("places", "where", phrases)
        >>> places("in new  york"), places("York Minster"), places("York or York, PA"), places("-")
        ('us', 'uk', -1, -1)
    """
    trie: dict[str, Any] = {}
    if not isinstance(phrases, Mapping):
        got = type(phrases).__name__
        raise ValueError(f"LF {name!r}: got phrases in a {got}, expected label -> phrases")
    for label, given in phrases.items():
        if isinstance(given, str):
            raise ValueError(f"LF {name!r}: label {label!r}: got one string, expected several")
        for phrase in given:
            tokens = [m.group() for m in _tokens(phrase)] if isinstance(phrase, str) else []
            if not tokens:
                raise ValueError(f"LF {name!r}: label {label!r}: {phrase!r} has no word")
            node = trie
            for token in tokens:
                node = node.setdefault(_folded(token), {})
            if node.setdefault(_END, label) != label:
                raise ValueError(
                    f"LF {name!r}: phrase {phrase!r} has the labels {node[_END]!r} and {label!r}"
                )
    if not trie:
        raise ValueError(f"LF {name!r}: there are no phrases")
    return LabelingFunction(name, task, _Gazetteer(trie, text))


@dataclasses.dataclass(frozen=True)
class _Length:
    """Votes by how long a text is."""

    label: Votes
    shortest: int
    longest: float
    words: bool
    text: Callable[[Item], str]

    def __call__(self, item: Item) -> Votes:
        text = self.text(item)
        length = len(text.split()) if self.words else len(text)
        return self.label if self.shortest <= length <= self.longest else ABSTAIN


def length_lf(
    name: str,
    task: str | tuple[str, ...],
    label: Votes,
    *,
    shortest: int = 0,
    longest: int | None = None,
    unit: Literal["words", "characters"] = "words",
    text: Callable[[Item], str] = item_text,
) -> LabelingFunction:
    """An LF that votes `label` on texts of certain lengths.

    Args:
        name: its name.
        task: the task that it votes on, or several.
        label: the label it votes for, as a `labeling_function` would return it.
        shortest: the least length that it votes on.
        longest: the greatest; None for no bound.
        unit: what is counted; words are what white space separates.
        text: item -> the text; by default `item["text"]`, or the item if it is a string.

    Returns:
        The labelling function.

    Raises:
        ValueError: it would vote on every text, or on none; bounds that are no numbers; or another
            unit; names the LF.

    Example:
        >>> brief = length_lf("brief", "kind", "remark", longest=2)
        >>> brief("Well played"), brief("What a late goal")
        ('remark', -1)
    """
    if unit not in ("words", "characters"):
        raise ValueError(f"LF {name!r}: unit: got {unit!r}, expected 'words' or 'characters'")
    for bound in (shortest, 0 if longest is None else longest):
        if not isinstance(bound, int | float) or bound != bound:
            raise ValueError(f"LF {name!r}: got the bound {bound!r}, expected a number")
    if shortest <= 0 and longest is None:
        raise ValueError(f"LF {name!r}: give shortest, longest or both")
    most = float("inf") if longest is None else longest
    if most < max(shortest, 0):
        raise ValueError(f"LF {name!r}: no text has a length in {shortest}..{longest}")
    return LabelingFunction(name, task, _Length(label, shortest, most, unit == "words", text))
