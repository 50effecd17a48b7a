r"""Dependency graphs of labelling functions: components, junction trees, and votes as cells.

A joint distribution with the dependencies of a *decomposable* (chordal) graph factorises over a
junction tree into cliques and separators,

.. math:: P(\lambda \mid y) = \prod_C P(\lambda_C \mid y) \Big/ \prod_S P(\lambda_S \mid y),

(Lauritzen, "Graphical Models", 1996, section 4.4). A graph that is not chordal is filled in first.
The junction tree is a spanning tree of *maximum* weight of the clique graph, weights being the
numbers of shared members (Jensen & Jensen, UAI 1994). Graphs of LFs are small, so this is plain
Python on the host, and no graph library is needed.

Legend: `n` items, `m` LFs, `e` edges, `f` factors (cliques and separators), `w` most members of a
factor, `r` rows (cells of all factors).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jax.typing import ArrayLike


class JunctionTree(NamedTuple):
    """Cliques of a chordal graph, linked so that every LF's cliques are connected.

    Attributes:
        cliques: members of each maximal clique, sorted. Every LF is in at least one.
        links: pairs of cliques; a tree for each connected component of the graph.
        separators: the members that the two cliques of each link share.
        fill: the edges that were added to make the graph chordal.
    """

    cliques: tuple[tuple[int, ...], ...]
    links: tuple[tuple[int, int], ...]
    separators: tuple[tuple[int, ...], ...]
    fill: tuple[tuple[int, int], ...]


def checked_edges(edges: ArrayLike | Sequence[tuple[int, int]], num_lfs: int) -> np.ndarray:
    """Edges as given, checked.

    Args:
        edges: int[e, 2] or a list of pairs of LF numbers; may be empty.
        num_lfs: m.

    Returns:
        int64[e, 2], the smaller number first, sorted.

    Raises:
        ValueError: not pairs of integers, an unknown LF, an LF with itself, or the same pair
            twice; names the edge.
    """
    array = np.asarray(edges)
    if array.size == 0:
        return np.zeros((0, 2), np.int64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"edges: got shape {array.shape}, expected [e, 2]")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"edges: got dtype {array.dtype}, expected integers (LF numbers)")
    array = np.sort(array.astype(np.int64), axis=1)
    seen: set[tuple[int, int]] = set()
    for i, j in array.tolist():
        if i < 0 or j >= num_lfs:
            raise ValueError(f"edges: ({i}, {j}): expected LF numbers in 0..{num_lfs - 1}")
        if i == j:
            raise ValueError(f"edges: ({i}, {j}): an LF cannot depend on itself")
        if (i, j) in seen:
            raise ValueError(f"edges: ({i}, {j}) is given twice")
        seen.add((i, j))
    return array[np.lexsort(array.T[::-1])]


def components(edges: np.ndarray, num_lfs: int) -> np.ndarray:
    """The connected component of each LF.

    Args:
        edges: int[e, 2].
        num_lfs: m.

    Returns:
        int64[m], each component named after its first LF.

    Example:
        >>> components(np.array([[0, 2], [2, 3]]), 5).tolist()
        [0, 1, 0, 0, 4]
    """
    label = np.arange(num_lfs)
    for i, j in edges:
        low, high = sorted((label[i], label[j]))
        label[label == high] = low
    return label


def maximum_spanning_forest(
    weighted: Sequence[tuple[float, int, int]], num_vertices: int
) -> list[tuple[float, int, int]]:
    """Kruskal's algorithm: the heaviest edges that close no cycle, heaviest first.

    Args:
        weighted: (weight, vertex, vertex) triples; ties are broken by the vertices' numbers.
        num_vertices: number of vertices.

    Returns:
        The chosen triples.

    Example:
        >>> maximum_spanning_forest([(1.0, 0, 1), (3.0, 1, 2), (2.0, 0, 2)], 3)
        [(3.0, 1, 2), (2.0, 0, 2)]
    """
    label = np.arange(num_vertices)
    chosen = []
    for weight, i, j in sorted(weighted, key=lambda edge: (-edge[0], edge[1:])):
        if label[i] != label[j]:
            label[label == label[j]] = label[i]
            chosen.append((weight, i, j))
    return chosen


def junction_tree(edges: ArrayLike | Sequence[tuple[int, int]], num_lfs: int) -> JunctionTree:
    """Maximal cliques of the graph, filled in where it is not chordal, and the tree of them.

    Vertices are eliminated one by one, always the one whose neighbours lack the fewest edges among
    themselves (minimum fill); a chordal graph needs none. O(m^2) times the cube of the degree.

    Args:
        edges: pairs of LF numbers.
        num_lfs: m.

    Returns:
        The tree.

    Raises:
        ValueError: as `checked_edges`.

    Example:
        >>> tree = junction_tree([(0, 1), (1, 2)], 4)
        >>> tree.cliques, tree.separators
        (((0, 1), (1, 2), (3,)), ((1,),))
    """
    pairs = checked_edges(edges, num_lfs)
    near: dict[int, set[int]] = {v: set() for v in range(num_lfs)}
    for i, j in pairs.tolist():
        near[i].add(j)
        near[j].add(i)

    def lacking(v: int) -> list[tuple[int, int]]:
        return [(a, b) for a, b in itertools.combinations(sorted(near[v]), 2) if b not in near[a]]

    fill: list[tuple[int, int]] = []
    groups: list[set[int]] = []
    while near:
        vertex = min(near, key=lambda v: (len(lacking(v)), len(near[v]), v))
        for a, b in lacking(vertex):
            near[a].add(b)
            near[b].add(a)
            fill.append((a, b))
        neighbours = near.pop(vertex)
        for other in neighbours:
            near[other].discard(vertex)
        group = neighbours | {vertex}
        if not any(group <= other for other in groups):
            groups.append(group)
    cliques = tuple(sorted(tuple(sorted(group)) for group in groups))
    shared = [
        (float(len(common)), a, b)
        for a, b in itertools.combinations(range(len(cliques)), 2)
        if (common := set(cliques[a]) & set(cliques[b]))
    ]
    links = tuple((a, b) for _, a, b in maximum_spanning_forest(shared, len(cliques)))
    separators = tuple(tuple(sorted(set(cliques[a]) & set(cliques[b]))) for a, b in links)
    return JunctionTree(cliques, links, separators, tuple(sorted(fill)))


class FactorLayout(NamedTuple):
    """Where the joint votes of every clique and separator stand in one long table.

    An LF has `num_symbols[j]` votes and, after them, "unknown" (never asked): the rows with unknown
    members hold the marginals of the others. Cliques come first, each separator once.

    Attributes:
        members: int32[f, w] LFs of each factor, padded with 0.
        strides: int32[f, w], 0 where padded.
        start: int32[f], first row of each factor.
        sign: int32[f], 1 for cliques, minus its number of links for a separator.
        row_factor: int32[r], the factor of each row.
        complete: bool[r], rows without unknown members.
        source: int32[q], a complete row of a clique ...
        target: int32[q], ... and a row whose probability it is part of. The entries within cliques
            come first.
        num_clique_rows: number of rows of cliques.
        num_clique_pairs: number of (source, target) pairs within cliques.
    """

    members: np.ndarray
    strides: np.ndarray
    start: np.ndarray
    sign: np.ndarray
    row_factor: np.ndarray
    complete: np.ndarray
    source: np.ndarray
    target: np.ndarray
    num_clique_rows: int
    num_clique_pairs: int


def factor_layout(tree: JunctionTree, num_symbols: np.ndarray, max_cells: int) -> FactorLayout:
    """Lay out the tables of a junction tree.

    Args:
        tree: the junction tree.
        num_symbols: int[m], number of different votes of each LF, abstaining included.
        max_cells: most rows of a factor.

    Returns:
        The layout.

    Raises:
        ValueError: a clique with more than `max_cells` cells; names its members.
    """
    separators = sorted(set(tree.separators))
    factors = [*tree.cliques, *separators]
    host = [*tree.cliques, *(next(c for c in tree.cliques if set(s) <= set(c)) for s in separators)]
    sign = [1] * len(tree.cliques) + [-tree.separators.count(s) for s in separators]
    width = max(map(len, factors))
    members = np.zeros((len(factors), width), np.int32)
    strides = np.zeros((len(factors), width), np.int32)
    sizes = [math.prod(int(num_symbols[j]) + 1 for j in factor) for factor in factors]
    for factor, size in zip(tree.cliques, sizes, strict=False):
        if size > max_cells:
            raise ValueError(
                f"clique of LFs {', '.join(map(str, factor))}: {size} cells (products of the "
                f"numbers of votes), more than max_cells={max_cells}; remove an edge among them"
            )
    start = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int32)
    complete = np.zeros(sum(sizes), bool)
    pairs: list[np.ndarray] = []
    for f, (factor, own_host) in enumerate(zip(factors, host, strict=True)):
        size = [int(num_symbols[j]) + 1 for j in factor]
        stride = [math.prod(size[i + 1 :]) for i in range(len(size))]
        members[f, : len(factor)], strides[f, : len(factor)] = factor, stride
        h = factors.index(own_host)
        # All complete cells of the host clique, and its members' votes in them.
        votes = np.indices([int(num_symbols[j]) for j in own_host]).reshape(len(own_host), -1)
        source = start[h] + strides[h, : len(own_host)] @ votes
        votes = votes[[own_host.index(j) for j in factor]]
        complete[start[f] + np.asarray(stride) @ votes] = True
        for unknown in itertools.product((False, True), repeat=len(factor)):
            hidden = np.where(np.array(unknown)[:, None], num_symbols[list(factor)][:, None], votes)
            pairs.append(np.stack([source, start[f] + np.asarray(stride) @ hidden]))
    source, target = np.concatenate(pairs, axis=1).astype(np.int32)
    return FactorLayout(
        members=members,
        strides=strides,
        start=start,
        sign=np.array(sign, np.int32),
        row_factor=np.repeat(np.arange(len(factors)), sizes).astype(np.int32),
        complete=complete,
        source=source,
        target=target,
        num_clique_rows=sum(sizes[: len(tree.cliques)]),
        num_clique_pairs=sum(math.prod(2 * int(num_symbols[j]) for j in c) for c in tree.cliques),
    )
