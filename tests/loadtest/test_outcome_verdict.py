"""The verdict: who had nothing left, and what more instances gave."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from outcome.plan import Plan
from outcome.run import Component, Endpoint, Generator, Point, Run
from outcome.verdict import MACHINE, Knee, bottleneck, efficiency, knee


def run(requests: int = 100, plan: Plan | None = None, **given: Any) -> Run:
    known = {"name": "r", "plan": plan or Plan(), "started": datetime(2026, 1, 1, tzinfo=UTC), "seconds": 10}
    return Run(**(known | {"endpoints": {"validate": Endpoint(requests=requests)}} | given))


@pytest.mark.parametrize(
    ("shares", "cores", "limit"),
    [
        ({"a": 0.91, "b": 0.2}, {"auth": (1, 1)}, "generator"),
        ({"a": 0.9}, {"auth": (0.85, 1), "redis": (0.2, 1)}, "auth"),
        ({"a": 0.9}, {"auth": (2, 4), "nginx": (0.1, 1)}, "machine"),
        ({"a": 0.1}, {"auth": (0.4, 4), "nginx": (0.1, 1)}, "none"),
        ({}, {"auth": (0.4, None)}, "none"),
        ({}, {}, "none"),
    ],
)
def test_the_first_that_has_nothing_left_is_the_limit(
    shares: dict[str, float], cores: dict[str, tuple[float, float | None]], limit: str
) -> None:
    components = {name: Component(cpu_cores=used, limit_cores=most) for name, (used, most) in cores.items()}
    found = run(generator=Generator(cpu_shares=shares), components=components, environment={MACHINE: 2})
    assert bottleneck(found).limit == limit


def test_efficiency_is_the_rate_of_each_instance_over_that_of_one() -> None:
    single, four = run(100, environment={"instances": 1}), run(380, environment={"instances": 4})
    assert efficiency(four, single) == pytest.approx(0.95)


@pytest.mark.parametrize(
    "other", [{"environment": {}}, {"environment": {"instances": 4}}, {"environment": {"instances": 1}, "requests": 0}]
)
def test_without_fewer_instances_or_answers_there_is_no_efficiency(other: dict[str, Any]) -> None:
    assert efficiency(run(100, environment={"instances": 4}), run(**other)) is None


def test_two_plans_have_no_efficiency() -> None:
    assert efficiency(run(environment={"instances": 4}), run(plan=Plan(rate=1), environment={"instances": 1})) is None


def rising(times: list[float], answered: float = 1.0, **plan: Any) -> Run:
    """A ramp to 100 requests/s, a point for each p99."""
    points = [
        Point(at_seconds=number, offered=number, requests={"validate": round(number * (answered if number > 50 else 1))}, p99_ms=p99)
        for number, p99 in enumerate(times, 1)
    ]
    return run(plan=Plan(**({"shape": "ramp", "rate": 100, "seconds": 100, "warm_up_seconds": 0} | plan)), points=points)


def test_the_knee_is_the_last_rate_before_answers_stay_slow() -> None:
    assert knee(rising([2.0] * 60 + [80.0] * 40)) == Knee(60, 2.0)


def test_one_slow_second_is_no_knee() -> None:
    assert knee(rising([2.0] * 60 + [80.0] * 2 + [2.0] * 38)) is None


def test_what_is_not_answered_is_a_knee_too() -> None:
    assert knee(rising([2.0] * 100, answered=0.9)) == Knee(50, 2.0)


@pytest.mark.parametrize("plan", [{"shape": "constant"}, {"arrival": "closed"}])
def test_a_load_that_does_not_rise_has_no_knee(plan: dict[str, Any]) -> None:
    assert knee(rising([2.0] * 60 + [80.0] * 40, **plan)) is None
