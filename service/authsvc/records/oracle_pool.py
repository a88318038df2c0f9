"""The pool of sessions with Oracle: its levers by the driver's names, the budget they must fit, and a password that may change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import oracledb

from authsvc.errors import OperatorError, RecordsUnavailable
from authsvc.records.contract import Connections
from authsvc.records.oracle_errors import code_of, driver_errors

SHAPE = "The address of an Oracle database is oracle://USER@HOST:PORT/SERVICE, or oracle://USER@ALIAS for a name in tnsnames.ora."


@dataclass(frozen=True)
class PoolSettings:
    """The levers, in seconds, by the names that `oracledb.create_pool` has for them (https://python-oracledb.readthedocs.io)."""

    max: int = 4
    min: int = 1
    max_lifetime_session: int = 1800
    timeout: int = 300
    """Idle sessions are closed after this."""
    wait_timeout: float = 5.0
    """Longest wait for a session of the pool."""
    ping_interval: int = 30
    stmtcachesize: int = 40
    call_timeout: float = 30.0
    password: str | None = None
    password_file: Path | None = None
    config_dir: Path | None = None
    """Holds tnsnames.ora and the wallet (TNS_ADMIN)."""
    wallet_password: str | None = None
    session_limit: int | None = None
    session_reserve: int = 10
    writers: int = 1
    thick_mode: bool = False


@dataclass(frozen=True)
class Address:
    """Which database, as whom."""

    user: str
    dsn: str
    password: str | None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Read `oracle://USER[:PASSWORD]@DSN`; OperatorError if it is none."""
        try:
            parts = urlsplit(url)
            dsn = parts.netloc.rpartition("@")[2] + parts.path
        except ValueError as error:
            raise OperatorError(SHAPE) from error
        if parts.scheme != "oracle" or not parts.username or not dsn or parts.query or parts.fragment:
            raise OperatorError(SHAPE)
        return cls(unquote(parts.username), dsn, unquote(parts.password) if parts.password else None)


def check_budget(settings: PoolSettings, limit: int | None, whose: str) -> None:
    """OperatorError with the sum written out when the pools of all writers do not fit into this limit."""
    needed = settings.writers * settings.max + settings.session_reserve
    if limit is not None and needed > limit:
        raise OperatorError(
            f"{settings.writers} writers x {settings.max} sessions + {settings.session_reserve} in reserve = {needed} sessions, but"
            f" {whose} allows {limit}: lower AUTH_ORACLE_POOL_MAX, AUTH_ORACLE_WRITERS or AUTH_ORACLE_SESSION_RESERVE, or raise the limit."
        )


class Pool:
    """Sessions for one process. A password that is refused is read again from its file, so that it may be changed while we run."""

    def __init__(self, url: str, settings: PoolSettings) -> None:
        self._address = Address.parse(url)
        self._settings = settings
        self._pool: Any = None
        self._password: str | None = None
        self._waiting = 0
        self._used = 0
        self._unused = asyncio.Event()
        self._unused.set()
        self.lost = 0
        """Sessions that broke."""

    @property
    def where(self) -> str:
        """The database as people know it, without the password."""
        return f"{self._address.user}@{self._address.dsn}"

    def connections(self) -> Connections:
        """How many sessions there are, and how many of them nobody uses."""
        opened, busy = (0, 0) if self._pool is None else (self._pool.opened, self._pool.busy)
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
        try:
            return await self._acquire()
        except oracledb.Error as error:
            if code_of(error) != "ORA-01017" or self._read_password() == self._password:
                with driver_errors(self.where):
                    raise
        await self._disconnect()
        with driver_errors(self.where):
            return await self._acquire()

    async def release(self, session: Any, *, broken: bool) -> None:
        """Give a session back, or drop one that cannot be trusted any more."""
        self._not_used()
        if self._pool is None:
            return
        if broken:
            await self._drop(self._pool, session)
        else:
            await _quietly(lambda: self._pool.release(session))

    async def close(self) -> None:
        """Close every session, when the transactions under way are over; each of their calls has its timeout."""
        await self._unused.wait()
        await self._disconnect()

    def _not_used(self) -> None:
        self._used -= 1
        if self._used == 0:
            self._unused.set()

    async def _disconnect(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            await _quietly(lambda: pool.close(force=True))

    async def _acquire(self) -> Any:
        if self._pool is None:
            self._pool = self._make()
        pool = self._pool
        # As many as there may be, and one that is new.
        for _ in range(self._settings.max + 1):
            self._waiting += 1
            try:
                session = await pool.acquire()
            finally:
                self._waiting -= 1
            # One that was cut while nobody used it may be handed out all the same: the driver crashes (SIGSEGV) when it is told a timeout.
            if session.is_healthy():
                session.call_timeout = int(self._settings.call_timeout * 1000)
                return session
            await self._drop(pool, session)
        raise RecordsUnavailable(f"The record store {self.where} closes every session at once.")

    async def _drop(self, pool: Any, session: Any) -> None:
        self.lost += 1
        # The driver keeps for ever what it drops after it was cut; given back it is forgotten.
        leave = pool.drop if session.is_healthy() else pool.release
        await _quietly(lambda: leave(session))

    def _make(self) -> Any:
        settings = self._settings
        if settings.thick_mode:
            raise OperatorError(
                "AUTH_ORACLE_THICK_MODE serves `authsvc migrate` alone so far: the driver's asyncio exists in thin mode only."
            )
        self._password = self._read_password()
        return oracledb.create_pool_async(
            **how_to_connect(self._address, settings, self._password),
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

    def _read_password(self) -> str | None:
        return _password(self._address, self._settings)


def connect_once(address: Address, settings: PoolSettings) -> oracledb.Connection:
    """One session outside any pool, for a command that ends."""
    _use_client_libraries(settings)
    return oracledb.connect(**how_to_connect(address, settings, _password(address, settings)))


def _use_client_libraries(settings: PoolSettings) -> None:
    if settings.thick_mode and oracledb.is_thin_mode():
        try:
            oracledb.init_oracle_client(config_dir=str(settings.config_dir) if settings.config_dir else None)
        except oracledb.Error as error:
            raise OperatorError(f"AUTH_ORACLE_THICK_MODE is set, but Oracle's client libraries cannot be loaded: {error}") from error


def how_to_connect(address: Address, settings: PoolSettings, password: str | None) -> dict[str, Any]:
    """What the driver is told of the way to the database. A wallet is looked for only where one is."""
    folder = str(settings.config_dir) if settings.config_dir else None
    wallet = settings.config_dir is not None and (settings.config_dir / "ewallet.pem").exists()
    return {
        "user": address.user,
        "password": password,
        "dsn": address.dsn,
        "tcp_connect_timeout": settings.wait_timeout,
        "config_dir": folder,
        "wallet_location": folder if wallet else None,
        "wallet_password": settings.wallet_password,
    }


def _password(address: Address, settings: PoolSettings) -> str | None:
    file = settings.password_file
    if file is None:
        return settings.password or address.password
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise OperatorError(f"AUTH_RECORDS_PASSWORD_FILE {file} cannot be read: {error.strerror}.") from error


async def _quietly(step: Callable[[], Any]) -> None:
    """Of a session that is given back nothing is expected: a lost one raises, and was counted where it was used."""
    try:
        await step()
    except (oracledb.Error, OSError, RecordsUnavailable):
        return
