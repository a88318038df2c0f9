"""Promises: how coroutines are driven without tasks, and what settles them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from authsvc.errors import InvalidToken
from authsvc.promise import Promise, drive, settle


class Outcome:
    """What `done` was called with, each time."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Exception | None]] = []

    def __call__(self, value: Any, error: Exception | None) -> None:
        self.calls.append((value, error))

    @property
    def value(self) -> Any:
        assert len(self.calls) == 1
        value, error = self.calls[0]
        assert error is None
        return value

    @property
    def error(self) -> Exception | None:
        assert len(self.calls) == 1
        value, error = self.calls[0]
        assert value is None
        return error


async def wait_for(*promises: Promise[Any]) -> list[Any]:
    return [await promise for promise in promises]


def test_a_coroutine_that_waits_for_nothing_is_done_at_once() -> None:
    done = Outcome()
    drive(wait_for(), done)
    assert done.value == []


def test_a_coroutine_goes_on_inside_the_call_that_settles() -> None:
    promise: Promise[int] = Promise()
    done = Outcome()
    drive(wait_for(promise), done)
    assert done.calls == []
    promise.resolve(7)
    assert done.value == [7]


def test_a_refusal_is_raised_where_the_promise_is_awaited() -> None:
    promise: Promise[int] = Promise()
    refusal = InvalidToken("The token was used.")
    caught = []

    async def use() -> str:
        try:
            await promise
        except InvalidToken as error:
            caught.append(error)
            return "went on"
        return "never"

    done = Outcome()
    drive(use(), done)
    promise.reject(refusal)
    assert caught == [refusal]
    assert done.value == "went on"


def test_a_refusal_that_nobody_catches_is_the_outcome() -> None:
    promise: Promise[int] = Promise()
    refusal = InvalidToken("The token was used.")
    done = Outcome()
    drive(wait_for(promise), done)
    promise.reject(refusal)
    assert done.error is refusal


def test_an_exception_of_the_coroutine_itself_is_the_outcome() -> None:
    promise: Promise[int] = Promise()

    async def fail() -> None:
        raise ValueError(await promise)

    done = Outcome()
    drive(fail(), done)
    promise.resolve(3)
    assert isinstance(done.error, ValueError)
    assert done.error.args == (3,)


def test_an_exception_before_the_first_promise_is_the_outcome() -> None:
    async def fail() -> None:
        raise ValueError("at once")

    done = Outcome()
    drive(fail(), done)
    assert isinstance(done.error, ValueError)


def test_several_promises_in_a_row() -> None:
    promises: list[Promise[int]] = [Promise() for _ in range(3)]
    done = Outcome()
    drive(wait_for(*promises), done)
    for number, promise in enumerate(promises):
        assert done.calls == []
        promise.resolve(number)
    assert done.value == [0, 1, 2]


def test_promises_may_be_settled_before_they_are_awaited_and_in_any_order() -> None:
    promises: list[Promise[int]] = [Promise() for _ in range(4)]
    promises[2].resolve(2)
    done = Outcome()
    drive(wait_for(*promises), done)
    promises[3].resolve(3)
    promises[1].resolve(1)
    assert done.calls == []
    promises[0].resolve(0)
    assert done.value == [0, 1, 2, 3]


def test_a_promise_refused_before_it_is_awaited_refuses_then() -> None:
    promise: Promise[int] = Promise()
    refusal = InvalidToken("The token was used.")
    promise.reject(refusal)
    done = Outcome()
    drive(wait_for(promise), done)
    assert done.error is refusal


def test_many_promises_settled_before_they_are_awaited_use_no_stack() -> None:
    promises: list[Promise[int]] = [Promise() for _ in range(20_000)]
    for promise in promises:
        promise.resolve(1)
    done = Outcome()
    drive(wait_for(*promises), done)
    assert sum(done.value) == 20_000


@pytest.mark.parametrize("waiting", [True, False])
def test_the_first_to_settle_wins(waiting: bool) -> None:
    promise: Promise[str] = Promise()
    done = Outcome()
    if waiting:
        drive(wait_for(promise), done)
    promise.resolve("first")
    promise.resolve("second")
    promise.reject(InvalidToken("third"))
    if not waiting:
        drive(wait_for(promise), done)
    assert promise.settled
    assert done.value == ["first"]


def test_a_value_does_not_undo_a_refusal() -> None:
    promise: Promise[str] = Promise()
    refusal = InvalidToken("first")
    done = Outcome()
    drive(wait_for(promise), done)
    promise.reject(refusal)
    promise.resolve("second")
    assert done.error is refusal


def test_none_is_a_value() -> None:
    promise: Promise[None] = Promise()
    done = Outcome()
    drive(wait_for(promise), done)
    promise.resolve(None)
    assert done.value == [None]


def test_one_coroutine_may_settle_what_another_waits_for() -> None:
    asked: Promise[int] = Promise()
    answered: Promise[int] = Promise()

    async def answer() -> None:
        answered.resolve(2 * await asked)

    asking, answering = Outcome(), Outcome()
    drive(wait_for(answered), asking)
    drive(answer(), answering)
    asked.resolve(21)
    assert asking.value == [42]
    assert answering.value is None


def test_settle_returns_what_was_there_before() -> None:
    promise: Promise[int] = Promise()
    promise.resolve(1)
    assert asyncio.run(settle(wait_for(promise))) == [1]


def test_settle_waits_for_what_comes_later() -> None:
    async def use() -> list[int]:
        promises: list[Promise[int]] = [Promise() for _ in range(2)]
        loop = asyncio.get_running_loop()
        loop.call_soon(promises[0].resolve, 1)
        loop.call_soon(promises[1].resolve, 2)
        return await settle(wait_for(*promises))

    assert asyncio.run(use()) == [1, 2]


def test_settle_raises_a_refusal() -> None:
    async def use() -> None:
        promise: Promise[int] = Promise()
        asyncio.get_running_loop().call_soon(promise.reject, InvalidToken("The token was used."))
        await settle(wait_for(promise))

    with pytest.raises(InvalidToken, match="used"):
        asyncio.run(use())


def test_a_task_that_is_cancelled_ends_and_its_promise_may_still_be_settled() -> None:
    promise: Promise[int] = Promise()
    ended = []

    async def work() -> None:
        try:
            await promise
        finally:
            ended.append("work")

    async def use() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        promise.resolve(5)

    asyncio.run(use())
    assert ended == ["work"]


def test_a_promise_wakes_a_task_from_within_another_task() -> None:
    async def use() -> list[int]:
        promise: Promise[int] = Promise()
        waiting = asyncio.create_task(wait_for(promise))
        await asyncio.sleep(0)
        promise.resolve(7)
        return await waiting

    assert asyncio.run(use()) == [7]
