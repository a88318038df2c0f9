"""The record store in one file of SQLite: what each method of the contract does.

One thread owns the one connection, so the calls of a process run one after another; other processes share the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import sqlite3
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from authsvc.model import Cause, Client, ClientChange, DeletedClient, StreamMark, TokenRecord
from authsvc.records.contract import NEW_EPOCH, ClientExists, ClientMissing, Connections, Schema
from authsvc.records.rows import as_client, client_values, page_start, record_values
from authsvc.records.sqlite_file import URL_SCHEME, check_room, connect, connect_existing, driver_errors, has_current_schema, usable_schema
from authsvc.records.sqlite_sql import (
    DELETE_CLIENT,
    DROP_EARLIER_MARKS,
    DROP_LEASE,
    HAS_LATER_MARKS,
    INSERT_CLIENT,
    MERGE_RECORD,
    NAME_CHANGE,
    PURGE_RECORDS,
    RAISE_INCARNATION,
    READ_ALL_CHANGES,
    READ_CLIENT_CHANGES,
    READ_CLIENT_RECORDS,
    READ_CLIENTS_IN_ORDER,
    READ_CLIENTS_NAMED,
    READ_IDENTITY,
    READ_INCARNATION,
    READ_MARKS,
    READ_ONE_CLIENT,
    READ_RECORD,
    READ_RECORDS,
    READ_REVISIONS,
    READ_TOMBSTONE,
    READ_TOMBSTONES_NAMED,
    TAKE_LEASE,
    UPDATE_CLIENT,
    WRITE_MARK,
)

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", Client, DeletedClient)


def _in_thread(method: Callable[Concatenate[SqliteStore, P], R]) -> Callable[Concatenate[SqliteStore, P], Coroutine[Any, Any, R]]:
    """Make a blocking method of the store one to be awaited."""

    async def call(store: SqliteStore, /, *args: P.args, **kwargs: P.kwargs) -> R:
        store._calls += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(store._thread, functools.partial(method, store, *args, **kwargs))
        finally:
            store._calls -= 1

    functools.update_wrapper(call, method)
    return call


class SqliteStore:
    """A RecordStore in one file. A call that other processes hold up for `call_timeout_seconds` raises RecordsUnavailable."""

    def __init__(self, path: Path | str, call_timeout_seconds: float = 30.0) -> None:
        self._path = Path(path).absolute()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="records")
        self._call_timeout_seconds = call_timeout_seconds
        self._connection: sqlite3.Connection | None = None
        self._closed = False
        self._calls = 0

    def connections(self) -> Connections:
        """The one connection, if it is there; idle while no call is under way."""
        opened = 0 if self._connection is None else 1
        return Connections(opened, opened if self._calls == 0 else 0)

    @_in_thread
    def open(self) -> None:
        """Make the folder and the file, bring the schema up to date, and connect."""
        connection = connect(self._path, self._call_timeout_seconds)
        try:
            with driver_errors(self._path):
                current = has_current_schema(connection)
            if not current:
                from authsvc.records.migrate import upgrade

                upgrade(f"{URL_SCHEME}{self._path}")
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    @_in_thread
    def open_as_it_is(self) -> Schema:
        """See the contract, as for every method below."""
        self._connection = connect_existing(self._path, self._call_timeout_seconds)
        return usable_schema(self._connection, self._path)

    async def check_budget(self) -> None:
        return

    @_in_thread
    def try_write(self) -> None:
        with self._transaction():
            self._write(TAKE_LEASE, ("probe", "probe", 0))
            self._write(DROP_LEASE, ("probe",))
        check_room(self._path)

    async def close(self) -> None:
        """Let the calls that were made finish, then close."""
        if not self._closed:
            self._closed = True
            await self._disconnect()
            self._thread.shutdown()

    @_in_thread
    def identity(self) -> str:
        return str(self._rows(READ_IDENTITY)[0][0])

    @_in_thread
    def next_incarnation(self, above: int) -> int:
        with self._transaction():
            self._write(RAISE_INCARNATION, (above,))
            return int(self._rows(READ_INCARNATION)[0][0])

    @_in_thread
    def add_client(self, client: Client, cause: Cause | None = None) -> Client:
        with self._transaction():
            if self._write(INSERT_CLIENT, (*client_values(client), client.id)) == 0:
                raise ClientExists(client.id)
            return self._named(self._client(client.id), cause)

    @_in_thread
    def change_client(self, client_id: str, change: Callable[[Client], Client], cause: Cause | None = None) -> Client:
        """`change` runs in the store's thread, while all other writers wait."""
        with self._transaction():
            changed = change(self._client(client_id))
            assert changed.id == client_id, "a change keeps the client's id"
            epoch = None if changed.epoch == NEW_EPOCH else changed.epoch
            self._write(UPDATE_CLIENT, (*client_values(changed), epoch, client_id))
            return self._named(self._client(client_id), cause)

    @_in_thread
    def delete_client(self, client_id: str, cause: Cause | None = None) -> DeletedClient:
        with self._transaction():
            if self._write(DELETE_CLIENT, (client_id,)) == 0:
                raise ClientMissing(client_id)
            return self._named(DeletedClient(*self._rows(READ_TOMBSTONE, (client_id,))[0]), cause)

    @_in_thread
    def read_changes(self, client_id: str | None, since_ms: int, after: int, limit: int) -> list[ClientChange]:
        if client_id is None:
            return [ClientChange(*row) for row in self._rows(READ_ALL_CHANGES, (since_ms, after, limit))]
        return [ClientChange(*row) for row in self._rows(READ_CLIENT_CHANGES, (since_ms, after, client_id, limit))]

    @_in_thread
    def read_client(self, client_id: str) -> Client | None:
        rows = self._rows(READ_ONE_CLIENT, (client_id,))
        return as_client(rows[0]) if rows else None

    @_in_thread
    def read_clients(self, client_ids: Iterable[str]) -> list[Client | DeletedClient]:
        # One array of JSON, because a statement takes only so many parameters.
        named = (json.dumps(list(client_ids)),)
        with self._transaction("BEGIN"):
            clients = self._rows(READ_CLIENTS_NAMED, named)
            tombstones = self._rows(READ_TOMBSTONES_NAMED, named)
        return [*map(as_client, clients), *(DeletedClient(*row) for row in tombstones)]

    @_in_thread
    def list_clients(self) -> list[Client]:
        return [as_client(row) for row in self._rows(READ_CLIENTS_IN_ORDER)]

    @_in_thread
    def revisions(self) -> dict[str, int]:
        return dict(self._rows(READ_REVISIONS))

    @_in_thread
    def write_records(self, records: Sequence[TokenRecord]) -> None:
        # In the order of their names, so that neighbours in the index are written together.
        rows = map(record_values, sorted(records, key=attrgetter("name")))
        with self._transaction(), driver_errors(self._path):
            self._database.executemany(MERGE_RECORD, rows)

    @_in_thread
    def read_record(self, name: bytes) -> TokenRecord | None:
        rows = self._rows(READ_RECORD, (name,))
        return TokenRecord(*rows[0]) if rows else None

    @_in_thread
    def search_records(self, client_id: str | None, issued_since_ms: int, after: TokenRecord | None, limit: int) -> list[TokenRecord]:
        if client_id is None:
            rows = self._rows(READ_RECORDS, (issued_since_ms, after.name if after else b"", limit))
        else:
            rows = self._rows(READ_CLIENT_RECORDS, (client_id, *page_start(issued_since_ms, after), limit))
        return [TokenRecord(*row) for row in rows]

    @_in_thread
    def purge_records(self, expired_before_ms: int, limit: int) -> int:
        return self._write(PURGE_RECORDS, (expired_before_ms, limit))

    @_in_thread
    def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        return self._write(TAKE_LEASE, (name, holder, int(seconds * 1000))) == 1

    @_in_thread
    def write_marks(self, incarnation: int, marks: Mapping[str, StreamMark]) -> None:
        with self._transaction():
            if self._rows(HAS_LATER_MARKS, (incarnation,)):
                return
            self._write(DROP_EARLIER_MARKS, (incarnation,))
            for stream, mark in marks.items():
                self._write(WRITE_MARK, (incarnation, stream, *mark))

    @_in_thread
    def read_marks(self) -> tuple[int, dict[str, StreamMark]]:
        rows = self._rows(READ_MARKS)
        return (rows[0][0] if rows else 0), {stream: StreamMark(*mark) for _, stream, *mark in rows}

    @_in_thread
    def _disconnect(self) -> None:
        if self._connection is not None:
            with driver_errors(self._path):
                self._connection.close()

    @property
    def _database(self) -> sqlite3.Connection:
        assert self._connection is not None, "open() comes first"
        return self._connection

    @contextlib.contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """All or nothing. By default it is the only writer from its first moment on, so that it never reads what is outdated."""
        self._write(begin)
        try:
            yield
            self._write("COMMIT")
        finally:
            # Some errors end the transaction by themselves.
            if self._database.in_transaction:
                self._write("ROLLBACK")

    def _rows(self, statement: str, values: Sequence[Any] = ()) -> list[Any]:
        with driver_errors(self._path):
            return self._database.execute(statement, values).fetchall()

    def _write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """The number of rows that the statement itself wrote, without those of triggers."""
        with driver_errors(self._path):
            return self._database.execute(statement, values).rowcount

    def _named(self, changed: C, cause: Cause | None) -> C:
        """Put the cause to the change that a trigger noted."""
        if cause is not None:
            self._write(NAME_CHANGE, (cause.change, cause.changed_by, cause.request_id, changed.id))
        return changed

    def _client(self, client_id: str) -> Client:
        rows = self._rows(READ_ONE_CLIENT, (client_id,))
        if not rows:
            raise ClientMissing(client_id)
        return as_client(rows[0])
