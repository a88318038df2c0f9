"""What `scripts/top` makes of a look: the figures, whether all is well, and that it fits on 80 columns."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
from rich.console import Console

from view.display import shown
from view.figures import Fact, Figures, figures
from view.rates import Growth
from view.samples import BUCKETS, CPU, INSTANCE, REQUESTS, ROWS, WRITER, Look, Page, Process, Readiness, Series

OF_INSTANCE = {
    "redis_up": 1.0,
    "http_requests_in_flight": 3.0,
    "token_cache_size": 12345.0,
    "redis_memory_used_bytes": 3 * 2**20,
    "redis_memory_max_bytes": 64 * 2**20,
    "record_backlog_entries": 40.0,
    "record_backlog_limit_entries": 250_000.0,
    "record_backlog_age_seconds": 1.5,
}
OF_WRITER = {
    "redis_up": 1.0,
    "record_backlog_entries": 41.0,
    "record_backlog_age_seconds": 1.25,
    "record_poison_entries": 0.0,
    "db_connections_open": 5.0,
    "db_connections_idle": 3.0,
    "db_connections_waiting": 2.0,
}
LONG = "auth-auth-service-auth-7c9d8f6b54-"


def process(name: str, component: str, gauges: Mapping[str, float], **changed: float) -> Process:
    return Process(name, component, Page(0.0, {}, {**gauges, **changed}))


def a_look(**changed: float) -> Look:
    """Two instances and a writer; these gauges of the first instance are as given."""
    processes = [
        process(f"{LONG}aaaaa", INSTANCE, OF_INSTANCE, **changed),
        process(f"{LONG}bbbbb", INSTANCE, OF_INSTANCE),
        process("auth-auth-service-writer-0", WRITER, OF_WRITER),
    ]
    readiness = {INSTANCE: Readiness(2, 2), "nginx": Readiness(2, 2), "redis": Readiness(1, 1), WRITER: Readiness(1, 1)}
    return Look("release auth, namespace auth", readiness, processes)


def growth(ok: float = 0.0, refused: float = 0.0, shed: float = 0.0, failed: float = 0.0) -> Growth:
    """Over two seconds; every answer took 1 to 2 ms."""
    by = {
        Series(REQUESTS, "token", "200"): ok,
        Series(REQUESTS, "token", "401"): refused,
        Series(REQUESTS, "token", "429"): shed,
        Series(REQUESTS, "validate", "503"): failed,
        Series(BUCKETS, "token", le="0.001"): 0.0,
        Series(BUCKETS, "token", le="0.002"): ok,
        Series(BUCKETS, "token", le="+Inf"): ok,
        Series(CPU): 0.5,
    }
    return Growth(2.0, by)


def growths(first: Growth | None = None) -> dict[str, Growth]:
    return {
        f"{LONG}aaaaa": first or growth(ok=20),
        f"{LONG}bbbbb": growth(ok=20),
        "auth-auth-service-writer-0": Growth(2.0, {Series(ROWS): 30.0}),
    }


def amiss(found: Figures) -> list[str]:
    return [fact.text for fact in found.facts if not fact.well]


def text_of(found: Figures, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(shown(found))
    return out.getvalue()


def test_rates_are_added_up_by_endpoint() -> None:
    found = figures(a_look(), growths(growth(ok=20, refused=4, shed=2, failed=6)))
    rows = {row.name: row for row in found.endpoints}
    assert list(rows)[-1] == "all"
    token, validate, every = rows["token"], rows["validate"], rows["all"]
    assert (token.requests, token.refused, token.shed, token.failed) == (23, 2, 1, 0)
    assert (token.p50_seconds, token.p99_seconds) == pytest.approx((0.0015, 0.00199))
    assert (validate.requests, validate.failed, validate.p50_seconds) == (3, 3, None)
    assert (every.requests, every.refused, every.shed, every.failed, every.p50_seconds) == (26, 2, 1, 3, token.p50_seconds)
    assert found.seconds == 2


def test_processes_and_what_they_share() -> None:
    found = figures(a_look(token_cache_size=12346.0), growths(growth(ok=10, failed=2)))
    first, _, writer = found.processes
    assert first == (f"{LONG}aaaaa", 6, 3, 0.25, True, "")
    assert writer == ("auth-auth-service-writer-0", None, None, 0, True, "")
    shared = found.shared
    assert (shared.live_tokens, shared.backlog_entries, shared.backlog_age_seconds) == (12346, 41, 1.5)
    assert (shared.connections_open, shared.connections_idle, shared.connections_waiting, shared.rows) == (5, 3, 2, 15)


def test_all_is_well() -> None:
    found = figures(a_look(), growths())
    assert amiss(found) == []
    assert "well: Redis up, auth 2/2, nginx 2/2, redis 1/1, writer 1/1, 5xx 0 %, 429 0 %, backlog 1.5 s\n" in text_of(found, 120)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"redis_up": 0.0}, "Redis out of reach for 1 of 3"),
        ({"record_backlog_age_seconds": 61.0}, "backlog 61.0 s"),
        ({"record_backlog_limit_entries": 41.0, "record_backlog_entries": 250_000.0}, "backlog full: no more tokens are made"),
        ({"redis_memory_used_bytes": 60 * 2**20}, "Redis memory 94 %"),
        ({"record_poison_entries": 3.0}, "poison 3"),
    ],
)
def test_a_gauge_that_is_not_as_it_should_be(changed: dict[str, float], told: str) -> None:
    found = figures(a_look(**changed), growths())
    assert amiss(found) == [told]
    assert f"NOT WELL: {told}; " in text_of(found, 120)


@pytest.mark.parametrize(
    ("grown", "told"),
    [(growth(ok=20, failed=10), "5xx 20 %"), (growth(ok=59_960, shed=1), "429 0.01 %"), (growth(ok=10**9, failed=1), "5xx 0.01 %")],
)
def test_answers_that_should_not_be(grown: Growth, told: str) -> None:
    found = figures(a_look(), growths(grown))
    assert amiss(found) == [told]


def test_processes_that_should_be_there() -> None:
    look = a_look()
    ready = look.readiness | {INSTANCE: Readiness(1, 2), WRITER: Readiness(0, 0)}
    silent = replace(look.processes[1], page=None, state="CrashLoopBackOff")
    found = figures(replace(look, readiness=ready, processes=[look.processes[0], silent]), {})
    assert amiss(found) == ["auth 1/2", "no writer", "1 silent"]
    assert [row.name for row in found.processes] == [silent.name, look.processes[0].name]
    assert found.processes[0] == (silent.name, None, None, None, None, "CrashLoopBackOff")
    text = text_of(found, 80)
    assert "CrashLoopBackOff" in text
    assert "no rates yet" in text
    assert re.search(r"^token( +-){6}$", text, re.MULTILINE)


def test_nobody_tells_anything() -> None:
    look = Look("here", {}, [Process("a", INSTANCE, None, "no answer")])
    assert figures(look, {}).facts == [Fact("Redis unknown", False), Fact("1 silent", False), Fact("backlog unknown", False)]


def test_on_80_columns_every_figure_and_every_name_is_whole() -> None:
    text = text_of(figures(a_look(), growths(growth(ok=2_000_000, refused=1, shed=1_234_567, failed=2))), 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    for whole in (f"{LONG}aaaaa", "auth-auth-service-writer-0", "1,617,295.0", "617,283.5", "41 of 250,000 entries", "3 of 64 MiB (5 %)"):
        assert whole in text
    assert "15.0 rows/s written, 0 set aside as poison" in text
    assert "5 open, 3 idle, 2 waiting" in text


def test_what_is_not_nothing_is_never_shown_as_nothing() -> None:
    text = text_of(figures(a_look(), {f"{LONG}aaaaa": Growth(60.0, {Series(REQUESTS, "token", "503"): 1.0})}), 80)
    assert text.count("<0.1") >= 3


@pytest.mark.parametrize("state", ["leaving", "Pending", "ContainerCreating"])
def test_pods_that_come_and_go_are_no_trouble(state: str) -> None:
    assert "1 silent" not in amiss(figures(Look("here", {}, [Process("a", INSTANCE, None, state)]), {}))
