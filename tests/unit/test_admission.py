"""Admission: places, turns in order, and what is refused, on a real event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from authsvc.admission import BACKLOG_MEMORY_SHARE, BYTES_PER_ENTRY, REFUSALS_PER_WAIT, Admission, backlog_limit
from authsvc.errors import SlowDown
from authsvc.metrics import Counts
from authsvc.promise import Promise

LONG_SECONDS = 60.0
SHORT_SECONDS = 0.02


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def told() -> None:
        await story()

    asyncio.run(told())


async def outcome(turn: Promise[None]) -> str:
    try:
        await turn
    except SlowDown:
        return "refused"
    return "admitted"


def test_as_many_as_there_are_places_enter_at_once_and_the_others_in_order() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 2, LONG_SECONDS)
        now = time.monotonic()
        assert [admission.enter(now), admission.enter(now)] == [None, None]
        assert (admission.closed, counts.in_flight) == (True, 2)
        entered: list[int] = []

        async def wait(number: int) -> None:
            turn = admission.enter(now)
            assert turn is not None
            await turn
            entered.append(number)

        tasks = [asyncio.create_task(wait(number)) for number in range(3)]
        await asyncio.sleep(0)
        for expected in ([0], [0, 1], [0, 1, 2]):
            admission.leave()
            await asyncio.gather(*tasks[: len(expected)])
            assert (entered, counts.in_flight) == (expected, 2)
        admission.leave()
        admission.leave()
        assert (counts.in_flight, counts.shed["queue_wait"]) == (0, 0)

    run(story)


def test_whoever_waited_too_long_is_refused_and_takes_no_place() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, SHORT_SECONDS)
        began = time.monotonic()
        assert admission.enter(began) is None
        turns = [admission.enter(began) for _ in range(3)]
        assert [await outcome(turn) for turn in turns if turn is not None] == 3 * ["refused"]
        assert time.monotonic() - began >= SHORT_SECONDS
        assert (counts.in_flight, counts.shed["queue_wait"]) == (1, 3)
        with pytest.raises(SlowDown):
            admission.enter(began)
        assert counts.shed["queue_wait"] == 4

    run(story)


def test_each_who_waits_has_his_own_deadline() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, 0.2)
        now = time.monotonic()
        assert admission.enter(now) is None
        early, late = admission.enter(now - 0.15), admission.enter(now + LONG_SECONDS)
        assert early is not None
        assert late is not None
        assert await outcome(early) == "refused"
        assert not late.settled
        admission.leave()
        assert await outcome(late) == "admitted"

    run(story)


def test_of_the_late_a_share_is_refused_while_a_worker_is_full_and_the_others_are_served() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, SHORT_SECONDS)
        refused = 0

        def read_on() -> None:
            nonlocal refused
            try:
                admission.arrival()
                assert admission.enter(began) is None
            except SlowDown:
                refused += 1

        began = time.monotonic()
        assert admission.enter(began) is None
        for _ in range(1000):
            admission.leave_unread(read_on)
        await asyncio.sleep(2 * SHORT_SECONDS)
        while counts.in_flight:
            admission.leave()
            await asyncio.sleep(0)
        waits = (time.monotonic() - began) / SHORT_SECONDS
        assert 200 <= refused <= 260 + REFUSALS_PER_WAIT * waits, "besides the share, some in each wait"
        assert counts.shed["queue_wait"] == refused

    run(story)


def test_a_worker_that_was_not_full_serves_what_is_late() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, SHORT_SECONDS)
        for _ in range(1000):
            assert admission.enter(time.monotonic() - 1) is None
            admission.leave()
        assert counts.shed["queue_wait"] == 0

    run(story)


def test_what_is_left_unread_is_read_in_order_as_places_become_free() -> None:
    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, LONG_SECONDS)
        pressure: list[bool] = []
        admission.on_pressure = pressure.append
        read: list[int] = []

        def reader(number: int) -> Callable[[], None]:
            def read_on() -> None:
                read.append(number)
                assert admission.enter(admission.arrival()) is None

            return read_on

        assert admission.enter(admission.arrival()) is None
        assert admission.closed
        for number in range(3):
            admission.leave_unread(reader(number))
        assert (read, pressure) == ([], [True])
        for expected in ([0], [0, 1], [0, 1, 2]):
            admission.leave()
            assert read == expected
        assert pressure == [True, False]

    run(story)


def test_a_turn_that_has_read_too_long_leaves_the_rest_for_the_next() -> None:
    async def story() -> None:
        admission = Admission(Counts(), 1000, SHORT_SECONDS)
        admission.arrival()
        assert not admission.closed
        until = time.monotonic() + 2 * SHORT_SECONDS
        while time.monotonic() < until:
            pass
        assert admission.closed
        read = asyncio.Event()
        admission.leave_unread(read.set)
        await asyncio.wait_for(read.wait(), 10)
        assert not admission.closed

    run(story)


def test_while_it_is_closed_it_is_open_at_no_time() -> None:
    """`open_at` is both questions at once: when, and whether; `enter_at_once` takes the place, too."""

    async def story() -> None:
        counts = Counts()
        admission = Admission(counts, 1, SHORT_SECONDS)
        began = admission.open_at()
        assert began == admission.arrival()
        assert admission.open_at() == began
        assert admission.enter_at_once() == began
        assert (admission.closed, admission.open_at(), admission.enter_at_once(), counts.in_flight) == (True, None, None, 1)
        admission.leave()
        assert admission.open_at() == began
        until = time.monotonic() + 2 * SHORT_SECONDS
        while time.monotonic() < until:
            pass
        assert (admission.closed, admission.open_at(), admission.enter_at_once(), counts.in_flight) == (True, None, None, 0)

    run(story)


def test_the_arrival_is_the_beginning_of_the_turn() -> None:
    async def story() -> None:
        admission = Admission(Counts(), 1, LONG_SECONDS)
        first = admission.arrival()
        assert admission.arrival() == first
        await asyncio.sleep(0.001)
        assert admission.arrival() > first

    run(story)


@pytest.mark.parametrize(("limit", "memory_bytes", "full_at"), [(10, 1 << 40, 10), (None, 1 << 30, 1 << 20), (None, 0, 0)])
def test_over_the_backlogs_limit_no_tokens_are_made(limit: int | None, memory_bytes: int, full_at: int) -> None:
    assert backlog_limit(limit, memory_bytes) == full_at
    counts = Counts()
    admission = Admission(counts, 1, LONG_SECONDS, limit)
    admission.check_backlog()
    assert (1 << 30) * BACKLOG_MEMORY_SHARE / BYTES_PER_ENTRY == 1 << 20
    admission.see_backlog(full_at, memory_bytes)
    with pytest.raises(SlowDown, match="records"):
        admission.check_backlog()
    if full_at:
        admission.see_backlog(full_at - 1, memory_bytes)
        admission.check_backlog()
    assert counts.shed["backlog"] == 1
