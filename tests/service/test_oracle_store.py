"""The store over Oracle by itself: writers that race, events in any order, a row that is refused, sessions that were cut."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from authsvc.errors import RecordsUnavailable
from authsvc.live.backlog import Backlog
from authsvc.live.connect import RedisClient
from authsvc.live.forms import decode_event
from authsvc.live.keys import POISON, STREAMS
from authsvc.model import TokenRecord
from authsvc.records.contract import RecordStore
from authsvc.records.oracle import OracleStore
from authsvc.records.oracle_settings import PoolSettings
from authsvc.records.rows import record_values
from authsvc.writer import Batching, Writer, fold
from contract.live_parts import redis_client
from contract.record_stores import NEEDS_FAULTS, NEEDS_ORACLE, ORACLE_WAYS, OracleDatabase, OracleFaults
from servers import DEADLINE_SECONDS, RedisServer
from service.test_writer import add_all, issued, lives, refused_by_the_store, until

pytestmark = [pytest.mark.oracle, NEEDS_ORACLE]
WRITERS = 4


@pytest.fixture(scope="module", params=ORACLE_WAYS)
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> OracleDatabase:
    """A schema of ours, and the way to call the driver."""
    database: OracleDatabase = request.param(tmp_path_factory.mktemp("oracle"))
    database.prepare()
    return database


@pytest.fixture
def faults() -> Iterator[OracleFaults]:
    """The database's troubles, over at the end."""
    faults = OracleFaults()
    yield faults
    faults.clear()


def test_writers_racing_on_the_same_tokens_leave_one_right_row_each(database: OracleDatabase) -> None:
    history = lives(400, seed=20)
    events = [decode_event(payload) for _, payload in history.entries]

    async def race() -> list[TokenRecord | None]:
        async with contextlib.AsyncExitStack() as stack:
            stores = [await stack.enter_async_context(database.opened()) for _ in range(WRITERS)]

            async def write(number: int, store: RecordStore) -> None:
                # Everyone writes everything, in batches of other tokens in another order.
                mine = random.Random(number).sample(events, len(events))
                for start in range(0, len(mine), 100):
                    await _written(store, fold(mine[start : start + 100]))

            await asyncio.gather(*itertools.starmap(write, enumerate(stores)))
            return [await stores[0].read_record(name) for name in history.rows]

    found = asyncio.run(race())
    assert {record.name: record_values(record) for record in found if record is not None} == history.rows


async def _written(store: RecordStore, records: Sequence[TokenRecord]) -> None:
    """Write as a writer does: again while another's changes are in the way."""
    while True:
        try:
            return await store.write_records(records)
        except RecordsUnavailable as error:
            if "at the same time" not in str(error):
                raise


ORDERS = ["issued used revoked", "revoked issued", "used issued", "used revoked used issued issued"]


@pytest.mark.parametrize("order", ORDERS)
def test_events_of_a_token_may_come_in_any_order_and_more_than_once(database: OracleDatabase, order: str) -> None:
    [row] = issued(1, seed=ORDERS.index(order) + 100).rows.values()
    plain = TokenRecord(*row)
    used, revoked = replace(plain, used_ms=plain.issued_ms + 5), replace(plain, revoked_ms=plain.issued_ms + 7)
    events = {"issued": plain, "used": used, "revoked": revoked}

    async def write() -> TokenRecord | None:
        async with database.opened() as store:
            for event in order.split():
                await store.write_records([events[event]])
            return await store.read_record(plain.name)

    ends = {"used_ms": used.used_ms if "used" in order else None, "revoked_ms": revoked.revoked_ms if "revoked" in order else None}
    assert asyncio.run(write()) == replace(plain, **ends)


# What it costs the database


@NEEDS_FAULTS
def test_a_batch_of_two_thousand_is_one_round_trip(database: OracleDatabase, faults: OracleFaults) -> None:
    batches = [fold([decode_event(payload) for _, payload in issued(2000, seed=seed).entries]) for seed in (60, 61)]

    async def write() -> list[int]:
        async with database.opened() as store:
            trips = [faults.ask("stats")["round_trips"]]
            for batch in [*batches, batches[0]]:
                await store.write_records(batch)
                trips.append(faults.ask("stats")["round_trips"])
            return [after - before for before, after in itertools.pairwise(trips)]

    assert asyncio.run(write()) == [1, 1, 1]


@NEEDS_FAULTS
def test_each_worker_of_a_writer_takes_one_session(database: OracleDatabase, faults: OracleFaults, redis_server: RedisServer) -> None:
    workers = 3
    faults.ask("stats/reset")
    others = faults.ask("stats")["sessions_open"]

    async def drain() -> None:
        store = database.store(max=10, min=0)
        async with redis_client(redis_server.port) as client:
            backlog = Backlog(client, "writer")
            await backlog.make_groups()
            await asyncio.to_thread(add_all, redis_server, issued(3000, seed=62))
            writer = Writer(backlog, store, Batching(100, 0.05, 60), workers, lambda seconds: None)
            await _drain(writer, client)
        await store.close()

    asyncio.run(drain())
    found = faults.ask("stats")
    assert found["logons"] > 0
    assert found["sessions_peak"] - others <= workers


@NEEDS_FAULTS
@pytest.mark.parametrize("database", ORACLE_WAYS[:1], indirect=True)
def test_the_revisions_of_twenty_thousand_clients_take_four_round_trips(database: OracleDatabase, faults: OracleFaults) -> None:
    database.plain_sql("DELETE FROM clients")
    database.plain_sql(
        "INSERT INTO clients (client_id, scopes, secret_digest, secret_created_at, enabled, access_ttl_seconds, one_time_ttl_seconds)"
        " SELECT 'c' || LEVEL, 'read', HEXTORAW(RPAD('64', 64, '64')), 0, 1, 60, 60 FROM dual CONNECT BY LEVEL <= 20000"
    )

    async def compare() -> tuple[int, int]:
        async with database.opened() as store:
            before = faults.ask("stats")["round_trips"]
            revisions = await store.revisions()
            after = faults.ask("stats")["round_trips"]
            return len(set(revisions.values())), after - before

    try:
        found, trips = asyncio.run(compare())
    finally:
        database.plain_sql("DELETE FROM clients")
    assert found >= 20_000
    assert trips <= 4


# Sessions that are cut


@NEEDS_FAULTS
def test_sessions_cut_while_nobody_uses_them_are_replaced_and_forgotten(database: OracleDatabase, faults: OracleFaults) -> None:
    """The loop stands still meanwhile, so that the pool cannot know. The driver crashed on such a session, and kept it."""
    objects: list[int] = []

    async def cut_again_and_again() -> None:
        async with database.opened() as store:
            for _ in range(20):
                faults.ask("fault/drop")
                with contextlib.suppress(RecordsUnavailable):
                    await store.identity()
                assert await store.identity()
                gc.collect()
                objects.append(len(gc.get_objects()))
            assert store.connections().open <= PoolSettings().max

    asyncio.run(cut_again_and_again())
    assert objects[-1] - objects[4] < 30, "nothing is kept of each"


async def _drain(writer: Writer, client: RedisClient) -> None:
    """Let it run until the streams are empty."""
    draining = asyncio.create_task(writer.run())

    async def waiting() -> int:
        return sum([await client.xlen(stream) for stream in STREAMS])

    await until(waiting, 0, "entries left in the streams")
    writer.stop()
    await asyncio.wait_for(draining, DEADLINE_SECONDS)


class WatchedStore(OracleStore):
    """A real store that notes the size of every batch it is handed."""

    def __init__(self, database: OracleDatabase) -> None:
        super().__init__(database.url, PoolSettings(in_threads=database.in_threads))
        self.sizes: list[int] = []

    async def write_records(self, records: Sequence[TokenRecord]) -> None:
        self.sizes.append(len(records))
        await super().write_records(records)


def test_one_bad_row_among_two_thousand_is_set_aside_and_the_others_are_stored(database: OracleDatabase, redis_server: RedisServer) -> None:
    good = issued(1999, seed=30)
    place, payload = refused_by_the_store(1 << 159)
    store = WatchedStore(database)

    async def story() -> list[TokenRecord | None]:
        async with redis_client(redis_server.port) as client:
            backlog = Backlog(client, "writer")
            await backlog.make_groups()
            await asyncio.to_thread(add_all, redis_server, good)
            bad = await client.xadd(STREAMS[place], {"e": payload})
            await store.open()
            # Shards are not equally full, and the batch is to hold them all.
            writer = Writer(backlog, store, Batching(4000, 0.5, 60), 1, lambda seconds: None)
            await _drain(writer, client)
            [(_, aside)] = await client.xrange(POISON[place])
            assert (aside[b"entry"], writer.counts.poison) == (bad, 1)
            assert b"refuses the row" in aside[b"reason"]
            return [await store.read_record(name) for name in good.rows]

    async def told() -> list[TokenRecord | None]:
        try:
            return await story()
        finally:
            await store.close()

    found = asyncio.run(told())
    assert store.sizes[0] == 2000
    assert len(store.sizes) <= 23, "halving 2000 rows takes two writes a step"
    assert {record.name: record_values(record) for record in found if record is not None} == good.rows
