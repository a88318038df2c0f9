"""The pool of sessions with Oracle: a driver's pool for each password, its counts, and sessions that broke."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import oracledb

from authsvc.errors import RecordsUnavailable
from authsvc.records.contract import Connections
from authsvc.records.oracle_driver import UnusedSessions
from authsvc.records.oracle_errors import code_of, driver_errors
from authsvc.records.oracle_settings import Address, PoolSettings, how_to_connect, load_client_libraries, read_password
from authsvc.records.oracle_threads import ThreadedPool


@dataclass(eq=False)
class _Made:
    """A pool of the driver's, and the password that it was made with. One that was replaced is closed by who leaves it last."""

    pool: Any
    password: str | None
    users: int = 0
    """Those who have one of its sessions, or wait for one."""
    stuck_since: float | None = None
    """Since when (`time.monotonic`) it has opened no session, though one was asked for."""
    unused: UnusedSessions = field(default_factory=UnusedSessions)


@dataclass(frozen=True)
class _Refusal:
    """A password that the database refused, and when it may be shown once more."""

    error: oracledb.Error
    password: str | None
    tries: int
    until: float


REFUSED_SECONDS = (60.0, 600.0)
"""Waits after the first and every further refusal of a password, which the driver shows twice: databases lock an account after some."""
UNUSED_POLL_SECONDS = 0.02


class Pool:
    """Sessions for one process. A password that is refused is read again from its file, so that it may be changed while we run."""

    def __init__(self, url: str, settings: PoolSettings) -> None:
        self._address = Address.parse(url)
        self._settings = settings
        self._made: _Made | None = None
        self._homes: dict[Any, _Made] = {}
        """Where each session that is used came from."""
        self._refusal: _Refusal | None = None
        self._turn = asyncio.Lock()
        """Of those who may have a session only if it is open."""
        self._waiting = 0
        self._used = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self.lost = 0
        """Sessions that broke in use."""

    @property
    def where(self) -> str:
        """The database as people know it, without the password."""
        return f"{self._address.user}@{self._address.dsn}"

    def connections(self) -> Connections:
        """How many sessions there are, and how many of them nobody uses."""
        pools = [made.pool for made in {self._made, *self._homes.values()} if made is not None]
        opened, busy = (sum(pool.opened for pool in pools), sum(pool.busy for pool in pools))
        return Connections(opened, opened - busy, self._waiting, self.lost)

    async def acquire(self) -> Any:
        """A session; RecordsUnavailable or OperatorError if there is none."""
        self._used += 1
        self._unused.clear()
        try:
            return await self._acquired()
        except BaseException:
            self._not_used()
            raise

    async def _acquired(self) -> Any:
        with driver_errors(self.where):
            made = self._made = self._made or self._make()
            refusal = self._refusal
            if refusal is not None and made.password == refusal.password:
                if self._read_password() != refusal.password:
                    await self._disconnect()
                    made = self._made = self._made or self._make()
                elif monotonic() < refusal.until:
                    return await self._session_without_password(made, refusal)
            try:
                return await self._session_of(made)
            except oracledb.Error as error:
                if not self._is_outdated(made, code_of(error)):
                    raise
            if made is self._made:
                await self._disconnect()
            made = self._made = self._made or self._make()
            return await self._session_of(made)

    async def _session_without_password(self, made: _Made, refusal: _Refusal) -> Any:
        """One of those that are open, as long as the password is not to be shown; who is first waits first."""
        deadline = monotonic() + self._settings.wait_timeout
        self._waiting += 1
        try:
            async with self._turn:
                while made.pool.opened == made.pool.busy and made.pool.busy and monotonic() < deadline:
                    await asyncio.sleep(UNUSED_POLL_SECONDS)
                if made.pool.opened > made.pool.busy:
                    return await self._session_of(made)
        finally:
            self._waiting -= 1
        # A new one: what is raised again keeps every place where it was raised.
        raise type(refusal.error)(*refusal.error.args)

    def _note_refusal(self, made: _Made, error: BaseException) -> None:
        if isinstance(error, oracledb.Error) and code_of(error) == "ORA-01017":
            earlier = self._refusal
            tries = earlier.tries + 1 if earlier is not None and earlier.password == made.password else 1
            wait = REFUSED_SECONDS[min(tries, len(REFUSED_SECONDS)) - 1]
            self._refusal = _Refusal(error, made.password, tries, monotonic() + wait)

    def _is_outdated(self, made: _Made, code: str) -> bool:
        """Whether a new pool may do better: with another password, or where the driver waits for ever for a server that says nothing."""
        if code == "ORA-01017":
            return made is not self._made or self._read_password() != made.password
        if code == "DPY-4005" and made.pool.opened == 0:
            made.stuck_since = made.stuck_since or monotonic()
            return monotonic() - made.stuck_since > self._settings.call_timeout
        return False

    async def release(self, session: Any, *, broken: bool) -> None:
        """Give a session back, or drop one that cannot be trusted any more."""
        made = self._homes.pop(session)
        try:
            if broken:
                await self._drop(made.pool, session)
            else:
                made.unused.add(session)
                await _quietly(lambda: made.pool.release(session))
        finally:
            # Also of a caller that was cancelled meanwhile.
            try:
                await self._leave(made)
            finally:
                self._not_used()

    async def close(self) -> None:
        """Close every session, when the transactions under way are over; each of their calls has its timeout."""
        await self._unused.wait()
        await self._disconnect()

    def _not_used(self) -> None:
        self._used -= 1
        if self._used == 0:
            self._unused.set()

    async def _disconnect(self) -> None:
        made, self._made = self._made, None
        if made is not None:
            await self._close_if_left(made)

    async def _leave(self, made: _Made) -> None:
        made.users -= 1
        await self._close_if_left(made)

    async def _close_if_left(self, made: _Made) -> None:
        if made is self._made or made.users:
            return
        # Who waits for a server that says nothing waits for ever, but for this.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.wait_timeout):
                await _quietly(lambda: made.pool.close(force=True))

    async def _session_of(self, made: _Made) -> Any:
        made.users += 1
        opened = made.pool.opened
        try:
            session = await self._healthy_session_of(made)
        except BaseException as error:
            self._note_refusal(made, error)
            await self._leave(made)
            raise
        self._homes[session] = made
        made.stuck_since = None
        if made.pool.opened > opened:
            self._refusal = None
        return session

    async def _healthy_session_of(self, made: _Made) -> Any:
        await _quietly(made.unused.close_lost)
        # As many as there may be, and one that is new.
        for _ in range(self._settings.max + 1):
            self._waiting += 1
            try:
                session = await made.pool.acquire()
            finally:
                self._waiting -= 1
            made.unused.remove(session)
            # One that was cut while nobody used it may be handed out all the same: the driver crashes (SIGSEGV) when it is told a timeout.
            if session.is_healthy():
                session.call_timeout = int(self._settings.call_timeout * 1000)
                return session
            await self._drop(made.pool, session)
        raise RecordsUnavailable(f"The record store {self.where} closes every session at once.")

    async def _drop(self, pool: Any, session: Any) -> None:
        self.lost += 1
        # The driver keeps for ever what it drops after it was cut; given back it is forgotten.
        leave = pool.drop if session.is_healthy() else pool.release
        await _quietly(lambda: leave(session))

    def _make(self) -> _Made:
        settings, password = self._settings, self._read_password()
        load_client_libraries(settings)
        create = ThreadedPool if settings.thick_mode or settings.in_threads else oracledb.create_pool_async
        pool = create(
            **how_to_connect(self._address, settings, password),
            min=settings.min,
            max=settings.max,
            increment=1,
            getmode=oracledb.POOL_GETMODE_TIMEDWAIT,
            wait_timeout=int(settings.wait_timeout * 1000),
            timeout=settings.timeout,
            max_lifetime_session=settings.max_lifetime_session,
            ping_interval=settings.ping_interval,
            stmtcachesize=settings.stmtcachesize,
        )
        return _Made(pool, password)

    def _read_password(self) -> str | None:
        return read_password(self._address, self._settings)


async def try_to_connect(url: str, settings: PoolSettings) -> None:
    """Log on once and raise as a pool does, in time."""
    pool = Pool(url, settings)
    try:
        await pool.release(await pool.acquire(), broken=False)
    finally:
        await pool.close()


async def _quietly(step: Callable[[], Any]) -> None:
    """Of a session that is given back nothing is expected: a lost one raises, and was counted where it was used."""
    try:
        await step()
    except (oracledb.Error, OSError, RecordsUnavailable):
        return
