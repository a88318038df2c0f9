"""Every alert fires when it should and is silent when it should be, and has a page; the rules ask for series that there are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from alert_rules import ALERT_TESTS, ALERTS, FILES, INDEX, OTHERS, PAGES, RECORDED, RULES, metrics_of, ours
from prometheus import promtool
from runbook_pages import ALL, queries

from generate import dashboard

SECTIONS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation", "## Rollback"]


def cases(alert: str) -> list[dict[str, Any]]:
    """What the alert's file asks of it, whatever is fed before."""
    loaded = yaml.safe_load((ALERT_TESTS / f"{alert}.yaml").read_text())
    return [case for test in loaded["tests"] for case in test["alert_rule_test"]]


def test_the_rules_are_rules() -> None:
    for file in FILES:
        assert "SUCCESS" in promtool("check", "rules", file)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_and_is_silent(alert: str) -> None:
    promtool("test", "rules", ALERT_TESTS / f"{alert}.yaml")


def names_in(folder: Path, suffix: str) -> set[str]:
    return {file.stem for file in folder.glob(f"*{suffix}") if file != INDEX}


def test_no_test_and_no_page_is_without_its_alert() -> None:
    assert names_in(ALERT_TESTS, ".yaml") == names_in(PAGES, ".md") == set(ALERTS)


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alerts_file_has_a_case_of_each_kind(alert: str) -> None:
    assert {case["alertname"] for case in cases(alert)} == {alert}
    fired = [found for case in cases(alert) for found in case["exp_alerts"]]
    assert fired
    for found in fired:
        assert found["exp_labels"]["severity"] == ALERTS[alert]["labels"]["severity"]
        assert found["exp_annotations"].keys() == ALERTS[alert]["annotations"].keys()
    assert [case for case in cases(alert) if not case["exp_alerts"]]


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_says_what_it_is_and_where_its_page_is(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{alert}.md"
    assert all(rule["annotations"].values())


@pytest.mark.parametrize("alert", ALERTS)
def test_a_page_has_its_sections(alert: str) -> None:
    lines = (PAGES / f"{alert}.md").read_text().splitlines()
    assert lines[0] == f"# {alert}"
    assert [line for line in lines if line.startswith("## ")] == SECTIONS


def test_the_index_has_a_line_for_each_alert_with_its_severity() -> None:
    rows = [line.strip("| ").split(" | ") for line in INDEX.read_text().splitlines() if line.startswith("| [")]
    assert [row[:2] for row in rows] == [[f"[{alert}]({alert}.md)", rule["labels"]["severity"]] for alert, rule in ALERTS.items()]
    assert all(len(row) == 3 and row[2].endswith(".") for row in rows)


def test_the_rules_ask_for_series_that_there_are() -> None:
    asked = set.union(*(metrics_of(rule["expr"]) for rule in RULES))
    assert asked - ours() - RECORDED - OTHERS.keys() == set()
    assert asked >= OTHERS.keys() | {"http_requests_total", "http_request_duration_seconds_bucket", "auth_service:capacity:ratio_baseline"}


def test_what_redis_exports_too_is_asked_of_our_own_job() -> None:
    """redis_exporter has a `redis_up` and others of our names, under a job of its own (docs/observability.md)."""
    asked = [rule["expr"] for rule in RULES] + [*dashboard.queries()] + [query for page in ALL for query in queries(page)]
    named = [name for query in asked for name in re.findall(r"(?<![\w:])redis_\w+(?:{job=)?", query)]
    assert len(named) > 10
    assert [name for name in named if not name.endswith("{job=")] == []
