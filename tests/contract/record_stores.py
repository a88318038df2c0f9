"""The record stores that the contract suite runs over: a fresh database of each kind, and a DBA's way into it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from authsvc.records.connect import connect_store
from authsvc.records.contract import RecordStore


class SqliteDatabase:
    """A file that is not there yet, nor is its folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "made" / "on-demand" / "records.db"
        self.url = f"sqlite:///{self.path}"

    @contextlib.asynccontextmanager
    async def opened(self, call_timeout_seconds: float = 30.0) -> AsyncIterator[RecordStore]:
        """A store on this database; several may be open at once."""
        store = connect_store(self.url, call_timeout_seconds)
        try:
            await store.open()
            yield store
        finally:
            await store.close()

    def plain_sql(self, statement: str) -> list[tuple[object, ...]]:
        """Run and commit a statement past the service; its rows if it has any."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
            return connection.execute(statement).fetchall()

    @contextlib.contextmanager
    def kept_busy(self) -> Iterator[None]:
        """Let no change through, as a long transaction of someone else does."""
        with contextlib.closing(sqlite3.connect(self.path, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")


DATABASES = [SqliteDatabase]
"""One class for each kind of database; a kind that needs a server joins when its address is in the environment."""
