"""The schedule: users together offer the plan's rate, whenever answers come."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import get_args

import pytest

from outcome.plan import Arrival, Plan, ShapeName, level, when
from traffic.arrival import Schedule, offered


def dues(plan: Plan) -> list[float]:
    """Of all users, evenly spread."""
    found = []
    for number in range(plan.users):
        schedule = Schedule(plan, 100.0, spread=lambda number=number: number / plan.users)  # type: ignore[misc]
        while (due := schedule.next_due()) < 100.0 + plan.seconds:
            found.append(due - 100.0)
    return sorted(found)


@pytest.mark.parametrize(("shape", "number"), [("constant", 1000), ("soak", 1000), ("steps", 625), ("ramp", 500), ("spike", 360)])
def test_users_together_offer_the_rate_of_the_shape(shape: ShapeName, number: int) -> None:
    plan = Plan(shape=shape, users=10, rate=100, seconds=10)
    assert len(dues(plan)) == pytest.approx(number, rel=0.05)


def test_a_constant_rate_is_even() -> None:
    found = dues(Plan(users=10, rate=100, seconds=10))
    gaps = [later - earlier for earlier, later in itertools.pairwise(found)]
    assert max(gaps) == pytest.approx(0.01)


def test_what_is_late_stays_due_when_it_was() -> None:
    schedule = Schedule(Plan(users=1, rate=10), 0.0, spread=lambda: 0.0)
    assert [round(schedule.next_due(), 9) for _ in range(4)] == [0.0, 0.1, 0.2, 0.3]


def test_a_user_that_comes_later_owes_nothing_of_the_time_before() -> None:
    schedule = Schedule(Plan(users=1, rate=10), 0.0, spread=lambda: 0.0)
    schedule.join(7.04)
    assert schedule.next_due() == pytest.approx(7.1)


@pytest.mark.parametrize("shape", get_args(ShapeName))
def test_when_so_much_was_asked_is_where_the_level_adds_up_to_it(shape: ShapeName) -> None:
    steps = 20_000
    added = list(itertools.accumulate(level(shape, (number + 0.5) / steps) / steps for number in range(steps)))
    for number in range(0, steps, 997):
        assert when(shape, added[number]) == pytest.approx((number + 1) / steps, abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("constant", [1, 1, 1, 1]),
        ("steps", [0.25, 0.5, 0.75, 1]),
        ("ramp", [0, 0.25, 0.5, 0.75]),
        ("spike", [0.2, 0.2, 1, 0.2]),
    ],
)
def test_a_shape_has_its_levels(shape: ShapeName, levels: list[float]) -> None:
    assert [level(shape, at / 4) for at in range(4)] == levels


@pytest.mark.parametrize(("arrival", "rate"), [("open", 50.0), ("closed", None)])
def test_an_open_arrival_alone_offers_a_rate(arrival: Arrival, rate: float | None) -> None:
    assert offered(Plan(arrival=arrival, shape="steps", rate=100, seconds=40), 15) == rate


@pytest.mark.parametrize("shape", get_args(ShapeName))
def test_what_is_offered_in_a_second_is_what_is_due_in_it(shape: ShapeName) -> None:
    plan = Plan(shape=shape, users=10, rate=200, seconds=20)
    due = Counter(math.floor(at) + 1 for at in dues(plan))
    for second in range(1, 21):
        assert due[second] == pytest.approx(offered(plan, second), abs=2)


def test_what_never_left_is_overdue() -> None:
    schedule = Schedule(Plan(users=1, rate=10), 0.0, spread=lambda: 0.0)
    assert schedule.next_due() == 0.0
    assert schedule.overdue(1.05) == 10
