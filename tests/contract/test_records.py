"""What every record store must do, sentence by sentence of its contract."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsvc.errors import OperatorError, RecordRefused, RecordsUnavailable
from authsvc.model import Cause, Client, DeletedClient, Secret, StreamMark, TokenRecord
from authsvc.records import migrate
from authsvc.records.connect import connect_store
from authsvc.records.contract import NEW_EPOCH, ClientExists, ClientMissing, Connections, RecordStore
from contract.earlier_schema import run_as_of_schema_0001
from contract.record_stores import NEEDS_FAULTS, ORACLE_WAYS, RECORD_STORES, OracleDatabase, OracleFaults, SqliteDatabase

NOW_MS = 1_790_000_000_123
DEADLINE_SECONDS = 30.0
OLD, NEW = Secret(b"\x00" * 32, NOW_MS), Secret(bytes(range(32)), NOW_MS + 1)
ALPHA = Client("alpha", ("read", "write"), (OLD, NEW), False, 7200, 60, 12345, 54321)
TIMES = ("used_ms", "revoked_ms", "voided_ms")
SAID_OF: dict[str | None, tuple[str, ...]] = {
    None: ("issued_request_id",),
    "used_ms": ("used_request_id",),
    "revoked_ms": ("revoked_request_id", "revoked_by"),
    "voided_ms": (),
}
"""What a record says of each event, the issue (None) too, beside its time."""
CHILD_ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test written as a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture(params=RECORD_STORES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


def client(client_id: str, **changes: Any) -> Client:
    return Client(client_id, ("read",), (OLD,), **changes)


def token(number: int, **changes: Any) -> TokenRecord:
    values: dict[str, Any] = {"kind": "a", "incarnation": 3, "client_id": "alpha", "epoch": 7, "scope": "read write"}
    return TokenRecord(number.to_bytes(20), **{**values, "issued_ms": NOW_MS, "expires_ms": NOW_MS + 3_600_000, **changes})


async def held_records(store: RecordStore, *records: TokenRecord) -> list[TokenRecord]:
    """Those of the records that the store holds, as it holds them."""
    return [held for record in records if (held := await store.read_record(record.name)) is not None]


async def clients_of(store: RecordStore, *client_ids: str) -> dict[str, Client | DeletedClient]:
    return {found.id: found for found in await store.read_clients(client_ids)}


def add(number: int) -> Callable[[Client], Client]:
    """A change whose every loss shows in a sum."""
    return lambda held: replace(held, access_ttl_seconds=held.access_ttl_seconds + number)


# Opening and closing, the store's own numbers


@awaited
async def test_open_brings_the_schema_up_to_date_and_keeps_what_is_there(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
    async with database.opened() as store:
        assert await store.list_clients() == [stored]


@awaited
async def test_who_runs_on_an_earlier_schema_goes_on_while_it_is_brought_up(database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two releases share one schema: writers of the older one are still there when the migration runs."""
    database.run_text(migrate.sql(database.url, to="0001"))
    with monkeypatch.context() as patch:
        run_as_of_schema_0001(patch)
        await _go_on_while_it_is_migrated(database)
    async with database.opened() as newer:
        assert await newer.read_client("late") is not None
        await newer.write_records([replace(token(0), issued_request_id="request")])
        assert await newer.read_record((0).to_bytes(20)) == replace(token(0), issued_request_id="request")


async def _go_on_while_it_is_migrated(database: Any) -> None:
    store = database.store()
    await store.open()
    try:
        stored, before = await store.add_client(client("early")), [token(number) for number in range(100)]
        await store.write_records(before)
        migration = asyncio.ensure_future(_until_it_goes(lambda: asyncio.to_thread(migrate.upgrade, database.url)))
        written = tried = 0
        while not migration.done() or written < 5:
            batch = [token(written * 100 + number) for number in range(100)]
            await _until_it_goes(functools.partial(store.write_records, batch))
            tried += await _until_it_goes(lambda: store.change_client("early", lambda held: replace(held, enabled=not held.enabled)))
            written += 1
        await migration
        later = [token(written * 100 + number) for number in range(100)]
        await store.write_records(later)
        assert await held_records(store, before[0], later[-1]) == [before[0], later[-1]]
        late = await store.add_client(client("late"))
        assert written < late.revision - stored.revision <= tried + 1, "every change drew one revision"
        assert (await store.read_changes(None, 0, 0, 10_000))[-1].client_id == "late"
    finally:
        await store.close()


async def _until_it_goes(attempt: Callable[[], Awaitable[object]]) -> int:
    """Again and again, as a writer and the migration's Job do; the number of attempts.

    A stand-in for Oracle copies a table to add a column: meanwhile it knows none of that name, and what is written may be lost.
    """
    deadline = time.monotonic() + DEADLINE_SECONDS
    for attempts in itertools.count(1):
        try:
            await attempt()
            return attempts
        except OperatorError:
            assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    raise AssertionError("it counts for ever")


@awaited
async def test_what_is_there_is_opened_as_it_is(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
    store = database.store()
    schema = await store.open_as_it_is()
    assert schema.found == schema.own
    assert await store.list_clients() == [stored]
    database.plain_sql("UPDATE alembic_version SET version_num = '9999'")
    assert (await store.open_as_it_is())._replace(own="") == ("9999", "")
    await store.close()


@awaited
async def test_what_is_not_there_is_not_made(database: Any, tmp_path: Path) -> None:
    store = database.store()
    with pytest.raises(OperatorError, match="There is no record store") as raised:
        await store.open_as_it_is()
    await store.close()
    assert not isinstance(raised.value, RecordsUnavailable), "trying again would not help"
    assert not list(tmp_path.iterdir())


@awaited
async def test_an_earlier_schema_is_refused_and_stays(database: Any) -> None:
    async with database.opened():
        database.plain_sql("UPDATE alembic_version SET version_num = '0000'")
    store = database.store()
    with pytest.raises(OperatorError, match="0000, older than"):
        await store.open_as_it_is()
    await store.close()
    assert database.plain_sql("SELECT version_num FROM alembic_version") == [("0000",)]


@awaited
async def test_a_write_is_tried_and_leaves_nothing(database: Any) -> None:
    async with database.opened(0.2) as store:
        assert await store.take_lease("mine", "me", 60)
        before = database.contents()
        await store.try_write()
        assert database.contents() == before
        with database.kept_busy(), pytest.raises(RecordsUnavailable):
            await store.try_write()
        await store.try_write()


@awaited
async def test_close_is_safe_to_call_twice_and_without_open(database: Any) -> None:
    async with database.opened() as store:
        await store.close()
    await database.store().close()


@awaited
async def test_close_lets_the_calls_under_way_finish(database: Any) -> None:
    async with database.opened() as store:
        writes = [asyncio.ensure_future(store.write_records([token(number)])) for number in range(20)]
        await asyncio.sleep(0)
        await store.close()
        await asyncio.gather(*writes)
    async with database.opened() as store:
        assert len(await held_records(store, *map(token, range(20)))) == 20


@awaited
async def test_one_event_loop_may_use_it_from_several_tasks(database: Any) -> None:
    async with database.opened() as store:
        added = await asyncio.gather(*(store.add_client(client(f"c{number}")) for number in range(30)))
        read = await asyncio.gather(*(store.read_client(f"c{number}") for number in range(30)))
        assert read == added


@awaited
async def test_identity_never_changes_and_differs_between_databases(database: Any, tmp_path: Path) -> None:
    async with database.opened() as store:
        identity = await store.identity()
        assert re.fullmatch("[0-9a-f]{32}", identity)
        await store.next_incarnation(5)
        assert await store.identity() == identity
    async with database.opened() as store:
        assert await store.identity() == identity
    async with type(database)(tmp_path / "other").opened() as other:
        assert await other.identity() != identity


@awaited
async def test_an_incarnation_is_greater_than_asked_and_than_every_one_before(database: Any) -> None:
    async with database.opened() as store:
        assert await store.next_incarnation(0) > 0
        high = await store.next_incarnation(1000)
        assert high > 1000
        low = await store.next_incarnation(3)
        assert low > high
    async with database.opened() as store:
        assert await store.next_incarnation(0) > low


@awaited
async def test_racing_stores_never_get_the_same_incarnation(database: Any) -> None:
    async with database.opened() as one, database.opened() as two:
        numbers = await asyncio.gather(*(store.next_incarnation(0) for _ in range(25) for store in (one, two)))
        assert len(set(numbers)) == 50


# Clients


@awaited
async def test_a_new_client_gets_its_own_epoch_and_revision(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        assert stored == replace(ALPHA, epoch=stored.epoch, revision=stored.revision)
        assert (stored.epoch, stored.revision) != (ALPHA.epoch, ALPHA.revision)
        assert stored.epoch != NEW_EPOCH
        assert await store.read_client("alpha") == stored
        later = await store.add_client(replace(ALPHA, id="beta"))
        assert min(later.epoch, later.revision) > max(stored.epoch, stored.revision)


@awaited
async def test_adding_a_client_twice_is_refused_and_changes_nothing(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        with pytest.raises(ClientExists):
            await store.add_client(client("alpha"))
        assert await store.read_client("alpha") == stored


@awaited
async def test_of_racing_adds_of_one_id_one_wins(database: Any) -> None:
    async with database.opened() as one, database.opened() as two:
        for number in range(20):
            racing = (store.add_client(client(f"c{number}", access_ttl_seconds=number)) for store in (one, two))
            outcomes = await asyncio.gather(*racing, return_exceptions=True)
            assert {type(outcome) for outcome in outcomes} == {Client, ClientExists}
            assert await one.read_client(f"c{number}") in outcomes


@awaited
async def test_a_change_draws_a_revision_and_keeps_the_epoch(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        given: list[Client] = []

        def change(held: Client) -> Client:
            given.append(held)
            return replace(held, scopes=("admin",), secrets=(NEW,), enabled=True, access_ttl_seconds=1, one_time_ttl_seconds=2, epoch=99)

        changed = await store.change_client("alpha", change)
        assert given == [stored]
        assert changed == Client("alpha", ("admin",), (NEW,), True, 1, 2, stored.epoch, changed.revision)
        assert changed.revision > stored.revision
        assert await store.read_client("alpha") == changed


@awaited
async def test_a_change_that_changes_nothing_draws_a_revision_too(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        assert (await store.change_client("alpha", lambda held: held)).revision > stored.revision


@awaited
async def test_a_change_to_a_new_epoch_draws_it_from_the_same_sequence(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        changed = await store.change_client("alpha", lambda held: replace(held, epoch=NEW_EPOCH))
        assert changed.epoch > max(stored.epoch, stored.revision)
        assert changed == replace(stored, epoch=changed.epoch, revision=changed.revision)
        other = await store.add_client(client("beta"))
        assert min(other.epoch, other.revision) > max(changed.epoch, changed.revision)


@pytest.mark.parametrize("error", [LookupError("no"), OverflowError("no"), OSError("no"), OperatorError("no")], ids=repr)
@awaited
async def test_an_exception_of_a_change_leaves_the_client_and_reaches_the_caller(database: Any, error: Exception) -> None:
    def change(held: Client) -> Client:
        raise error

    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        with pytest.raises(type(error)) as raised:
            await store.change_client("alpha", change)
        assert raised.value is error
        assert await store.read_client("alpha") == stored
        assert (await store.change_client("alpha", add(1))).access_ttl_seconds == ALPHA.access_ttl_seconds + 1


@awaited
async def test_a_change_is_one_step_against_other_changes(database: Any) -> None:
    async with database.opened() as one, database.opened() as two:
        await one.add_client(client("alpha", access_ttl_seconds=0))
        changes = (store.change_client("alpha", add(number)) for number in range(25) for store in (one, two))
        revisions = [changed.revision for changed in await asyncio.gather(*changes)]
        assert len(set(revisions)) == 50
        held = await one.read_client("alpha")
        assert held is not None
        assert held.access_ttl_seconds == 2 * sum(range(25))
        assert held.revision == max(revisions)


@awaited
async def test_changing_or_deleting_a_client_that_is_not_there_is_refused(database: Any) -> None:
    async with database.opened() as store:
        with pytest.raises(ClientMissing):
            await store.change_client("alpha", add(1))
        with pytest.raises(ClientMissing):
            await store.delete_client("alpha")
        assert await store.revisions() == {}


@awaited
async def test_a_deleted_client_leaves_a_tombstone_with_a_new_revision(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(ALPHA)
        deleted = await store.delete_client("alpha")
        assert deleted.id == "alpha"
        assert deleted.revision > stored.revision
        assert await store.read_client("alpha") is None
        assert await store.read_clients(["alpha"]) == [deleted]
        assert await store.revisions() == {"alpha": deleted.revision}
        assert await store.list_clients() == []


@awaited
async def test_a_client_added_again_is_newer_than_all_that_was(database: Any) -> None:
    async with database.opened() as store:
        newest = 0
        for _ in range(3):
            stored = await store.add_client(ALPHA)
            assert min(stored.epoch, stored.revision) > newest
            assert await store.revisions() == {"alpha": stored.revision}
            assert await store.read_clients(["alpha"]) == [stored]
            newest = (await store.delete_client("alpha")).revision
            assert newest > stored.revision
            assert await store.revisions() == {"alpha": newest}


@awaited
async def test_a_client_that_can_never_be_stored_is_refused_whole(database: Any) -> None:
    async with database.opened() as store:
        for bad in (client("x" * 65), replace(ALPHA, secrets=(Secret(b"short", NOW_MS),)), replace(ALPHA, secrets=(OLD, Secret(b"", 1)))):
            with pytest.raises(RecordRefused):
                await store.add_client(bad)
        assert await store.list_clients() == []
        stored = await store.add_client(ALPHA)
        with pytest.raises(RecordRefused):
            await store.change_client("alpha", lambda held: replace(held, scopes=("other",), access_ttl_seconds=2**70))
        assert await store.read_client("alpha") == stored


@awaited
async def test_clients_are_listed_in_the_order_of_their_ids(database: Any) -> None:
    async with database.opened() as store:
        for client_id in ("b", "a.1", "B", "a-1", "a_1", "9"):
            await store.add_client(client(client_id))
        assert [held.id for held in await store.list_clients()] == sorted(["b", "a.1", "B", "a-1", "a_1", "9"])


@awaited
async def test_ids_differ_by_case(database: Any) -> None:
    async with database.opened() as store:
        await store.add_client(client("alpha"))
        await store.add_client(client("Alpha", enabled=False))
        await store.delete_client("alpha")
        assert await store.read_client("ALPHA") is None
        assert [type(found) for found in (await clients_of(store, "Alpha", "alpha")).values()] == [Client, DeletedClient]


@awaited
async def test_read_clients_tells_a_client_else_its_tombstone_else_nothing(database: Any) -> None:
    async with database.opened() as store:
        here = await store.add_client(client("here"))
        await store.add_client(client("gone"))
        gone = await store.delete_client("gone")
        await store.add_client(client("unasked"))
        assert await clients_of(store, "gone", "never", "here", "here") == {"here": here, "gone": gone}
        assert await store.read_clients([]) == []


@awaited
async def test_read_clients_takes_thousands_of_ids(database: Any) -> None:
    async with database.opened() as store:
        await store.add_client(client("id-0"))
        await store.add_client(client("id-19999"))
        await store.delete_client("id-19999")
        found = await store.read_clients(f"id-{number}" for number in range(20_000))
        assert sorted(record.id for record in found) == ["id-0", "id-19999"]


@awaited
async def test_plain_sql_moves_the_revision_of_each_row_that_it_changes(database: Any) -> None:
    async with database.opened() as store:
        before = [await store.add_client(client(f"c{number}")) for number in range(5)]
        database.plain_sql("UPDATE clients SET enabled = 0 WHERE client_id <> 'c0'")
        untouched, *after = await store.list_clients()
        assert untouched == before[0]
        assert not any(changed.enabled for changed in after)
        assert [changed.epoch for changed in after] == [stored.epoch for stored in before[1:]]
        assert len({changed.revision for changed in after}) == 4
        assert min(changed.revision for changed in after) > before[-1].revision


@awaited
async def test_plain_sql_ends_tokens_by_an_epoch_of_null_only(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(client("alpha"))
        database.plain_sql("UPDATE clients SET epoch = 1000000, revision = 1")
        moved = await store.read_client("alpha")
        assert moved is not None
        assert moved == replace(stored, revision=moved.revision)
        assert moved.revision > stored.revision
        database.plain_sql("UPDATE clients SET epoch = NULL")
        ended = await store.read_client("alpha")
        assert ended is not None
        assert min(ended.epoch, ended.revision) > moved.revision


@awaited
async def test_plain_sql_may_not_rename_a_client(database: Any) -> None:
    async with database.opened() as store:
        stored = await store.add_client(client("alpha"))
        with pytest.raises(Exception, match=r"(?i)client_id"):
            database.plain_sql("UPDATE clients SET client_id = 'beta'")
        assert await store.list_clients() == [stored]
        assert await store.revisions() == {"alpha": stored.revision}


@awaited
async def test_plain_sql_leaves_a_tombstone_for_each_row_that_it_deletes(database: Any) -> None:
    async with database.opened() as store:
        last = [await store.add_client(client(f"c{number}")) for number in range(5)][-1]
        database.plain_sql("DELETE FROM clients")
        gone = await store.read_clients(f"c{number}" for number in range(5))
        assert {type(record) for record in gone} == {DeletedClient}
        assert len({record.revision for record in gone}) == 5
        assert min(record.revision for record in gone) > last.revision
        assert await store.revisions() == {record.id: record.revision for record in gone}


CAUSE = Cause("rotate", "somebody@desk", "request-7")


@awaited
async def test_a_change_is_noted_with_its_cause_and_what_came_of_it(database: Any) -> None:
    async with database.opened() as store:
        began_ms = int(time.time() * 1000)
        added = await store.add_client(ALPHA, Cause("add", "somebody@desk", "request-1"))
        changed = await store.change_client("alpha", lambda held: replace(held, enabled=True, secrets=(NEW,)), CAUSE)
        gone = await store.delete_client("alpha", Cause("delete", "other@desk"))
        first, second, third = await store.read_changes(None, 0, 0, 10)
        assert all(began_ms - 1000 <= change.changed_ms <= time.time() * 1000 + 1000 for change in (first, second, third))
        what_it_was = ("read write", 0, 2, 7200, 60, added.epoch)
        assert first == (first.number, "alpha", added.revision, first.changed_ms, "add", "somebody@desk", "request-1", *what_it_was)
        what_it_was = ("read write", 1, 1, 7200, 60, added.epoch)
        assert second == (second.number, "alpha", changed.revision, second.changed_ms, *CAUSE, *what_it_was)
        assert third == (third.number, "alpha", gone.revision, third.changed_ms, "delete", "other@desk", *[None] * 7)


@awaited
async def test_a_change_that_is_undone_is_not_noted(database: Any) -> None:
    def fail(held: Client) -> Client:
        raise ValueError(held.id)

    async with database.opened() as store:
        await store.add_client(ALPHA, CAUSE)
        with pytest.raises(ClientExists):
            await store.add_client(ALPHA, CAUSE)
        with pytest.raises(ClientMissing):
            await store.delete_client("beta", CAUSE)
        with pytest.raises(ValueError, match="alpha"):
            await store.change_client("alpha", fail, CAUSE)
        assert len(await store.read_changes(None, 0, 0, 10)) == 1


@awaited
async def test_plain_sql_is_noted_row_by_row_with_whom_the_database_knows(database: Any) -> None:
    async with database.opened() as store:
        for client_id in ("a", "b", "c"):
            await store.add_client(client(client_id), CAUSE)
        database.plain_sql("UPDATE clients SET enabled = 0 WHERE client_id <> 'a'")
        database.plain_sql("DELETE FROM clients WHERE client_id = 'b'")
        columns = "client_id, scopes, secret_digest, secret_created_at, enabled, access_ttl_seconds, one_time_ttl_seconds"
        database.plain_sql(
            f"INSERT INTO clients ({columns}, revision) SELECT 'd', scopes, secret_digest, 1, 1, 2, 3, 4 FROM clients WHERE client_id = 'a'"
        )
        changes = [change for change in await store.read_changes(None, 0, 0, 10) if change.change != "rotate"]
        assert [(change.client_id, change.change, change.enabled) for change in changes] == [
            *(("b", "update", 0), ("c", "update", 0), ("b", "delete", None), ("d", "insert", 1)),
        ]
        assert {change.request_id for change in changes} == {None}
        assert all(change.changed_by for change in changes)
        known = {record.id: record.revision for record in await store.read_clients(["b", "c", "d"])}
        assert {change.client_id: change.revision for change in changes} == known


@awaited
async def test_changes_are_read_page_by_page_of_one_client_or_of_all(database: Any) -> None:
    async with database.opened() as store:
        for number in range(3):
            for client_id in ("a", "b"):
                cause = Cause("change", "somebody", f"{client_id}-{number}")
                await (store.change_client(client_id, lambda held: held, cause) if number else store.add_client(client(client_id), cause))
        for client_id, expected in ((None, ["a-0", "b-0", "a-1", "b-1", "a-2", "b-2"]), ("b", ["b-0", "b-1", "b-2"]), ("c", [])):
            found: list[str | None] = []
            last = 0
            while page := await store.read_changes(client_id, 0, last, 2):
                assert len(page) <= 2
                found += [change.request_id for change in page]
                last = page[-1].number
            assert found == expected
        newest = (await store.read_changes(None, 0, 0, 10))[-1].changed_ms
        assert await store.read_changes(None, newest + 1, 0, 10) == []
        assert (await store.read_changes(None, newest, 0, 10))[-1].request_id == "b-2"


@awaited
async def test_revisions_come_from_one_consistent_read(database: Any) -> None:
    """One statement changes all clients, so what is read at any moment must be the consecutive numbers of one such change."""
    async with database.opened() as store:
        for number in range(50):
            await store.add_client(client(f"c{number}"))
        database.plain_sql("UPDATE clients SET enabled = 0")

        def change_all() -> None:
            for _ in range(30):
                database.plain_sql("UPDATE clients SET enabled = 1 - enabled")

        changing = asyncio.ensure_future(asyncio.to_thread(change_all))
        seen = set()
        while not changing.done():
            revisions = (await store.revisions()).values()
            assert len(revisions) == 50
            assert max(revisions) - min(revisions) == 49
            seen.add(max(revisions))
        await changing
        assert len(seen) > 1, "nothing changed between the reads"


# Records of tokens


@awaited
async def test_a_record_is_read_as_it_was_written(database: Any) -> None:
    async with database.opened() as store:
        said = {f"{event}_request_id": event[0] * 64 for event in ("issued", "used", "revoked")} | {"revoked_by": "\u00e9" * 255}
        whole = token(1, kind="o", scope="s" * 64, client_id="c" * 64, used_ms=1, revoked_ms=2, voided_ms=3, epoch=2**62, **said)
        bare = token(2, scope="", incarnation=2**62)
        await store.write_records([whole, bare])
        assert await held_records(store, whole, bare) == [whole, bare]
        assert await store.read_record(b"\xff" * 20) is None


@awaited
async def test_no_records_are_written_without_complaint(database: Any) -> None:
    async with database.opened() as store:
        await store.write_records([])


@awaited
async def test_any_delivery_of_the_same_events_ends_in_the_same_rows(database: Any) -> None:
    numbers = itertools.count()
    events = st.tuples(
        st.integers(0, 3), st.sampled_from([None, *TIMES]), st.integers(0, 2**45) | st.integers(0, 2), st.sampled_from([None, "a", "b"])
    )

    def check(runner: asyncio.Runner, store: RecordStore) -> None:
        @settings(max_examples=100, deadline=None, print_blob=True)
        @given(given_events=st.lists(events, min_size=1, max_size=12), data=st.data())
        def every_delivery(given_events: list[tuple[int, str | None, int, str | None]], data: st.DataObject) -> None:
            base = 4 * next(numbers)
            again = data.draw(st.lists(st.sampled_from(given_events), max_size=6))
            delivered = data.draw(st.permutations(given_events + again))
            cuts = sorted(data.draw(st.sets(st.integers(1, len(delivered)), max_size=5)))
            records = [
                token(base + which, **({member: at_ms} if member else {}) | dict.fromkeys(SAID_OF[member], said))
                for which, member, at_ms, said in delivered
            ]
            for begin, end in itertools.pairwise([0, *cuts, len(records)]):
                runner.run(store.write_records(records[begin:end]))
            for which in {which for which, *_ in given_events}:
                expected: dict[str, Any] = {}
                for member in (None, *TIMES):
                    mine = [(at_ms if member else 0, said) for number, of, at_ms, said in given_events if (number, of) == (which, member)]
                    first = min((at_ms for at_ms, _ in mine), default=None)
                    expected |= {member: first} if member else {}
                    said = min((said for at_ms, said in mine if at_ms == first and said is not None), default=None)
                    expected |= dict.fromkeys(SAID_OF[member], said)
                assert runner.run(store.read_record(token(base + which).name)) == token(base + which, **expected)

        every_delivery()

    def run() -> None:
        database.prepare()
        with asyncio.Runner() as runner:
            store = database.store()
            runner.run(store.open())
            try:
                check(runner, store)
            finally:
                runner.run(store.close())

    # Each example runs the loop anew, so it cannot be this one.
    await asyncio.to_thread(run)


@pytest.mark.parametrize("member", TIMES)
@awaited
async def test_a_time_once_set_stays_and_the_earlier_of_two_wins(database: Any, member: str) -> None:
    async with database.opened() as store:
        for written, held in ((None, None), (20, 20), (None, 20), (30, 20), (10, 10), (10, 10), (0, 0), (None, 0)):
            await store.write_records([token(1, **{member: written})])
            assert await held_records(store, token(1)) == [token(1, **{member: held})]


@awaited
async def test_racing_stores_may_write_the_same_records(database: Any) -> None:
    batches = [[token(number, **{member: NOW_MS + batch}) for number in range(50)] for batch, member in enumerate(TIMES * 4)]
    async with database.opened() as one, database.opened() as two:
        await asyncio.gather(*(store.write_records(batch) for batch in batches for store in (one, two)))
        expected = [token(number, used_ms=NOW_MS, revoked_ms=NOW_MS + 1, voided_ms=NOW_MS + 2) for number in range(50)]
        assert await held_records(one, *expected) == expected


@pytest.mark.parametrize(
    "poison",
    [
        {"kind": "x"},
        {"client_id": "c" * 65},
        {"epoch": 10**19},
        {"issued_ms": None},
        {"scope": "\ud800"},
        pytest.param({"expires_ms": object()}, id="what is no number"),
    ],
    ids=str,
)
@awaited
async def test_a_row_that_can_never_be_stored_is_refused_with_its_whole_batch(database: Any, poison: dict[str, Any]) -> None:
    async with database.opened() as store:
        await store.write_records([token(1)])
        with pytest.raises(RecordRefused):
            await store.write_records([token(0), token(1, used_ms=1), token(2, **poison), token(3)])
        assert await held_records(store, *map(token, range(4))) == [token(1)]
        await store.write_records([token(0), token(1, used_ms=1), token(3)])
        assert len(await held_records(store, *map(token, range(4)))) == 3


async def searched(store: RecordStore, client_id: str | None, since_ms: int = 0, limit: int = 3) -> list[TokenRecord]:
    """All that a search finds, page by page."""
    found: list[TokenRecord] = []
    last = None
    while page := await store.search_records(client_id, since_ms, last, limit):
        assert len(page) <= limit
        found += page
        last = page[-1]
    return found


@awaited
async def test_a_search_gives_the_records_of_one_client_in_the_order_of_their_issue(database: Any) -> None:
    # Names against the order of issue, and many of one millisecond, so that pages end within one.
    ours = [token(50 - number, issued_ms=NOW_MS + number // 4, scope="", revoked_ms=number) for number in range(20)]
    others = [token(100 + number, client_id=client_id, issued_ms=NOW_MS) for number, client_id in enumerate(("alpha2", "Alpha", "a"))]
    in_order = sorted(ours, key=lambda record: (record.issued_ms, record.name))
    async with database.opened() as store:
        await store.write_records([*ours, *others])
        assert await searched(store, "alpha") == in_order
        assert await store.search_records("alpha", 0, None, 7) == in_order[:7]
        assert await searched(store, "alpha", NOW_MS + 2) == in_order[8:]
        assert await searched(store, "alpha", NOW_MS + 5) == await searched(store, "nobody") == []


@awaited
async def test_a_search_of_all_clients_gives_every_record_once(database: Any) -> None:
    names = (b"\0" * 20, b"\0" * 19 + b"\1", b"\0\xff" * 10, b"\x7f" * 20, b"\x80" * 20, b"\xff" * 20)
    records = [replace(token(1), name=name, client_id=f"c{at % 2}", issued_ms=NOW_MS - at) for at, name in enumerate(names)]
    async with database.opened() as store:
        await store.write_records(records)
        assert await searched(store, None, limit=2) == records
        assert await searched(store, None, limit=100) == records
        assert await searched(store, None, NOW_MS - 2) == records[:3]
        assert await searched(store, "c0") == records[4::-2]


@awaited
async def test_a_search_goes_on_where_it_was_whatever_comes_and_goes(database: Any) -> None:
    async with database.opened() as store:
        records = [token(number, issued_ms=NOW_MS + number, expires_ms=number) for number in range(8)]
        await store.write_records(records)
        page = await store.search_records("alpha", 0, None, 4)
        await store.purge_records(4, 100)
        await store.write_records([token(100, issued_ms=NOW_MS), token(101, issued_ms=NOW_MS + 9)])
        assert page == records[:4]
        assert await store.search_records("alpha", 0, page[-1], 10) == [*records[4:], token(101, issued_ms=NOW_MS + 9)]


@awaited
async def test_a_purge_deletes_at_most_so_many_and_only_what_has_expired(database: Any) -> None:
    async with database.opened() as store:
        expired = [token(number, expires_ms=1000 + number) for number in range(10)]
        kept = [token(10 + number, expires_ms=1010 + number) for number in range(5)]
        await store.write_records(expired + kept)
        assert [await store.purge_records(1010, 4) for _ in range(4)] == [4, 4, 2, 0]
        assert await held_records(store, *expired, *kept) == kept


# Leases and marks


@awaited
async def test_a_lease_has_one_holder_who_may_renew_it(database: Any) -> None:
    async with database.opened() as one, database.opened() as two:
        assert await one.take_lease("purge", "one", 60)
        assert not await two.take_lease("purge", "two", 60)
        assert await one.take_lease("purge", "one", 60)
        assert await two.take_lease("marks", "two", 60)
        assert not await one.take_lease("marks", "one", 60)


@awaited
async def test_of_racing_takers_of_a_lease_one_gets_it(database: Any) -> None:
    async with database.opened() as one, database.opened() as two:
        for number in range(20):
            taken = await asyncio.gather(one.take_lease(f"l{number}", "one", 60), two.take_lease(f"l{number}", "two", 60))
            assert sorted(taken) == [False, True]


@awaited
async def test_a_lease_ends_by_the_clock_of_the_store(database: Any) -> None:
    async with database.opened() as store:
        began = time.monotonic()
        assert await store.take_lease("purge", "one", 0.3)
        while not await store.take_lease("purge", "two", 60):
            assert time.monotonic() - began < DEADLINE_SECONDS
            await asyncio.sleep(0.01)
        assert time.monotonic() - began > 0.25
        assert not await store.take_lease("purge", "one", 60)


@awaited
async def test_marks_are_read_as_written_last(database: Any) -> None:
    async with database.opened() as store:
        assert await store.read_marks() == (0, {})
        await store.write_marks(7, {"s:00": StreamMark("5-0", 9), "s:01": StreamMark("6-1", 2**60)})
        await store.write_marks(7, {"s:00": StreamMark("8-3", 11)})
        assert await store.read_marks() == (7, {"s:00": StreamMark("8-3", 11), "s:01": StreamMark("6-1", 2**60)})
    async with database.opened() as store:
        assert (await store.read_marks())[0] == 7


@awaited
async def test_marks_of_earlier_incarnations_are_dropped_and_stay_away(database: Any) -> None:
    async with database.opened() as store:
        await store.write_marks(7, {"s:00": StreamMark("5-0", 9), "s:01": StreamMark("6-0", 9)})
        await store.write_marks(8, {"s:00": StreamMark("1-0", 1)})
        assert await store.read_marks() == (8, {"s:00": StreamMark("1-0", 1)})
        await store.write_marks(7, {"s:00": StreamMark("9-0", 10)})
        await store.write_marks(8, {"s:00": StreamMark("0-0", 0)})
        assert await store.read_marks() == (8, {"s:00": StreamMark("1-0", 1)})
        await store.write_marks(9, {})
        assert await store.read_marks() == (0, {})


# Failures

WRITER_PROCESS = """
import asyncio, itertools, sys
from authsvc.model import TokenRecord
from authsvc.records.connect import connect_store
from authsvc.records.oracle_settings import PoolSettings

async def write_until_killed(url, *in_threads):
    store = connect_store(url, 30, PoolSettings(in_threads=bool(in_threads)))
    await store.open()
    for batch in itertools.count():
        names = [(200 * batch + row).to_bytes(20) for row in range(200)]
        await store.write_records([TokenRecord(name, "a", 1, "alpha", 1, "read", 0, expires_ms=batch) for name in names])
        print(batch, flush=True)

asyncio.run(write_until_killed(*sys.argv[1:]))
"""


@pytest.mark.parametrize("kill_after_batches", [1, 25])
@awaited
async def test_a_killed_process_loses_no_batch_that_returned(database: Any, kill_after_batches: int) -> None:
    await asyncio.to_thread(database.prepare)
    way = ["in threads"] if database.in_threads else []
    command = [sys.executable, "-c", WRITER_PROCESS, database.url, *way]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=CHILD_ENVIRONMENT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(kill_after_batches)]
        process.kill()
        lines += process.stdout.readlines()
    returned = sum(line.endswith("\n") for line in lines)
    assert returned >= kill_after_batches, "the writer stopped by itself"
    async with database.opened() as store:
        # Each batch expires at its own time, so that a purge counts it.
        assert [await store.purge_records(batch + 1, 10_000) for batch in range(returned)] == [200] * returned
        # Of the batch that was under way all or nothing is there.
        assert await store.purge_records(returned + 1, 10_000) in (0, 200)
        assert await store.purge_records(NOW_MS, 10_000) == 0


@awaited
async def test_a_busy_store_is_unavailable_and_then_goes_on(database: Any) -> None:
    async with database.opened(call_timeout_seconds=0.1) as store:
        stored = await store.add_client(ALPHA)
        with database.kept_busy():
            for call in (store.write_records([token(1)]), store.change_client("alpha", add(1)), store.take_lease("purge", "one", 1)):
                with pytest.raises(RecordsUnavailable):
                    await call
        assert await store.read_client("alpha") == stored
        await store.write_records([token(1)])
        assert await held_records(store, token(1)) == [token(1)]


@awaited
async def test_readers_do_not_wait_for_a_change(database: Any) -> None:
    async with database.opened(call_timeout_seconds=0.1) as store:
        stored = await store.add_client(ALPHA)
        with database.kept_busy():
            assert await store.list_clients() == [stored]
            assert await store.revisions() == {"alpha": stored.revision}


# Oracle's own


@pytest.mark.parametrize("way", ORACLE_WAYS)
@awaited
async def test_who_waits_for_a_session_is_counted(way: type[OracleDatabase], tmp_path: Path) -> None:
    database = way(tmp_path)
    await asyncio.to_thread(database.prepare)
    store = database.store(max=2, wait_timeout=DEADLINE_SECONDS)
    assert store.connections() == Connections(0, 0, 0, 0)
    await store.open()
    with database.kept_busy():
        writes = [asyncio.ensure_future(store.write_records([token(1)])) for _ in range(5)]
        await until(lambda: store.connections() == Connections(open=2, idle=0, waiting=3, lost=0))
    await asyncio.gather(*writes)
    assert store.connections() == Connections(open=2, idle=2, waiting=0, lost=0)
    await store.close()
    assert store.connections() == Connections(0, 0, 0, 0)


@NEEDS_FAULTS
@pytest.mark.parametrize("way", ORACLE_WAYS)
@awaited
async def test_a_session_that_broke_in_use_is_counted(way: type[OracleDatabase], tmp_path: Path) -> None:
    async with way(tmp_path).opened() as store:
        with OracleFaults().on("cut-at-commit", point="after", count=1), pytest.raises(RecordsUnavailable):
            await store.write_records([token(1)])
        assert store.connections().lost == 1
        await store.write_records([token(1)])
        assert store.connections().lost == 1
        assert await held_records(store, token(1)) == [token(1)]


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


# The embedded store's own


@pytest.mark.parametrize("url", ["postgresql://db/records", "sqlite://", "sqlite:///", "records.db", ""])
def test_a_url_of_no_known_kind_is_one_sentence(url: str) -> None:
    with pytest.raises(OperatorError, match="AUTH_RECORDS_URL"):
        connect_store(url, 30)


@awaited
async def test_a_relative_path_is_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = connect_store("sqlite:///some records.db", 30)
    monkeypatch.chdir("/")
    await store.open()
    await store.close()
    assert (tmp_path / "some records.db").stat().st_size > 0


async def assert_cannot_open(database: SqliteDatabase) -> None:
    with pytest.raises(OperatorError, match=re.escape(str(database.path))) as raised:
        async with database.opened():
            pass
    assert type(raised.value) is OperatorError, "trying again would help"


@awaited
async def test_a_file_that_is_no_database_is_the_operators(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.path.parent.mkdir(parents=True)
    database.path.write_text("Dear diary, " * 1000)
    await assert_cannot_open(database)
    assert database.path.read_text().startswith("Dear diary")


@awaited
async def test_a_folder_in_place_of_the_file_is_the_operators(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.path.mkdir(parents=True)
    await assert_cannot_open(database)


@awaited
async def test_a_file_in_place_of_the_folder_is_the_operators(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.path.parent.parent.mkdir(parents=True)
    database.path.parent.write_text("")
    await assert_cannot_open(database)


@awaited
async def test_someone_elses_database_is_the_operators(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path)
    database.path.parent.mkdir(parents=True)
    database.plain_sql("CREATE TABLE tokens (whose TEXT)")
    await assert_cannot_open(database)
    assert database.plain_sql("SELECT name FROM sqlite_master") == [("tokens",)]


FULL_DISK = """
import asyncio, pathlib, sys
from authsvc.errors import RecordsUnavailable
from authsvc.model import TokenRecord
from authsvc.records.connect import connect_store

async def fill(folder):
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(2**19))
    store = connect_store(f"sqlite:///{folder}/records.db", 1)
    await store.open()
    names = [[(500 * batch + row).to_bytes(20) for row in range(500)] for batch in range(40)]
    batches = [[TokenRecord(name, "a", 1, "alpha", 1, "read", 0, 1) for name in batch] for batch in names]
    written = 0
    try:
        for batch in batches:
            await store.write_records(batch)
            written += 1
    except RecordsUnavailable as error:
        print(error)
    try:
        await store.try_write()
    except RecordsUnavailable as error:
        print(error)
    assert 0 < written < len(batches), written
    ballast.unlink()
    await store.write_records(batches[written])
    for record in (record for batch in batches[: written + 1] for record in batch[::100]):
        assert await store.read_record(record.name) == record
    await store.close()

asyncio.run(fill(pathlib.Path(sys.argv[1])))
"""


def test_a_full_disk_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    apart = ["unshare", "--mount", "--map-root-user", "sh", "-ec", 'mount -t tmpfs -o size=4m none "$0"; exec "$@"', str(tmp_path)]
    try:
        subprocess.run([*apart, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small disk cannot be mounted here: {error}")
    command = [*apart, sys.executable, "-c", FULL_DISK, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, env=CHILD_ENVIRONMENT)
    assert run.returncode == 0, run.stderr
    assert run.stdout == 2 * f"The disk of the record store {tmp_path}/records.db is full.\n"
