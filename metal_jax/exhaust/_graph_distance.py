"""The exact edit distance of two small graphs: the minimum over all alignments of their nodes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from metal_jax.exhaust._architecture import Graph, Layer
from metal_jax.exhaust._layer_costs import (
    EditCosts,
    EncodedLayers,
    encode_layers,
    layer_distance,
    pad_layers,
)

MAX_NODES = 12

_PLAIN_EDGE = Layer("edge")


def graph_distance(a: Graph, b: Graph, costs: EditCosts | None = None) -> float:
    """The cheapest way to make one graph of the other, by branch and bound.

    Nodes are replaced, inserted and deleted at the costs of layers. Edges between aligned nodes
    are replaced at the cost of their operations (an edge without one is an operation of the
    family "edge"); all other edges are inserted or deleted. Parallel edges are compared in order.

    Args:
        a: at most 12 nodes.
        b: at most 12 nodes.
        costs: the hand-made costs, `EditCosts()` by default.

    Returns:
        The distance: a metric on graphs up to the numbering of their nodes.

    Raises:
        ValueError: a graph is too large.

    Example:
        >>> from metal_jax.exhaust import read_cell_string
        >>> cell = read_cell_string("|conv~0|+|none~0|skip~1|")
        >>> graph_distance(cell, cell._replace(edges=cell.edges[:1]))
        0.25
    """
    for graph in (a, b):
        if len(graph.nodes) > MAX_NODES:
            raise ValueError(f"got {len(graph.nodes)} nodes, expected at most {MAX_NODES}")
    costs = EditCosts() if costs is None else costs
    nodes = _distances(a.nodes, b.nodes, costs)
    edges = _edge_distances(a, b, costs)
    return _Search(nodes, *edges).best()


class _Search:
    """Depth first over the nodes of `a`: each takes a free node of `b`, or none.

    nodes: float[na + 1, nb + 1], the last row and column are "no node".
    edge_a: int[na + 1, na + 1] ids of edge contents, 0 for no edge; edge_b alike.
    table: float[ids of a, ids of b].
    """

    def __init__(
        self, nodes: np.ndarray, edge_a: np.ndarray, edge_b: np.ndarray, table: np.ndarray
    ):
        self.nodes, self.edge_a, self.edge_b, self.table = nodes, edge_a, edge_b, table
        self.num_a, self.num_b = len(nodes) - 1, nodes.shape[1] - 1
        # The nodes with most edges first: they decide most.
        self.order = np.argsort(-np.sum((edge_a > 0) | (edge_a.T > 0), 1)[:-1], kind="stable")
        # Every distance is a multiple of the quantum, so one that is better is better by it.
        costs = np.round(1024 * np.concatenate([nodes.ravel(), table.ravel()])).astype(np.int64)
        self.quantum = max(int(np.gcd.reduce(costs)), 1) / 1024
        # A node whose number of edges differs by one costs at least half an edge more.
        edges = np.concatenate([table[1:, 0], table[0, 1:]])
        self.half_edge = edges.min(initial=np.inf) / 2 if len(edges) else 0.0
        self.upper = np.inf

    def best(self) -> float:
        image = np.full(self.num_a, self.num_b)
        self.extend(0, 0.0, self.nodes.copy(), image, np.ones(self.num_b, bool))
        return float(self.upper)

    def extend(
        self, depth: int, spent: float, cost: np.ndarray, image: np.ndarray, free: np.ndarray
    ) -> None:
        """Try every place for the next node of `a`; recursion is at most `MAX_NODES` deep.

        cost[u, v]: of aligning u with v, edges to the nodes aligned before included; the last row
        inserts a node of `b` that is left over, the last column deletes one of `a`.
        """
        open_a, open_b = self.order[depth:], np.flatnonzero(free)
        if spent + self.bound(open_a, open_b, cost, image) > self.upper - self.quantum + 1e-6:
            return
        if depth == self.num_a:
            return
        node = self.order[depth]
        places = np.append(open_b, self.num_b)
        for place in places[np.argsort(cost[node, places], kind="stable")]:
            # Edges between what is still open and the two nodes aligned now.
            step = (
                self.table[self.edge_a[:, node][:, None], self.edge_b[:, place][None]]
                + self.table[self.edge_a[node][:, None], self.edge_b[place][None]]
            )
            left = free.copy()
            if place < self.num_b:
                left[place] = False
            image[node] = place
            self.extend(depth + 1, spent + float(cost[node, place]), cost + step, image, left)
            image[node] = self.num_b

    def bound(
        self, open_a: np.ndarray, open_b: np.ndarray, cost: np.ndarray, image: np.ndarray
    ) -> float:
        """What the open nodes cost at least: the best assignment, edges among them counted half.

        The assignment is also tried as an alignment, which may lower `upper`.
        """
        size = max(len(open_a), len(open_b))
        square = np.zeros((size, size))
        if size:
            degrees_a, degrees_b = (
                self.degrees(self.edge_a, open_a),
                self.degrees(self.edge_b, open_b),
            )
            deleted = cost[open_a, -1] + self.half_edge * degrees_a.sum(0)
            inserted = cost[-1, open_b] + self.half_edge * degrees_b.sum(0)
            gaps = np.abs(degrees_a[:, :, None] - degrees_b[:, None]).sum(0)
            replaced = cost[np.ix_(open_a, open_b)] + self.half_edge * gaps
            square[: len(open_a), : len(open_b)] = np.minimum(
                replaced, deleted[:, None] + inserted[None]
            )
            square[: len(open_a), len(open_b) :] = deleted[:, None]
            square[len(open_a) :, : len(open_b)] = inserted
        rows, columns = linear_sum_assignment(square)
        trial = image.copy()
        trial[open_a] = np.append(open_b, np.full(size, self.num_b))[columns[: len(open_a)]]
        self.upper = min(self.upper, self.cost_of(trial))
        return square[rows, columns].sum()

    def degrees(self, edges: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        """int[2, nodes]: edges out of and into each node, from and to the others given."""
        present = edges[np.ix_(nodes, nodes)] > 0
        return np.stack([present.sum(1), present.sum(0)])

    def cost_of(self, image: np.ndarray) -> float:
        """The cost of a whole alignment: `image` has a place in `b`, or `num_b`, for each node."""
        unused = np.setdiff1d(np.arange(self.num_b), image)
        total = self.nodes[np.arange(self.num_a), image].sum() + self.nodes[-1, unused].sum()
        total += self.table[self.edge_a[:-1, :-1], self.edge_b[np.ix_(image, image)]].sum()
        inserted = self.edge_b.copy()
        kept = image[image < self.num_b]
        inserted[np.ix_(kept, kept)] = 0
        return total + self.table[0, inserted].sum()


def _edge_distances(
    a: Graph, b: Graph, costs: EditCosts
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of the contents between two nodes of both graphs, and the distance of every two."""
    matrices, contents = [], []
    for graph in (a, b):
        between: dict[tuple[int, int], tuple[Layer, ...]] = {}
        for edge in graph.edges:
            key = edge.source, edge.target
            between[key] = (*between.get(key, ()), edge.layer or _PLAIN_EDGE)
        known: list[tuple[Layer, ...]] = [()]
        matrix = np.zeros((len(graph.nodes) + 1,) * 2, int)
        for key, content in between.items():
            if content not in known:
                known.append(content)
            matrix[key] = known.index(content)
        matrices.append(matrix)
        contents.append(known)
    table = np.array([[_content_distance(x, y, costs) for y in contents[1]] for x in contents[0]])
    return matrices[0], matrices[1], table


def _content_distance(a: Sequence[Layer], b: Sequence[Layer], costs: EditCosts) -> float:
    """The edit distance of two short layer sequences, on the host."""
    cost = _distances(a, b, costs)
    table = np.zeros((len(a) + 1, len(b) + 1))
    table[1:, 0] = np.cumsum(cost[:-1, -1])
    table[0, 1:] = np.cumsum(cost[-1, :-1])
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i, j] = min(
                table[i - 1, j] + cost[i - 1, -1],
                table[i, j - 1] + cost[-1, j - 1],
                table[i - 1, j - 1] + cost[i - 1, j - 1],
            )
    return float(table[-1, -1])


def _distances(a: Sequence[Layer], b: Sequence[Layer], costs: EditCosts) -> np.ndarray:
    """float32[na + 1, nb + 1]: distance of every two layers; the last are "no layer"."""
    first, second = encode_layers([[a], [b]], costs)
    rows, columns = pad_layers(first, (0, 0), (0, 1)), pad_layers(second, (0, 0), (0, 1))
    return layer_distance(
        EncodedLayers(*(x[..., 0, :, None] for x in rows)),
        EncodedLayers(*(x[..., 0, None, :] for x in columns)),
        xp=np,
    )
