"""The record store in Oracle Database: what each method of the contract does, over a pool of sessions of `oracledb`.

Each method is one transaction. What two writers do to each other (a unique race, a deadlock) is tried again here; all else
that may be tried again is left to the caller.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, TypeVar

import oracledb

from authsvc.errors import OperatorError, RecordsUnavailable
from authsvc.model import Cause, Client, ClientChange, DeletedClient, StreamMark, TokenRecord
from authsvc.records.contract import NEW_EPOCH, SCHEMA_VERSION, ClientExists, ClientMissing, Connections, Schema
from authsvc.records.oracle_errors import RACES, code_of, driver_errors
from authsvc.records.oracle_pool import Pool
from authsvc.records.oracle_session import Session
from authsvc.records.oracle_settings import PoolSettings, check_budget
from authsvc.records.oracle_sql import (
    CAUSE_TYPES,
    CLIENT_TYPES,
    DELETE_CLIENT,
    DROP_EARLIER_MARKS,
    DROP_LEASE,
    FIRST_LEASE,
    HAS_LEASE,
    INSERT_CLIENT,
    LATEST_MARKS,
    LOCK_CLIENT,
    MERGE_MARK,
    MERGE_RECORD,
    NAME_CHANGE,
    PURGE_RECORDS,
    READ_ALL_CHANGES,
    READ_CLIENT_CHANGES,
    READ_CLIENT_RECORDS,
    READ_CLIENTS_IN_ORDER,
    READ_IDENTITY,
    READ_MARKS,
    READ_NAMED,
    READ_ONE_CLIENT,
    READ_RECORD,
    READ_RECORDS,
    READ_REVISIONS,
    READ_SCHEMA_VERSION,
    READ_SESSION_LIMIT,
    READ_TOMBSTONE,
    RECORD_TYPES,
    RENEW_LEASE,
    UPDATE_CLIENT,
    with_empty_text,
    without_empty_text,
)
from authsvc.records.rows import as_client, client_values, page_start, record_values

ATTEMPTS = 5
"""How often a transaction is made that another writer's undid."""
NAMES_AT_ONCE = 500
"""Ids in one IN list; Oracle takes a thousand at most."""

T = TypeVar("T")
C = TypeVar("C", Client, DeletedClient)


class OracleStore:
    """A RecordStore over a pool; every process has its own."""

    def __init__(self, url: str, settings: PoolSettings) -> None:
        self._settings = settings
        self._pool = Pool(url, settings)

    def connections(self) -> Connections:
        """See the contract, as for every method below."""
        return self._pool.connections()

    async def open(self) -> None:
        await self.open_as_it_is()

    async def open_as_it_is(self) -> Schema:
        async def version(session: Session) -> str | None:
            rows = await session.rows(READ_SCHEMA_VERSION)
            return str(rows[0][0]) if rows else None

        try:
            found = await self._transaction(version)
        except OperatorError as error:
            if code_of(error.__cause__ or error) != "ORA-00942":
                raise
            found = None
        if found is None:
            raise OperatorError(f"There is no record store in {self._pool.where}: run `authsvc migrate`.")
        if found < SCHEMA_VERSION:
            raise OperatorError(
                f"The schema of the record store {self._pool.where} is {found}, older than this release's {SCHEMA_VERSION}:"
                " run `authsvc migrate`."
            )
        return Schema(found, SCHEMA_VERSION)

    async def check_budget(self) -> None:
        check_budget(self._settings, self._settings.session_limit, "AUTH_ORACLE_SESSION_LIMIT")
        try:
            rows = await self._rows(READ_SESSION_LIMIT)
        except OperatorError as error:
            # Most users may not look at the database's own limit.
            if code_of(error.__cause__ or error) not in ("ORA-00942", "ORA-01031"):
                raise
            return
        check_budget(self._settings, int(rows[0][0]) if rows else None, "the database (its parameter sessions)")

    async def try_write(self) -> None:
        async def written(session: Session) -> None:
            await session.write(DROP_LEASE, "probe")
            await session.write(FIRST_LEASE, "probe", "probe", 0)
            await session.write(DROP_LEASE, "probe")

        await self._transaction(written)

    async def close(self) -> None:
        await self._pool.close()

    async def identity(self) -> str:
        rows = await self._rows(READ_IDENTITY)
        if not rows:
            raise OperatorError(f"The table store of {self._pool.where} has lost its row, which names the record store: restore it.")
        return str(rows[0][0])

    async def next_incarnation(self, above: int) -> int:
        return await self._transaction(lambda session: session.raised_incarnation(above))

    async def add_client(self, client: Client, cause: Cause | None = None) -> Client:
        async def added(session: Session) -> Client:
            if await session.rows(READ_ONE_CLIENT, client.id):
                raise ClientExists(client.id)
            await session.write(INSERT_CLIENT, *client_values(client), client.id, types=CLIENT_TYPES)
            return await _named(session, await _client(session, client.id), cause)

        return await self._transaction(added)

    async def change_client(self, client_id: str, change: Callable[[Client], Client], cause: Cause | None = None) -> Client:
        async def changed(session: Session) -> Client:
            wanted = change(await _client(session, client_id, LOCK_CLIENT))
            assert wanted.id == client_id, "a change keeps the client's id"
            epoch = None if wanted.epoch == NEW_EPOCH else wanted.epoch
            types = (*CLIENT_TYPES, oracledb.DB_TYPE_NUMBER)
            await session.write(UPDATE_CLIENT, *client_values(wanted), epoch, client_id, types=types)
            return await _named(session, await _client(session, client_id), cause)

        return await self._transaction(changed)

    async def delete_client(self, client_id: str, cause: Cause | None = None) -> DeletedClient:
        async def deleted(session: Session) -> DeletedClient:
            if await session.write(DELETE_CLIENT, client_id) == 0:
                raise ClientMissing(client_id)
            return await _named(session, DeletedClient(*(await session.rows(READ_TOMBSTONE, client_id))[0]), cause)

        return await self._transaction(deleted)

    async def read_changes(self, client_id: str | None, since_ms: int, after: int, limit: int) -> list[ClientChange]:
        if client_id is None:
            rows = await self._rows(READ_ALL_CHANGES, since_ms, after, limit)
        else:
            rows = await self._rows(READ_CLIENT_CHANGES, client_id, since_ms, after, limit)
        return [ClientChange(*row) for row in rows]

    async def read_client(self, client_id: str) -> Client | None:
        rows = await self._rows(READ_ONE_CLIENT, client_id)
        return as_client(rows[0]) if rows else None

    async def read_clients(self, client_ids: Iterable[str]) -> list[Client | DeletedClient]:
        async def read(session: Session) -> list[Client | DeletedClient]:
            ids, found = list(dict.fromkeys(client_ids)), []
            for start in range(0, len(ids), NAMES_AT_ONCE):
                named = ids[start : start + NAMES_AT_ONCE]
                # Filled up to one length, so that the database keeps one statement.
                named += named[-1:] * (NAMES_AT_ONCE - len(named))
                places = ", ".join(f":{number}" for number in range(1, NAMES_AT_ONCE + 1))
                others = ", ".join(f":{number}" for number in range(NAMES_AT_ONCE + 1, 2 * NAMES_AT_ONCE + 1))
                clients, tombstones = READ_NAMED.split("UNION ALL")
                statement = clients % {"ids": places} + "UNION ALL" + tombstones % {"ids": others}
                found += await session.rows(statement, *named, *named)
            return [as_client(row) if is_client else DeletedClient(row[0], row[-1]) for is_client, *row in found]

        return await self._transaction(read)

    async def list_clients(self) -> list[Client]:
        return [as_client(row) for row in await self._rows(READ_CLIENTS_IN_ORDER)]

    async def revisions(self) -> dict[str, int]:
        found = dict(await self._transaction(lambda session: session.rows(READ_REVISIONS, rows_at_once=10_000)))  # pairs, 20 bytes each
        lacking = sorted(client_id for client_id, revision in found.items() if revision is None)
        if lacking:
            raise OperatorError(
                f"The row of client {lacking[0]} in {self._pool.where} has no revision: a trigger on clients is missing or disabled."
                " Mend it (`authsvc migrate --sql` prints it), then write the row again."
            )
        return found

    async def write_records(self, records: Sequence[TokenRecord]) -> None:
        # In the order of their names, so that two writers lock rows in the same order.
        rows = [without_empty_text(record_values(record)) for record in sorted(records, key=attrgetter("name"))]
        if rows:
            await self._transaction(lambda session: session.write_many(MERGE_RECORD, rows, RECORD_TYPES), commits_itself=True)

    async def read_record(self, name: bytes) -> TokenRecord | None:
        rows = await self._rows(READ_RECORD, name)
        return TokenRecord(*with_empty_text(rows[0])) if rows else None

    async def search_records(self, client_id: str | None, issued_since_ms: int, after: TokenRecord | None, limit: int) -> list[TokenRecord]:
        if client_id is None:
            # No bytes at all would be NULL, and nothing is behind that.
            rows = await self._rows(READ_RECORDS, issued_since_ms, after.name if after else b"\0", limit)
        else:
            issued_ms, name = page_start(issued_since_ms, after)
            rows = await self._rows(READ_CLIENT_RECORDS, client_id, issued_ms, issued_ms, name, limit)
        return [TokenRecord(*with_empty_text(row)) for row in rows]

    async def purge_records(self, expired_before_ms: int, limit: int) -> int:
        return await self._transaction(lambda session: session.write(PURGE_RECORDS, expired_before_ms, limit))

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        async def taken(session: Session) -> bool:
            if await session.write(RENEW_LEASE, holder, seconds, name, holder) == 1:
                return True
            if await session.rows(HAS_LEASE, name):
                return False
            return await session.write(FIRST_LEASE, name, holder, seconds) == 1

        return await self._transaction(taken)

    async def write_marks(self, incarnation: int, marks: Mapping[str, StreamMark]) -> None:
        async def written(session: Session) -> None:
            latest = (await session.rows(LATEST_MARKS))[0][0]
            if latest is not None and latest > incarnation:
                return
            if latest is not None and latest < incarnation:
                await session.write(DROP_EARLIER_MARKS, incarnation)
            rows = [(incarnation, stream, *mark) for stream, mark in sorted(marks.items())]
            types = (oracledb.DB_TYPE_NUMBER, oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_VARCHAR, oracledb.DB_TYPE_NUMBER)
            if rows:
                await session.write_many(MERGE_MARK, rows, types)

        await self._transaction(written)

    async def read_marks(self) -> tuple[int, dict[str, StreamMark]]:
        rows = await self._rows(READ_MARKS)
        latest = max((row[0] for row in rows), default=0)
        return latest, {stream: StreamMark(*mark) for incarnation, stream, *mark in rows if incarnation == latest}

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        return await self._transaction(lambda session: session.rows(statement, *values))

    async def _transaction(self, work: Callable[[Session], Awaitable[T]], *, commits_itself: bool = False) -> T:
        """Do all of it or nothing, again when another writer's transaction undid it. Some statements commit in their own round trip."""
        for attempt in range(1, ATTEMPTS + 1):
            try:
                async with self._session() as session:
                    session.connection.autocommit = commits_itself
                    result = await work(session)
                    if not commits_itself:
                        await session.commit()
                    return result
            except RecordsUnavailable as error:
                if attempt == ATTEMPTS or code_of(error.__cause__ or error) not in RACES:
                    raise
        raise AssertionError("the last attempt returns or raises")

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        connection = await self._pool.acquire()
        broken = True
        try:
            yield Session(connection, self._pool.where)
            broken = False
        except BaseException as error:
            # One that lost its answer may be in the middle of anything; others are as good as new after a rollback.
            if not isinstance(error, RecordsUnavailable) or code_of(error.__cause__ or error) in RACES:
                with driver_errors(self._pool.where):
                    await connection.rollback()
                broken = False
            raise
        finally:
            await self._pool.release(connection, broken=broken)


async def _named(session: Session, changed: C, cause: Cause | None) -> C:
    """Put the cause to the change that a trigger noted."""
    if cause is not None:
        await session.write(NAME_CHANGE, *cause, changed.id, types=CAUSE_TYPES)
    return changed


async def _client(session: Session, client_id: str, statement: str = READ_ONE_CLIENT) -> Client:
    rows = await session.rows(statement, client_id)
    if not rows:
        raise ClientMissing(client_id)
    return as_client(rows[0])
