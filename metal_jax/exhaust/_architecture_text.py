"""Architectures written as short strings or JSON: one small grammar for each notation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from metal_jax._core.json_text import parse_json
from metal_jax.exhaust._architecture import (
    Architecture,
    Edge,
    Graph,
    Layer,
    topological_order,
)
from metal_jax.exhaust._keras_model import read_keras_model
from metal_jax.exhaust._torch_text import MAX_LAYERS, read_torch_text

_METAQNN_TOKEN = re.compile(r"(?<![A-Za-z])(?P<letters>[A-Za-z]+)\((?P<numbers>[^()]*)\)")
#: letters -> type and the names of the numbers. D(i, n) is the i-th of n dropouts; MetaQNN (Baker
#: et al. 2017, section 5.1) gives it the rate i / (2 n).
_METAQNN = {
    "C": ("conv", ("filters", "kernel_size", "stride")),
    "P": ("pool", ("kernel_size", "stride")),
    "FC": ("linear", ("units",)),
    "GAP": ("global_average_pool", ("units",)),
    "SM": ("softmax", ("units",)),
    "D": ("dropout", ("index", "total")),
}
_CELL_EDGE = re.compile(r"(?P<operation>[^|~]+)~(?P<source>\d{1,4})")
_STATE = re.compile(r"x|h_prev_\d{1,4}")
_NEW_STATE = re.compile(r"h_new_\d{1,4}")


def read_layer_string(text: str) -> tuple[Layer, ...]:
    """Read MetaQNN's notation: `C(64,3,1) P(2,2) FC(128) SM(10)`, with or without `[ , ]`.

    C(filters, kernel, stride), P(kernel, stride), FC(units), GAP(units), SM(units),
    D(index, total). Letters that are not known are kept, their numbers named "0", "1", ...

    Args:
        text: the string.

    Returns:
        The layers.

    Raises:
        ValueError: what was found at which character.

    Example:
        >>> read_layer_string("C(64,3,1) XY(7)")[1]
        Layer(type='XY', hyperparameters={'0': 7}, name='')
    """
    found = []
    at = 0
    for match in _METAQNN_TOKEN.finditer(text):
        _expect_gap(text, at, match.start())
        at = match.end()
        letters = match["letters"]
        numbers = [_number(part, match.start("numbers")) for part in match["numbers"].split(",")]
        type_, names = _METAQNN.get(letters.upper(), (letters, ()))
        if names and len(names) != len(numbers):
            raise ValueError(
                f"character {match.start()}: got {match.group()!r:.60}, expected "
                f"{letters}({', '.join(names)})"
            )
        names = names or tuple(map(str, range(len(numbers))))
        hyperparameters = dict(zip(names, numbers, strict=True))
        if type_ == "dropout" and numbers[1]:
            hyperparameters["rate"] = numbers[0] / (2 * numbers[1])
        found.append(Layer(type_, hyperparameters))
    _expect_gap(text, at, len(text))
    if not found:
        raise ValueError(f"got {text!r:.60}, expected layers such as C(64,3,1)")
    return tuple(found)


def read_cell_string(text: str) -> Graph:
    """Read a NAS-Bench-201 cell: `|conv~0|+|skip~0|pool~1|+|...|`.

    Group j lists the operations on the edges into node j, each with the node it comes from. The
    nodes have fixed meanings.

    Args:
        text: the string.

    Returns:
        The cell, an operation on each edge.

    Raises:
        ValueError: which group is wrong, what was got and what was expected.

    Example:
        >>> cell = read_cell_string("|conv~0|+|skip~0|pool~1|")
        >>> [(edge.source, edge.target, edge.layer.type) for edge in cell.edges]
        [(0, 1, 'conv'), (0, 2, 'skip'), (1, 2, 'pool')]
    """
    groups = text.strip().split("+")
    if len(groups) > 1000:
        raise ValueError(f"got {len(groups)} groups, expected at most 1000")
    edges = []
    for target, group in enumerate(groups, start=1):
        group = group.strip()
        if len(group) < 3 or group[0] != "|" or group[-1] != "|":
            raise ValueError(f"node {target}: got {group!r:.60}, expected '|operation~source|...|'")
        sources = set()
        for entry in group[1:-1].split("|"):
            match = _CELL_EDGE.fullmatch(entry.strip())
            if match is None:
                raise ValueError(f"node {target}: got {entry!r:.60}, expected 'operation~source'")
            source = int(match["source"])
            if source >= target or source in sources:
                raise ValueError(
                    f"node {target}: got an edge from {source}, expected each node below {target} "
                    "at most once"
                )
            sources.add(source)
            edges.append(Edge(source, target, Layer(match["operation"].strip())))
    nodes = tuple(Layer("node", {}, str(i)) for i in range(len(groups) + 1))
    return Graph(nodes, tuple(edges), fixed=True)


def read_recurrent_cell(text: str) -> Graph:
    """Read a NAS-Bench-NLP cell: JSON of name -> {"op": ..., "input": [names]}.

    `x` and `h_prev_<i>` are inputs; nodes named `h_new_<i>` are the new states, and say so in the
    hyperparameter "output".

    Args:
        text: JSON.

    Returns:
        The cell, operations on the nodes, edges in the order of the arguments.

    Raises:
        ValueError: an input that no node has, a cycle, or another form.

    Example:
        >>> cell = read_recurrent_cell('{"h_new_0": {"op": "linear", "input": ["x", "h_prev_0"]}}')
        >>> len(cell.nodes), len(cell.edges)
        (3, 2)
    """
    record = parse_json(text)
    if not isinstance(record, Mapping) or not record:
        raise ValueError(f"got {text!r:.60}, expected an object of nodes")
    for name, node in record.items():
        well_formed = (
            isinstance(node, Mapping)
            and isinstance(node.get("op"), str)
            and isinstance(node.get("input"), list)
            and all(isinstance(source, str) for source in node["input"])
        )
        if not well_formed:
            raise ValueError(f"node {name!r:.60}: got {node!r:.60}, expected 'op' and 'input'")
    used = dict.fromkeys(source for node in record.values() for source in node["input"])
    states = sorted(name for name in used if name not in record)
    for name in states:
        if not _STATE.fullmatch(name):
            raise ValueError(f"got input {name!r:.60}, expected a node, x or h_prev_<i>")
    index = {name: i for i, name in enumerate([*states, *record])}
    nodes = [Layer(f"input_{name}", {}, name) for name in states]
    edges = []
    for name, node in record.items():
        rest = {key: value for key, value in node.items() if key not in ("op", "input")}
        if _NEW_STATE.fullmatch(name):
            rest["output"] = name
        nodes.append(Layer(node["op"], rest, name))
        edges += [Edge(index[source], index[name]) for source in node["input"]]
    graph = Graph(tuple(nodes), tuple(edges))
    topological_order(graph)
    return graph


def read_layer_list(text: str, type: str = "") -> tuple[Layer, ...]:
    """Read a JSON list of layers: [{"type": "conv", "width": 16, ...}, ...].

    Args:
        text: JSON.
        type: the type of layers that name none, for lists of one kind.

    Returns:
        The layers; every other key is a hyperparameter.

    Raises:
        ValueError: which entry is wrong.

    Example:
        >>> read_layer_list('[{"type": "conv", "width": 16}]')
        (Layer(type='conv', hyperparameters={'width': 16}, name=''),)
    """
    record = parse_json(text)
    if not isinstance(record, list) or len(record) > MAX_LAYERS:
        raise ValueError(f"got {text!r:.60}, expected a list of at most {MAX_LAYERS} layers")
    found = []
    for i, entry in enumerate(record):
        kind = entry.get("type", type) if isinstance(entry, Mapping) else None
        if not isinstance(kind, str) or not kind:
            raise ValueError(f"layer {i}: got {entry!r:.60}, expected an object with a 'type'")
        found.append(Layer(kind, {key: value for key, value in entry.items() if key != "type"}))
    return tuple(found)


#: notation -> reader.
NOTATIONS: Mapping[str, Callable[..., Architecture]] = {
    "cell_string": read_cell_string,
    "keras_json": read_keras_model,
    "layer_list": read_layer_list,
    "layer_string": read_layer_string,
    "recurrent_cell": read_recurrent_cell,
    "torch_text": read_torch_text,
}


def read_architecture(text: str, notation: str, **options: Any) -> Architecture:
    """Read an architecture in any notation.

    Args:
        text: the architecture.
        notation: "cell_string", "keras_json", "layer_list", "layer_string", "recurrent_cell" or
            "torch_text".
        **options: of the notation's reader.

    Returns:
        Layers or a graph.

    Raises:
        ValueError: the notation is unknown, or the text does not follow it.

    Example:
        >>> read_architecture('[{"width": 16}]', "layer_list", type="conv")[0].type
        'conv'
    """
    if notation not in NOTATIONS:
        raise ValueError(f"got notation {notation!r:.60}, expected one of {sorted(NOTATIONS)}")
    return NOTATIONS[notation](text, **options)


def _expect_gap(text: str, start: int, end: int) -> None:
    gap = text[start:end].strip(" \t\r\n,[]")
    if gap:
        raise ValueError(f"character {start}: got {gap!r:.60}, expected a layer such as C(64,3,1)")


def _number(text: str, at: int) -> int | float:
    text = text.strip()
    try:
        return int(text) if len(text) < 20 and text.lstrip("+-").isdigit() else float(text)
    except ValueError:
        raise ValueError(f"character {at}: got {text!r:.60}, expected a number") from None
