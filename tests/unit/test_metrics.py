"""The metrics of a process: every name of the contract, every label value from the start, and sums that are moved once."""

from __future__ import annotations

import sys
import threading
from bisect import bisect_right
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.commands.write import WriterMetrics
from authsvc.metrics import ENDPOINTS, SECONDS_BUCKETS, SHED_REASONS, STATUSES, Counts, Durations, Metrics, described
from authsvc.model import Kind
from generate import metrics_table

OF_AN_INSTANCE = {
    "http_requests_total": ("endpoint", "status"),
    "http_request_duration_seconds": ("endpoint",),
    "http_requests_in_flight": (),
    "http_requests_shed_total": ("reason",),
    "token_cache_hits_total": (),
    "token_cache_misses_total": (),
    "token_cache_size": (),
    "tokens_issued_total": ("kind",),
    "tokens_revoked_total": (),
    "tokens_consumed_total": (),
    "client_secret_oldest_timestamp_seconds": (),
    "record_backlog_entries": (),
    "record_backlog_age_seconds": (),
    "record_backlog_limit_entries": (),
    "redis_request_duration_seconds": (),
    "process_cpu_seconds_total": (),
    "authsvc_build_info": ("python", "version"),
    "redis_up": (),
    "redis_memory_used_bytes": (),
    "redis_memory_max_bytes": (),
    "redis_evicted_keys": (),
    "redis_connected_replicas": (),
    "redis_clock_skew_seconds": (),
    "redis_certificate_expiry_timestamp_seconds": (),
}
OF_THE_WRITER = {
    "db_connections_open",
    "db_connections_idle",
    "db_connections_waiting",
    "db_connections_lost_total",
    "record_writer_rows_total",
    "record_writer_batch_seconds",
    "record_backlog_entries",
    "record_backlog_age_seconds",
    "redis_up",
}


def samples(metrics: Metrics) -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def test_every_metric_of_the_contract_is_there_with_its_labels() -> None:
    assert {name: labels for name, _, labels, _ in described(Metrics(Counts()).registry)} == OF_AN_INSTANCE
    assert {name for name, *_ in described(WriterMetrics().registry)} >= OF_THE_WRITER


def test_every_label_value_is_there_from_the_start() -> None:
    found = samples(Metrics(Counts()))
    for endpoint in ENDPOINTS:
        assert found[f'http_request_duration_seconds_count{{endpoint="{endpoint}"}}'] == 0
        for status in STATUSES:
            assert found[f'http_requests_total{{endpoint="{endpoint}",status="{status}"}}'] == 0
    for reason in SHED_REASONS:
        assert found[f'http_requests_shed_total{{reason="{reason}"}}'] == 0
    for kind in ("access", "one_time"):
        assert found[f'tokens_issued_total{{kind="{kind}"}}'] == 0


def test_what_is_counted_is_moved_once_however_often_it_is_folded() -> None:
    counts = Counts()
    metrics = Metrics(counts)
    for number in range(1, 4):
        counts.requests["token"][200] += 2
        counts.durations["token"].add(0.003)
        counts.redis.add(0.001)
        counts.issued[Kind.ONE_TIME] += 1
        counts.in_flight = number
        metrics.fold()
        metrics.fold()
        found = samples(metrics)
        assert found['http_requests_total{endpoint="token",status="200"}'] == 2 * number
        assert found['http_request_duration_seconds_count{endpoint="token"}'] == number
        assert found['http_request_duration_seconds_sum{endpoint="token"}'] == pytest.approx(0.003 * number)
        assert found["redis_request_duration_seconds_count"] == number
        assert found['tokens_issued_total{kind="one_time"}'] == number
        assert found["http_requests_in_flight"] == number


@pytest.fixture
def threads_that_take_turns() -> Iterator[None]:
    """The interpreter goes on with another thread as often as it can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("threads_that_take_turns")
def test_a_scrape_and_a_tick_at_the_same_time_move_it_once() -> None:
    counts = Counts()
    metrics = Metrics(counts)

    def count() -> None:
        for status in STATUSES:
            counts.requests["token"][status] += 1
        counts.durations["token"].add(0.003)
        counts.consumed += 1

    def fold() -> None:
        for _ in range(100):
            # All have the same to move, at the same time.
            counted.wait(60)
            metrics.fold()

    counted = threading.Barrier(4, action=count)
    threads = [threading.Thread(target=fold) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = samples(metrics)
    assert {found[f'http_requests_total{{endpoint="token",status="{status}"}}'] for status in STATUSES} == {100}
    assert found['http_request_duration_seconds_count{endpoint="token"}'] == 100
    assert found["tokens_consumed_total"] == 100


@given(st.floats(min_value=0, max_value=1e6))
def test_a_duration_falls_into_its_bucket(seconds: float) -> None:
    durations = Durations()
    durations.add(seconds)
    assert durations.counts.index(1) == bisect_right(SECONDS_BUCKETS, seconds)
    assert sum(durations.counts) == 1
    assert durations.total_seconds == seconds


def test_a_status_that_nobody_foresaw_is_counted_too() -> None:
    counts = Counts()
    metrics = Metrics(counts)
    counts.requests["other"][418] += 1
    assert samples(metrics)['http_requests_total{endpoint="other",status="418"}'] == 1


def test_the_page_is_generated() -> None:
    assert metrics_table.PAGE.read_text(encoding="utf-8") == metrics_table.render(), (
        "docs/metrics.md is out of date: run scripts/generate-docs"
    )
