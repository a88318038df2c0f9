"""`scripts/bench compare`: noise is no change, a fall is one, and what is no result is said so."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench.compare import compare
from bench.processes import BenchError
from generate import performance_table


def result(rows: dict[str, tuple[float, float]], environment: str = "here") -> str:
    """Figures with their spread to both sides."""
    return json.dumps(
        {
            "environment": environment,
            "rows": [
                {"what": name, "canned_over_this": figure, "canned_spread": [figure - noise, figure + noise]}
                for name, (figure, noise) in rows.items()
            ],
        }
    )


def compared(folder: Path, before: str, after: str) -> str:
    """What is printed; BenchError as `compare` raises it."""
    files = []
    for name, text in (("before.json", before), ("after.json", after)):
        files.append(folder / name)
        files[-1].write_text(text)
    printed = io.StringIO()
    compare(files[0], files[1], Console(file=printed, width=120))
    return printed.getvalue()


figures = st.floats(0.05, 1.0)


@given(figures, st.floats(-1, 1), st.floats(0.01, 0.04))
def test_two_runs_of_the_same_are_no_change(tmp_path_factory: pytest.TempPathFactory, figure: float, shift: float, noise: float) -> None:
    before, after = result({"validate": (figure, noise)}), result({"validate": (figure + shift * noise, noise)})
    assert "within noise" in compared(tmp_path_factory.getbasetemp(), before, after)


@given(figures, st.floats(0.1, 0.75))
def test_a_quarter_less_is_a_fall(tmp_path_factory: pytest.TempPathFactory, figure: float, left: float) -> None:
    noise = figure * 0.02
    with pytest.raises(BenchError, match="validate"):
        compared(tmp_path_factory.getbasetemp(), result({"validate": (figure, noise)}), result({"validate": (figure * left, noise)}))


def test_a_tenth_less_beyond_noise_is_told_and_no_failure(tmp_path: Path) -> None:
    printed = compared(
        tmp_path, result({"token": (0.5, 0.001), "ott": (0.5, 0.001)}), result({"token": (0.45, 0.001), "ott": (0.6, 0.001)})
    )
    assert "fell" in printed
    assert "rose" in printed


def test_a_row_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="Missing, or more than a fifth worse: ott"):
        compared(tmp_path, result({"token": (0.5, 0.01), "ott": (0.5, 0.01)}), result({"token": (0.5, 0.01)}))


def with_parts(tokens_bytes: float, rows: float) -> str:
    """A result whose writer differs by a hundredth from round to round."""
    records = {"what": "SQLite", "rows_per_second": rows, "rows_spread": [rows * 0.99, rows * 1.01]}
    parts = {"memory": {"tokens": 1000, "bytes_per_token": tokens_bytes}, "records": {"rows": [records]}}
    return json.dumps(json.loads(result({"token": (0.5, 0.01)})) | parts)


@pytest.mark.parametrize(("after", "worse"), [((190, 40_000), "Redis memory of a live token"), ((150, 30_000), "writer, SQLite store")])
def test_what_costs_more_or_does_less_in_another_part_is_a_failure(tmp_path: Path, after: tuple[float, float], worse: str) -> None:
    with pytest.raises(BenchError, match=worse):
        compared(tmp_path, with_parts(150, 40_000), with_parts(*after))
    with pytest.raises(BenchError, match=r"Redis memory of a live token.*writer, SQLite store"):
        compared(tmp_path, with_parts(150, 40_000), result({"token": (0.5, 0.01)}))


def test_what_costs_less_or_does_more_in_another_part_is_none(tmp_path: Path) -> None:
    printed = compared(tmp_path, with_parts(150, 40_000), with_parts(160, 60_000))
    assert "within noise" in printed
    assert "better" in printed
    assert "worse" not in printed


def test_other_machines_are_told(tmp_path: Path) -> None:
    rows = {"token": (0.5, 0.01)}
    assert "The environments differ" in compared(tmp_path, result(rows), result(rows, "there"))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rows": [{"what": "overload", "rate": 1}]}', '{"rows": 1}'])
def test_what_is_no_result_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BenchError, match=r"after\.json is no result of `scripts/bench --json`\."):
        compared(tmp_path, result({"token": (0.5, 0.01)}), text)


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"nowhere\.json cannot be read: No such file or directory\."):
        compare(tmp_path / "nowhere.json", tmp_path / "nowhere.json", Console())


def test_the_table_of_the_documentation_is_of_the_result_beside_it() -> None:
    page = performance_table.PAGE.read_text(encoding="utf-8")
    assert page == performance_table.render(), "docs/performance.md differs: run scripts/generate-docs"
