r"""Which items to look at next: those that no LF covers, and those that LFs disagree on.

A person reads a few. So the few should stand for many: `representative_items` chooses greedily the
set S that maximises the facility-location function

.. math:: \sum_i w_i \max_{j \in S} \cos(x_i, x_j)_+,

which is submodular, so that the greedy choice reaches at least 1 - 1/e of the best (Nemhauser,
Wolsey & Fisher, 1978; for choosing training data: Wei, Iyer & Bilmes, ICML 2015). An item like one
that is chosen already adds nothing.

Legend: `n` items, `m` LFs, `p` features, `s` leaf states.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from metal_jax._core.checks import check_texts
from metal_jax.labeling._matrix import validate
from metal_jax.task_tree import TaskTree

_MOST_COMPARED = 4000  # items; their similarities fill a matrix
_COPY = 1e-5  # float32 cosines of equal vectors are not quite 1
_WORD = re.compile(r"\w+")


class Representatives(NamedTuple):
    """Items that stand for others.

    Attributes:
        items: int64[k], the items, the one that adds most first.
        num_alike: int64[k], how many of the weighted items are closest to it, itself included.
    """

    items: np.ndarray
    num_alike: np.ndarray


def representative_items(
    features: Sequence[str] | ArrayLike, num_items: int, *, weights: ArrayLike | None = None
) -> Representatives:
    """A few items that stand for many: different from each other, and like the rest.

    Deterministic. Of more than 4,000 items with a weight those with the greatest weights are
    compared, or if all weights are equal, 4,000 evenly spaced ones.

    Args:
        features: n texts, compared by their words (TF-IDF); or float[n, p].
        num_items: how many to choose.
        weights: float[n], how much it matters that an item is stood for; only items with a positive
            weight are chosen. All equal by default.

    Returns:
        At most `num_items` items, fewer if the others have no weight or are copies of these.

    Raises:
        ValueError: features that are not finite or of a wrong shape, or a weight that is negative,
            not finite or of a wrong shape.

    Example:
        >>> texts = ["late goal", "a goal", "goal", "the market fell", "the market rose", "rain"]
        >>> chosen = representative_items(texts, 2)
        >>> chosen.items.tolist(), chosen.num_alike.tolist()
        ([2, 3], [3, 2])
    """
    vectors = _unit_vectors(features)
    n = vectors.shape[0]
    weight = np.ones(n) if weights is None else np.asarray(weights, float)
    if weight.shape != (n,) or not (np.isfinite(weight) & (weight >= 0)).all():
        raise ValueError(f"weights: got shape {weight.shape}, expected [{n}] finite numbers >= 0")
    if num_items < 0:
        raise ValueError(f"num_items: got {num_items}, expected at least 0")
    pool = np.flatnonzero(weight > 0)
    if len(pool) > _MOST_COMPARED:
        if (weight[pool] == weight[pool[0]]).all():
            pool = pool[np.linspace(0, len(pool) - 1, _MOST_COMPARED).astype(int)]
        else:
            pool = np.sort(pool[np.argsort(-weight[pool], kind="stable")[:_MOST_COMPARED]])
    weight = weight[pool].astype(np.float32)
    own = vectors[pool]
    alike = own @ own.T
    alike = np.asarray(alike.todense() if hasattr(alike, "todense") else alike, np.float32)
    alike = np.clip(alike, 0, 1)
    np.fill_diagonal(alike, 1)  # an item without features is like itself only
    chosen: list[int] = []
    closest = np.full(len(pool), -1, np.int64)
    best = np.zeros(len(pool), np.float32)
    for position in range(min(num_items, len(pool))):
        gain = weight @ np.maximum(alike - best[:, None], 0)
        gain[chosen] = -1
        item = int(gain.argmax())
        if gain[item] <= _COPY * weight.max():  # the rest are copies of those chosen
            break
        closest[alike[:, item] > best] = position
        closest[item] = position
        best = np.maximum(best, alike[:, item])
        chosen.append(item)
    num_alike = np.bincount(closest[closest >= 0], minlength=len(chosen))
    return Representatives(pool[chosen].astype(np.int64), num_alike.astype(np.int64))


def uncovered_items(
    votes: ArrayLike, features: Sequence[str] | ArrayLike, num_items: int = 20
) -> Representatives:
    """Items without any vote that stand for the others without: what the next LF should cover.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        features: n texts, or float[n, p], as in `representative_items`.
        num_items: how many to choose.

    Returns:
        The items, none if all are covered.

    Raises:
        ValueError: as `representative_items`, or votes for another number of items.

    Example:
        >>> votes = [[0, -1], [-1, -1], [-1, -1], [-1, -1]]
        >>> uncovered_items(votes, ["goal", "the market fell", "the market", "rain"], 2).items
        array([1, 3])
    """
    matrix = np.asarray(votes)
    if matrix.ndim != 2:
        raise ValueError(f"votes: got shape {matrix.shape}, expected [n, m]")
    return representative_items(features, num_items, weights=(matrix < 0).all(axis=1))


def vote_conflict(votes: ArrayLike, tree: TaskTree) -> np.ndarray:
    """How far the votes on an item contradict each other.

    Args:
        votes: int[n, m] node ids, negative = no vote.
        tree: the task tree; votes for a node and for one above it agree.

    Returns:
        float64[n], the share of the votes that the leaf with most votes on its path does not go
        along with, over all roots; 0 without votes.

    Raises:
        ValueError: as `validate`.

    Example:
        >>> vote_conflict([[0, 1, -1], [0, 0, 1], [-1, -1, -1]], TaskTree.single(2)).round(2)
        array([0.5 , 0.33, 0.  ])
    """
    matrix = validate(votes, tree)
    total = (matrix >= 0).sum(axis=1)
    return _votes_against(matrix, tree).sum(axis=1) / np.maximum(total, 1)


def posterior_entropy(probabilities: ArrayLike, tree: TaskTree) -> np.ndarray:
    """How unsure soft labels are.

    Args:
        probabilities: float[n, s], leaf states, summing to one over each root.
        tree: the task tree.

    Returns:
        float64[n], in nats, summed over the roots.

    Raises:
        ValueError: a wrong shape, or a probability outside [0, 1].

    Example:
        >>> posterior_entropy([[0.5, 0.5], [1.0, 0.0]], TaskTree.single(2)).round(3)
        array([0.693, 0.   ])
    """
    return _leaf_entropy(probabilities, tree).sum(axis=1)


def contested_items(
    votes: ArrayLike,
    tree: TaskTree,
    num_items: int = 20,
    *,
    probabilities: ArrayLike | None = None,
    features: Sequence[str] | ArrayLike | None = None,
) -> np.ndarray:
    """Items on which LFs disagree, those first that a gold label would teach most about.

    Only items with two votes that cannot both be right: neither node covers the other (query by
    committee, Seung, Opper & Sompolinsky, 1992). Items that one LF votes on, or on which all agree,
    are not among them, however unsure their label is. Those found are ordered by how unsure the
    label model is (uncertainty sampling, Lewis & Gale, 1994).

    Args:
        votes: int[n, m] node ids, negative = no vote.
        tree: the task tree.
        num_items: how many to choose.
        probabilities: float[n, s] of a label model: order by their entropy, over the roots on which
            the item's votes conflict. By default by `vote_conflict`.
        features: n texts, or float[n, p]: choose items that stand for the other contested ones, as
            `representative_items` does, so that no two are much alike.

    Returns:
        int64[k], at most `num_items` of them, the first most worth a look; none on which all votes
        agree, or whose label is certain all the same.

    Raises:
        ValueError: as `vote_conflict`, `posterior_entropy` and `representative_items`.

    Example:
        >>> contested_items([[0, 1, -1], [0, 0, 1], [0, 0, -1]], TaskTree.single(2))
        array([0, 1])
    """
    matrix = validate(votes, tree)
    if probabilities is None:
        score = vote_conflict(matrix, tree)
    else:
        entropy = _leaf_entropy(probabilities, tree)
        if len(entropy) != len(matrix):
            raise ValueError(
                f"probabilities: got {len(entropy)} items, the votes have {len(matrix)}"
            )
        contested = _votes_against(matrix, tree) > 0
        score = np.where(contested[:, tree.node_root[tree.leaf_nodes]], entropy, 0).sum(axis=1)
    if features is not None:
        return representative_items(features, num_items, weights=score).items
    order = np.argsort(-score, kind="stable")[:num_items]
    return order[score[order] > 0]


def _votes_against(matrix: np.ndarray, tree: TaskTree) -> np.ndarray:
    """float64[n, r], how many votes do not cover the root's leaf that most votes cover."""
    cast = np.zeros((len(matrix), tree.num_nodes), np.float32)
    row, lf = np.nonzero(matrix >= 0)
    np.add.at(cast, (row, matrix[row, lf]), 1)
    support = cast @ tree.covers.astype(np.float32)
    against = []
    for root, span in enumerate(tree.root_leaves):
        total = cast[:, tree.node_root == root].sum(axis=1)
        against.append(total - support[:, span].max(axis=1))
    return np.stack(against, axis=1).astype(float)


def _leaf_entropy(probabilities: ArrayLike, tree: TaskTree) -> np.ndarray:
    """float64[n, s], what each leaf adds to the entropy of an item's root."""
    q = np.asarray(probabilities, float)
    if q.ndim != 2 or q.shape[1] != tree.num_leaves:
        raise ValueError(f"probabilities: got shape {q.shape}, expected [n, {tree.num_leaves}]")
    bad = ~((q >= 0) & (q <= 1 + 1e-6))
    if bad.any():
        row, leaf = np.argwhere(bad)[0]
        raise ValueError(
            f"probabilities: row {row}, leaf {leaf}: got {q[row, leaf]}, expected 0..1"
        )
    return np.where(q < 1, -q * np.log(np.where(q > 0, q, 1)), 0)


def _unit_vectors(features: Sequence[str] | ArrayLike) -> Any:
    """Rows of unit length, or zero: a dense or a sparse matrix [n, p]."""
    if isinstance(features, str):
        check_texts("features", features)
    if isinstance(features, Sequence) and all(isinstance(text, str) for text in features):
        return _tf_idf([str(text) for text in features])
    with np.errstate(over="ignore"):  # infinite then, and refused
        array = np.asarray(features).astype(np.float32)
    if array.ndim != 2:
        raise ValueError(f"features: got shape {array.shape}, expected n texts or [n, p] numbers")
    if not np.isfinite(array).all():
        raise ValueError(f"features: row {np.argwhere(~np.isfinite(array))[0][0]} is not finite")
    # Scaled first: the square of a large number may not be one.
    array = array / np.maximum(np.abs(array).max(axis=1, initial=0, keepdims=True), 1e-30)
    length = np.linalg.norm(array, axis=1, keepdims=True)
    return array / np.where(length > 0, length, 1)


def _tf_idf(texts: Sequence[str]) -> Any:
    """Words weighted by `log(1 + count)` and by how few texts have them; a sparse array."""
    import scipy.sparse  # here, so that importing the room stays light

    vocabulary: dict[str, int] = {}
    row, column, count = [], [], []
    for number, text in enumerate(texts):
        for word, times in collections.Counter(_WORD.findall(text.casefold())).items():
            row.append(number)
            column.append(vocabulary.setdefault(word, len(vocabulary)))
            count.append(times)
    n, p = len(texts), max(len(vocabulary), 1)
    frequency = np.bincount(np.asarray(column, int), minlength=p)
    rarity = np.log((1 + n) / (1 + frequency)) + 1
    weight = np.log1p(np.asarray(count, float)) * rarity[np.asarray(column, int)]
    matrix = scipy.sparse.csr_array((weight, (row, column)), shape=(n, p), dtype=np.float32)
    length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    return scipy.sparse.diags_array(1 / np.where(length > 0, length, 1)) @ matrix
