"""Edit distances between architectures, all pairs of two sets."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from metal_jax.exhaust._architecture import Architecture, Graph, Layer, layers
from metal_jax.exhaust._graph_distance import MAX_NODES, graph_distance
from metal_jax.exhaust._layer_costs import (
    EditCosts,
    EncodedLayers,
    encode_layers,
    layer_distance,
    layer_lengths,
    pad_layers,
)
from metal_jax.exhaust._sequence_distance import sequence_block

METHODS = ("sequence", "slots", "nodes")


def pairwise(
    a: Sequence[Architecture],
    b: Sequence[Architecture] | None = None,
    *,
    costs: EditCosts | None = None,
    method: str | None = None,
    block: int = 64,
) -> np.ndarray:
    """The edit distance of every pair of architectures.

    A metric for each method (zero between equal architectures, symmetric, triangle inequality, to
    the last bit), but the methods are not comparable with one another, so one is chosen for the
    whole call:

    - "sequence": the cheapest way to insert, delete and replace layers in order. Graphs are
      written in topological order, so equal graphs drawn in another order may be apart.
    - "slots": graphs whose node i means the same everywhere (NAS-Bench-201): the sum over edges.
    - "nodes": graphs of at most 12 nodes: the exact minimum over all ways to align their nodes;
      on the host, about a tenth of a second for a pair, more where many nodes are alike.

    Args:
        a: na architectures.
        b: nb architectures; `a` itself by default.
        costs: the hand-made costs, `EditCosts()` by default.
        method: by default "slots" if every architecture is a fixed graph of one size, "nodes" if
            each is a graph of at most 12 nodes, else "sequence"; a graph that is then written as a
            sequence is warned of.
        block: pairs are computed `block` x `block` at a time.

    Returns:
        float32[na, nb].

    Raises:
        ValueError: the method does not apply to an architecture.

    Example:
        >>> from metal_jax.exhaust import read_layer_string
        >>> net = read_layer_string("C(64,3,1) P(2,2) SM(10)")
        >>> pairwise([net], [net, net[1:], read_layer_string("C(128,3,1) P(2,2) SM(10)")])
        array([[0.   , 1.   , 0.125]], dtype=float32)
    """
    costs = EditCosts() if costs is None else costs
    others = a if b is None else b
    if not len(a) or not len(others):
        return np.zeros((len(a), len(others)), np.float32)
    if method is None:
        method = _method([*a, *(b or ())])
    if method not in METHODS:
        raise ValueError(f"got method {method!r:.60}, expected one of {METHODS}")
    if method == "nodes":
        return _pairs_on_host(a, b, costs)
    to_sequence = _slots if method == "slots" else layers
    sets = [[to_sequence(x) for x in a]] + ([] if b is None else [[to_sequence(x) for x in b]])
    if method == "slots" and len({len(sequence) for each in sets for sequence in each}) > 1:
        raise ValueError("got graphs of different size, expected one size for method 'slots'")
    encoded = encode_layers(sets, costs)
    kernel = _slot_block if method == "slots" else sequence_block
    return _in_blocks(kernel, encoded[0], encoded[-1], block, symmetric=b is None)


@jax.jit
def _slot_block(a: EncodedLayers, b: EncodedLayers) -> jax.Array:
    rows = EncodedLayers(*(x[..., :, None, :] for x in a))
    columns = EncodedLayers(*(x[..., None, :, :] for x in b))
    return jnp.sum(layer_distance(rows, columns), -1)


def _in_blocks(
    kernel, a: EncodedLayers, b: EncodedLayers, block: int, *, symmetric: bool
) -> np.ndarray:
    """All pairs, a block at a time; of a set with itself only the blocks on one side.

    Short sequences come first, so that a block is padded to its own longest, not to the set's.
    """
    orders = [np.argsort(layer_lengths(each), kind="stable") for each in (a, b)]
    sizes = [len(order) for order in orders]
    steps = [min(block, _power_of_two(size)) for size in sizes]
    sets = [
        pad_layers(EncodedLayers(*(x[..., order, :] for x in each)), (0, -size % step), (0, 0))
        for each, order, size, step in zip((a, b), orders, sizes, steps, strict=True)
    ]
    result = np.zeros([sets[0].kind.shape[0], sets[1].kind.shape[0]], np.float32)
    for i in range(0, sizes[0], steps[0]):
        for j in range(i if symmetric else 0, sizes[1], steps[1]):
            rows, columns = slice(i, i + steps[0]), slice(j, j + steps[1])
            part = np.asarray(kernel(_part(sets[0], rows), _part(sets[1], columns)))
            result[rows, columns] = part
            if symmetric:
                result[columns, rows] = part.T
    unsorted = np.empty(sizes, np.float32)
    unsorted[np.ix_(*orders)] = result[: sizes[0], : sizes[1]]
    return unsorted


def _part(encoded: EncodedLayers, items: slice) -> EncodedLayers:
    """Some items, cut or padded to a power of two of layers: few shapes to compile."""
    part = EncodedLayers(*(x[..., items, :] for x in encoded))
    length = max(4, _power_of_two(int(layer_lengths(part).max())))
    part = EncodedLayers(*(x[..., :length] for x in part))
    return pad_layers(part, (0, 0), (0, length - part.kind.shape[1]))


def _power_of_two(size: int) -> int:
    """The smallest that is not less."""
    return 1 << max(size - 1, 0).bit_length()


def _method(architectures: Sequence[Architecture]) -> str:
    graphs = [x for x in architectures if isinstance(x, Graph)]
    if not graphs:
        return "sequence"
    if len(graphs) == len(architectures):
        if all(graph.fixed for graph in graphs) and len({len(g.nodes) for g in graphs}) == 1:
            return "slots"
        if max(len(graph.nodes) for graph in graphs) <= MAX_NODES:
            return "nodes"
    warnings.warn(
        f"{len(graphs)} graphs are compared as sequences in topological order: not all "
        f"architectures are graphs of at most {MAX_NODES} nodes",
        stacklevel=3,
    )
    return "sequence"


@functools.singledispatch
def _slots(architecture: Architecture) -> tuple[Layer, ...]:
    """The operation between every two nodes in order, `none` where there is no edge."""
    raise ValueError("got a sequence of layers, expected fixed graphs for method 'slots'")


@_slots.register
def _(architecture: Graph) -> tuple[Layer, ...]:
    size = len(architecture.nodes)
    found = {}
    for edge in architecture.edges:
        if (edge.source, edge.target) in found:
            raise ValueError(f"edge {edge.source} -> {edge.target} is there twice")
        found[edge.source, edge.target] = edge.layer or Layer("edge")
    pairs = [(i, j) for j in range(size) for i in range(size) if i != j]
    return tuple(found.get(pair, Layer("none")) for pair in pairs)


def _pairs_on_host(
    a: Sequence[Architecture], b: Sequence[Architecture] | None, costs: EditCosts
) -> np.ndarray:
    others = a if b is None else b
    result = np.zeros((len(a), len(others)), np.float32)
    for i, first in enumerate(a):
        for j in range(0 if b is not None else i + 1, len(others)):
            second = others[j]
            if not isinstance(first, Graph) or not isinstance(second, Graph):
                raise ValueError("got a sequence of layers, expected graphs for method 'nodes'")
            result[i, j] = graph_distance(first, second, costs)
    return result if b is not None else result + result.T
