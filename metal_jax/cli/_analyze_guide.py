"""The part of `metal-jax analyze` that says what to do next: as JSON, and printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.text import Text

from metal_jax.cli._common import plain_table, printable
from metal_jax.cli._guide import Guide

if TYPE_CHECKING:
    from metal_jax.labeling import VoteFile

_MOST_ROWS = 20
_MOST_TEXT = 300


def guide_records(guide: Guide, file: VoteFile, probs: np.ndarray, num_next: int) -> dict[str, Any]:
    """What was found, as plain JSON; None where it was not looked for."""
    return {
        "leave_one_out": _without(guide, file),
        "dependencies": None
        if guide.dependencies is None
        else [
            {**pair._asdict(), "lfs": list(pair.lfs), "names": list(pair.names)}
            for pair in guide.dependencies
        ],
        "next_items": _next_items(guide, file, probs, num_next) if num_next else None,
    }


def _without(guide: Guide, file: VoteFile) -> dict[str, Any] | None:
    from metal_jax.cli import _votes

    found = guide.without
    if found is None:
        return None
    fields = ("changed", "moved", "uncovered", "accuracy_without")
    columns = [getattr(found, field).tolist() for field in fields]
    lfs = [
        {"name": name, **dict(zip(fields, values, strict=True))}
        for name, *values in zip(_votes.lf_names(file), *columns, strict=True)
    ]
    return {"accuracy": found.accuracy, "lfs": lfs}


def _next_items(guide: Guide, file: VoteFile, probs: np.ndarray, number: int) -> dict[str, Any]:
    from metal_jax import labeling
    from metal_jax.cli import _votes
    from metal_jax.report import bare_items

    names, nodes = _votes.lf_names(file), _votes.node_names(file.tree)
    leaves = _votes.leaf_names(file.tree)

    def item(row: int) -> dict[str, Any]:
        name = str(row) if file.items is None else file.items[row]
        return {"item": name, "text": None if guide.texts is None else guide.texts[row]}

    contested = [
        {
            **item(row),
            "probs": dict(zip(leaves, probs[row].astype(float).tolist(), strict=True)),
            "votes": {names[j]: nodes[v] for j, v in enumerate(file.votes[row]) if v >= 0},
            "spans": [
                {"lf": names[j], "start": span.start, "stop": span.stop}
                for j, span in guide.spans.get(row, ())
            ],
        }
        for row in labeling.contested_items(
            file.votes, file.tree, number, probabilities=probs, features=guide.texts
        ).tolist()
    ]
    uncovered = [
        {**item(row), "alike": alike} for row, alike in bare_items(file.votes, guide.texts, number)
    ]
    return {"contested": contested, "uncovered": uncovered}


def print_guide(console: Console, about: dict[str, Any]) -> None:
    """Print the sections that were asked for."""
    if about["leave_one_out"] is not None:
        _print_without(console, about["leave_one_out"])
    pairs = about["dependencies"]
    if pairs:
        table = plain_table(
            ["LFs that depend on each other"], ["together", "expected", "agree", "expected"]
        )
        for pair in pairs[:_MOST_ROWS]:
            expected = pair["expected_together"], pair["expected_agree"]
            table.add_row(
                ", ".join(pair["names"]),
                f"{pair['together']:,}",
                f"{expected[0]:,.0f}",
                f"{pair['agree']:,}",
                f"{expected[1]:,.0f}",
            )
        table.caption = "expected: if they were independent given the label"
        console.print(table)
        _print_rest(console, pairs)
    elif pairs is not None:
        console.print("LFs that depend on each other beyond their labels: none")
    if about["next_items"] is not None:
        _print_items(console, about["next_items"])


def _print_without(console: Console, found: dict[str, Any]) -> None:
    judged = found["accuracy"] == found["accuracy"]
    headers = ["labels changed", "left bare", *(["accuracy by gold"] if judged else [])]
    table = plain_table(["without"], headers)
    if judged:
        table.caption = f"accuracy by gold with all LFs: {found['accuracy']:.3f}"
    rows = sorted(found["lfs"], key=lambda row: -row["moved"])
    for row in rows[:_MOST_ROWS]:
        by_gold = [f"{row['accuracy_without']:.3f}"] if judged else []
        table.add_row(row["name"], f"{row['changed']:.3f}", f"{row['uncovered']:,}", *by_gold)
    console.print(table)
    _print_rest(console, rows)


def _print_rest(console: Console, rows: list[Any]) -> None:
    if len(rows) > _MOST_ROWS:
        console.print(f"... and {len(rows) - _MOST_ROWS} more (--json has all)")


def _print_items(console: Console, found: dict[str, Any]) -> None:
    for kind, title in (
        ("contested", "items to look at next, on which LFs disagree"),
        ("uncovered", "items to look at next, that no LF votes on"),
    ):
        if found[kind]:
            console.print(f"{title}:")
        for item in found[kind]:
            console.print("  " + printable(f"{item['item']}{_aside(item)}"))
            if item["text"]:
                console.print(_shown_text(item))


def _aside(item: dict[str, Any]) -> str:
    if "alike" in item:
        return f" (stands for {item['alike']:,})" if item["alike"] > 1 else ""
    best = sorted(item["probs"].items(), key=lambda pair: -pair[1])[:2]
    probs = ", ".join(f"{leaf} {p:.2f}" for leaf, p in best)
    return f": {probs}; " + ", ".join(f"{lf} {vote}" for lf, vote in item["votes"].items())


def _shown_text(item: dict[str, Any]) -> Text:
    """The text in one line, what made LFs vote underlined."""
    text = Text("    " + printable(item["text"][:_MOST_TEXT]))
    for span in item.get("spans", ()):
        text.stylize("underline", span["start"] + 4, min(span["stop"], _MOST_TEXT) + 4)
    return text
