"""The pipeline: one connection to Redis on which all that is asked in one turn of the event loop leaves in one write.

Order is the whole contract: Redis answers in the order it was asked, so every call keeps its place until its reply has
come, whether or not anyone still waits for it. Nothing is sent again but what was surely not applied (NOSCRIPT). Every
batch begins with a GET of the directory's version, so each reply is known to be as new as that version.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import hiredis
import structlog

from authsvc.errors import Unavailable
from authsvc.live.keys import HOME_VERSION
from authsvc.live.scripts import HOT, Script, pack
from authsvc.promise import Promise, settle

Reply = Any
"""bytes, int, None, a list of these, or (for calls of several commands) an Unavailable in a failed one's place."""

MAX_WAITING = 50_000
"""Calls without an answer; more are refused at once, so that a stuck server costs no memory."""
CHECK_SECONDS = 0.05
BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
_VERSION_COMMAND = pack(b"GET", HOME_VERSION)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Address:
    """Where Redis is and how to get in."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    database: int = 0
    tls: ssl.SSLContext | None = None


class Call(Promise[Reply]):
    """A place in the pipeline. After it was awaited, `version` is what its batch saw (None: there is none)."""

    __slots__ = ("_expected", "_fallback", "_replies", "version")

    def __init__(self, expected: int = 1, fallback: Callable[[], bytes] | None = None) -> None:
        super().__init__()
        self.version: bytes | None = None
        self._expected = expected
        self._fallback = fallback
        self._replies: list[Reply] | None = [] if expected > 1 else None

    def take(self, reply: Reply, version: bytes | None) -> bytes | None:
        """Take the next reply; returns what must be sent instead when the script was not known."""
        if isinstance(reply, hiredis.ReplyError):
            fallback, self._fallback = self._fallback, None
            if fallback is not None and str(reply).startswith("NOSCRIPT"):
                return fallback()
            reply = translate(reply)
            if self._replies is None:
                self.version = version
                self.reject(reply)
                return None
        if self._replies is not None:
            self._replies.append(reply)
            if len(self._replies) < self._expected:
                return None
            reply = self._replies
        self.version = version
        self.resolve(reply)
        return None


class _Batch:
    """The place of a batch's version reply; remembers when the batch was sent."""

    __slots__ = ("sent_at",)

    def __init__(self, sent_at: float) -> None:
        self.sent_at = sent_at


def translate(error: hiredis.ReplyError) -> Unavailable:
    """A refusal of Redis as ours: the one place where its error words are read."""
    word = str(error).partition(" ")[0]
    if word == "OOM":
        return Unavailable("The shared store is full.")
    if word not in ("LOADING", "READONLY", "MASTERDOWN", "MISCONF", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS"):
        log.error("redis refused a command", error=str(error))
    return Unavailable("The shared store cannot answer now.")


class Connection(asyncio.Protocol):
    """One socket to Redis: orders calls, batches writes, and fails all that wait when anything is wrong."""

    def __init__(self, timeout_seconds: float, on_lost: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._timeout_seconds = timeout_seconds
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Call | _Batch] = deque()
        self._buffer: list[bytes] = []
        self._version: bytes | None = None
        self._sent_at = self._loop.time()
        self._check: asyncio.TimerHandle | None = None
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio.Transport, but are none.
        self._transport = cast(asyncio.Transport, transport)
        self._check = self._loop.call_later(CHECK_SECONDS, self._expire)

    def send(self, command: bytes, call: Call) -> None:
        """Add one call (perhaps of several commands packed together) to this turn's batch."""
        if self.lost:
            call.reject(Unavailable("The shared store is out of reach."))
        elif self._paused or len(self._waiting) > MAX_WAITING:
            call.reject(Unavailable("The shared store does not keep up."))
        else:
            if not self._buffer:
                self._loop.call_soon(self._flush)
                self._buffer.append(_VERSION_COMMAND)
                self._waiting.append(_Batch(self._loop.time()))
            self._buffer.append(command)
            self._waiting.append(call)

    def _flush(self) -> None:
        if self._buffer and self._transport is not None and not self.lost:
            self._transport.write(b"".join(self._buffer))
        self._buffer.clear()

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                self._deliver(reply)
        except hiredis.ProtocolError as error:
            self._fail(f"protocol error: {error}")

    def _deliver(self, reply: Reply) -> None:
        if not self._waiting:
            self._fail("a reply that nobody asked for")
            return
        place = self._waiting[0]
        if isinstance(place, _Batch):
            self._waiting.popleft()
            self._sent_at = place.sent_at
            # An error in place of the version (LOADING, say) is no version: everyone who depends on it gets 503.
            self._version = reply if isinstance(reply, bytes) else None
            return
        # A call of several commands keeps the head of the queue until its last reply.
        last = place._replies is None or len(place._replies) + 1 >= place._expected
        if last:
            self._waiting.popleft()
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
        sent_at, now = self._sent_at, self._loop.time()
        for place in list(self._waiting):
            if isinstance(place, _Batch):
                sent_at = place.sent_at
            if now - sent_at < self._timeout_seconds:
                break
            if now - sent_at > 2 * self._timeout_seconds:
                self._fail("no answer in time")
                return
            if isinstance(place, Call):
                _refuse(place, "The shared store did not answer in time.")
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
        if reason != "closed":
            log.warning("connection to redis lost", reason=reason, waiting=len(self._waiting))
        if self._check is not None:
            self._check.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        for place in waiting:
            if isinstance(place, Call):
                _refuse(place, "The shared store is out of reach.")
        self._on_lost()


def _refuse(call: Call, reason: str) -> None:
    """Reject a call among others: if its caller's continuation fails, the others are refused all the same."""
    try:
        call.reject(Unavailable(reason))
    except Exception:
        log.exception("a caller of the pipeline failed")


class Pipeline:
    """The connection that is there now, made again with backoff whenever it is lost."""

    def __init__(
        self,
        address: Address,
        timeout_seconds: float = 1.0,
        on_connected: Callable[[Connection], Awaitable[None]] | None = None,
    ) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._on_connected = on_connected
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self.down_since: float | None = None
        """Loop time since which Redis is out of reach; None while it is in reach."""

    def start(self) -> None:
        """Connect in the background and stay connected."""
        self.down_since = asyncio.get_running_loop().time()
        self._keeper = asyncio.create_task(self._keep_connected())

    async def connect(self) -> None:
        """Connect once, for a command that ends when Redis is out of reach (Unavailable)."""
        try:
            self._connection = await self._connect()
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"Redis is out of reach: {error or type(error).__name__}.") from error

    async def close(self) -> None:
        """Stop and refuse whoever still waits."""
        if self._keeper is not None:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, command: bytes = b"", replies: int = 1) -> Call:
        """Ask; the reply is awaited. `command` may be several packed commands, then the reply is a list."""
        call = Call(replies)
        self._send(command, call)
        return call

    def run(self, script: Script, keys: tuple[bytes, ...], *args: bytes | int) -> Call:
        """Run a script."""
        call = Call(fallback=lambda: script.fallback(keys, *args))
        self._send(script.command(keys, *args), call)
        return call

    def ask_version(self) -> Call:
        """Ask for nothing but the version that stands before every batch."""
        call = Call()
        self._send(_VERSION_COMMAND, call)
        return call

    def _send(self, command: bytes, call: Call) -> None:
        if self._connection is None:
            call.reject(Unavailable("The shared store is out of reach."))
        else:
            self._connection.send(command, call)

    async def _keep_connected(self) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            try:
                self._connection = await self._connect()
            except (OSError, TimeoutError, Unavailable) as error:
                if self.down_since is None:
                    self.down_since = loop.time()
                if failures == 0:
                    log.warning("redis is out of reach", error=str(error) or type(error).__name__)
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            self.down_since = None
            log.info("connected to redis", host=self._address.host, port=self._address.port)
            await self._lost.wait()
            self._connection = None
            self.down_since = loop.time()

    async def _connect(self) -> Connection:
        """Connect, log in and load the scripts; only then is the connection given to callers."""
        self._lost = lost = asyncio.Event()
        address, timeout = self._address, self._timeout_seconds
        async with asyncio.timeout(2 * timeout):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: Connection(timeout, lost.set),
                address.host,
                address.port,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
            )
            try:
                await self._greet(connection)
                if self._on_connected is not None:
                    await self._on_connected(connection)
            except BaseException:
                connection.close()
                raise
        return connection

    async def _greet(self, connection: Connection) -> None:
        address = self._address
        commands: list[tuple[bytes | str | int, ...]] = []
        if address.password is not None:
            commands.append((b"AUTH", address.username or "default", address.password))
        if address.database:
            commands.append((b"SELECT", address.database))
        commands += [(b"SCRIPT", b"LOAD", script.text) for script in HOT]
        for command in commands:
            await settle(_reply(connection, pack(*command)))


async def _reply(connection: Connection, command: bytes) -> Reply:
    call = Call()
    connection.send(command, call)
    return await call
