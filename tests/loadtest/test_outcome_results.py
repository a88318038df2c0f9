"""Results and baselines: what is wrong is no baseline, and what follows from one is as it would be written."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outcome import baseline
from outcome.results import Figures, Results, read_results, write_results
from outcome.run import RunError
from outcome.thresholds import read_thresholds

GOOD = Figures(rate=1000, own_rate=900, p50_ms=1, p99_ms=5, own_p99_ms=4, cpu_cores={"auth": 0.5})


def results(*repeats: Figures, row: str = "validate, closed") -> Results:
    return Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={"cores": 2}, rows={row: list(repeats)})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"wrong_share": 0.5}, "validate, closed: 50.00% of the answers were wrong."),
        ({"is_complete": False}, "validate, closed: a repeat was cut off."),
        ({"rate": 0}, "validate, closed: a repeat had no right answer."),
        ({"answered_share": 0.9}, "validate, closed: only 90.0% of what was offered was answered."),
    ],
)
def test_a_bogus_baseline_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    monkeypatch.setattr(baseline, "BASELINES", tmp_path)
    with pytest.raises(RunError, match=f"These results are no baseline. {sentence}"):
        baseline.keep(results(GOOD, GOOD.model_copy(update=change)), "here")
    assert list(tmp_path.iterdir()) == []


def test_a_baseline_has_results_a_page_and_gates(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(baseline, "BASELINES", tmp_path)
    kept = results(GOOD, GOOD.model_copy(update={"rate": 1200, "own_rate": 1100}), GOOD.model_copy(update={"rate": 800}))
    folder = baseline.keep(kept, "here")
    assert read_results(folder) == kept
    page = (folder / "BASELINE_REPORT.md").read_text()
    assert "| validate, closed | 1,000 (800-1,200) | 1.00 (1.00-1.00) | 5.00 (5.00-5.00) | 0.50 |  |" in page
    gates = read_thresholds(folder / "gates.toml")
    assert gates.endpoints["validate"].model_dump() == {"rate_at_least": 720, "p99_ms_at_most": 6}
    assert gates.wrong_share_at_most == 0
    assert baseline.names() == ["here"]


def test_a_generator_at_its_limit_is_told() -> None:
    assert "generator at its limit: a floor" in baseline.report(results(GOOD.model_copy(update={"is_generator_limit": True})), "here")


def test_a_baseline_of_another_place_is_not_written_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(baseline, "BASELINES", tmp_path)
    baseline.keep(results(GOOD), "here")
    with pytest.raises(RunError, match="The baseline here is of another environment"):
        baseline.keep(results(GOOD).model_copy(update={"environment": {"cores": 4}}), "here")
    with pytest.raises(RunError, match=r"'\.\./there' is no name for a baseline"):
        baseline.keep(results(GOOD), "../there")


def test_an_offered_rate_gives_no_gate() -> None:
    assert "rate_at_least" not in baseline.gates(results(GOOD, row="validate, open"), "here")


@pytest.mark.parametrize("name", baseline.names())
def test_what_follows_from_a_baseline_is_as_it_would_be_written(name: str) -> None:
    for file, text in baseline.derived(baseline.baseline(name), name).items():
        assert (baseline.BASELINES / name / file).read_text() == text, "run scripts/generate-docs"


def test_results_are_read_back_and_what_is_none_is_one_sentence(tmp_path: Path) -> None:
    file = write_results(results(GOOD), tmp_path)
    assert read_results(tmp_path) == read_results(file) == results(GOOD)
    file.write_text('{"rows": 1}')
    with pytest.raises(RunError, match="holds no results of run_all_tests: size: Field required"):
        read_results(file)
    with pytest.raises(RunError, match="cannot be read: No such file or directory"):
        read_results(tmp_path / "nowhere")
