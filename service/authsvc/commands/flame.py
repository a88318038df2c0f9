"""A flame graph: collapsed stacks drawn as one SVG page that needs nothing else; each box says its share when pointed at."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

WIDTH, LINE = 1200, 17
"""Of the picture, and of one row of boxes, in pixels."""
LEAST = 0.4
"""Boxes narrower than this many pixels are left out."""
LETTER = 6.6
COLOURS = ("#f2a65a", "#eec170", "#f58549", "#e8a87c", "#f4b860")


@dataclass
class Box:
    """A frame with all that was called from it."""

    amount: int = 0
    above: dict[str, Box] = field(default_factory=dict)


def draw(stacks: Counter[str], title: str, unit: str) -> str:
    """The picture, the outermost frame at the bottom; widths are amounts, in this unit."""
    root = Box(stacks.total())
    for stack, amount in stacks.items():
        box = root
        for frame in stack.split(";"):
            box = box.above.setdefault(frame, Box())
            box.amount += amount
    shapes: list[str] = []
    height = (_depth(root) + 2) * LINE
    scale = WIDTH / max(root.amount, 1)

    def place(box: Box, left: float, bottom: int) -> None:
        for name, each in sorted(box.above.items()):
            width = each.amount * scale
            if width >= LEAST:
                share = f"{name}: {each.amount:,} {unit}, {each.amount / root.amount:.1%}"
                shapes.append(_shape(name, share, left, bottom, width))
                place(each, left, bottom - LINE)
            left += width

    place(root, 0, height - LINE)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="11">'
    words = f'<text x="4" y="12">{escape(f"{title}: {root.amount:,} {unit}")}</text>'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fffdf7"/>', words, *shapes, "</svg>"]) + "\n"


def _depth(box: Box) -> int:
    return 1 + max((_depth(each) for each in box.above.values()), default=0)


def _shape(name: str, share: str, left: float, bottom: int, width: float) -> str:
    letters = int((width - 4) / LETTER)
    label = f'<text x="{left + 2:.1f}" y="{bottom + 12}">{escape(name[-letters:])}</text>' if letters >= 3 else ""
    colour = COLOURS[sum(name.encode()) % len(COLOURS)]
    box = f'<rect x="{left:.1f}" y="{bottom}" width="{max(width - 0.5, 0.3):.1f}" height="{LINE - 1}" fill="{colour}"/>'
    return f"<g><title>{escape(share)}</title>{box}{label}</g>"
