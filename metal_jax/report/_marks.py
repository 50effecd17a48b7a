"""Parts of a text that stand out: which LFs were triggered where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metal_jax.report._blocks import Mark
from metal_jax.report._svg import escape, tag


def flat_marks(spans: Iterable[tuple[str, int, int]], length: int) -> list[Mark]:
    """Marks that do not overlap: where several LFs meet, one mark names them all.

    Args:
        spans: LF, where its part begins, where it has ended.
        length: of the text that is shown; what lies beyond is cut off.

    Returns:
        The marks in order.

    Example:
        >>> flat_marks([("a", 0, 4), ("b", 2, 9)], 6)
        [Mark(start=0, stop=2, label='a'), Mark(start=2, stop=4, label='a, b'), \
Mark(start=4, stop=6, label='b')]
    """
    inside = [(name, max(a, 0), min(b, length)) for name, a, b in spans]
    ends = sorted({end for _, a, b in inside if a < b for end in (a, b)})
    marks = []
    for start, stop in zip(ends, ends[1:], strict=False):
        names = dict.fromkeys(name for name, a, b in inside if a <= start and stop <= b)
        if names:
            marks.append(Mark(start, stop, ", ".join(names)))
    return marks


def marked_text(text: str, marks: Sequence[Mark]) -> str:
    """Markup of a text with its marks, all of it escaped."""
    parts, at = [], 0
    for mark in marks:
        parts.append(escape(text[at : mark.start]))
        parts.append(tag("mark", escape(text[mark.start : mark.stop]), title=mark.label))
        at = mark.stop
    return "".join([*parts, escape(text[at:])])


def script_offset(text: str, at: int) -> int:
    """Where a place of a text is as scripts of a browser count, in units of UTF-16."""
    return len(text[:at].encode("utf-16-le", "surrogatepass")) // 2
