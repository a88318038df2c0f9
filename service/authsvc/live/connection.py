"""One connection to Redis on which all that is asked in one turn of the event loop leaves in one write.

Order is the whole contract: Redis answers in the order it was asked, so every call keeps its place until its reply has
come, whether or not anyone still waits for it. Nothing is sent again but what was surely not applied (NOSCRIPT). Every
batch begins with a GET of the directory's version, so each reply is known to be as new as that version.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

import hiredis
import structlog

from authsvc.errors import Unavailable
from authsvc.live.keys import HOME_VERSION
from authsvc.live.refusals import Moved, translate
from authsvc.live.scripts import pack
from authsvc.promise import Promise

Reply = Any
"""bytes, int, None or a list of these."""

MAX_WAITING = 50_000
"""Calls without an answer; more are refused at once, so that a stuck server costs no memory."""
CHECK_SECONDS = 0.05
VERSION_COMMAND = pack(b"GET", HOME_VERSION)

log = structlog.get_logger(__name__)


class Call(Promise[Reply]):
    """A place in the pipeline. After it was awaited, `version` is what its batch saw (None: there is none)."""

    __slots__ = ("command", "version")
    command: bytes | None
    """Only over a cluster: what is sent again when another master has the key; None when it was sent again already."""

    def __init__(self) -> None:
        # As Promise does: a call to it would cost as much again, on every request.
        self.settled = False
        self._resume = None
        self._value = None
        self._error = None
        self.version: bytes | None = None

    def take(self, reply: Reply, version: bytes | None) -> bytes | None:
        """Take the next reply; returns what must be sent instead when it was surely not applied."""
        self.version = version
        if isinstance(reply, hiredis.ReplyError):
            self.reject(translate(reply))
        elif not self.settled:
            # As `resolve` does.
            self.settled = True
            self._value = reply
            if self._resume is not None:
                self._resume()
        return None


class ScriptCall(Call):
    """A call of a script by its digest, sent once more by its text when the server does not know it."""

    __slots__ = ("_text",)

    def __init__(self, text: Callable[[], bytes]) -> None:
        super().__init__()
        self._text: Callable[[], bytes] | None = text

    def take(self, reply: Reply, version: bytes | None) -> bytes | None:
        text, self._text = self._text, None
        if text is not None and isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            return text()
        return super().take(reply, version)


class CallOfSeveral(Call):
    """Several commands in one place; the reply is a list, with an Unavailable in a failed one's place."""

    __slots__ = ("missing", "replies")

    def __init__(self, expected: int) -> None:
        super().__init__()
        self.missing = expected
        self.replies: list[Reply] = []

    @property
    def all_moved(self) -> bool:
        """Whether nothing was done so far: another master has the keys of all that was answered."""
        return all(isinstance(reply, Moved) for reply in self.replies)

    def begin_again(self) -> None:
        """Forget the replies: all will be sent once more."""
        self.missing += len(self.replies)
        self.replies.clear()

    def take(self, reply: Reply, version: bytes | None) -> bytes | None:
        self.missing -= 1
        self.replies.append(translate(reply) if isinstance(reply, hiredis.ReplyError) else reply)
        return None if self.missing else super().take(self.replies, version)


class Batch:
    """The place of a batch's version reply; remembers when the batch was sent."""

    __slots__ = ("sent_at",)

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at


class Connection(asyncio.Protocol):
    """One socket to Redis: orders calls, batches writes, and fails all that wait when anything is wrong."""

    def __init__(
        self,
        timeout_seconds: float,
        on_lost: Callable[[], None],
        observe_seconds: Callable[[float], None] = lambda seconds: None,
        version_command: bytes = VERSION_COMMAND,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_seconds = timeout_seconds
        self._on_lost = on_lost
        self._observe_seconds = observe_seconds
        self.version_command = version_command
        self._reader = hiredis.Reader()
        self._waiting: deque[Call | Batch] = deque()
        self._buffer: list[bytes] = []
        self._version: bytes | None = None
        self._sent_at = monotonic()
        self._check: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.lost = False
        self.silent_from = 0.0
        """Of a lost connection: monotonic time since which it had answered nothing."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, but are none.
        self._transport = cast(asyncio.Transport, transport)
        self._check = self._loop.call_later(CHECK_SECONDS, self._expire)

    @property
    def certificate(self) -> dict[str, Any] | None:
        """What the server's certificate says, checked when the connection was made; None without TLS."""
        return self._transport.get_extra_info("peercert") if self._transport is not None else None

    @property
    def unanswered_since(self) -> float | None:
        """Monotonic time at which the oldest batch without a whole answer was sent; None when nothing is owed."""
        if not self._waiting:
            return None
        oldest = self._waiting[0]
        return oldest.sent_at if isinstance(oldest, Batch) else self._sent_at

    def send(self, command: bytes, call: Call) -> None:
        """Add one call (perhaps of several commands packed together) to this turn's batch."""
        if self.lost:
            call.reject(Unavailable("The shared store is out of reach."))
        elif self._paused or len(self._waiting) > MAX_WAITING:
            call.reject(Unavailable("The shared store does not keep up."))
        else:
            if not self._buffer:
                self._loop.call_soon(self._flush)
                self._buffer.append(self.version_command)
                self._waiting.append(Batch(monotonic()))
            self._buffer.append(command)
            self._waiting.append(call)

    def _flush(self) -> None:
        if self._buffer and self._transport is not None and not self.lost:
            self._transport.write(b"".join(self._buffer))
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            next_reply, waiting = self._reader.gets, self._waiting
            while (reply := next_reply()) is not False:
                # Most replies are bytes, for one who still waits: as `_deliver` and `take` do, without a call of Python's for each.
                place = waiting[0] if waiting else None
                if (type(place) is Call or type(place) is CallOfSeveral) and type(reply) is bytes and not place.settled:
                    if type(place) is CallOfSeveral:
                        place.missing -= 1
                        place.replies.append(reply)
                        if place.missing:
                            continue
                        reply = place.replies
                    waiting.popleft()
                    place.version = self._version
                    place.settled = True
                    place._value = reply
                    if place._resume is not None:
                        try:
                            place._resume()
                        except Exception:
                            # One caller's continuation failed; the others' replies are still good.
                            log.exception("a caller of the pipeline failed")
                else:
                    self._deliver(reply)
        except hiredis.ProtocolError as error:
            self._fail(f"protocol error: {error}")

    def _deliver(self, reply: Reply) -> None:
        if not self._waiting:
            self._fail("a reply that nobody asked for")
            return
        place = self._waiting.popleft()
        if isinstance(place, Batch):
            self._sent_at = place.sent_at
            self._observe_seconds(monotonic() - place.sent_at)
            # An error in place of the version (LOADING, say) is no version: everyone who depends on it gets 503.
            self._version = reply if isinstance(reply, bytes) else None
            return
        if isinstance(place, CallOfSeveral) and place.missing > 1:
            # It keeps the head of the queue until its last reply.
            self._waiting.appendleft(place)
        try:
            again = place.take(reply, self._version)
            if again is not None:
                self.send(again, place)
        except Exception:
            # One caller's continuation failed; the others' replies are still good.
            log.exception("a caller of the pipeline failed")

    def _expire(self) -> None:
        """Give up for callers who waited too long, and give up the connection when its head is stuck."""
        if self.lost:
            return
        sent_at, now = self._sent_at, monotonic()
        for place in list(self._waiting):
            if isinstance(place, Batch):
                sent_at = place.sent_at
            if now - sent_at < self._timeout_seconds:
                break
            if now - sent_at > 2 * self._timeout_seconds:
                self._fail("no answer in time")
                return
            if isinstance(place, Call):
                refuse(place, "The shared store did not answer in time.")
        self._check = self._loop.call_later(CHECK_SECONDS, self._expire)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc) if exc else "closed by the server")

    def close(self) -> None:
        """Close for good; whoever still waits is refused."""
        self._fail("closed")

    def _fail(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = True
        self.silent_from = self.unanswered_since or monotonic()
        if reason != "closed":
            log.warning("connection to redis lost", reason=reason, waiting=len(self._waiting))
        if self._check is not None:
            self._check.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for place in waiting:
            if isinstance(place, Call):
                refuse(place, "The shared store is out of reach.")
        self._on_lost()


def refuse(call: Call, reason: str) -> None:
    """Reject a call among others: if its caller's continuation fails, the others are refused all the same."""
    try:
        call.reject(Unavailable(reason))
    except Exception:
        log.exception("a caller of the pipeline failed")
