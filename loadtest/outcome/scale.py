"""The axes of a chart: where its ticks are, and where on it a value lies."""

from __future__ import annotations

import math
from collections.abc import Sequence

_CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600)
_ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
MOST_TICKS = 6


def ticks(most: float, is_whole: bool = False) -> list[float]:
    """Round values from zero to the first that is no less than `most`; whole ones where halves mean nothing."""
    if most <= 0:
        most = 1.0
    raw = most / (MOST_TICKS - 1)
    size = 10.0 ** math.floor(math.log10(raw))
    # A hair below, so that rounding leaves no value without a step.
    step = next(part * size for part in _ROUND if part * size >= raw * (1 - 1e-9))
    if is_whole:
        step = float(math.ceil(step))
    return [round(number * step, 12) for number in range(math.ceil(most / step - 1e-9) + 1)]


def clock_ticks(until: float) -> list[float]:
    """Seconds from zero up to `until`, at steps that people count time in."""
    step = next((step for step in _CLOCK if until / step < MOST_TICKS), math.ceil(until / MOST_TICKS / 3_600) * 3_600)
    return [float(at) for at in range(0, math.floor(until) + 1, step)]


def decades(least: float, most: float) -> list[float]:
    """For a logarithmic axis: the values of 1, 2, 5, 10, ... that enclose both."""
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    found = [round(part * 10.0**power, 9) for power in range(low, high + 1) for part in (1, 2, 5)]
    first = max((number for number, tick in enumerate(found) if tick <= least), default=0)
    last = next((number for number, tick in enumerate(found) if tick >= most and number > first), len(found) - 1)
    return found[first : last + 1]


def marked(axis: Sequence[float]) -> list[float]:
    """The ticks of a logarithmic axis that are written: the powers of ten, where there are enough of them."""
    tens = [tick for tick in axis if math.log10(tick).is_integer()]
    return tens if len(tens) > 2 else list(axis)


def on_logarithm(value: float, axis: Sequence[float]) -> float:
    """The part (0 to 1) of a logarithmic axis that lies below a value."""
    return math.log(value / axis[0]) / math.log(axis[-1] / axis[0])
