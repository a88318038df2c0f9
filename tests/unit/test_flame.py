"""The flame graph: widths are amounts, names are escaped, and what is too narrow is left out."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

from authsvc.commands import flame
from authsvc.profiling import read

SVG = "{http://www.w3.org/2000/svg}"


def boxes(stacks: dict[str, int]) -> dict[str, tuple[float, float, int]]:
    """Left edge, width and bottom of each box by its name."""
    drawn = ElementTree.fromstring(flame.draw(Counter(stacks), "title", "us"))
    found = {}
    for group in drawn.iter(f"{SVG}g"):
        title, rect = group.find(f"{SVG}title"), group.find(f"{SVG}rect")
        assert title is not None
        assert title.text
        assert rect is not None
        found[title.text.partition(":")[0]] = float(rect.attrib["x"]), float(rect.attrib["width"]), int(rect.attrib["y"])
    return found


def test_a_box_is_as_wide_as_its_share_and_stands_on_its_caller() -> None:
    found = boxes({"main;left": 300, "main;right": 100})
    assert found["main"][:2] == (0, flame.WIDTH - 0.5)
    assert found["left"][:2] == (0, flame.WIDTH * 0.75 - 0.5)
    assert found["right"][:2] == (flame.WIDTH * 0.75, flame.WIDTH * 0.25 - 0.5)
    assert found["left"][2] == found["right"][2] == found["main"][2] - flame.LINE


def test_what_is_too_narrow_is_left_out() -> None:
    assert set(boxes({"wide": 1_000_000, "narrow": 1})) == {"wide"}


def test_names_are_text() -> None:
    assert set(boxes({"module.<lambda>": 1, 'quoted "&"': 1})) == {"module.<lambda>", 'quoted "&"'}


def test_amounts_of_one_stack_are_added_up() -> None:
    assert read("a;b 1\na;b 2\nwith a space 3\n") == {"a;b": 3, "with a space": 3}
