"""compare_performance: no alarm on noise, no fall of a quarter missed, and nothing compared that does not belong together."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outcome.comparison import Change, compare
from outcome.results import Figures, Results
from outcome.run import RunError

PLACE: dict[str, str | int | float] = {"machine": "here", "instances": 4}
QUIET = st.lists(st.floats(0.97, 1.03), min_size=3, max_size=5)
"""Repeats that differ by three per cent from what is measured."""
LOUD = st.lists(st.floats(0.92, 1.08), min_size=3, max_size=5)


def results(
    rates: list[float], p99: list[float] | None = None, wrong: float = 0, row: str = "validate, closed", **around: object
) -> Results:
    times = p99 or [5.0] * len(rates)
    repeats = [Figures(rate=rate, p99_ms=ms, wrong_share=wrong) for rate, ms in zip(rates, times, strict=True)]
    given = {"size": "light", "environment": PLACE} | around
    return Results(started=datetime(2026, 1, 1, tzinfo=UTC), rows={row: repeats}, **given)  # type: ignore[arg-type]


def too_much(before: Results, after: Results) -> list[str]:
    return [change.figure for change in compare(before, after) if change.is_too_much]


@given(LOUD, LOUD, st.floats(10, 100_000))
def test_noise_is_no_alarm(one: list[float], other: list[float], rate: float) -> None:
    before, after = (results([each * rate for each in noise], [each * 5 for each in noise]) for noise in (one, other))
    assert [change for change in compare(before, after) if change.is_too_much or change.word == "unsure"] == []


@given(QUIET, QUIET, st.floats(10, 100_000), st.floats(0.1, 0.75))
def test_a_fall_of_a_quarter_is_never_missed(one: list[float], other: list[float], rate: float, left: float) -> None:
    before, after = [each * rate for each in one], [each * rate * left for each in other]
    assert too_much(results(before), results(after)) == ["rate"]


@given(QUIET, QUIET, st.floats(2, 1000), st.floats(1.5, 10))
def test_a_p99_that_grew_by_half_is_never_missed(one: list[float], other: list[float], p99: float, growth: float) -> None:
    before, after = [each * p99 for each in one], [each * p99 * growth for each in other]
    assert too_much(results([100.0] * len(one), before), results([100.0] * len(other), after)) == ["p99"]


@given(QUIET, st.floats(1.0, 3.0))
def test_what_is_better_is_no_alarm(noise: list[float], factor: float) -> None:
    assert too_much(results(noise), results([each * factor for each in noise], [5 / factor] * len(noise))) == []


def test_a_short_p99_may_grow_by_half_a_millisecond() -> None:
    assert too_much(results([100, 100, 100], [0.4, 0.4, 0.4]), results([100, 100, 100], [0.8, 0.8, 0.8])) == []


def test_without_three_repeats_nothing_is_known_of_noise() -> None:
    [rate, *_] = compare(results([100]), results([50]))
    assert (rate.word, rate.is_too_much) == ("unsure", False)


def test_a_row_that_was_cut_off_is_too_much() -> None:
    after = results([100, 100, 100])
    after.rows["validate, closed"][1] = after.rows["validate, closed"][1].model_copy(update={"is_complete": False})
    assert [change.word for change in compare(results([100, 100, 100]), after)] == ["cut off"]


def test_one_wrong_answer_more_is_too_much() -> None:
    assert too_much(results([100, 101, 99]), results([100, 101, 99], wrong=0.0001)) == ["wrong"]
    assert too_much(results([100, 101, 99], wrong=0.01), results([100, 101, 99], wrong=0.01)) == []


def test_repeats_that_differ_too_much_can_neither_accuse_nor_acquit() -> None:
    [rate, *_] = compare(results([100, 60, 140]), results([70, 65, 120]))
    assert (rate.word, rate.is_too_much, rate.ratio) == ("unsure", False, 0.7)


def test_a_plan_that_is_missing_is_too_much_and_a_new_one_is_nothing() -> None:
    before, after = results([100, 100, 100]), results([100, 100, 100], row="token, closed")
    assert compare(before, after) == [Change("validate, closed", "rate", 100, None, "missing", is_too_much=True)]


@pytest.mark.parametrize(
    ("around", "sentence"),
    [
        ({"environment": PLACE | {"instances": 1}}, r"The environments differ, .*: instances \(4 and 1\)\."),
        ({"environment": {"machine": "here"}}, r"The environments differ, .*: instances \(4 and nothing\)\."),
        ({"size": "heavy"}, r"The sizes differ, .*: light and heavy\."),
        ({"asked": {"seconds": 10}}, r"The two did not ask the same, .*: \{\} and \{'seconds': 10\}\."),
    ],
)
def test_results_of_different_places_and_sizes_are_refused(around: dict[str, object], sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        compare(results([100, 100]), results([100, 100], **around))
