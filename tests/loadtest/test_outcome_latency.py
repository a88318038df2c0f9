"""The histogram: percentiles within a bucket of the true ones, and adding two is counting all."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcome.latency import SMALLEST_MS, WIDTH, Histogram, bucket, upper_bound_ms

TIMES = st.lists(st.floats(min_value=SMALLEST_MS, max_value=60_000), min_size=1, max_size=200)


@given(TIMES, st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_a_percentile_is_at_most_a_bucket_above_the_true_one(times: list[float], share: float) -> None:
    histogram = Histogram()
    for each in times:
        histogram.record(each)
    true = sorted(times)[math.ceil(round(share * len(times), 6)) - 1]
    found = histogram.percentile_ms(share)
    assert found is not None
    assert true * (1 - 1e-6) <= found <= true * WIDTH * (1 + 1e-6)


@given(TIMES, TIMES)
def test_adding_is_counting_all(one: list[float], other: list[float]) -> None:
    apart, together = [Histogram(), Histogram()], Histogram()
    for number, times in enumerate((one, other)):
        for each in times:
            apart[number].record(each)
            together.record(each)
    apart[0].add(apart[1].counts)
    assert apart[0].counts == together.counts
    assert together.total == len(one) + len(other)


@pytest.mark.parametrize(("milliseconds", "number"), [(0, 0), (0.01, 0), (0.0102, 1), (0.01021, 2), (1, 233), (1000, 582)])
def test_a_time_has_its_bucket(milliseconds: float, number: int) -> None:
    assert bucket(milliseconds) == number
    assert upper_bound_ms(number) >= milliseconds


def test_of_a_thousand_answers_the_990th_is_the_99th_percentile() -> None:
    histogram = Histogram({bucket(1): 990, bucket(100): 10})
    assert histogram.percentile_ms(0.99) == upper_bound_ms(bucket(1))
    assert histogram.percentile_ms(0.991) == upper_bound_ms(bucket(100))


def test_without_answers_there_is_no_percentile() -> None:
    assert Histogram().percentile_ms(0.5) is None
