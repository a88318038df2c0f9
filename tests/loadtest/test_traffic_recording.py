"""The recording: what generators saw is added up once, the warm-up aside, and who went away is named."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from outcome.plan import Plan
from outcome.run import Run
from traffic.recording import Recording, Window, core_limit


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def recording(clock: Clock, **plan: object) -> Recording:
    run = Run(name="r", plan=Plan(seconds=10, warm_up_seconds=2, rate=100, **plan), started=datetime(2026, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    return Recording(run, clock)


def test_what_was_counted_before_the_warm_up_was_over_is_shown_and_not_counted() -> None:
    clock, window = Clock(), Window()
    made = recording(clock)
    window.count("token", 1.0, None)
    clock.now = 2.5
    window.begin()
    window.count("token", 3.0, None)
    window.count("token", 9.0, "500 server_error")
    made.add("a", window.take(), users=4)
    clock.now = 10.2
    run = made.snapshot()
    assert run.endpoints["token"].requests == 2
    assert run.endpoints["token"].wrong == {"500 server_error": 1}
    assert sum(run.endpoints["token"].times.values()) == 1
    [point] = run.points
    assert (point.at_seconds, point.users, point.offered, point.requests, point.wrong) == (2, 4, 100.0, {"token": 3}, 1)


def test_generators_add_up_and_each_has_its_cpu() -> None:
    clock = Clock()
    made = recording(clock)
    for name in ("a", "b"):
        window = Window()
        window.begin()
        window.count("validate", 1.0, None)
        clock.now = 3.0
        made.add(name, window.take(), users=8)
    run = made.snapshot()
    assert run.endpoints["validate"].requests == 2
    assert run.points[0].requests == {"validate": 2}


def test_what_passes_after_the_end_is_not_counted() -> None:
    window = Window()
    window.begin()
    window.count("token", 1.0, None)
    window.end()
    window.count("token", 1.0, None)
    assert [(each["is_counted"], sum(tally[0] for tally in each["tallies"].values())) for each in window.take()] == [
        (False, 0),
        (True, 1),
        (False, 1),
    ]


def test_users_take_their_time_to_stop_and_it_is_not_of_the_counted_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    window = Window()
    window.begin()
    clock.now = 6.0
    window.count("token", 1.0, None)
    window.stop_clock()
    clock.now = 6.5
    window.count("token", 1.0, "no answer")
    window.end()
    taken = window.take()
    assert sum(each["wall_seconds"] for each in taken if each["is_counted"]) == 6.0
    assert sum(tally[0] for each in taken if each["is_counted"] for tally in each["tallies"].values()) == 2


def test_a_window_begins_anew_when_it_was_taken() -> None:
    window = Window()
    window.count("token", 1.0, None)
    assert [sum(tally[0] for tally in each["tallies"].values()) for each in window.take()] == [1]
    assert [each["tallies"] for each in window.take()] == [{}]


def test_a_generator_that_is_lost_is_named_with_its_time() -> None:
    clock = Clock()
    made = recording(clock)
    clock.now = 4.25
    made.lose("worker-1")
    assert [(each.name, each.at_seconds) for each in made.snapshot().generator.lost] == [("worker-1", 4.2)]


def test_looks_are_kept_by_the_second_and_their_mean_is_of_the_counted_time() -> None:
    clock = Clock()
    made = recording(clock)
    for second, cores in ((1, 0.1), (3, 0.4), (4, 0.6)):
        clock.now = float(second)
        made.look(4, {"auth": cores})
    assert made.component_means() == {"auth": 0.5}
    assert [(point.at_seconds, point.replicas, point.cpu_cores) for point in made.snapshot().points] == [
        (1, 4, {"auth": 0.1}),
        (3, 4, {"auth": 0.4}),
        (4, 4, {"auth": 0.6}),
    ]


def test_the_counted_time_is_that_of_the_generators_and_of_the_longest() -> None:
    made = recording(Clock())
    tallies = {"token": [100, [], []]}
    for name, wall in (("a", 3.9), ("lost", 1.0), ("b", 4.0)):
        made.add(name, [{"tallies": tallies, "is_counted": True, "wall_seconds": wall, "cpu_seconds": wall / 2}], users=1)
    run = made.snapshot()
    assert run.seconds == 4.0
    assert run.generator.cpu_shares == {"a": 0.5, "lost": 0.5, "b": 0.5}


def test_a_run_that_was_cut_off_in_its_warm_up_has_no_counted_time() -> None:
    assert recording(Clock()).snapshot().seconds == 0


@pytest.mark.parametrize(("text", "limit"), [("max 100000", 1.0), ("20000 100000", 0.2), ("400000 100000", 1.0), ("", 1.0)])
def test_a_generator_may_use_what_its_container_may(tmp_path: Path, text: str, limit: float) -> None:
    file = tmp_path / "cpu.max"
    file.write_text(text)
    assert core_limit(file) == limit
