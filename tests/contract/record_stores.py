"""The record stores that the contract suite runs over: a fresh database of each kind, and a DBA's way into it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sqlite3
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import oracledb
import pytest

from authsvc.records.connect import connect_store
from authsvc.records.contract import RecordStore
from authsvc.records.migrate import upgrade
from authsvc.records.oracle_settings import PoolSettings


class SqliteDatabase:
    """A file that is not there yet, nor is its folder."""

    in_threads = False

    def __init__(self, folder: Path) -> None:
        self.path = folder / "made" / "on-demand" / "records.db"
        self.url = f"sqlite:///{self.path}"

    def store(self, call_timeout_seconds: float = 30.0) -> RecordStore:
        """A store on this database, not yet open."""
        return connect_store(self.url, call_timeout_seconds)

    @contextlib.asynccontextmanager
    async def opened(self, call_timeout_seconds: float = 30.0) -> AsyncIterator[RecordStore]:
        """A store on this database; several may be open at once."""
        store = self.store(call_timeout_seconds)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def plain_sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run and commit a statement past the service; its rows if it has any."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            return connection.execute(statement).fetchall()

    def prepare(self) -> None:
        """This store is made by whoever opens it."""

    def run_text(self, text: str) -> None:
        """Run what `authsvc migrate --sql` printed."""
        self.path.parent.mkdir(parents=True)
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            connection.executescript(text)

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        tables = [str(name) for (name,) in self.plain_sql("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: self.plain_sql(f'SELECT * FROM "{name}"') for name in tables}

    @contextlib.contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Let no change through, as a long transaction of someone else does."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


ORACLE_VARIABLES = ("TEST_ORACLE_DSN", "TEST_ORACLE_USER", "TEST_ORACLE_PASSWORD")
ORACLE_MISSING = "no Oracle: " + ", ".join(ORACLE_VARIABLES) + " are not all set"
ORACLE_FAULTS = "TEST_ORACLE_FAULTS"
SEQUENCES = ("client_sequence", "client_change_sequence")
OURS = ("clients", "client_tombstones", "client_changes", "tokens", "stream_marks", "store", "leases", "alembic_version")


class OracleDatabase:
    """A schema in which nothing of ours is left; everything of earlier tests is dropped first."""

    in_threads = False
    """Whether stores on it use the driver as thick mode does."""

    def __init__(self, folder: Path) -> None:
        self.dsn, self.user, self.password = (os.environ[name] for name in ORACLE_VARIABLES)
        self.url = f"oracle://{self.user}:{self.password}@{self.dsn}"
        found = re.fullmatch(r"([^:/]+):(\d+)/(\S+)", self.dsn)
        assert found is not None, f"{ORACLE_VARIABLES[0]} must be HOST:PORT/SERVICE, for a proxy to lead there"
        self.host, self.port, self.service = found[1], int(found[2]), found[3]
        for kind, name in [*(("TABLE", table) for table in OURS), *(("SEQUENCE", name) for name in SEQUENCES)]:
            with contextlib.suppress(oracledb.DatabaseError):
                self.plain_sql(f"DROP {kind} {name}")

    def store(self, call_timeout_seconds: float = 30.0, **levers: Any) -> RecordStore:
        """A store on this database with these levers of its pool, not yet open."""
        return connect_store(self.url, call_timeout_seconds, PoolSettings(in_threads=self.in_threads, **levers))

    @contextlib.asynccontextmanager
    async def opened(self, call_timeout_seconds: float = 30.0) -> AsyncIterator[RecordStore]:
        """A store on this database, which is migrated first; several may be open at once."""
        await asyncio.to_thread(self.prepare)
        store = self.store(call_timeout_seconds)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def prepare(self) -> None:
        """Make the schema."""
        upgrade(self.url)

    def run_text(self, text: str) -> None:
        """Run what `authsvc migrate --sql` printed as SQL*Plus does: a slash on its own line runs what stands before it."""
        lines = [line for line in text.splitlines() if line.strip() and not line.startswith("--")]
        assert lines[-1] == "/"
        statements = [statement.strip() for statement in "\n".join(lines).split("\n/") if statement.strip()]
        assert statements[-1] == "COMMIT"
        with oracledb.connect(user=self.user, password=self.password, dsn=self.dsn) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def contents(self) -> dict[str, list[tuple[object, ...]]]:
        """Every row of every table."""
        return {name: self.plain_sql(f"SELECT * FROM {name}") for name in OURS}

    @contextlib.contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Let no change of the same rows through, as a long transaction of someone else does: a client's, a token's, a lease's."""
        with oracledb.connect(user=self.user, password=self.password, dsn=self.dsn) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT client_id FROM clients FOR UPDATE").fetchall()
            for name in ("purge", "probe"):
                cursor.execute("INSERT INTO leases (name, holder, expires_at) VALUES (:1, 'other', SYSTIMESTAMP)", (name,))
            cursor.execute(
                "INSERT INTO tokens (jti, kind, incarnation, client_id, epoch, scope, issued_at, expires_at)"
                " VALUES (:1, 'a', 1, 'other', 1, 'read', 1, 1)",
                ((1).to_bytes(20),),
            )
            yield
            connection.rollback()

    def plain_sql(self, statement: str, call_timeout_seconds: int = 0) -> list[tuple[object, ...]]:
        """Run and commit a statement past the service; its rows if it has any. A timeout of 0 is none."""
        with oracledb.connect(user=self.user, password=self.password, dsn=self.dsn) as connection, connection.cursor() as cursor:
            connection.call_timeout = call_timeout_seconds * 1000
            cursor.execute(statement)
            if cursor.description:
                # Nothing to commit: a fault that strikes the next commit waits for somebody else's.
                return cursor.fetchall()
            connection.commit()
            return []


class OracleDatabaseInThreads(OracleDatabase):
    """The same, used over the driver's synchronous pool, which is all that there is in thick mode."""

    in_threads = True


class OracleFaults:
    """What a stand-in for Oracle is told to do wrong, by the HTTP of its control port."""

    def __init__(self) -> None:
        self._url = os.environ[ORACLE_FAULTS].rstrip("/")

    def ask(self, what: str, **options: str | int) -> dict[str, Any]:
        """One command, such as `fault/drop`, or a look at `stats`."""
        with urllib.request.urlopen(f"{self._url}/{what}?{urlencode(options)}", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def clear(self) -> None:
        """All is well again."""
        self.ask("fault/clear")

    @contextlib.contextmanager
    def on(self, fault: str, **options: str | int) -> Iterator[None]:
        """This goes wrong within the block; at its end nothing does any more."""
        self.ask(f"fault/{fault}", **options)
        try:
            yield
        finally:
            self.clear()


NEEDS_ORACLE = pytest.mark.skipif(not all(map(os.environ.get, ORACLE_VARIABLES)), reason=ORACLE_MISSING)
NEEDS_FAULTS = pytest.mark.skipif(not os.environ.get(ORACLE_FAULTS), reason=f"no Oracle that fails on demand: {ORACLE_FAULTS} is not set")
ORACLE_WAYS = [
    pytest.param(way, marks=[pytest.mark.oracle, NEEDS_ORACLE], id=way.__name__) for way in (OracleDatabase, OracleDatabaseInThreads)
]
"""One class for each way to call Oracle's driver; they join when there is an Oracle in the environment."""
DATABASES = [SqliteDatabase, ORACLE_WAYS[0]]
"""One class for each kind of database, for tests of processes, whose settings decide the way."""
RECORD_STORES = [SqliteDatabase, *ORACLE_WAYS]
"""One class for each kind of store."""
