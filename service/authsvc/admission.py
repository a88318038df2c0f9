"""Admission: how many requests a worker has in flight, how long one may wait for its turn, and which are refused instead.

A request is in flight from when it is whole until its answer is known: slow senders and readers take no place. When all
places are taken, connections are not read and none is accepted, so what waits waits with its sender; what was read already
waits its turn in order, and is refused after the queue wait. Of those that waited unread that long, a share is refused
too, so that clients learn to slow down; no more than a share, for a refusal costs what an answer to another could use.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic

import structlog

from authsvc.errors import SlowDown
from authsvc.metrics import Counts
from authsvc.promise import Promise

log = structlog.get_logger(__name__)

REFUSED_SHARE = 0.25
"""Late requests refused for each one that is worked on."""
PRESSED_TURNS = 3
"""Turns of the event loop in a row that left something unread: before that, what is late was late because the process got no CPU."""
REFUSALS_PER_WAIT = 20
"""Refusals that each queue wait allows whatever is worked on: when all that has a place stands still, the others are told."""
_MOST_REFUSALS_SAVED = 50.0
BYTES_PER_ENTRY = 256
"""Redis memory that one stream entry is taken for, with a margin: one of a client id and scope of 30 characters together took
133 bytes on Valkey 9.1.2 with a request id of ours, 180 with the longest that a caller may send, and 110 more while a writer had it."""
BACKLOG_MEMORY_SHARE = 0.25
"""Share of Redis's memory that the backlog may fill unless a limit is set."""


def backlog_limit(configured: int | None, memory_limit_bytes: int) -> int:
    """Entries waiting to be written at which no more tokens are made; unless configured, as many as the backlog's share of memory holds."""
    return int(memory_limit_bytes * BACKLOG_MEMORY_SHARE / BYTES_PER_ENTRY) if configured is None else configured


class Admission:
    """The places of one worker. `max_in_flight` requests are worked on at once; none waits longer than `queue_wait_seconds`."""

    def __init__(self, counts: Counts, max_in_flight: int, queue_wait_seconds: float, backlog_limit: int | None = None) -> None:
        self._counts = counts
        self._max_in_flight = max_in_flight
        self._queue_wait_seconds = queue_wait_seconds
        self._backlog_limit = backlog_limit
        self._queue: deque[tuple[float, Promise[None]]] = deque()
        self._unread: deque[tuple[float, Callable[[], None]]] = deque()
        self._reading = self._pressed = False
        self._turn_began: float | None = None
        self._turn_ends = 0.0
        self._pressed_turns = 0
        self._refusals = _MOST_REFUSALS_SAVED
        self._backlog_full = False
        self._expiring: asyncio.TimerHandle | None = None
        self.on_pressure: Callable[[bool], None] = lambda pressed: None
        """Told when connections begin to wait unread (true) and when the last was read (false)."""

    def arrival(self) -> float:
        """When the bytes now being read may have arrived: the beginning of this turn of the event loop."""
        if self._turn_began is None:
            self._turn_began = monotonic()
            self._turn_ends = self._turn_began + self._queue_wait_seconds
            asyncio.get_running_loop().call_soon(self._end_turn)
        return self._turn_began

    def open_at(self) -> float | None:
        """`arrival`, or None while `closed`: both in one call, for every request makes it."""
        began = self._turn_began
        if began is None:
            began = self.arrival()
        elif monotonic() >= self._turn_ends:
            return None
        return None if self._counts.in_flight >= self._max_in_flight or self._queue else began

    @property
    def closed(self) -> bool:
        """Whether nothing more should be read now: every place is taken, or this turn has read all that it can answer in time."""
        return (
            self._counts.in_flight >= self._max_in_flight
            or bool(self._queue)
            or (self._turn_began is not None and monotonic() >= self._turn_ends)
        )

    def leave_unread(self, resume: Callable[[], None]) -> None:
        """Have `resume` called when there is room again, or to be refused; first come, first served."""
        if not self._pressed:
            self._pressed = True
            self.on_pressure(True)
        # There may be nothing in flight whose end would call them.
        self._unread.append((self.arrival(), resume))
        self._expire_later()

    def enter_at_once(self) -> float | None:
        """`open_at` and then `enter`, where there is a place and nobody is pressed: in one call. Else nothing happens (None)."""
        began = self._turn_began
        if began is None:
            began = self.arrival()
        elif monotonic() >= self._turn_ends:
            return None
        counts = self._counts
        if counts.in_flight >= self._max_in_flight or self._queue or self._pressed_turns >= PRESSED_TURNS:
            return None
        counts.in_flight += 1
        if self._refusals < _MOST_REFUSALS_SAVED:
            self._refusals += REFUSED_SHARE
        return began

    def enter(self, arrived: float) -> Promise[None] | None:
        """Take a place: at once (None), or when the promise is resolved. SlowDown, raised or in the promise, if it takes too long."""
        if self._counts.in_flight < self._max_in_flight and not self._queue:
            if self._pressed_turns >= PRESSED_TURNS and self._refusals >= 1 and self._too_long_since(arrived):
                self._refusals -= 1
                raise self._refusal()
            self._counts.in_flight += 1
            if self._refusals < _MOST_REFUSALS_SAVED:
                self._refusals += REFUSED_SHARE
            return None
        if self._too_long_since(arrived):
            raise self._refusal()
        turn: Promise[None] = Promise()
        self._queue.append((arrived, turn))
        self._expire_later()
        return turn

    def leave(self) -> None:
        """Give the place back."""
        self._counts.in_flight -= 1
        if self._queue:
            self._give_places()
        if self._unread:
            self._read_on()

    def _give_places(self) -> None:
        while self._queue and self._counts.in_flight < self._max_in_flight:
            _, turn = self._queue.popleft()
            self._counts.in_flight += 1
            turn.resolve(None)

    def see_backlog(self, entries: int, memory_limit_bytes: int) -> int:
        """Note how many entries wait to be written, and how much memory Redis has for everything; returns the limit that follows."""
        limit = backlog_limit(self._backlog_limit, memory_limit_bytes)
        self._backlog_full = entries >= limit
        return limit

    def check_backlog(self) -> None:
        """SlowDown while so many entries wait to be written that no more tokens should be made."""
        if self._backlog_full:
            self._counts.shed["backlog"] += 1
            raise SlowDown("Too many records wait to be written: try again after the time in Retry-After.")

    def _too_long_since(self, began: float) -> bool:
        return monotonic() - began >= self._queue_wait_seconds

    def _refusal(self) -> SlowDown:
        self._counts.shed["queue_wait"] += 1
        return SlowDown("Too many requests: try again after the time in Retry-After.")

    def _expire_later(self) -> None:
        if self._expiring is None and (self._queue or self._unread):
            oldest = min(waiting[0][0] for waiting in (self._queue, self._unread) if waiting)
            seconds = self._queue_wait_seconds - (monotonic() - oldest)
            self._expiring = asyncio.get_running_loop().call_later(max(seconds, 0.0) or self._queue_wait_seconds, self._expire)

    def _expire(self) -> None:
        """Refuse those who waited too long: all whose turn it would have been, and of the unread as many as may be."""
        self._expiring = None
        self._refusals = min(self._refusals + REFUSALS_PER_WAIT, _MOST_REFUSALS_SAVED)
        while self._queue and self._too_long_since(self._queue[0][0]):
            _, turn = self._queue.popleft()
            turn.reject(self._refusal())
        while self._unread and self._refusals >= 1 and self._too_long_since(self._unread[0][0]):
            self._refusals -= 1
            self._resume_oldest()
        self._read_on()
        self._expire_later()

    def _resume_oldest(self) -> None:
        try:
            self._unread.popleft()[1]()
        except Exception:
            # One connection failed; whoever gave his place back, and the others that wait, go on.
            log.exception("a connection that waited to be read failed")

    def _end_turn(self) -> None:
        self._turn_began = None
        self._read_on()
        self._pressed_turns = self._pressed_turns + 1 if self._unread else 0

    def _read_on(self) -> None:
        # What is answered at once gives its place back in here: the loop that is under way goes on, not another inside it.
        if self._reading:
            return
        self._reading = True
        try:
            while self._unread and not self.closed:
                self._resume_oldest()
        finally:
            self._reading = False
        if self._pressed and not self._unread:
            self._pressed = False
            self.on_pressure(False)
