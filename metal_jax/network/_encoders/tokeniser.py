"""Texts as padded sequences of token ids, for encoders that read in order.

A `Tokeniser` is plain data, fitted on training texts and saved beside the parameters with
`to_json`. Legend: `n` texts, `l` tokens of a text (padded).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from metal_jax._core.checks import check_texts

_SCHEMA = 1
PADDING, UNKNOWN = 0, 1
_ASCII_TOKEN = re.compile(r"[^\W_]+|[^\w\s]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Tokens(NamedTuple):
    """Token ids, padded; what a text encoder reads.

    Attributes:
        ids: int32[n, l], 0 where padded.
        mask: bool[n, l], True at tokens; a text without tokens is False throughout.
    """

    ids: np.ndarray | jax.Array
    mask: np.ndarray | jax.Array


class TokenisedTexts(NamedTuple):
    """Result of `tokenise`.

    Attributes:
        tokens: the network's input.
        num_tokens: int32[n], tokens of each text, before truncation.
        num_unknown: int32[n], those of them that are not in the vocabulary.
        num_truncated: int32[n], those of them that were cut off at the end.
    """

    tokens: Tokens
    num_tokens: np.ndarray
    num_unknown: np.ndarray
    num_truncated: np.ndarray


@dataclasses.dataclass(frozen=True)
class Tokeniser:
    """A vocabulary of tokens; hashable plain data.

    Id 0 is padding, id 1 stands for every token that is not listed, the first listed token has id
    2.

    Attributes:
        tokens: the listed tokens, the most frequent first.
    """

    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            twice = next(token for token, count in Counter(self.tokens).items() if count > 1)
            raise ValueError(f"tokens: {twice!r} is listed twice")

    @property
    def num_ids(self) -> int:
        """Number of ids, padding and unknown included: the rows of an embedding table."""
        return UNKNOWN + 1 + len(self.tokens)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"schema": _SCHEMA, "tokens": list(self.tokens)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Tokeniser:
        """The reverse of `to_json`.

        Args:
            record: parsed JSON.

        Returns:
            An equal tokeniser.

        Raises:
            ValueError: another schema, or tokens that are not distinct strings.
        """
        if record.get("schema") != _SCHEMA:
            raise ValueError(f"schema: got {record.get('schema')!r:.60}, expected {_SCHEMA}")
        tokens = record.get("tokens")
        if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
            raise ValueError(f"tokens: got {tokens!r:.60}, expected a list of strings")
        return cls(tuple(tokens))


@functools.cache
def _token_pattern() -> re.Pattern[str]:
    """Tokens of any script: combining marks and joiners stay with the character before them."""
    characters = map(chr, range(0x80, sys.maxunicode + 1))
    joined = "".join(c for c in characters if unicodedata.category(c) in ("Mn", "Mc", "Me", "Cf"))
    return re.compile(f"(?:[^\\W_]++[{joined}]*+)++|[^\\w\\s][{joined}]*+")


def split_tokens(text: str) -> list[str]:
    """The tokens of a text, in order: words, numbers, single punctuation marks.

    The text is brought to Unicode's normal form NFKC, `camelCase` and `snake_case` names are split,
    case is folded (`str.casefold`, then NFKC again). A token is then a run of letters and digits
    with their combining marks, or one other visible character. White space and `_` separate.
    Scripts written without spaces give one token for each run.

    Args:
        text: any string; lone surrogates are tokens of their own.

    Returns:
        The tokens.

    Example:
        >>> split_tokens("Don't parseHTML, STRASSE ﬁne")
        ['don', "'", 't', 'parse', 'html', ',', 'strasse', 'fine']
    """
    text = _CAMEL.sub(" ", unicodedata.normalize("NFKC", text)).casefold()
    if text.isascii():
        return _ASCII_TOKEN.findall(text)
    return _token_pattern().findall(unicodedata.normalize("NFKC", text))


def fit_tokeniser(texts: Sequence[str], *, min_count: int = 2, max_size: int = 2**14) -> Tokeniser:
    """List the frequent tokens of training texts; no labels are read.

    Args:
        texts: n strings.
        min_count: fewest occurrences of a listed token.
        max_size: most tokens listed; equally frequent ones in alphabetical order.

    Returns:
        The tokeniser; it may list nothing.

    Raises:
        ValueError: one string, or an item that is not a string (names it).

    Example:
        >>> fit_tokeniser(["Red fox.", "Red hen."]).tokens
        ('.', 'red')
    """
    check_texts("texts", texts)
    counts = Counter(token for text in texts for token in split_tokens(text))
    ranked = sorted(counts, key=lambda token: (-counts[token], token))[:max_size]
    return Tokeniser(tuple(token for token in ranked if counts[token] >= min_count))


def tokenise(
    texts: Sequence[str],
    tokeniser: Tokeniser,
    *,
    max_length: int = 128,
    pad_to_max: bool = False,
) -> TokenisedTexts:
    """Texts as padded ids.

    Args:
        texts: n strings; an empty one gives a row of padding.
        tokeniser: from `fit_tokeniser`.
        max_length: tokens kept of a text, the first ones.
        pad_to_max: pad to `max_length` instead of the longest text, so that all calls give arrays
            of one shape and one compiled program serves them.

    Returns:
        Ids and mask with `l` the longest kept text (at least 1), and counts.

    Raises:
        ValueError: one string, an item that is not a string (names it), or `max_length` below 1.

    Example:
        >>> tokeniser = fit_tokeniser(["red fox", "red hen"])
        >>> tokenise(["the red fox", ""], tokeniser).tokens.ids.tolist()
        [[1, 2, 1], [0, 0, 0]]
    """
    check_texts("texts", texts)
    if max_length < 1:
        raise ValueError(f"max_length: got {max_length}, expected at least 1")
    id_of = {token: i for i, token in enumerate(tokeniser.tokens, start=UNKNOWN + 1)}
    rows = [[id_of.get(token, UNKNOWN) for token in split_tokens(text)] for text in texts]
    num_tokens = np.array([len(row) for row in rows], np.int32)
    num_unknown = np.array([row.count(UNKNOWN) for row in rows], np.int32)
    kept = np.minimum(num_tokens, max_length)
    length = max_length if pad_to_max else max(1, int(kept.max(initial=0)))
    ids = np.full((len(rows), length), PADDING, np.int32)
    for i, row in enumerate(rows):
        ids[i, : kept[i]] = row[: kept[i]]
    mask = np.arange(length) < kept[:, None]
    return TokenisedTexts(Tokens(ids, mask), num_tokens, num_unknown, num_tokens - kept)
