"""Keras models as JSON: `model.to_json()` or `model.get_config()`, Keras 2 and 3."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from metal_jax._core.json_text import parse_json
from metal_jax.exhaust._architecture import (
    Architecture,
    Edge,
    Graph,
    Layer,
    topological_order,
)


def read_keras_model(text: str) -> Architecture:
    """Read a Keras model.

    A model whose layers form one chain is a list of layers; any other functional model is a
    graph. Models inside models are written out in the order of their layers, their names joined by
    a slash.

    Args:
        text: JSON of `model.to_json()`, or of `model.get_config()`.

    Returns:
        Layers or a graph; each layer keeps its whole config as hyperparameters.

    Raises:
        ValueError: which layer is wrong, what was got and what was expected.

    Example:
        >>> read_keras_model('{"class_name": "Sequential", "config": {"layers": ['
        ...     '{"class_name": "Dense", "config": {"name": "d", "units": 4}}]}}')
        (Layer(type='Dense', hyperparameters={'units': 4}, name='d'),)
    """
    record = parse_json(text)
    config = record.get("config", record) if isinstance(record, Mapping) else record
    # Early Keras wrote a Sequential model's config as the bare list of its layers.
    if isinstance(config, list):
        config = {"layers": config}
    if not isinstance(config, Mapping) or not isinstance(config.get("layers"), list):
        raise ValueError(f"got {text!r:.60}, expected a model with 'config' and 'layers'")
    entries = config["layers"]
    if any(isinstance(entry, Mapping) and entry.get("inbound_nodes") for entry in entries):
        return _functional(entries)
    return tuple(_written_out(entries, ""))


def _functional(entries: list[Any]) -> Architecture:
    """A model whose layers say where their inputs come from."""
    nodes: list[Layer] = []
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    edges: list[Edge] = []
    for entry in entries:
        inner = list(_written_out([entry], ""))
        name = _name(entry)
        if not inner:
            raise ValueError(f"layer {name!r:.60}: got a model without layers")
        if name in first:
            raise ValueError(f"layer {name!r:.60} is there twice")
        first[name], last[name] = len(nodes), len(nodes) + len(inner) - 1
        edges += [Edge(i, i + 1) for i in range(first[name], last[name])]
        nodes += inner
    for entry in entries:
        name = _name(entry)
        for source in _sources(entry.get("inbound_nodes", [])):
            if source not in last:
                raise ValueError(f"layer {name!r:.60}: got input {source!r:.60}, expected a layer")
            edges.append(Edge(last[source], first[name]))
    graph = Graph(tuple(nodes), tuple(dict.fromkeys(edges)))
    order = topological_order(graph)
    chain = list(zip(order, order[1:], strict=False))
    if sorted((edge.source, edge.target) for edge in graph.edges) == sorted(chain):
        return tuple(nodes[i] for i in order)
    return graph


def _written_out(entries: list[Any], prefix: str) -> Iterator[Layer]:
    """The layers, those of inner models in their place; nesting is bounded by `parse_json`."""
    for entry in entries:
        if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
            raise ValueError(f"got layer {entry!r:.60}, expected an object with 'class_name'")
        config = entry.get("config", {})
        name = prefix + _name(entry)
        if isinstance(config, Mapping) and isinstance(config.get("layers"), list):
            yield from _written_out(config["layers"], f"{name}/")
            continue
        if not isinstance(config, Mapping):
            raise ValueError(f"layer {name!r:.60}: got config {config!r:.60}, expected an object")
        yield Layer(
            entry["class_name"], {key: v for key, v in config.items() if key != "name"}, name
        )


def _name(entry: Any) -> str:
    if not isinstance(entry, Mapping):
        raise ValueError(f"got layer {entry!r:.60}, expected an object with 'class_name'")
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, Mapping) else None
    name = entry.get("name", inner)
    return name if isinstance(name, str) else ""


def _sources(value: Any) -> Iterator[str]:
    """Layer names in `inbound_nodes`: Keras 2 `[name, node, tensor, ...]`, Keras 3 histories."""
    if isinstance(value, Mapping):
        history = value.get("keras_history")
        if isinstance(history, list) and history and isinstance(history[0], str):
            yield history[0]
            return
        value = list(value.values())
    if isinstance(value, list):
        if len(value) >= 3 and isinstance(value[0], str) and isinstance(value[1], int):
            yield value[0]
            return
        for entry in value:
            yield from _sources(entry)
