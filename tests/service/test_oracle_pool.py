"""The pool of sessions with Oracle, over both ways to call the driver: none to be had, calls that are cancelled, passwords."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from authsvc.errors import OperatorError, RecordsUnavailable
from authsvc.records.contract import Connections
from authsvc.records.oracle_pool import Pool
from authsvc.records.oracle_session import Session
from authsvc.records.oracle_settings import PoolSettings
from contract.live_parts import succeeds, until
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, ORACLE_WAYS, OracleDatabase, OracleFaults
from servers import DEADLINE_SECONDS, TcpProxy, wait_until
from service.deployment import SpoilingProxy

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE]
ONE = "SELECT 1 FROM dual"
SLOW_MS = 500


@pytest.fixture(params=ORACLE_WAYS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> OracleDatabase:
    """A database, and the way to call the driver."""
    made: OracleDatabase = request.param(tmp_path)
    return made


@pytest.fixture
def faults() -> Iterator[OracleFaults]:
    """The database's troubles, over at the end."""
    faults = OracleFaults()
    yield faults
    faults.clear()


@contextlib.asynccontextmanager
async def opened(database: OracleDatabase, url: str = "", **levers: object) -> AsyncIterator[Pool]:
    settings = replace(PoolSettings(in_threads=database.in_threads), **levers)  # type: ignore[arg-type]
    pool = Pool(url or database.url, settings)
    try:
        yield pool
    finally:
        await pool.close()


@contextlib.asynccontextmanager
async def session_of(pool: Pool) -> AsyncIterator[Session]:
    connection = await pool.acquire()
    try:
        yield Session(connection, pool.where)
    finally:
        await pool.release(connection, broken=False)


def through(database: OracleDatabase, port: int) -> str:
    """The database's URL by way of a proxy."""
    return f"oracle://{database.user}:{database.password}@127.0.0.1:{port}/{database.service}"


def driver_threads() -> int:
    """Threads in which the driver is called."""
    return sum(thread.name.startswith("oracle_") for thread in threading.enumerate())


# Sessions and threads


def test_who_gets_no_session_in_time_is_told_so(database: OracleDatabase) -> None:
    async def story() -> None:
        async with opened(database, max=1, wait_timeout=0.2) as pool:
            async with session_of(pool):
                with pytest.raises(RecordsUnavailable, match=r" gave no session of the pool in time \(DPY-4005\)\."):
                    await pool.acquire()
            async with session_of(pool) as session:
                assert await session.rows(ONE) == [(1,)]

    asyncio.run(story())


def test_there_are_as_many_threads_as_sessions_and_none_when_the_pool_is_closed(database: OracleDatabase) -> None:
    most, kept = 0, []

    async def story() -> None:
        async with opened(database, max=3) as pool:

            async def ask() -> None:
                nonlocal most
                async with session_of(pool) as session:
                    assert await session.rows(ONE) == [(1,)]
                    most = max(most, driver_threads())
                    # Of a pool that nobody sees any more they would end by themselves.
                    kept.append(pool._made)

            await asyncio.gather(*(ask() for _ in range(30)))
            assert pool.connections().open <= 3

    asyncio.run(story())
    assert most == (3 if database.in_threads else 0)
    wait_until(lambda: driver_threads() == 0, "the threads end")


# The levers


def test_the_driver_is_given_every_lever(database: OracleDatabase) -> None:
    given = {"min": 2, "max": 5, "max_lifetime_session": 700, "timeout": 80, "wait_timeout": 1.5, "ping_interval": 90, "stmtcachesize": 7}

    async def story() -> None:
        async with opened(database, call_timeout=2.5, **given) as pool, session_of(pool) as session:
            assert pool._made is not None
            made = pool._made.pool if not database.in_threads else pool._made.pool._pool
            # The driver speaks of milliseconds here.
            assert {**{name: getattr(made, name) for name in given}, "wait_timeout": made.wait_timeout / 1000} == given
            assert session.connection.call_timeout == 2500

    asyncio.run(story())


@NEEDS_FAULTS
@pytest.mark.parametrize("lever", ["timeout", "max_lifetime_session"])
def test_sessions_end_when_they_were_idle_or_lived_too_long(database: OracleDatabase, faults: OracleFaults, lever: str) -> None:
    async def story() -> None:
        async with opened(database, min=1, max=3, **{lever: 1}) as pool:
            sessions = [await pool.acquire() for _ in range(3)]
            for session in sessions:
                await pool.release(session, broken=False)
            logons = faults.ask("stats")["logons"]

            async def ended() -> bool:
                # Nothing ends before somebody asks again.
                async with session_of(pool) as session:
                    assert await session.rows(ONE) == [(1,)]
                new = faults.ask("stats")["logons"] - logons
                return bool(pool.connections().open == 1 if lever == "timeout" else new >= 1)

            await succeeds(ended, "sessions end")
            assert pool.lost == 0

    asyncio.run(story())


# Sessions that are cut


@pytest.mark.parametrize("turns", range(6))
def test_a_session_that_is_cut_just_before_a_call_is_an_error(database: OracleDatabase, turns: int) -> None:
    """However many turns of the loop ago; the driver itself would end the process."""
    proxy = TcpProxy(database.port, database.host)

    async def story() -> None:
        async with opened(database, through(database, proxy.port)) as pool:
            session = Session(await pool.acquire(), pool.where)
            try:
                assert await session.rows(ONE) == [(1,)]
                proxy.cut()
                wait_until(lambda: not _connected(proxy.port), "the end is there, though the loop has not seen it")
                for _ in range(turns):
                    await asyncio.sleep(0)
                with pytest.raises(RecordsUnavailable, match="DPY-4011"):
                    await session.rows(ONE)
            finally:
                await pool.release(session.connection, broken=True)
            assert pool.lost == 1

    try:
        asyncio.run(story())
    finally:
        proxy.cut()


@NEEDS_FAULTS
def test_of_sessions_that_are_cut_while_nobody_uses_them_nothing_is_kept(tmp_path: Path, faults: OracleFaults) -> None:
    objects: list[int] = []

    async def story() -> None:
        async with opened(OracleDatabase(tmp_path)) as pool:
            for _ in range(20):
                sessions = [await pool.acquire() for _ in range(4)]
                for session in sessions:
                    await pool.release(session, broken=False)
                sessions.clear()
                assert pool._made is not None
                twins = pool._made.unused._twins.values()
                faults.ask("fault/drop")
                await until(lambda: not any(twin.is_healthy() for twin in twins), "the pool sees that they are cut")  # noqa: B023 # asked at once
                gc.collect()
                objects.append(len(gc.get_objects()))

    asyncio.run(story())
    assert objects[-1] - objects[4] < 300, "of each of the 60 sessions since there would be some 17"


@NEEDS_FAULTS
def test_a_release_that_is_cancelled_leaves_no_pool_behind(database: OracleDatabase, faults: OracleFaults) -> None:
    database.prepare()

    async def story() -> None:
        async with opened(database) as pool:
            connection = await pool.acquire()
            # There is something to roll back, which takes a round trip.
            await Session(connection, pool.where).write("INSERT INTO leases (name, holder, expires_at) VALUES ('x', 'y', SYSTIMESTAMP)")
            made = pool._made
            assert made is not None
            with faults.on("latency", ms=SLOW_MS):
                releasing = asyncio.create_task(pool.release(connection, broken=False))
                await asyncio.sleep(0)
                releasing.cancel()
                await asyncio.gather(releasing, return_exceptions=True)
            assert made.users == 0

    asyncio.run(story())


def _connected(port: int) -> bool:
    """Whether a connection of this process to the port stands on its own side."""
    return any(
        connection.status == psutil.CONN_ESTABLISHED and connection.raddr and connection.raddr.port == port
        for connection in psutil.Process().net_connections("tcp")
    )


# Calls that are cancelled


@NEEDS_FAULTS
def test_the_loop_goes_on_while_a_session_waits_and_while_it_is_given_up(database: OracleDatabase, faults: OracleFaults) -> None:
    """The call of a thread cannot be taken back: it is waited for, and nobody meets it on its session."""
    gaps: list[float] = []

    async def tick() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            gaps.append(time.monotonic() - began)

    async def story() -> None:
        async with opened(database) as pool, session_of(pool) as session:
            assert await session.rows(ONE) == [(1,)]
            ticking = asyncio.create_task(tick())
            known = faults.ask("stats")["round_trips"]
            with faults.on("latency", ms=SLOW_MS):
                asking = asyncio.create_task(session.rows("SELECT 2 FROM dual"))
                await until(lambda: faults.ask("stats")["round_trips"] > known, "the database is asked")
                gaps.clear()
                asking.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asking
                ticking.cancel()
            if database.in_threads:
                assert await session.rows(ONE) == [(1,)]

    asyncio.run(story())
    assert max(gaps) < SLOW_MS / 2000


class HoldingProxy(TcpProxy):
    """A way to the database on which nothing gets through before the `going` that it had when it connected."""

    def __init__(self, database: OracleDatabase) -> None:
        self.going = threading.Event()
        self.connections = 0
        super().__init__(database.port, database.host)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:  # type: ignore[override] # the event is this proxy's own
        going = self.going
        self.connections += 1
        going.wait()
        super()._pump(source, sink)


def test_a_session_that_its_caller_waits_for_no_more_goes_back(database: OracleDatabase) -> None:
    proxy = HoldingProxy(database)

    async def story() -> None:
        async with opened(database, through(database, proxy.port), max=1, wait_timeout=0.5) as pool:
            acquiring = asyncio.create_task(pool.acquire())
            await until(lambda: proxy.connections, "it connects")
            acquiring.cancel()
            await asyncio.sleep(0)
            proxy.going.set()
            with pytest.raises(asyncio.CancelledError):
                await acquiring
            # The driver does not wake whoever waits while the session that nobody wants any more is made: it is theirs when they ask again.
            await until(lambda: pool.connections().idle == 1, "the session is made")
            async with session_of(pool) as session:
                assert await session.rows(ONE) == [(1,)]
            assert pool.connections() == Connections(open=1, idle=1, waiting=0, lost=0)

    try:
        asyncio.run(story())
    finally:
        proxy.going.set()
        proxy.cut()


def test_a_pool_whose_database_says_nothing_for_ever_is_replaced_and_closed(tmp_path: Path) -> None:
    """The driver opens one session after the other, and has no timeout for a logon. In threads that is the client libraries' affair."""
    database = OracleDatabase(tmp_path)
    proxy = HoldingProxy(database)
    held = proxy.going

    async def story() -> None:
        async with opened(database, through(database, proxy.port), wait_timeout=0.2, call_timeout=0.5) as pool:
            with pytest.raises(RecordsUnavailable, match="DPY-4005"):
                await pool.acquire()
            proxy.going = threading.Event()
            proxy.going.set()
            deadline = time.monotonic() + DEADLINE_SECONDS
            while True:
                with contextlib.suppress(RecordsUnavailable):
                    async with session_of(pool) as session:
                        assert await session.rows(ONE) == [(1,)]
                        break
                assert time.monotonic() < deadline, "no session is to be had"
            proxy.going = held
        async with opened(database, through(database, proxy.port), wait_timeout=0.2) as pool:
            with pytest.raises(RecordsUnavailable, match="DPY-4005"):
                await pool.acquire()

    try:
        asyncio.run(story())
    finally:
        held.set()
        proxy.cut()


# A password that changes


@pytest.fixture
def proxy(database: OracleDatabase) -> Iterator[SpoilingProxy]:
    """A way to the database on which a right password can be made a wrong one."""
    proxy = SpoilingProxy(database)
    yield proxy
    proxy.close()


def used(sessions: Connections) -> int:
    """Those that somebody has."""
    return sessions.open - sessions.idle


@NEEDS_FAULTS
def test_a_session_of_before_the_password_changed_is_used_to_its_end_and_then_closed(
    database: OracleDatabase, proxy: SpoilingProxy, faults: OracleFaults, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(database.password)

    async def story() -> None:
        before = faults.ask("stats")["sessions_open"]
        async with opened(database, through(database, proxy.port), max=2, password_file=file) as pool:
            async with session_of(pool) as old:
                assert await old.rows(ONE) == [(1,)]
                file.write_text("not-the-password")
                proxy.spoils = True
                # Refused with the old one, and with what the file says now.
                with pytest.raises(OperatorError, match="ORA-01017"):
                    await pool.acquire()
                proxy.spoils = False
                file.write_text(database.password)
                async with session_of(pool) as new:
                    assert await new.rows(ONE) == [(1,)]
                    assert await old.rows(ONE) == [(1,)], "what is under way goes on"
                    assert used(pool.connections()) == 2
                assert used(pool.connections()) == 1
            # The driver may have opened one more than was asked for, where it was slow to open the first.
            await until(
                lambda: faults.ask("stats")["sessions_open"] == before + pool.connections().open,
                "the old session is closed, the new ones kept",
            )
            assert pool.connections().open in (1, 2)
            assert used(pool.connections()) == 0
            assert pool.connections().lost == 0
            async with session_of(pool) as session:
                assert await session.rows(ONE) == [(1,)]

    asyncio.run(story())


@NEEDS_FAULTS
def test_a_password_that_is_refused_is_not_shown_again_at_once(database: OracleDatabase, faults: OracleFaults, tmp_path: Path) -> None:
    """A database locks an account after some wrong ones (FAILED_LOGIN_ATTEMPTS, often ten)."""
    file = tmp_path / "password"
    file.write_text("not-the-password")
    url = database.url.replace(f":{database.password}@", "@")

    async def story() -> None:
        async with opened(database, url, max=2, password_file=file) as pool:
            before = faults.ask("stats")["logons_failed"]
            for _ in range(5):
                with pytest.raises(OperatorError, match="ORA-01017"):
                    await pool.acquire()
            # The driver shows it when it makes the pool, and when it is asked for a session.
            assert before < faults.ask("stats")["logons_failed"] <= before + 2
            file.write_text("nor-is-this")
            for _ in range(5):
                with pytest.raises(OperatorError, match="ORA-01017"):
                    await pool.acquire()
            assert before + 2 < faults.ask("stats")["logons_failed"] <= before + 4
            file.write_text(database.password)
            async with session_of(pool) as session:
                assert await session.rows(ONE) == [(1,)]

    asyncio.run(story())


@NEEDS_FAULTS
def test_while_a_password_is_refused_the_open_sessions_are_shared(
    database: OracleDatabase, faults: OracleFaults, proxy: SpoilingProxy
) -> None:
    async def story() -> None:
        async with opened(database, through(database, proxy.port), min=1, max=2) as pool:
            session = await pool.acquire()
            proxy.spoils = True
            before = faults.ask("stats")["logons_failed"]
            with pytest.raises(OperatorError, match="ORA-01017"):
                await pool.acquire()
            await until(lambda: faults.ask("stats")["logons_failed"] == before + 2, "the driver has shown it twice")
            waiting = [asyncio.create_task(pool.acquire()) for _ in range(3)]
            await until(lambda: pool.connections().waiting == len(waiting), "they wait")
            for _ in waiting:
                await pool.release(session, broken=False)
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                session = done.pop().result()
                waiting = [task for task in waiting if not task.done()]
            await pool.release(session, broken=False)
            assert faults.ask("stats")["logons_failed"] == before + 2

    asyncio.run(story())
