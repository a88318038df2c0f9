"""Rates and quantiles of `scripts/top`: whatever begins anew, pauses, comes or goes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsvc.metrics import ENDPOINTS, SECONDS_BUCKETS, STATUSES, Counts, Metrics
from view.rates import WINDOW_SECONDS, Growth, Track, Tracks, quantile
from view.samples import BUCKETS, CPU, INSTANCE, REQUESTS, Look, Page, Process, Series, read_page

ANSWERS = Series(REQUESTS, "token", "200")
RARE = Series(REQUESTS, "token", "503")
BOUNDS = (*SECONDS_BUCKETS, math.inf)


def page(at_seconds: float, answers: float, rare: float = 0.0) -> Page:
    return Page(at_seconds, {ANSWERS: answers, RARE: rare}, {})


def look(*processes: Process) -> Look:
    return Look("here", {}, list(processes))


def instance(name: str, found: Page | None) -> Process:
    return Process(name, INSTANCE, found)


def followed(*pages: Page) -> Growth | None:
    track = Track()
    for each in pages:
        track.add(each)
    return track.growth()


def test_a_page_of_an_instance_is_read() -> None:
    counts = Counts()
    counts.requests["token"][200] = 7
    for seconds in (0.0003, 0.003):
        counts.durations["token"].add(seconds)
    metrics = Metrics(counts)
    metrics.token_keys.set(12)
    found = read_page(metrics.render().decode(), 3.0)
    assert found is not None
    assert found.at_seconds == 3.0
    assert found.counters[ANSWERS] == 7
    assert {series.status for series in found.counters if series.name == REQUESTS} == {str(status) for status in STATUSES}
    assert {series.endpoint for series in found.counters if series.name == BUCKETS} == set(ENDPOINTS)
    assert found.counters[Series(BUCKETS, "token", le="0.0005")] == 1
    assert found.counters[Series(BUCKETS, "token", le="+Inf")] == 2
    assert found.counters[Series(CPU)] > 0
    assert (found.gauges["token_cache_size"], found.gauges["http_requests_in_flight"]) == (12, 0)
    assert "authsvc_build_info" not in found.gauges


@pytest.mark.parametrize("text", ["<html>{\n", "", "# HELP up Somebody else's.\n# TYPE up gauge\nup 1\n"])
def test_what_is_no_page_of_ours_is_none(text: str) -> None:
    assert read_page(text, 0.0) is None


def test_growth_is_the_difference() -> None:
    assert followed(page(1, 10)) is None
    assert followed(page(1, 10), page(3, 50, rare=2)) == Growth(2, {ANSWERS: 40, RARE: 2})


def test_growth_is_of_the_last_seconds_only() -> None:
    assert WINDOW_SECONDS == 10
    # A thousand before, and one a second from then on.
    found = followed(page(-1, 0), *(page(second, 1000 + second) for second in range(30)))
    assert found == Growth(10, {ANSWERS: 10, RARE: 0})


def test_looks_further_apart_than_that_still_have_their_difference() -> None:
    assert followed(page(0, 0), page(60, 600), page(120, 660)) == Growth(60, {ANSWERS: 60, RARE: 0})


def test_a_process_that_begins_anew_counts_from_zero_and_goes_on() -> None:
    # 5 after it began anew; the rare one went up meanwhile, and is counted from zero as well.
    assert followed(page(1, 100, rare=1), page(2, 110, rare=1), page(3, 5, rare=4)) == Growth(2, {ANSWERS: 15, RARE: 4})
    assert followed(page(1, 100), page(2, 5), page(3, 9), page(4, 2)) == Growth(3, {ANSWERS: 11, RARE: 0})


def test_a_sum_that_is_added_up_in_another_order_has_not_begun_anew() -> None:
    used = Series(CPU)
    found = followed(Page(0, {used: 0.1 + 0.2 + 0.3}, {}), Page(1, {used: 0.3 + 0.2 + 0.1}, {}))
    assert 0.1 + 0.2 + 0.3 > 0.3 + 0.2 + 0.1
    assert found == Growth(1, {used: 0.0})


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=40))
def test_no_growth_is_negative(values: list[int]) -> None:
    found = followed(*(page(second, value) for second, value in enumerate(values)))
    assert found is not None
    assert min(found.by.values()) >= 0


def test_processes_come_pause_and_go() -> None:
    tracks = Tracks()
    assert tracks.add(look(instance("a", page(0, 100)), instance("b", page(0, 7)))) == {}
    # One that is silent has no rate, nor has one that is new: what it counted before is of another time.
    assert set(tracks.add(look(instance("a", page(1, 110)), instance("b", None), instance("c", page(1, 5000))))) == {"a"}
    found = tracks.add(look(instance("b", page(2, 9)), instance("c", page(2, 5001))))
    assert found == {"b": Growth(2, {ANSWERS: 2, RARE: 0}), "c": Growth(1, {ANSWERS: 1, RARE: 0})}
    # Who was gone is new when he is back.
    assert "a" not in tracks.add(look(instance("a", page(3, 500)), instance("b", page(3, 9))))


@given(st.lists(st.integers(0, 50), min_size=len(BOUNDS), max_size=len(BOUNDS)), st.floats(0.001, 1.0))
def test_a_quantile_lies_in_the_bucket_of_the_true_value(counts: list[int], share: float) -> None:
    cumulated = [sum(counts[: number + 1]) for number in range(len(counts))]
    found = quantile(zip(BOUNDS, cumulated, strict=True), share)
    if sum(counts) == 0:
        assert found is None
        return
    bucket = next(number for number, value in enumerate(cumulated) if value >= share * sum(counts) and counts[number])
    lower = BOUNDS[bucket - 1] if bucket else 0.0
    assert found is not None
    if bucket == len(BOUNDS) - 1:
        assert found == SECONDS_BUCKETS[-1], "no more is known than that it is beyond"
    else:
        assert lower <= found <= BOUNDS[bucket] * (1 + 1e-12)


def test_quantiles_of_known_buckets() -> None:
    buckets = [(1.0, 0.0), (2.0, 50.0), (4.0, 100.0), (math.inf, 100.0)]
    assert [quantile(buckets, share) for share in (0.25, 0.5, 0.75, 1.0)] == [1.5, 2.0, 3.0, 4.0]
    assert quantile([], 0.5) is None
