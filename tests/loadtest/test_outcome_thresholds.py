"""Gates: each holds or not by its own figure, and a run that gave nothing holds none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from outcome.latency import bucket
from outcome.plan import Plan
from outcome.run import Endpoint, Point, Run, RunError
from outcome.thresholds import PROFILES, Gate, Thresholds, judge, read_thresholds

SLOW, QUICK = bucket(20), bucket(1)


def run(endpoint: str = "validate", arrival: str = "closed", *, quick: int = 1000, slow: int = 0, wrong: int = 0, **given: Any) -> Run:
    """A run of ten seconds."""
    plan = Plan(endpoint=endpoint, arrival=arrival, seconds=12, warm_up_seconds=2, rate=100)  # type: ignore[arg-type]
    times = {number: count for number, count in ((QUICK, quick), (SLOW, slow)) if count}
    kinds = {"500 server_error": wrong} if wrong else {}
    endpoints = {"validate": Endpoint(requests=quick + slow + wrong, wrong=kinds, times=times)}
    points = [Point(at_seconds=second, offered=100 if arrival == "open" else None) for second in range(1, 13)]
    known = {"name": "r", "started": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 10, "end": "complete", "endpoints": endpoints}
    return Run(plan=plan, points=points, **(known | given))


def missed(found: Run, **gate: float) -> list[str]:
    return [each.what for each in judge(found, Thresholds(endpoints={"validate": Gate(**gate)})) if not each.held]


def test_a_rate_is_judged_of_right_answers() -> None:
    assert missed(run(), rate_at_least=100) == []
    assert missed(run(), rate_at_least=101) == ["validate: rate"]
    assert missed(run(wrong=1000), rate_at_least=101) == ["wrong answers", "validate: rate"]


@pytest.mark.parametrize(("endpoint", "arrival"), [("validate", "open"), ("mix", "closed"), ("revoke", "closed")])
def test_a_rate_that_was_offered_or_shared_is_no_capacity(endpoint: str, arrival: str) -> None:
    assert missed(run(endpoint, arrival), rate_at_least=1_000_000) == []


def test_a_mix_is_judged_as_a_whole() -> None:
    gates = Thresholds(endpoints={"mix": Gate(rate_at_least=101, p99_ms_at_most=0.5)})
    assert [each.what for each in judge(run("mix"), gates) if not each.held] == ["mix: rate", "mix: p99"]


def test_a_p99_is_judged_within_its_bucket() -> None:
    assert missed(run(quick=990, slow=10), p99_ms_at_most=1.03) == []
    assert missed(run(quick=989, slow=11), p99_ms_at_most=10) == ["validate: p99"]
    assert missed(run(quick=989, slow=11), p99_ms_at_most=20.4) == []


def test_an_endpoint_that_gave_nothing_misses_its_gates() -> None:
    found = run(endpoints={"validate": Endpoint(requests=5, wrong={"no answer": 5})})
    assert missed(found, rate_at_least=1, p99_ms_at_most=1000) == ["wrong answers", "validate: rate", "validate: p99"]


def test_what_was_offered_must_be_answered() -> None:
    assert missed(run(arrival="open")) == []
    assert missed(run(arrival="open", quick=940)) == ["answered of offered"]


def test_a_run_without_answers_or_an_end_holds_nothing() -> None:
    assert missed(run(endpoints={}, end="interrupted"), rate_at_least=1)[:3] == ["complete run", "answers", "wrong answers"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("wrong_share = 1", "wrong_share: Extra inputs are not permitted"),
        ("[endpoints.validate]\nrate_at_least = -1", "endpoints.validate.rate_at_least: Input should be greater than 0"),
        ("a =", "is not TOML"),
    ],
)
def test_a_profile_that_is_none_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "p.toml"
    file.write_text(text)
    with pytest.raises(RunError, match=sentence):
        read_thresholds(file)


@pytest.mark.parametrize("file", sorted(PROFILES.glob("*.toml")), ids=lambda file: file.stem)
def test_each_profile_can_be_read(file: Path) -> None:
    assert read_thresholds(file).endpoints
