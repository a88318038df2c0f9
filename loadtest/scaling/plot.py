"""Plots as SVG files that stand beside a page of Markdown: lines over a common axis, with their names at their ends."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from outcome import scale

WIDTH, HEIGHT = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 110, 34, 30
COLOURS = ("#0072b2", "#d55e00", "#009270", "#b65390", "#8a6d00", "#3b3f8f", "#b00020")
GREY = "#5a6570"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#3f4850}.title{font-weight:600;font-size:13px;fill:#1d2329}"
    "line{stroke:#d9dee3}path{fill:none;stroke-width:1.75;stroke-linejoin:round}.dashed{stroke-dasharray:6 4}"
)


class Curve(NamedTuple):
    """A line; None where its value is not known, which the line passes over."""

    name: str
    values: Sequence[float | None]
    is_dashed: bool = False
    has_steps: bool = False
    """Whether a value holds until the next."""


class Panel(NamedTuple):
    """Lines over the same places of an axis from zero."""

    title: str
    at: Sequence[float]
    ticks: Sequence[float]
    unit: str
    """Of the axis below."""
    curves: Sequence[Curve]


def draw(panels: Sequence[Panel]) -> str:
    """Panels one below the other; it needs no other file and has a white ground, so that it is read on a dark page, too."""
    height = HEIGHT * len(panels)
    drawn = "".join(f'<g transform="translate(0 {HEIGHT * number})">{_panel(panel)}</g>' for number, panel in enumerate(panels))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
        f'<style>{STYLE}</style><rect width="100%" height="100%" fill="#fff"/>{drawn}</svg>\n'
    )


def _panel(panel: Panel) -> str:
    most = max((value for curve in panel.curves for value in curve.values if value is not None), default=0.0)
    axis = scale.ticks(most)
    right, bottom, until = WIDTH - RIGHT, HEIGHT - BOTTOM, max(*panel.ticks, *panel.at)

    def x(at: float) -> float:
        return round(LEFT + at / until * (right - LEFT), 1)

    def y(value: float) -> float:
        return round(bottom - value / axis[-1] * (bottom - TOP), 1)

    parts = [f'<text class="title" x="{LEFT}" y="18">{escape(panel.title)}</text>']
    for tick in axis:
        parts.append(f'<line x1="{LEFT}" x2="{right}" y1="{y(tick)}" y2="{y(tick)}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y(tick) + 4}" text-anchor="end">{tick:,g}</text>')
    below = f'y="{bottom + 18}" text-anchor="middle"'
    parts += [f'<text x="{x(tick)}" {below}>{tick:g} {escape(panel.unit)}</text>' for tick in panel.ticks]
    names: list[tuple[float, str, str]] = []
    for curve, colour in zip(panel.curves, _colours(panel.curves), strict=True):
        known = [(x(at), y(value)) for at, value in zip(panel.at, curve.values, strict=True) if value is not None]
        if known:
            look = ' class="dashed"' if curve.is_dashed else ""
            parts.append(f'<path{look} stroke="{colour}" d="{_path(known, curve.has_steps)}"/>')
            names.append((known[-1][1], colour, curve.name))
    place = 0.0
    for end, colour, name in sorted(names):
        # Where lines end close to each other, their names stand below each other in the lines' order.
        place = max(end + 4, place + 14)
        parts.append(f'<text x="{right + 6}" y="{place:.1f}" style="fill:{colour}">{escape(name)}</text>')
    return "".join(parts)


def _path(points: Sequence[tuple[float, float]], has_steps: bool) -> str:
    first, *rest = points
    return f"M{first[0]} {first[1]}" + "".join(f"H{x}V{y}" if has_steps else f"L{x} {y}" for x, y in rest)


def _colours(curves: Sequence[Curve]) -> Iterator[str]:
    """A dashed line is grey, the others take the colours in turn."""
    taken = 0
    for curve in curves:
        yield GREY if curve.is_dashed else COLOURS[taken % len(COLOURS)]
        taken += not curve.is_dashed
