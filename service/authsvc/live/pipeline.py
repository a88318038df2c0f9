"""The pipeline: the connection to Redis that is there now, made again with backoff whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import structlog

from authsvc.errors import Unavailable, reason_of
from authsvc.live.connection import VERSION_COMMAND, Call, CallOfSeveral, Connection, ScriptCall
from authsvc.live.keys import EVERY_SHARD
from authsvc.live.masters import Master
from authsvc.live.scripts import HOT, Script, pack

BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.0)

Admit = Callable[[Master], Awaitable[None]]
Observe = Callable[[float], None]

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


class Pipeline:
    """The connection that is there now, made again with backoff whenever it is lost."""

    def __init__(
        self,
        address: Address,
        timeout_seconds: float = 1.0,
        admit: Admit | None = None,
        observe_seconds: Observe = lambda seconds: None,
    ) -> None:
        """`admit` judges each new connection before callers get it; Unavailable from it means to try another one later.

        `observe_seconds` is told how long each batch waited for its first reply.
        """
        self._observe_seconds = observe_seconds
        self._address = address
        self._admit = admit
        self._timeout_seconds = timeout_seconds
        self._connection: Connection | None = None
        self._lost = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._down_since: float | None = None
        self.shards: Sequence[Pipeline] = (self,) * len(EVERY_SHARD)
        """Which pipeline leads to each shard: over one server this one to all."""

    @property
    def masters(self) -> Sequence[Master]:
        """Whom to ask when everyone must be: over one server, it alone."""
        return (self._master(self.call),)

    @property
    def silent_since(self) -> float | None:
        """Monotonic time since which Redis has answered nothing of what it was asked; None while it owes nothing."""
        if self._down_since is not None or self._connection is None:
            return self._down_since
        return self._connection.unanswered_since

    @property
    def certificate_expiry(self) -> float | None:
        """When the certificate ends that Redis shows on the connection that is there now, Unix time; None without TLS."""
        certificate = None if self._connection is None else self._connection.certificate
        return None if certificate is None else ssl.cert_time_to_seconds(str(certificate["notAfter"]))

    def start(self) -> None:
        """Connect in the background and stay connected."""
        self._down_since = monotonic()
        self._keeper = asyncio.create_task(self._keep_connected())

    async def connect(self) -> None:
        """Connect once, for a command that ends when Redis is out of reach (Unavailable)."""
        try:
            self._connection = await self._connect()
        except (OSError, TimeoutError) as error:
            raise Unavailable(f"Redis is out of reach: {reason_of(error)}.") from error

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

    def call(self, command: bytes, replies: int = 1) -> Call:
        """Ask; the reply is awaited. `command` may be several packed commands, then the reply is a list."""
        call = Call() if replies == 1 else CallOfSeveral(replies)
        connection = self._connection
        if connection is not None:
            connection.send(command, call)
        else:
            self._send(command, call)
        return call

    def run(self, script: Script, keys: tuple[bytes, ...], *args: bytes | int) -> Call:
        """Run a script."""
        call = ScriptCall(lambda: script.fallback(keys, *args))
        self._send(script.command(keys, *args), call)
        return call

    def ask_version(self) -> Call:
        """Ask for nothing but the version that stands before every batch."""
        call = Call()
        self._send(VERSION_COMMAND, call)
        return call

    def _send(self, command: bytes, call: Call) -> None:
        if self._connection is None:
            call.reject(Unavailable("The shared store is out of reach."))
        else:
            self._connection.send(command, call)

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                self._connection = await self._connect()
            except (OSError, TimeoutError, Unavailable) as error:
                if self._down_since is None:
                    self._down_since = monotonic()
                if failures == 0:
                    log.warning("redis is out of reach", error=str(error) or type(error).__name__)
                await asyncio.sleep(BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)])
                failures += 1
                continue
            failures = 0
            self._down_since = None
            log.info("connected to redis", host=self._address.host, port=self._address.port)
            await self._lost.wait()
            self._down_since = self._connection.silent_from
            self._connection = None

    async def _connect(self) -> Connection:
        """Connect, log in and load the scripts; only then is the connection given to callers."""
        self._lost = lost = asyncio.Event()
        address = self._address
        async with asyncio.timeout(2 * self._timeout_seconds):
            _, connection = await asyncio.get_running_loop().create_connection(
                lambda: self._new_connection(lost.set),
                address.host,
                address.port,
                ssl=address.tls,
                server_hostname=address.host if address.tls else None,
            )
            try:
                await self._greet(connection)
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

        def ask(command: bytes, replies: int = 1) -> Call:
            call = new_call(replies)
            connection.send(command, call)
            return call

        for command in commands:
            await ask(pack(*command))
        if self._admit is not None:
            await self._admit(self._master(ask))

    def _new_connection(self, on_lost: Callable[[], None]) -> Connection:
        return Connection(self._timeout_seconds, on_lost, self._observe_seconds)

    def _master(self, ask: Callable[..., Call]) -> Master:
        return Master(ask, EVERY_SHARD, EVERY_SHARD[:1])


def new_call(replies: int) -> Call:
    """A call of one command, or of several packed together."""
    return Call() if replies == 1 else CallOfSeveral(replies)
