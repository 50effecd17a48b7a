"""Raw items to an encoder's arrays: what is fitted on training items and kept beside the network.

Four kinds, by name: "bag" and "lstm" read texts, "features" and "embeddings" read vectors. Each is
plain data that `to_json` writes whole, so that a loaded network reads raw items as it did before.

Legend: `n` items, `l` features or tokens of an item (padded), `d` numbers of an item.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from jax.typing import ArrayLike

from metal_jax.network._encoders.embedding_bag import embedding_bag
from metal_jax.network._encoders.encoder import Encoder
from metal_jax.network._encoders.lstm import lstm_encoder
from metal_jax.network._encoders.ngrams import (
    BagOfFeatures,
    Vocabulary,
    fit_vocabulary,
    hashed_ngrams,
    select_features,
)
from metal_jax.network._encoders.tokeniser import Tokeniser, Tokens, fit_tokeniser, tokenise
from metal_jax.network._encoders.vectors import (
    Standardisation,
    fit_standardisation,
    mlp,
    precomputed,
    standardise,
)

InputKind = Literal["bag", "lstm", "features", "embeddings"]
"""The kinds of input maps, by the name that files and the command line give them."""


class InputMap(Protocol):
    """From raw items to arrays, and the encoder that reads them.

    Attributes:
        kind: the name of this kind of map, see `fit_inputs`.
        reads: what the raw items are.
    """

    kind: ClassVar[InputKind]
    reads: ClassVar[Literal["texts", "vectors"]]

    @property
    def encoder(self) -> Encoder:
        """The encoder of these arrays."""
        ...

    def encode(self, items: Any) -> Any:
        """Raw items as the encoder's arrays, of one width whatever the items are."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class BagInputs:
    """Texts as bags of the n-grams of a vocabulary, for `embedding_bag`.

    Attributes:
        kind: the name of this kind of map, see `fit_inputs`.
        reads: what the raw items are.
        vocabulary: the features that have an embedding.
        length: features kept of a text, those of the largest weight.
        max_ngram: longest n-gram, in tokens.
        width: size of an embedding.
        dropout: share of a text's features that are dropped in training.

    Example:
        >>> inputs = BagInputs.fit(["late goal", "late offer"])
        >>> len(inputs.encode(["a late win"]).ids)
        1
    """

    kind: ClassVar[InputKind] = "bag"
    reads: ClassVar[Literal["texts", "vectors"]] = "texts"
    vocabulary: Vocabulary
    length: int
    max_ngram: int = 2
    width: int = 64
    dropout: float = 0.3

    @classmethod
    def fit(cls, texts: Sequence[str], *, max_length: int = 96, **settings: Any) -> BagInputs:
        """The vocabulary of training texts; the longest of them, or `max_length`, is the length."""
        max_ngram = settings.get("max_ngram", cls.max_ngram)
        bag = hashed_ngrams(texts, max_ngram=max_ngram)
        vocabulary = fit_vocabulary(bag)
        length = select_features(bag, vocabulary, max_features=max_length).ids.shape[1]
        return cls(vocabulary, length, **settings)

    @property
    def encoder(self) -> Encoder:
        """The encoder of these arrays."""
        return embedding_bag(len(self.vocabulary.ids), self.width, dropout=self.dropout)

    def encode(self, items: Sequence[str]) -> BagOfFeatures:
        """Ids and weights [n, length]; a text without a known feature has weights of zero."""
        bag = hashed_ngrams(items, max_ngram=self.max_ngram)
        kept = select_features(bag, self.vocabulary, max_features=self.length)
        padding = ((0, 0), (0, self.length - kept.ids.shape[1]))
        return BagOfFeatures(np.pad(kept.ids, padding), np.pad(kept.weights, padding))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {name: value.tolist() for name, value in self.vocabulary._asdict().items()}
        return {**_settings(self), "vocabulary": lists}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> BagInputs:
        """The reverse of `to_json`."""
        ids, idf = record["vocabulary"]["ids"], record["vocabulary"]["idf"]
        vocabulary = Vocabulary(np.asarray(ids, np.int32), np.asarray(idf, np.float32))
        return cls(**{**record, "vocabulary": vocabulary})


@dataclasses.dataclass(frozen=True, eq=False)
class TokenInputs:
    """Texts as sequences of token ids, for `lstm_encoder`.

    Attributes:
        kind: the name of this kind of map, see `fit_inputs`.
        reads: what the raw items are.
        tokeniser: the tokens that have an embedding.
        length: tokens kept of a text, the first ones.
        width: size of an embedding, and of the state of each direction.
        dropout: on the embeddings and on the features.

    Example:
        >>> inputs = TokenInputs.fit(["late goal", "late offer"])
        >>> len(inputs.encode(["a late win"]).ids)
        1
    """

    kind: ClassVar[InputKind] = "lstm"
    reads: ClassVar[Literal["texts", "vectors"]] = "texts"
    tokeniser: Tokeniser
    length: int
    width: int = 64
    dropout: float = 0.5

    @classmethod
    def fit(cls, texts: Sequence[str], *, max_length: int = 128, **settings: Any) -> TokenInputs:
        """The tokens of training texts; the longest of them, or `max_length`, is the length."""
        tokeniser = fit_tokeniser(texts)
        length = tokenise(texts, tokeniser, max_length=max_length).tokens.ids.shape[1]
        return cls(tokeniser, length, **settings)

    @property
    def encoder(self) -> Encoder:
        """The encoder of these arrays."""
        width = self.width
        return lstm_encoder(self.tokeniser.num_ids, width, width, dropout=self.dropout)

    def encode(self, items: Sequence[str]) -> Tokens:
        """Ids and mask [n, length]."""
        return tokenise(items, self.tokeniser, max_length=self.length, pad_to_max=True).tokens

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {**_settings(self), "tokeniser": self.tokeniser.to_json()}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TokenInputs:
        """The reverse of `to_json`."""
        return cls(**{**record, "tokeniser": Tokeniser.from_json(record["tokeniser"])})


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureInputs:
    """Feature vectors brought to mean 0 and scale 1, for `mlp`.

    Attributes:
        kind: the name of this kind of map, see `fit_inputs`.
        reads: what the raw items are.
        standardisation: of the training items.
        widths: units of the layers.
        dropout: after each layer.

    Example:
        >>> FeatureInputs.fit([[0.0], [4.0]]).encode([[2.0]]).tolist()
        [[0.0]]
    """

    kind: ClassVar[InputKind] = "features"
    reads: ClassVar[Literal["texts", "vectors"]] = "vectors"
    standardisation: Standardisation
    widths: tuple[int, ...] = (128,)
    dropout: float = 0.2

    @classmethod
    def fit(cls, features: ArrayLike, **settings: Any) -> FeatureInputs:
        """The mean and scale of training items."""
        return cls(fit_standardisation(_vectors(features)), **settings)

    @property
    def encoder(self) -> Encoder:
        """The encoder of these arrays."""
        return mlp(self.widths, dropout=self.dropout)

    def encode(self, items: ArrayLike) -> np.ndarray:
        """float32[n, d], standardised."""
        vectors = _vectors(items, len(self.standardisation.mean))
        return standardise(vectors, self.standardisation)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        lists = {name: value.tolist() for name, value in self.standardisation._asdict().items()}
        return {**_settings(self), "widths": list(self.widths), "standardisation": lists}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> FeatureInputs:
        """The reverse of `to_json`."""
        mean, scale = record["standardisation"]["mean"], record["standardisation"]["scale"]
        standardisation = Standardisation(np.asarray(mean, float), np.asarray(scale, float))
        widths = tuple(record["widths"])
        return cls(**{**record, "standardisation": standardisation, "widths": widths})


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingInputs:
    """Vectors that are features already, for `precomputed`.

    Attributes:
        kind: the name of this kind of map, see `fit_inputs`.
        reads: what the raw items are.
        size: d.
        width: features of a linear projection; None for none.
        dropout: share of the vectors' numbers that are dropped in training.

    Example:
        >>> EmbeddingInputs.fit([[0.6, 0.8]]).encode([[1.0, 0.0]]).shape
        (1, 2)
    """

    kind: ClassVar[InputKind] = "embeddings"
    reads: ClassVar[Literal["texts", "vectors"]] = "vectors"
    size: int
    width: int | None = None
    dropout: float = 0.0

    @classmethod
    def fit(cls, embeddings: ArrayLike, **settings: Any) -> EmbeddingInputs:
        """The size of the vectors; nothing else is fitted."""
        return cls(_vectors(embeddings).shape[1], **settings)

    @property
    def encoder(self) -> Encoder:
        """The encoder of these arrays."""
        return precomputed(self.width, dropout=self.dropout)

    def encode(self, items: ArrayLike) -> np.ndarray:
        """float32[n, d]."""
        return _vectors(items, self.size).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return _settings(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> EmbeddingInputs:
        """The reverse of `to_json`."""
        return cls(**record)


_KINDS: dict[str, Any] = {
    kind.kind: kind for kind in (BagInputs, TokenInputs, FeatureInputs, EmbeddingInputs)
}


def fit_inputs(kind: InputKind, items: Any, **settings: Any) -> InputMap:
    """Fit what turns raw items into the arrays of an encoder; no labels are read.

    Args:
        kind: "bag" (texts, n-grams and `embedding_bag`), "lstm" (texts, tokens and
            `lstm_encoder`), "features" (vectors, standardised, and `mlp`) or "embeddings" (vectors
            as they are, and `precomputed`).
        items: training items: n strings, or float[n, d].
        settings: fields of `BagInputs`, `TokenInputs`, `FeatureInputs` or `EmbeddingInputs` that
            differ from their defaults; for texts also `max_length`.

    Returns:
        The map; its `encoder` goes to `build`, its `encode` turns raw items into inputs.

    Raises:
        ValueError: an unknown kind, items of another kind, or a number that is not finite (names
            the item).

    Example:
        >>> inputs = fit_inputs("bag", ["red fox", "red hen"])
        >>> inputs.encode(["a red fox", ""]).weights.shape
        (2, 2)
    """
    if kind not in _KINDS:
        raise ValueError(f"kind: got {kind!r}, expected one of {list(_KINDS)}")
    return _KINDS[kind].fit(items, **settings)


def inputs_to_json(inputs: InputMap) -> dict[str, Any]:
    """The kind and the fields as plain JSON values."""
    return {"kind": inputs.kind, **inputs.to_json()}


def inputs_from_json(record: Mapping[str, Any]) -> InputMap:
    """The reverse of `inputs_to_json`; KeyError or TypeError where fields do not fit."""
    fields = dict(record)
    return _KINDS[fields.pop("kind")].from_json(fields)


def _settings(inputs: Any) -> dict[str, Any]:
    """The fields that are JSON values as they are."""
    return {
        field.name: value
        for field in dataclasses.fields(inputs)
        if isinstance(value := getattr(inputs, field.name), int | float | None)
    }


def _vectors(items: ArrayLike, size: int | None = None) -> np.ndarray:
    """Vectors as numbers [n, d], all finite."""
    vectors = np.asarray(items)
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiub":
        raise ValueError(
            f"items: got {vectors.dtype} of shape {vectors.shape}, expected numbers [n, features]"
        )
    if size is not None and vectors.shape[1] != size:
        raise ValueError(f"items: got {vectors.shape[1]} features, expected {size}")
    if not np.isfinite(vectors).all():
        row, column = np.argwhere(~np.isfinite(vectors))[0]
        raise ValueError(f"items: row {row}, feature {column} is not finite")
    return vectors
