"""Axes: round ticks, and numbers as a reader likes them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_ROUND = (1, 2, 2.5, 5, 10)


class Scale(NamedTuple):
    """From values to places between `start` and `stop`.

    Attributes:
        low: value at `start`; positive on a logarithmic scale.
        high: value at `stop`.
        start: a place.
        stop: another.
        log: whether it is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value; values beyond the ends lie at the ends."""
        low, high = self.low, self.high
        if self.log:
            low, high = math.log(low), math.log(high)
            value = math.log(max(value, self.low))
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return self.start + share * (self.stop - self.start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values between the ends."""
        if self.log:
            return _log_ticks(self.low, self.high)
        return round_ticks(self.low, self.high, count)


def scale_of(
    values: Iterable[float], start: float, stop: float, *, log: bool = False, zero: bool = False
) -> Scale:
    """A scale that holds all finite values, with a little room, and 0 if asked for."""
    known = [float(v) for v in values if math.isfinite(v) and (v > 0 or not log)]
    low, high = (min(known), max(known)) if known else (1.0, 2.0)
    if log:
        room = (high / low) ** 0.05 if high > low else 1.2
        return Scale(low / room, high * room, start, stop, True)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    room = 0.04 * (high - low) or 0.5 * abs(high) or 0.5
    below = low if zero and low == 0 else low - room
    return Scale(below, high if zero and high == 0 else high + room, start, stop)


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2, 2.5 or 5 times a power of ten, between two ends."""
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * r for r in _ROUND if power * r >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1,), (1, 3), (1, 2, 5)):
        found = [r * 10.0**p for p in powers for r in parts if low <= r * 10.0**p <= high]
        if len(found) >= 3:
            return found
    return found if len(found) > 1 else round_ticks(low, high, 4)


def tick_labels(ticks: list[float]) -> list[str]:
    """The ticks, as short as tells them apart, with a real minus sign."""
    for digits in (4, 5, 6, 8, 10):
        names = [_short_number(value, digits).replace("-", "\u2212") for value in ticks]
        if len(set(names)) == len(names):
            break
    return names


def _short_number(value: float, digits: int) -> str:
    size = abs(value)
    if size >= 1e7 or 0 < size < 1e-3:
        return f"{value:.{digits - 1}g}"
    if size >= 1000 and value == round(value):
        return f"{value:,.0f}"
    return f"{value:,.{digits}g}" if size < 1000 else f"{value:,.{max(digits - 4, 1)}f}"


def number(value: object, digits: int = 3) -> str:
    """A number of a table: a count with thousands apart, else as many digits after the point."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "\u2013"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}".replace("-", "\u2212")
    if abs(value) >= 1e7:
        text = f"{value:.{digits}g}"
    else:
        text = f"{value:,.{digits if abs(value) < 100 else 1}f}"
        if value and not float(text.replace(",", "")):
            text = ("<" if value > 0 else ">-") + f"{10.0**-digits:.{digits}f}"
    return text.replace("-", "\u2212")
