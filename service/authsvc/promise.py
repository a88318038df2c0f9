"""Promises: how a coroutine waits for a reply, whether a task runs it or nobody but the reply itself.

A use case is a plain coroutine that awaits nothing but promises. Under ASGI the server's task awaits it, and a promise is what
asyncio takes for a future, without the cost of one. `drive` runs it with no task at all, inside the call that settles its
promise; the tests stop use cases between two replies that way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from functools import partial
from typing import Any, Generic, TypeVar, cast

T = TypeVar("T")


class Promise(Generic[T]):
    """A value that comes later. Settled once; anything after that is ignored. Awaited by at most one coroutine.

    It may be awaited by a coroutine that is driven and by an asyncio task alike: for a task it has what asyncio asks of a
    future (`asyncio.isfuture`), without being one.
    """

    __slots__ = ("_asyncio_future_blocking", "_error", "_resume", "_value", "settled")

    def __init__(self) -> None:
        self.settled = False
        self._resume: Callable[[], object] | None = None
        self._value: T | None = None
        self._error: BaseException | None = None

    def resolve(self, value: T) -> None:
        """Settle with a value and run the waiting coroutine on."""
        if not self.settled:
            self.settled = True
            self._value = value
            if self._resume is not None:
                self._resume()

    def reject(self, error: BaseException) -> None:
        """Settle with an error, raised where the promise is awaited."""
        if not self.settled:
            self.settled = True
            self._error = error
            if self._resume is not None:
                self._resume()

    def when_settled(self, resume: Callable[[], object]) -> None:
        """Have `resume` called when the promise is settled; only for the one who drives the coroutine."""
        self._resume = resume

    def result(self) -> T:
        """What the promise was settled with."""
        if self._error is not None:
            raise self._error
        return cast(T, self._value)

    def __await__(self) -> Generator[Promise[Any], None, T]:
        if not self.settled:
            self._asyncio_future_blocking = True
            yield self
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value] # settled without an error, so there is a value

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task that awaits."""
        return asyncio.get_running_loop()

    def add_done_callback(self, callback: Callable[..., object], *, context: Context | None = None) -> None:
        """Wake the task that awaits; by the loop, for one task must not run inside another."""
        self._resume = partial(asyncio.get_running_loop().call_soon, callback, self, context=context)

    def cancel(self, msg: object = None) -> bool:
        """Settle with a cancellation, when the task that awaits is cancelled."""
        if self.settled:
            return False
        self.reject(asyncio.CancelledError())
        return True


def drive(coroutine: Coroutine[Promise[Any], None, T], done: Callable[[T | None, Exception | None], None]) -> None:
    """Run a coroutine that awaits nothing but promises; `done(value, error)` is called once, perhaps before this returns."""

    try:
        # As `when_settled` does.
        coroutine.send(None)._resume = partial(drive, coroutine, done)
    except StopIteration as finished:
        value, error = finished.value, None
    except Exception as raised:
        value, error = None, raised
    else:
        return
    done(value, error)
    # Its traceback holds this frame: each would keep the other, and the request, until somebody looks for garbage.
    error = None


async def settle(coroutine: Coroutine[Promise[Any], None, T]) -> T:
    """Run such a coroutine to its end from ordinary asyncio code."""
    return await cast(Coroutine[Any, Any, T], coroutine)
