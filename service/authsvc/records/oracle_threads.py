"""The driver's synchronous pool behind the few calls that a pool and a session await: thick mode has no asyncio.

Each call runs in a thread, and there are as many threads as sessions. Whoever wants a session waits outside of them, so that
those who have one never wait for a thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import oracledb

Run = Callable[..., Awaitable[Any]]
"""Runs a call with its arguments in a thread."""

_NO_SESSION = SimpleNamespace(full_code="DPY-4005", message="timed out waiting for the pool to return a connection")
"""What the driver's own pools say."""


class ThreadedPool:
    """As `oracledb.create_pool_async` with these options, over `oracledb.create_pool`."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._pool: oracledb.ConnectionPool | None = None
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(options["max"], "oracle")
        self._free = asyncio.Semaphore(options["max"])

    @property
    def opened(self) -> int:
        """Sessions that are open."""
        return 0 if self._pool is None else self._pool.opened

    @property
    def busy(self) -> int:
        """Those of them that somebody has."""
        return 0 if self._pool is None else self._pool.busy

    async def acquire(self) -> ThreadedConnection:
        """A session; DPY-4005 if none is free in time."""
        try:
            async with asyncio.timeout(self._options["wait_timeout"] / 1000):
                await self._free.acquire()
        except TimeoutError:
            raise oracledb.DatabaseError(_NO_SESSION) from None
        try:
            # Should the caller be cancelled, nobody holds what comes of it, and the driver takes it back.
            return ThreadedConnection(await self._run(self._acquire), self._run)
        except BaseException:
            self._free.release()
            raise

    async def release(self, session: ThreadedConnection) -> None:
        """Give a session back."""
        await self._leave(session, "release")

    async def drop(self, session: ThreadedConnection) -> None:
        """End a session."""
        await self._leave(session, "drop")

    async def close(self, force: bool) -> None:
        """Close every session."""
        try:
            if self._pool is not None:
                await self._run(self._pool.close, force)
        finally:
            self._pool = None
            self._threads.shutdown(wait=False)

    def _acquire(self) -> oracledb.Connection:
        with self._making:
            # Thick mode opens the first sessions here.
            if self._pool is None:
                self._pool = oracledb.create_pool(**self._options)
        return self._pool.acquire()

    async def _leave(self, session: ThreadedConnection, how: str) -> None:
        try:
            await self._run(getattr(self._pool, how), session.connection)
        finally:
            self._free.release()

    async def _run(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """A call that has begun is waited for, whatever happens: nobody may meet it on its session."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class ThreadedConnection:
    """As `oracledb.AsyncConnection`; what needs no answer of the database needs no thread."""

    def __init__(self, connection: oracledb.Connection, run: Run) -> None:
        self.connection = connection
        self._run = run

    def is_healthy(self) -> bool:
        """Whether it is not known to be broken."""
        return self.connection.is_healthy()

    @property
    def call_timeout(self) -> int:
        """Longest time of one call, in milliseconds."""
        return self.connection.call_timeout

    @call_timeout.setter
    def call_timeout(self, milliseconds: int) -> None:
        self.connection.call_timeout = milliseconds

    @property
    def autocommit(self) -> bool:
        """Whether each statement commits in its own round trip."""
        return bool(self.connection.autocommit)

    @autocommit.setter
    def autocommit(self, wanted: bool) -> None:
        self.connection.autocommit = wanted

    def cursor(self) -> ThreadedCursor:
        """A cursor for a `with` block."""
        return ThreadedCursor(self.connection.cursor(), self._run)

    async def commit(self) -> None:
        """Make it last."""
        await self._run(self.connection.commit)

    async def rollback(self) -> None:
        """Undo it."""
        await self._run(self.connection.rollback)


class ThreadedCursor:
    """As `oracledb.AsyncCursor`."""

    def __init__(self, cursor: oracledb.Cursor, run: Run) -> None:
        self._cursor = cursor
        self._run = run
        self.arraysize: int = cursor.arraysize
        self.prefetchrows: int = cursor.prefetchrows

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cursor.close()

    @property
    def rowcount(self) -> int:
        """Rows that the last statement changed."""
        return int(self._cursor.rowcount)

    def setinputsizes(self, *types: Any) -> None:
        """Types of the first binds."""
        self._cursor.setinputsizes(*types)

    def var(self, kind: type) -> Any:
        """A place for what a statement returns."""
        return self._cursor.var(kind)

    async def execute(self, statement: str, values: Sequence[Any]) -> None:
        """Run a statement."""
        self._cursor.arraysize, self._cursor.prefetchrows = self.arraysize, self.prefetchrows
        await self._run(self._cursor.execute, statement, values)

    async def executemany(self, statement: str, rows: list[Any]) -> None:
        """Run a statement for many rows in one round trip."""
        await self._run(self._cursor.executemany, statement, rows)

    async def fetchall(self) -> list[Any]:
        """The rows that it found."""
        found: list[Any] = await self._run(self._cursor.fetchall)
        return found
