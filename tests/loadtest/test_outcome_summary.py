"""The summary of a run: short, Markdown that no name can break, and the page's own figures."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from outcome.plan import Plan
from outcome.run import Component, Endpoint, Generator, LostWorker, Run
from outcome.summary import summary
from outcome.thresholds import Gate, Thresholds

AT_1_MS, AT_50_MS = 233, 431
"""Buckets of the histogram whose bounds are 1.01 and 50.9 ms."""


def run(**changes: Any) -> Run:
    """Eight counted seconds of two endpoints."""
    given: dict[str, Any] = {
        "name": "evening",
        "plan": Plan(endpoint="validate", rate=110, seconds=10),
        "started": datetime(2026, 3, 1, 20, 30, tzinfo=UTC),
        "seconds": 8,
        "end": "complete",
        "endpoints": {
            "validate": Endpoint(requests=800, times={AT_1_MS: 792, AT_50_MS: 8}),
            "token": Endpoint(requests=80, wrong={"status 503": 4}, times={AT_50_MS: 76}),
        },
        "components": {"auth": Component(cpu_cores=0.9, limit_cores=1)},
    }
    return Run(**given | changes)


def test_a_run_is_told_in_a_few_lines() -> None:
    assert summary(run()) == (
        "### evening\n"
        "\n"
        "**auth was the limit: it used 90% of the CPU that it may.**\n"
        "\n"
        "| endpoint | right answers/s | p50 ms | p99 ms | wrong |\n"
        "|---|---:|---:|---:|---:|\n"
        "| validate | 100 | 1.01 | 1.01 | 0 |\n"
        "| token | 9.5 | 50.9 | 50.9 | 4 |\n"
        "| all | 110 | 1.01 | 50.9 | 4 |\n"
        "\n"
        "The endpoint validate at a constant load for 10 s, of which the first 2 s warm up and are not counted. The plan offers at most "
        "110 requests/s over 32 connections; what finds them all waiting is timed from when it was due.\n"
    )


def test_changes_against_a_run_before_stand_beside_rate_and_p99() -> None:
    before = run(name="morning", endpoints={"validate": Endpoint(requests=1000, times={AT_50_MS: 1000})})
    text = summary(run(), before=before)
    assert "| endpoint | right answers/s | change | p50 ms | p99 ms | change | wrong |\n|---|---:|---:|---:|---:|---:|---:|\n" in text
    assert "| validate | 100 | \N{MINUS SIGN}20.0% | 1.01 | 1.01 | \N{MINUS SIGN}98.0% | 0 |\n" in text
    assert "Changes are against the run morning of 2026-03-01 20:30; one pair of runs cannot tell a change from noise.\n" in text


def test_a_run_of_another_plan_is_not_compared() -> None:
    text = summary(run(), before=run(name="morning", plan=Plan(endpoint="token", rate=110, seconds=10)))
    assert "Not compared with the run morning: the plans differ in endpoint (token and validate).\n" in text
    assert "change |" not in text


def test_missed_gates_are_named_and_held_ones_counted() -> None:
    thresholds = Thresholds(endpoints={"validate": Gate(p99_ms_at_most=0.5)})
    text = summary(run(), thresholds)
    assert "3 of 5 gates were held.\n" in text
    assert [line for line in text.splitlines() if line.startswith("- missed")] == [
        r"- missed: wrong answers, found 0.45%, limit \<= 0.00%",
        r"- missed: validate: p99, found 1.01 ms, limit \<= 0.5 ms",
    ]
    assert "All 4 gates were held.\n" in summary(run(), Thresholds(wrong_share_at_most=0.01))


def test_warnings_are_quoted() -> None:
    text = summary(run(end="interrupted", generator=Generator(lost=[LostWorker(name="two", at_seconds=6.5)])))
    assert [line.rstrip() for line in text.splitlines() if line.startswith(">")] == [
        "> The run was interrupted: what follows is what was counted up to then.",
        "> The generator two was lost at second 6.5; from then on the others made the load alone.",
    ]


def test_names_from_elsewhere_are_no_markdown_and_keep_to_their_cell() -> None:
    text = summary(run(name="a\n# b", endpoints={"<b>|`x`\n[y](z)": Endpoint(requests=8, times={AT_1_MS: 8})}))
    assert text.startswith("### a \\# b\n\n")
    assert r"| \<b\>\|\`x\` \[y\](z) | 1.0 | 1.01 | 1.01 | 0 |" in text


def test_a_run_without_answers_has_a_summary() -> None:
    text = summary(Run(name="new", plan=Plan(), started=datetime(2026, 3, 1, tzinfo=UTC)), Thresholds())
    assert "> No answer was counted." in text
    assert "| endpoint |" not in text
