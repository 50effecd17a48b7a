"""Hand-made features of graphs: degrees and depth, and the live paths of a cell."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from metal_jax.exhaust._architecture import (
    NO_OPERATION,
    Edge,
    Graph,
    live,
    live_paths,
    topological_order,
)
from metal_jax.exhaust._layer_kinds import WITH_WEIGHTS, describe

_MAX_PATHS = 256


def graph_features(graph: Graph) -> dict[str, float]:
    """Degrees and depth.

    Args:
        graph: any graph.

    Returns:
        Name -> value.
    """
    size = len(graph.nodes)
    into, out_of = [0] * size, [0] * size
    longest, shortest = [0] * size, [0] * size
    order = topological_order(graph)
    entering = defaultdict(list)
    for edge in graph.edges:
        entering[edge.target].append(edge.source)
        into[edge.target] += 1
        out_of[edge.source] += 1
    for node in order:
        if entering[node]:
            longest[node] = 1 + max(longest[source] for source in entering[node])
            shortest[node] = 1 + min(shortest[source] for source in entering[node])
    ends = [node for node in order if not out_of[node]]
    found = {
        "nodes": size,
        "edges": len(graph.edges),
        "mean edges into a node": len(graph.edges) / max(size, 1),
        "most edges into a node": max(into, default=0),
        "most edges out of a node": max(out_of, default=0),
        "nodes that nothing enters": into.count(0),
        "nodes that nothing leaves": out_of.count(0),
        "longest path": max(longest, default=0),
        "shortest path to an end": min((shortest[node] for node in ends), default=0),
        "mean depth of nodes": sum(longest) / max(size, 1),
    }
    kinds = [describe(layer).kind for layer in graph.nodes]
    links = Counter((kinds[edge.source], kinds[edge.target]) for edge in graph.edges)
    found |= {f"{a} into {b}": count for (a, b), count in links.items()}
    found |= {f"{graph.nodes[node].name} is {kinds[node]}": 1 for node in ends}
    return {name: float(value) for name, value in found.items()}


def cell_features(graph: Graph) -> dict[str, float]:
    """The operation on each edge, and what lies on the paths that the result depends on.

    Args:
        graph: a cell whose nodes are fixed and whose operations are on its edges.

    Returns:
        Name -> value. Of more than 256 live paths, 256 count.
    """
    alive = live(graph)
    found: dict[str, float] = {
        f"edge {edge.source}-{edge.target} is {_operation(edge)}": 1.0 for edge in graph.edges
    }
    for edge in alive.edges:
        operation = _operation(edge)
        if operation not in NO_OPERATION:
            found[f"live edge {edge.source}-{edge.target} is {operation}"] = 1.0
            found[f"live {operation}"] = found.get(f"live {operation}", 0.0) + 1
    paths = live_paths(graph, _MAX_PATHS)
    found["live paths"] = float(len(paths))
    found["input reaches output"] = float(bool(paths))
    found |= _of_paths([[_operation(edge) for edge in path] for path in paths], "operations")
    weighted = [[edge for edge in path if _has_weights(edge)] for path in paths]
    found |= _of_paths([[_operation(edge) for edge in path] for path in weighted], "weights")
    for name, count in Counter(len(path) for path in weighted).items():
        found[f"live paths with {name} weights"] = float(count)
    for path in paths:
        what = " ".join(_operation(edge) for edge in path)
        found[f"live path {what}"] = found.get(f"live path {what}", 0.0) + 1
    return found


def _of_paths(paths: Sequence[Sequence[str]], what: str) -> dict[str, float]:
    """Length of the paths, and how often each operation is on them."""
    if not paths:
        return {}
    lengths = [len(path) for path in paths]
    found = {
        f"longest live path, {what}": max(lengths),
        f"shortest live path, {what}": min(lengths),
        f"mean live path, {what}": sum(lengths) / len(lengths),
    }
    for operation in {operation for path in paths for operation in path}:
        counts = [path.count(operation) for path in paths]
        found[f"most {operation} on a live path, {what}"] = max(counts)
        found[f"fewest {operation} on a live path, {what}"] = min(counts)
        found[f"{operation} over live paths, {what}"] = sum(counts)
    return {name: float(value) for name, value in found.items()}


def _operation(edge: Edge) -> str:
    if edge.layer is None:
        return "edge"
    return edge.layer.type


def _has_weights(edge: Edge) -> bool:
    return edge.layer is not None and describe(edge.layer).family in WITH_WEIGHTS
