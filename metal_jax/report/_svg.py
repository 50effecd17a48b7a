"""Elements of SVG and HTML as text; every text from the data goes through `escape`."""

from __future__ import annotations

import html
from typing import Any

# What HTML cannot hold, or what would turn the text around it (bidirectional overrides).
_REPLACED = {
    code: "\ufffd" for code in (*range(9), 11, *range(14, 32), 127, *range(0x202A, 0x202F))
}


def escape(text: object) -> str:
    """Text that a browser shows as it is, in an element or between quotes."""
    clean = str(text).translate(_REPLACED).encode("utf-8", "replace").decode("utf-8")
    return html.escape(clean, quote=True)


def tag(name: str, *content: str, **attributes: Any) -> str:
    """An element; content is markup, attribute values are escaped, `_` in names is `-`."""
    parts = [name]
    for key, value in attributes.items():
        if value is not None:
            parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(_plain(value))}"')
    return f"<{' '.join(parts)}>{''.join(content)}</{name}>"


def text(x: float, y: float, content: object, class_: str = "", **attributes: Any) -> str:
    """A text of a drawing."""
    return tag("text", escape(content), x=x, y=y, class_=class_ or None, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> str:
    """A line of a drawing."""
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: list[tuple[float, float]], class_: str) -> str:
    """A polyline; nothing for less than two points."""
    if len(points) < 2:
        return ""
    steps = "L".join(f"{_plain(x)} {_plain(y)}" for x, y in points)
    return tag("path", d=f"M{steps}", class_=class_)


def mark(kind: str, x: float, y: float, role: str, title: str = "") -> str:
    """A marker with a text that shows when it is pointed at."""
    note = tag("title", escape(title)) if title else ""
    class_ = f"mark {kind} {role}"
    if kind in ("dot", "ring"):
        return tag("circle", note, cx=x, cy=y, r=3.5, class_=class_)
    if kind == "tick":
        return tag("rect", note, x=x - 1.25, y=y - 6, width=2.5, height=12, class_=class_)
    points = " ".join(
        f"{_plain(x + a)},{_plain(y + b)}" for a, b in ((0, -5), (5, 0), (0, 5), (-5, 0))
    )
    return tag("polygon", note, points=points, class_=class_)


def short(label: str, most: int) -> str:
    """A label of at most so many characters: both ends of it, since families share a beginning."""
    if len(label) <= most:
        return label
    tail = (most - 1) // 2
    return label[: most - 1 - tail] + "\u2026" + label[len(label) - tail :]


def width_of(label: str, size: float = 12) -> float:
    """About how wide a text is drawn; there is no way to measure it here."""
    return size * sum(
        0.36 if c in "iljtf.,:;'|! " else 0.95 if c in "mwMW" else 0.74 if c.isupper() else 0.62
        for c in label
    )


def _plain(value: Any) -> Any:
    """Places to a tenth of a pixel: short, and the same on every machine."""
    if isinstance(value, float):
        return f"{value:.1f}".rstrip("0").rstrip(".") if abs(value) >= 0.05 else "0"
    return value
