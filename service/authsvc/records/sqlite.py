"""The embedded record store: all of SQLite, its SQL, its settings and what its errors mean.

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

from authsvc.model import Client, DeletedClient, StreamMark, TokenRecord
from authsvc.records.contract import NEW_EPOCH, ClientExists, ClientMissing, Connections, Schema
from authsvc.records.rows import CLIENT_COLUMNS, RECORD_COLUMNS, as_client, client_values, page_start, record_values
from authsvc.records.sqlite_file import URL_SCHEME, check_room, connect, connect_existing, driver_errors, has_current_schema, usable_schema

# The clock of the machine that holds the file, in ms: 2440587.5 is the Julian day of 1970-01-01.
NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

READ_IDENTITY = "SELECT identity FROM store"
RAISE_INCARNATION = "UPDATE store SET incarnation = max(incarnation, ?) + 1"
READ_INCARNATION = "SELECT incarnation FROM store"

READ_CLIENTS = f"SELECT {CLIENT_COLUMNS} FROM clients"  # noqa: S608
READ_ONE_CLIENT = READ_CLIENTS + " WHERE client_id = ?"
READ_CLIENTS_NAMED = READ_CLIENTS + " WHERE client_id IN (SELECT value FROM json_each(?))"  # noqa: S608
READ_CLIENTS_IN_ORDER = READ_CLIENTS + " ORDER BY client_id"
READ_TOMBSTONE = "SELECT client_id, revision FROM client_tombstones WHERE client_id = ?"
READ_TOMBSTONES_NAMED = "SELECT client_id, revision FROM client_tombstones WHERE client_id IN (SELECT value FROM json_each(?))"
READ_REVISIONS = "SELECT client_id, revision FROM client_tombstones UNION ALL SELECT client_id, revision FROM clients"
INSERT_CLIENT = """
    INSERT INTO clients (scopes, secret_digest, secret_created_at, second_secret_digest, second_secret_created_at,
        enabled, access_ttl_seconds, one_time_ttl_seconds, client_id)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (client_id) DO NOTHING
"""
UPDATE_CLIENT = """
    UPDATE clients SET scopes = ?, secret_digest = ?, secret_created_at = ?, second_secret_digest = ?, second_secret_created_at = ?,
        enabled = ?, access_ttl_seconds = ?, one_time_ttl_seconds = ?, epoch = ?
    WHERE client_id = ?
"""
DELETE_CLIENT = "DELETE FROM clients WHERE client_id = ?"

# min() of SQLite is NULL when either side is, so each side falls back on the other: the earlier of those that are known.
MERGE_RECORD = f"""
    INSERT INTO tokens ({RECORD_COLUMNS})
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (jti) DO UPDATE SET
        used_at = min(coalesce(used_at, excluded.used_at), coalesce(excluded.used_at, used_at)),
        revoked_at = min(coalesce(revoked_at, excluded.revoked_at), coalesce(excluded.revoked_at, revoked_at)),
        voided_at = min(coalesce(voided_at, excluded.voided_at), coalesce(excluded.voided_at, voided_at))
"""  # noqa: S608
READ_RECORD = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE jti = ?"  # noqa: S608
READ_CLIENT_RECORDS = f"""
    SELECT {RECORD_COLUMNS} FROM tokens WHERE client_id = ? AND (issued_at, jti) > (?, ?) ORDER BY issued_at, jti LIMIT ?
"""  # noqa: S608
READ_RECORDS = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE issued_at >= ? AND jti > ? ORDER BY jti LIMIT ?"  # noqa: S608
PURGE_RECORDS = """
    DELETE FROM tokens WHERE jti IN (SELECT jti FROM tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?)
"""

TAKE_LEASE = f"""
    INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, {NOW_MS} + ?)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
    WHERE leases.holder = excluded.holder OR leases.expires_at <= {NOW_MS}
"""  # noqa: S608
DROP_LEASE = "DELETE FROM leases WHERE name = ?"

DROP_EARLIER_MARKS = "DELETE FROM stream_marks WHERE incarnation < ?"
HAS_LATER_MARKS = "SELECT 1 FROM stream_marks WHERE incarnation > ? LIMIT 1"
WRITE_MARK = """
    INSERT INTO stream_marks (incarnation, stream, last_id, entries_added) VALUES (?, ?, ?, ?)
    ON CONFLICT (incarnation, stream) DO UPDATE SET last_id = excluded.last_id, entries_added = excluded.entries_added
    WHERE excluded.entries_added > stream_marks.entries_added
"""
READ_MARKS = "SELECT incarnation, stream, last_id, entries_added FROM stream_marks"

P = ParamSpec("P")
R = TypeVar("R")


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
    def add_client(self, client: Client) -> Client:
        with self._transaction():
            if self._write(INSERT_CLIENT, (*client_values(client), client.id)) == 0:
                raise ClientExists(client.id)
            return self._client(client.id)

    @_in_thread
    def change_client(self, client_id: str, change: Callable[[Client], Client]) -> Client:
        """`change` runs in the store's thread, while all other writers wait."""
        with self._transaction():
            changed = change(self._client(client_id))
            assert changed.id == client_id, "a change keeps the client's id"
            epoch = None if changed.epoch == NEW_EPOCH else changed.epoch
            self._write(UPDATE_CLIENT, (*client_values(changed), epoch, client_id))
            return self._client(client_id)

    @_in_thread
    def delete_client(self, client_id: str) -> DeletedClient:
        with self._transaction():
            if self._write(DELETE_CLIENT, (client_id,)) == 0:
                raise ClientMissing(client_id)
            return DeletedClient(*self._rows(READ_TOMBSTONE, (client_id,))[0])

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

    def _client(self, client_id: str) -> Client:
        rows = self._rows(READ_ONE_CLIENT, (client_id,))
        if not rows:
            raise ClientMissing(client_id)
        return as_client(rows[0])
