"""Charts as SVG within a figure: lines over time, and the percentiles of each endpoint. Values in, text out.

A chart is as wide as its page and its letters keep their size: places are percentages, and only the lines themselves are stretched.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from outcome import scale, words
from outcome.findings import Row
from outcome.series import Line, TimeChart

COLOURS = 6
FEW = 60
"""Up to so many points of a line are seen as dots; of more, each appears where the pointer is."""
GAP = 3.5
"""Points that lie so many times further apart than is usual are not joined: nothing was seen between them."""
ROW_PIXELS = 48
PERCENTILES = ("p50", "p90", "p99", "p99.9", "longest")


def time_chart(chart: TimeChart) -> str:
    """Lines over time, with a legend above."""
    axis = scale.ticks(max((value for line in chart.lines for value in line.values if value is not None), default=0.0), chart.has_steps)
    keys = [(f"line {look}", line.name) for look, line in _looks(chart.lines)]
    if chart.shaded_until:
        keys.append(("area", "warm-up, not counted"))
    drawn = [
        f'<rect class="area" width="{_percent(chart.shaded_until / chart.until)}" height="100%"/>' if chart.shaded_until else "",
        *_grid(axis, chart.until),
        '<svg width="100%" height="100%" viewBox="0 0 1000 1000" preserveAspectRatio="none">',
        *(f'<path class="{look}" d="{_path(chart, line, axis[-1])}"/>' for look, line in _looks(chart.lines)),
        "</svg>",
        *(dot for look, line in _looks(chart.lines) for dot in _dots(chart, line, look, axis[-1])),
    ]
    seen = "; ".join(_range(line) for line in chart.lines)
    return _figure(
        chart.title, chart.unit, keys, f"{chart.title} over time in {chart.unit}. {seen}.", drawn, 'class="plot time"', chart.note
    )


def percentile_chart(rows: Sequence[Row]) -> str:
    """A line for each endpoint that was answered, from its median to its longest answer; nothing where there is none."""
    times = [(row, (row.p50, row.p90, row.p99, row.p999, row.longest)) for row in rows]
    known = [(row, [time for time in each if time is not None]) for row, each in times if None not in each]
    if not known:
        return ""
    axis = scale.decades(min(each[0] for _, each in known), max(each[-1] for _, each in known))
    height = ROW_PIXELS * len(known)
    drawn = [_upright(_percent(scale.on_logarithm(tick, axis)), _tick(tick)) for tick in scale.marked(axis)]
    for number, (row, each) in enumerate(known):
        y = number * ROW_PIXELS + 34
        places = [_percent(scale.on_logarithm(time, axis)) for time in each]
        longest = f'<tspan class="quiet" dx="8">longest {words.milliseconds(row.longest)}</tspan>'
        drawn.append(f'<text class="name" x="4" y="{y - 14}">{escape(row.name)}{longest}</text>')
        drawn.append(f'<line class="span" x1="{places[0]}" x2="{places[-1]}" y1="{y}" y2="{y}"/>')
        # The shorter times are drawn last: where marks meet, the median is what is seen.
        for mark in reversed(range(len(PERCENTILES))):
            tip = f"<title>{escape(row.name)}, {PERCENTILES[mark]}: {words.milliseconds(each[mark])} ms</title>"
            drawn.append(f'<circle class="mark m{mark}" cx="{places[mark]}" cy="{y}" r="5">{tip}</circle>')
    said = "; ".join(f"{row.name}: p50 {words.milliseconds(row.p50)}, longest {words.milliseconds(row.longest)}" for row, _ in known)
    keys = [(f"mark m{number}", name) for number, name in enumerate(PERCENTILES)]
    note = "The axis is logarithmic: equal distances are equal factors."
    label = f"Percentiles of the right answers by endpoint in ms. {said}."
    return _figure("Percentiles", "ms", keys, label, drawn, f'class="plot wide" height="{height}"', note)


def _figure(title: str, unit: str, keys: list[tuple[str, str]], label: str, drawn: Sequence[str], how: str, note: str) -> str:
    legend = "".join(f'<li><i class="key {look}"></i>{escape(name)}</li>' for look, name in keys)
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<figure><figcaption>{escape(title)} <span class="unit">{escape(unit)}</span></figcaption><ul class="legend">{legend}</ul>'
        f'<svg {how} role="img" aria-label="{escape(label)}">{"".join(drawn)}</svg>{below}</figure>'
    )


def _grid(axis: Sequence[float], until: float) -> Iterator[str]:
    for tick in axis:
        y = _percent(1 - tick / axis[-1])
        yield f'<line class="grid" x2="100%" y1="{y}" y2="{y}"/><text class="y" x="-8" y="{y}" dy="0.35em">{_tick(tick)}</text>'
    for tick in scale.clock_ticks(until):
        yield _upright(_percent(tick / until), words.clock(tick))


def _upright(x: str, text: str) -> str:
    return f'<line class="grid" x1="{x}" x2="{x}" y2="100%"/><text class="x" x="{x}" y="100%" dy="1.5em">{text}</text>'


def _looks(lines: Sequence[Line]) -> Iterator[tuple[str, Line]]:
    """Each line and its classes: a dashed one is grey, the others take the colours in turn."""
    taken = 0
    for line in lines:
        yield ("dashed" if line.is_dashed else f"c{taken % COLOURS + 1}"), line
        taken += not line.is_dashed


def _path(chart: TimeChart, line: Line, top: float) -> str:
    text: list[str] = []
    longest_step, last = GAP * _usual_step(chart.at), None
    for at, value in zip(chart.at, line.values, strict=True):
        if value is not None:
            x, y = f"{at / chart.until * 1000:.1f}", f"{(1 - value / top) * 1000:.1f}"
            is_joined = last is not None and at - last <= longest_step
            text.append((f"H{x}V{y}" if chart.has_steps else f"L{x} {y}") if is_joined else f"M{x} {y}")
        last = None if value is None else at
    return "".join(text)


def _dots(chart: TimeChart, line: Line, look: str, top: float) -> Iterator[str]:
    few = len(chart.at) <= FEW
    for number, (at, value) in enumerate(zip(chart.at, line.values, strict=True)):
        if value is None:
            continue
        # A line has two ends; a value between two unknown ones would not be seen.
        is_alone = all(each is None for each in (*line.values[max(0, number - 1) : number], *line.values[number + 1 : number + 2]))
        size, seen = ("2.5", "") if few or is_alone else ("4", " far")
        place = f'cx="{_percent(at / chart.until)}" cy="{_percent(1 - value / top)}" r="{size}"'
        tip = f"{line.name} at {words.clock(at)}: {_number(value)} {chart.unit}"
        yield f'<circle class="{look}{seen}" {place}><title>{escape(tip)}</title></circle>'


def _usual_step(at: Sequence[float]) -> float:
    return statistics.median(later - sooner for sooner, later in pairwise(at)) if len(at) > 1 else 1.0


def _range(line: Line) -> str:
    known = [value for value in line.values if value is not None]
    return f"{line.name}: {_number(min(known))} to {_number(max(known))}" if known else f"{line.name}: not known"


def _percent(part: float) -> str:
    return f"{part * 100:.2f}%"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def _tick(value: float) -> str:
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value:,.0f}" if value >= 1000 else f"{value:g}"
