"""docs/failure-modes.md says of each fault what it costs, and every cell's note names tests that the suite runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from authsvc.live.history import WITNESS_MS

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "failure-modes.md").read_text(encoding="utf-8")
COLUMNS = ["fault", "lost with `always`", "lost with `everysec`", "lost on power loss", "away", "a client sees", "what to do"]
NOTES = dict(re.findall(r"^\[\^([a-z-]+)\]: (.*)$", PAGE, re.M))


def rows() -> Iterator[list[str]]:
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and cells != COLUMNS:
            yield cells


def marks(text: str) -> set[str]:
    return set(re.findall(r"\[\^([a-z-]+)\](?!:)", text))


def suite(file: str) -> set[str]:
    """The tests that pytest finds in a file below `tests/`."""
    assert re.fullmatch(r"test_\w+\.py", Path(file).name), file
    module = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {found.name for found in module.body if isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_fault_says_everything_and_names_a_test_or_why_there_is_none() -> None:
    found = list(rows())
    assert len(found) > 20
    for cells in found:
        assert len(cells) == len(COLUMNS), cells
        assert all(cells), cells
        assert marks(" ".join(cells)) or "no test" in " ".join(cells), cells


def test_every_note_is_used_and_names_tests_of_the_suite() -> None:
    assert marks(PAGE) == NOTES.keys()
    for name, note in NOTES.items():
        files = re.findall(r"`([\w/]+\.py)`: ((?:`test_\w+`(?:, )?)+)", note)
        assert "; ".join(f"`{file}`: {tests}" for file, tests in files) == note, name
        for file, tests in files:
            assert set(re.findall(r"`(test_\w+)`", tests)) <= suite(file), (name, file)


def test_times_are_those_of_the_code() -> None:
    [told] = set(re.findall(r"not been kept for (\d+) s", PAGE))
    assert int(told) * 1000 == WITNESS_MS
