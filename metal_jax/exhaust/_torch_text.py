"""Printed PyTorch modules, read by a grammar.

    module   = [count "x"] NAME "(" { child | argument | "," } ")"
    child    = "(" key "):" module
    argument = [NAME "="] value
    value    = number | text | NAME | "(" [value {"," value}] ")" | "[" ... "]" | NAME "(" ... ")"

The reader keeps its own stack, so nesting costs no Python recursion.
"""

from __future__ import annotations

import re
from typing import Any

from metal_jax.exhaust._architecture import Layer

MAX_NESTING = 100
MAX_LAYERS = 100_000

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<child>\((?P<key>[^()\s:=,]*)\):)
    | (?P<count>\d+)[ ]x[ ](?=[A-Za-z_])
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<name>[^\W\d][\w.]*(?:-[\w.]+)*)
    | '(?P<single>[^']*)' | "(?P<double>[^"]*)"
    | (?P<mark>[()\[\],=])
    | (?P<other>\S)
    )""",
    re.VERBOSE,
)
_WORDS = {"True": True, "False": False, "None": None}

#: Names of the arguments that PyTorch prints without one.
_POSITIONAL = (
    (re.compile(r"(Lazy)?Conv(Transpose)?[123]d"), ("in_channels", "out_channels")),
    (re.compile(r"(Lazy)?(Sync)?(Batch|Instance)Norm([123]d)?"), ("num_features",)),
    (re.compile(r"GroupNorm"), ("num_groups", "num_channels")),
    (re.compile(r"LayerNorm|RMSNorm"), ("normalized_shape",)),
    (re.compile(r"Embedding(Bag)?"), ("num_embeddings", "embedding_dim")),
    (re.compile(r"(RNN|LSTM|GRU)(Cell)?"), ("input_size", "hidden_size")),
)


def read_torch_text(text: str) -> tuple[Layer, ...]:
    """Read `print(model)` of PyTorch, however nested and on however many lines.

    Modules with children are containers: their children follow each other, named by their path
    ("features.0"), and a container with arguments of its own comes as a layer before them.
    `3 x Block(...)` is written out three times.

    Args:
        text: what was printed.

    Returns:
        The layers in the order of printing.

    Raises:
        ValueError: what was found at which character, and what was expected; or nested more than
            `MAX_NESTING` deep.

    Example:
        >>> for layer in read_torch_text("Net( (0): Conv2d(3, 8, bias=True) (1): ReLU() )"):
        ...     layer.name, layer.type, layer.hyperparameters
        ('0', 'Conv2d', {'in_channels': 3, 'out_channels': 8, 'bias': True})
        ('1', 'ReLU', {})
    """
    return _Parser(text).module()


class _Open:
    """A module whose bracket is open."""

    def __init__(self, type_: str, path: str, count: int):
        self.type, self.path, self.count = type_, path, count
        self.hyperparameters: dict[str, Any] = {}
        self.children: list[Layer] = []
        self.is_container = False
        self.num_positional = 0

    def layers(self) -> list[Layer]:
        found = self.children
        if not self.is_container or self.hyperparameters:
            found = [Layer(self.type, self.hyperparameters, self.path), *found]
        if len(found) * self.count > MAX_LAYERS:
            raise ValueError(f"more than {MAX_LAYERS} layers")
        return found * self.count

    def add(self, name: str | None, value: Any) -> None:
        if name is None:
            names = next((n for p, n in _POSITIONAL if p.fullmatch(self.type)), ())
            index = self.num_positional
            name = names[index] if index < len(names) else str(index)
            self.num_positional += 1
        if name in self.hyperparameters:
            raise ValueError(f"{self.path or self.type}: argument {name!r:.60} is given twice")
        self.hyperparameters[name] = value


class _Parser:
    def __init__(self, text: str):
        self.text, self.at = text, 0
        self.token: re.Match[str] | None = None
        self.advance()

    def advance(self) -> re.Match[str] | None:
        """Move to the next token; return the one left behind."""
        left, self.token = self.token, _TOKEN.match(self.text, self.at)
        if self.token is not None:
            self.at = self.token.end()
        return left

    def peek(self, kind: str, mark: str | None = None) -> bool:
        found = self.token[kind] if self.token is not None else None
        return found is not None and (mark is None or found == mark)

    def expect(self, kind: str, wanted: str, mark: str | None = None) -> str:
        if not self.peek(kind, mark):
            raise self.error(wanted)
        token = self.advance()
        assert token is not None
        return token[kind]

    def error(self, wanted: str) -> ValueError:
        if self.token is None:
            return ValueError(f"the text ends at character {len(self.text)}, expected {wanted}")
        at = self.token.start(self.token.lastgroup or 0)
        return ValueError(f"character {at}: got {self.text[at : at + 20]!r}, expected {wanted}")

    def open(self, path: str) -> _Open:
        count = int(self.expect("count", "a count")[:6]) if self.peek("count") else 1
        module = _Open(self.expect("name", "a module's name"), path, count)
        self.expect("mark", "'('", "(")
        return module

    def module(self) -> tuple[Layer, ...]:
        stack = [self.open("")]
        while True:
            top = stack[-1]
            if self.peek("child"):
                top.is_container = True
                token = self.advance()
                assert token is not None
                path = f"{top.path}.{token['key']}" if top.path else token["key"]
                stack.append(self.open(path))
                if len(stack) > MAX_NESTING:
                    raise ValueError(f"modules nested more than {MAX_NESTING} deep")
            elif self.peek("mark", ")"):
                self.advance()
                closed = stack.pop().layers()
                if not stack:
                    break
                stack[-1].children += closed
                if len(stack[-1].children) > MAX_LAYERS:
                    raise ValueError(f"more than {MAX_LAYERS} layers")
            elif self.peek("mark", ","):
                self.advance()
            else:
                self.argument(top)
        if self.token is not None:
            raise self.error("the end of the text")
        return tuple(closed)

    def argument(self, module: _Open) -> None:
        name = None
        if self.peek("name") and self.text[self.at : self.at + 1] == "=":
            name = self.expect("name", "a name")
            self.advance()
        module.add(name, self.value())

    def value(self) -> Any:
        """A value; brackets, and calls such as `Size([3])`, become lists."""
        stack: list[list[Any]] = [[]]
        while True:
            if self.peek("mark", "(") or self.peek("mark", "["):
                self.advance()
                stack.append([])
                if len(stack) > MAX_NESTING:
                    raise ValueError(f"values nested more than {MAX_NESTING} deep")
            elif len(stack) > 1 and (self.peek("mark", ")") or self.peek("mark", "]")):
                self.advance()
                inner = stack.pop()
                stack[-1].append(inner)
            elif len(stack) > 1 and (self.peek("mark", ",") or self.peek("mark", "=")):
                self.advance()
                continue
            else:
                stack[-1].append(self.atom())
                if self.peek("mark", "(") or (len(stack) == 1 and self.peek("mark", "[")):
                    continue
            if len(stack) == 1:
                found = stack[0]
                return found[0] if len(found) == 1 else found

    def atom(self) -> Any:
        if self.peek("number"):
            text = self.expect("number", "a number")
            if len(text) < 20 and text.lstrip("+-").isdigit():
                return int(text)
            return float(text)
        if self.peek("name"):
            name = self.expect("name", "a name")
            return _WORDS.get(name, name)
        for quoted in ("single", "double"):
            if self.peek(quoted):
                return self.expect(quoted, "a text")
        raise self.error("a value")
