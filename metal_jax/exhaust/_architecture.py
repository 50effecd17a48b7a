"""What was trained: a list of layers, or a graph of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

NO_OPERATION = ("none", "zero", "zeroize")


class Layer(NamedTuple):
    """One layer, in the words of the source.

    Attributes:
        type: the layer's type as the source calls it, e.g. "Conv2d".
        hyperparameters: name -> plain JSON value, e.g. {"out_channels": 64}.
        name: the layer's own name or path in the model, "" where it has none.
    """

    type: str
    hyperparameters: Mapping[str, Any] = {}
    name: str = ""


class Edge(NamedTuple):
    """A directed edge of a graph.

    Attributes:
        source: index of the node it leaves.
        target: index of the node it enters.
        layer: the operation on the edge, None where edges only connect.
    """

    source: int
    target: int
    layer: Layer | None = None


class Graph(NamedTuple):
    """A directed acyclic graph of layers: a cell, or a network with branches.

    Attributes:
        nodes: the layers on the nodes.
        edges: in the source's order; the edges into a node are its arguments in order.
        fixed: node i means the same in every cell of the search space (NAS-Bench-201), so that
            cells are compared slot by slot.
    """

    nodes: tuple[Layer, ...]
    edges: tuple[Edge, ...]
    fixed: bool = False


Architecture: TypeAlias = tuple[Layer, ...] | Graph
"""The layers of a chain in order, or a graph of them."""


def layers(architecture: Architecture) -> tuple[Layer, ...]:
    """The layers one after the other; a graph in topological order.

    The operations on the edges into a node come just before the node. Nodes that are ready at the
    same time come in the graph's own order, so two drawings of one graph may give two sequences.

    Args:
        architecture: layers or graph.

    Returns:
        The sequence.
    """
    if not isinstance(architecture, Graph):
        return tuple(architecture)
    found = []
    for node in topological_order(architecture):
        entering = sorted(
            (edge for edge in architecture.edges if edge.target == node), key=lambda e: e.source
        )
        found += [edge.layer for edge in entering if edge.layer is not None]
        found.append(architecture.nodes[node])
    return tuple(found)


def topological_order(graph: Graph) -> list[int]:
    """Nodes such that every edge points forward, the lowest ready index first.

    Args:
        graph: the graph.

    Returns:
        Node indices.

    Raises:
        ValueError: the graph has a cycle, or an edge to a node that is not there.
    """
    size = len(graph.nodes)
    waiting = np.zeros(size, int)
    after: list[list[int]] = [[] for _ in range(size)]
    for edge in graph.edges:
        if not (0 <= edge.source < size and 0 <= edge.target < size):
            raise ValueError(
                f"edge {edge.source} -> {edge.target}: got a graph of {size} nodes, "
                f"expected both below {size}"
            )
        waiting[edge.target] += 1
        after[edge.source].append(edge.target)
    order: list[int] = []
    ready = [i for i in range(size) if waiting[i] == 0]
    while ready:
        node = min(ready)
        ready.remove(node)
        order.append(node)
        for other in after[node]:
            waiting[other] -= 1
            if waiting[other] == 0:
                ready.append(other)
    if len(order) < size:
        cycle = sorted(set(range(size)) - set(order))
        raise ValueError(f"the graph has a cycle through some of the nodes {cycle}")
    return order


def live(graph: Graph, outputs: Sequence[int] | None = None) -> Graph:
    """The part of a graph that its result depends on; operations elsewhere become `none`.

    An edge counts when it lies on a path, free of `none`, from a node that nothing enters to an
    output. Two cells that differ only in dead edges become equal. Nodes stay where they are.

    Args:
        graph: a cell with operations on its edges, such as NAS-Bench-201's.
        outputs: node indices; by default the last node.

    Returns:
        The graph with the dead edges' operations replaced by `Layer("none")`.

    Raises:
        ValueError: the graph has a cycle, or an edge to a node that is not there.

    Example:
        >>> from metal_jax.exhaust import read_cell_string
        >>> cell = read_cell_string("|conv~0|+|none~0|skip~1|+|conv~0|none~1|none~2|")
        >>> [edge.layer.type for edge in live(cell).edges]
        ['none', 'none', 'none', 'conv', 'none', 'none']
    """
    order = topological_order(graph)
    present = [e for e in graph.edges if e.layer is None or e.layer.type not in NO_OPERATION]
    entered = {edge.target for edge in graph.edges}
    fed = {node for node in order if node not in entered}
    for node in order:
        if any(edge.target == node and edge.source in fed for edge in present):
            fed.add(node)
    used = set([len(graph.nodes) - 1] if outputs is None else outputs)
    for node in reversed(order):
        if any(edge.source == node and edge.target in used for edge in present):
            used.add(node)
    edges = tuple(
        edge
        if edge in present and edge.source in fed and edge.target in used
        else edge._replace(layer=Layer("none"))
        for edge in graph.edges
    )
    return graph._replace(edges=edges)


def live_paths(graph: Graph, most: int) -> list[list[Edge]]:
    """Paths from a node that nothing enters to the last one, along the edges of `live`.

    Args:
        graph: a cell with operations on its edges.
        most: further paths are left out; there may be exponentially many.

    Returns:
        The edges of each path.
    """
    alive = live(graph)
    entered = {edge.target for edge in alive.edges}
    leaving: dict[int, list[Edge]] = {}
    for edge in alive.edges:
        if edge.layer is None or edge.layer.type not in NO_OPERATION:
            leaving.setdefault(edge.source, []).append(edge)
    found: list[list[Edge]] = []
    waiting: list[tuple[int, list[Edge]]] = [
        (node, []) for node in range(len(alive.nodes)) if node not in entered
    ]
    while waiting and len(found) < most:
        node, path = waiting.pop()
        if node == len(alive.nodes) - 1:
            found.append(path)
        waiting += [(edge.target, [*path, edge]) for edge in leaving.get(node, [])]
    return found


def architecture_to_json(architecture: Architecture) -> dict[str, Any]:
    """Plain JSON values: {"layers": [...]} or {"nodes": [...], "edges": [...], "fixed": bool}.

    Args:
        architecture: layers or graph.

    Returns:
        What `architecture_from_json` reads.
    """
    if not isinstance(architecture, Graph):
        return {"layers": [_layer_to_json(layer) for layer in architecture]}
    edges = []
    for edge in architecture.edges:
        record: dict[str, Any] = {"source": edge.source, "target": edge.target}
        if edge.layer is not None:
            record["layer"] = _layer_to_json(edge.layer)
        edges.append(record)
    nodes = [_layer_to_json(layer) for layer in architecture.nodes]
    return {"nodes": nodes, "edges": edges, "fixed": architecture.fixed}


def architecture_from_json(record: Any) -> Architecture:
    """The reverse of `architecture_to_json`.

    Args:
        record: parsed JSON.

    Returns:
        Layers or a graph.

    Raises:
        ValueError: the message starts with the field, e.g. `layers[2].type`.
    """
    if isinstance(record, Mapping) and "layers" in record:
        return _layers_from_json(record["layers"], "layers")
    if not isinstance(record, Mapping) or "nodes" not in record:
        raise ValueError(
            f"got {type(record).__name__}, expected an object with 'layers' or 'nodes'"
        )
    nodes = _layers_from_json(record["nodes"], "nodes")
    edges = []
    for i, entry in enumerate(_expect(record.get("edges", []), list, "edges")):
        at = f"edges[{i}]"
        entry = _expect(entry, Mapping, at)
        layer = entry.get("layer")
        edges.append(
            Edge(
                _expect(entry.get("source"), int, f"{at}.source"),
                _expect(entry.get("target"), int, f"{at}.target"),
                None if layer is None else _layer_from_json(layer, f"{at}.layer"),
            )
        )
    fixed = _expect(record.get("fixed", False), bool, "fixed")
    graph = Graph(nodes, tuple(edges), fixed)
    topological_order(graph)
    return graph


def _layer_to_json(layer: Layer) -> dict[str, Any]:
    record: dict[str, Any] = {"type": layer.type}
    if layer.hyperparameters:
        record["hyperparameters"] = dict(layer.hyperparameters)
    if layer.name:
        record["name"] = layer.name
    return record


def _layers_from_json(record: Any, at: str) -> tuple[Layer, ...]:
    entries = _expect(record, list, at)
    return tuple(_layer_from_json(entry, f"{at}[{i}]") for i, entry in enumerate(entries))


def _layer_from_json(record: Any, at: str) -> Layer:
    record = _expect(record, Mapping, at)
    return Layer(
        _expect(record.get("type"), str, f"{at}.type"),
        dict(_expect(record.get("hyperparameters", {}), Mapping, f"{at}.hyperparameters")),
        _expect(record.get("name", ""), str, f"{at}.name"),
    )


def _expect(value: Any, kind: type, at: str) -> Any:
    wrong = not isinstance(value, kind) or (kind is int and isinstance(value, bool))
    if wrong:
        expected = {list: "a list", Mapping: "an object", str: "a text", int: "an integer"}
        raise ValueError(f"{at}: got {value!r:.60}, expected {expected.get(kind, kind.__name__)}")
    return value
