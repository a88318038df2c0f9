"""The writer over a real Redis and a real record store: every entry becomes one right row, whatever fails or is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from authsvc.errors import RecordsUnavailable
from authsvc.live.backlog import Backlog
from authsvc.live.connect import RedisClient
from authsvc.live.forms import encode_event, encode_token
from authsvc.live.keys import GROUP, POISON, STREAMS, shard
from authsvc.live.tokens import LiveTokens
from authsvc.live.troubles import Trouble, Troubles
from authsvc.model import Event, TokenRecord, TokenValue
from authsvc.records.migrate import upgrade
from authsvc.records.rows import RECORD_COLUMNS
from authsvc.records.sqlite import SqliteStore
from authsvc.writer import POLL_SECONDS, Batching, Writer
from certificates import Authority
from contract.live_parts import answer, connected, redis_client
from contract.redis_wires import tls_relay
from servers import DEADLINE_SECONDS, RedisServer, ServiceProcess, run_command, run_json, running, wait_until
from service.wire import ask

Row = tuple[Any, ...]
VOIDED = RECORD_COLUMNS.split(", ").index("voided_at")
READ_ROWS = f"SELECT {RECORD_COLUMNS} FROM tokens WHERE client_id <> 'expired'"
LONG_AGO = "INSERT INTO tokens VALUES (randomblob(20), 'a', 1, 'expired', 1, 'read', 0, 3600000, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"


# What instances write, and what must come of it


@dataclass
class History:
    """Entries as instances write them, and the rows that must come of them."""

    entries: list[tuple[int, bytes]] = field(default_factory=list)
    rows: dict[bytes, Row] = field(default_factory=dict)

    def __add__(self, other: History) -> History:
        return History(self.entries + other.entries, self.rows | other.rows)


def lives(count: int, seed: int = 1) -> History:
    """Tokens with any of the four events, some events more than once and with another time, all in any order."""
    chance = random.Random(seed)
    history = History()
    for _ in range(count):
        name, value = _token(chance)
        happened = chance.sample(list(Event), chance.randint(1, 4))
        times = {event: [_milliseconds(chance) for _ in range(chance.choice((1, 1, 1, 2)))] for event in happened}
        for event, moments in times.items():
            history.entries += [(shard(name), encode_event(event, name, at_ms, encode_token(value))) for at_ms in moments]
        ends = [min(times.get(event, ()), default=None) for event in (Event.USED, Event.REVOKED, Event.VOIDED)]
        history.rows[name] = _row(name, value, *ends)
    chance.shuffle(history.entries)
    return history


def issued(count: int, seed: int = 1) -> History:
    """One issue each."""
    chance = random.Random(seed)
    history = History()
    for _ in range(count):
        name, value = _token(chance)
        history.entries.append((shard(name), encode_event(Event.ISSUED, name, _milliseconds(chance), encode_token(value))))
        history.rows[name] = _row(name, value, None, None, None)
    return history


def _token(chance: random.Random) -> tuple[bytes, TokenValue]:
    scope = " ".join(chance.sample(["read", "write", "a:b/c", "x" * 64], chance.randint(1, 4)))
    client_id = f"client-{chance.randint(1, 9)}"
    value = TokenValue(chance.choice("ao"), chance.randint(1, 2**31), client_id, chance.randint(1, 2**40), scope, int(time.time()), 3600)
    return chance.randbytes(20), value


def _milliseconds(chance: random.Random) -> int:
    return int(time.time() * 1000) + chance.randint(0, 100_000)


def _row(name: bytes, value: TokenValue, *ends: int | None) -> Row:
    begin_ms = value.issued_seconds * 1000
    end_ms = begin_ms + value.ttl_seconds * 1000
    no_requests = (None,) * 4
    return (name, value.kind, value.incarnation, value.client_id, value.epoch, value.scope, begin_ms, end_ms, *ends, *no_requests)


def refused_by_the_store(number: int) -> tuple[int, bytes]:
    """An entry of a known form whose row no store takes: the client's id is too long. The number is the token's name."""
    name = number.to_bytes(20, "big")
    value = TokenValue("a", 1, "c" * 65, 1, "read", 1_790_000_000, 3600)
    return shard(name), encode_event(Event.ISSUED, name, 1_790_000_000_000, encode_token(value))


def written(path: Path) -> list[Row]:
    """The rows of the record store, read past the service."""
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(READ_ROWS).fetchall()


def assert_written(path: Path, history: History) -> None:
    """Each token has exactly one row, and the right one."""
    rows = written(path)
    assert len(rows) == len(history.rows)
    assert {row[0]: row for row in rows} == history.rows


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Nobody else can write to the record store."""
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield
        connection.execute("ROLLBACK")


# A writer within the test


class World:
    """An empty Redis and an empty record store."""

    def __init__(self, server: RedisServer, client: RedisClient, path: Path) -> None:
        self.server = server
        self.redis = client
        self.path = path

    async def add(self, history: History) -> None:
        async with self.redis.pipeline(transaction=False) as pipe:
            for place, payload in history.entries:
                pipe.xadd(STREAMS[place], {"e": payload})
            await pipe.execute()

    async def waiting(self) -> int:
        """Entries that stand in the streams."""
        return sum([await self.redis.xlen(stream) for stream in STREAMS])

    async def pending(self) -> int:
        """Entries that were read and not acknowledged."""
        return sum([(await self.redis.xpending(stream, GROUP))["pending"] for stream in STREAMS])

    async def drained(self, left: int = 0) -> None:
        await until(self.waiting, left, "entries left in the streams")
        assert await self.pending() == left

    async def poison(self) -> dict[str, str]:
        """Reasons by the entries set aside."""
        return {found["entry"]: found["reason"] for found in await Backlog(self.redis, "-").poison(1000)}


async def until(ask: Callable[[], Awaitable[int]], wanted: int, what: str, seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while (found := await ask()) != wanted:
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {wanted} {what}, but {found}"
        await asyncio.sleep(0.005)


@asynccontextmanager
async def opened(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def writing(
    world: World,
    store: SqliteStore | None = None,
    *,
    rows: int = 1000,
    seconds: float = 0.05,
    claim_after_seconds: float = 60.0,
    workers: int = 2,
    consumer: str = "writer",
) -> AsyncIterator[Writer]:
    """A writer that runs until the end of the block, and then stops as on SIGTERM."""
    batching = Batching(rows, seconds, claim_after_seconds)
    async with opened(store or SqliteStore(world.path)) as open_store:
        backlog = Backlog(world.redis, consumer)
        await backlog.make_groups()
        writer = Writer(backlog, open_store, batching, workers, lambda seconds: None)
        draining = asyncio.create_task(writer.run())
        try:
            yield writer
        finally:
            writer.stop()
            await asyncio.wait_for(draining, DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """The Redis of the tests whose writer runs within the test; emptied for each."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


Story = Callable[[World], Awaitable[None]]


@pytest.fixture
def play(server: RedisServer, tmp_path: Path) -> Callable[[Story], None]:
    def run(story: Story) -> None:
        async def told() -> None:
            async with redis_client(server.port) as client:
                await client.flushall()
                await story(World(server, client, tmp_path / "records.db"))

        asyncio.run(told())

    return run


class WatchedStore(SqliteStore):
    """A real store that notes the size of every batch it is handed, and does as it is told before and after the commit."""

    def __init__(self, path: Path, call_timeout_seconds: float = 30.0) -> None:
        super().__init__(path, call_timeout_seconds)
        self.sizes: list[int] = []
        self.before: Callable[[], Awaitable[None]] | None = None
        self.after: Callable[[], Awaitable[None]] | None = None

    async def write_records(self, records: Sequence[TokenRecord]) -> None:
        self.sizes.append(len(records))
        if self.before is not None:
            await self.before()
        await super().write_records(records)
        if self.after is not None:
            await self.after()


@pytest.mark.parametrize(("count", "rows", "workers"), [(40, 1, 16), (60, 7, 1), (2000, 1000, 2)])
def test_all_events_become_one_right_row_a_token(play: Callable[[Story], None], count: int, rows: int, workers: int) -> None:
    history = lives(count, seed=rows)

    async def story(world: World) -> None:
        half = len(history.entries) // 2
        await world.add(History(history.entries[:half]))
        async with writing(world, rows=rows, workers=workers):
            await world.add(History(history.entries[half:]))
            await world.drained()
        assert_written(world.path, history)

    play(story)


def test_a_batch_is_written_when_its_rows_are_there(play: Callable[[Story], None]) -> None:
    first, second, last = issued(10, 1), issued(9, 2), issued(1, 3)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        async with writing(world, store, rows=10, seconds=300, workers=1) as writer:
            await world.add(first)
            await world.drained()
            await world.add(second)
            await until(world.pending, 9, "entries read")
            await world.add(last)
            await world.drained()
            assert (writer.counts.rows, writer.counts.batches) == (20, 2)
        assert store.sizes == [10, 10], "nine waited for the tenth"
        assert_written(world.path, first + second + last)

    play(story)


def test_a_smaller_batch_is_written_when_its_seconds_have_passed(play: Callable[[Story], None]) -> None:
    history = issued(3)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        async with writing(world, store, seconds=0.5, workers=1):
            began = time.monotonic()
            await world.add(history)
            await world.drained()
            assert time.monotonic() - began > 0.3
        assert store.sizes == [3]

    play(story)


def test_a_token_that_was_taken_back_ends_voided_though_it_was_issued(play: Callable[[Story], None]) -> None:
    value = TokenValue("o", 3, "orders", 7, "read write", int(time.time()), 120)
    name = bytes(range(20))

    async def story(world: World) -> None:
        async with writing(world) as writer, connected(world.server.port) as pipeline:
            live = LiveTokens(pipeline)
            await answer(live.store(name, value, 1_790_000_000_123))
            await answer(live.void(name, value))
            await world.drained()
            assert writer.counts.rows >= 1
        [row] = written(world.path)
        assert row == _row(name, value, None, None, row[VOIDED])
        assert abs(row[VOIDED] - time.time() * 1000) < 60_000

    play(story)


def test_a_trickle_of_entries_is_not_asked_for_one_by_one(play: Callable[[Story], None]) -> None:
    async def story(world: World) -> None:
        async with writing(world, seconds=300, workers=1):
            await world.redis.config_resetstat()
            began = time.monotonic()
            for seed in range(100):
                await world.add(issued(1, seed))
                await asyncio.sleep(0.005)
            await until(world.pending, 100, "entries read")
            asked = (await world.redis.info("commandstats"))["cmdstat_xreadgroup"]["calls"]
            assert asked <= len(STREAMS) * ((time.monotonic() - began) / POLL_SECONDS + 2)

    play(story)


# Commit first, acknowledge after


@pytest.mark.parametrize("commits", [False, True])
def test_a_batch_whose_write_failed_stays_pending_and_is_written_again(play: Callable[[Story], None], commits: bool) -> None:
    history = lives(50)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        held: list[tuple[int, int]] = []

        async def fail() -> None:
            held.append((await world.waiting(), await world.pending()))
            if len(held) <= 3:
                raise RecordsUnavailable("out of reach, says the test")

        store.before, store.after = (None, fail) if commits else (fail, None)
        await world.add(history)
        async with writing(world, store, workers=1) as writer:
            await world.drained()
            assert (writer.counts.rows, writer.counts.batches) == (50, 1), "only what was acknowledged counts"
        assert held == [(len(history.entries), len(history.entries))] * 4
        assert_written(world.path, history)

    play(story)


def test_a_batch_that_is_committed_but_not_acknowledged_is_written_again(play: Callable[[Story], None]) -> None:
    history = lives(50)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        await world.add(history)

        async def lose_redis() -> None:
            store.after = None
            world.server.kill()

        store.after = lose_redis
        async with writing(world, store, workers=1) as writer:
            await until(_true(lambda: writer.failing is not None), True, "failures")
            assert_written(world.path, history)
            world.server.start()
            assert await world.pending() == len(history.entries)
            await world.drained()
        assert store.sizes == [50, 50]
        assert_written(world.path, history)

    play(story)


def _true(ask: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    async def asked() -> int:
        return ask()

    return asked


def test_an_outage_of_the_store_loses_nothing_and_makes_no_batch_larger(play: Callable[[Story], None]) -> None:
    lots = [lives(300, seed) for seed in range(3)]

    async def story(world: World) -> None:
        async with opened(SqliteStore(world.path)):
            pass
        store = WatchedStore(world.path, call_timeout_seconds=0.05)
        async with writing(world, store, rows=100, claim_after_seconds=0.2, workers=2) as writer:
            with locked(world.path):
                for number, lot in enumerate(lots):
                    await world.add(lot)
                    await until(_true(lambda tries=2 * number + 2: len(store.sizes) >= tries), True, "more tries")
                await until(_true(lambda: len(store.sizes) >= 8), True, "tries, over many claiming times")
                assert written(world.path) == []
                assert await world.waiting() == sum(len(lot.entries) for lot in lots)
                assert "busy" in (writer.failing or "")
            await world.drained()
            assert writer.failing is None
        assert max(store.sizes) <= 100 + len(STREAMS)
        assert_written(world.path, lots[0] + lots[1] + lots[2])

    play(story)


def test_redis_emptied_under_a_writer_is_drained_again(play: Callable[[Story], None]) -> None:
    before, after = issued(20, 1), issued(20, 2)

    async def story(world: World) -> None:
        async with writing(world, claim_after_seconds=0.2):
            await world.add(before)
            await world.drained()
            await world.redis.flushall()
            await world.add(after)
            await until(_true(lambda: len(written(world.path))), 40, "rows")
            await world.drained()
        assert_written(world.path, before + after)

    play(story)


# Poison


def test_one_bad_row_among_five_hundred_is_found_by_halving_and_set_aside(play: Callable[[Story], None]) -> None:
    good = lives(500)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        await world.add(good)
        place, payload = refused_by_the_store(1 << 159)
        bad_id = (await world.redis.xadd(STREAMS[place], {"e": payload})).decode()
        async with writing(world, store, rows=2000, workers=1) as writer:
            await world.drained()
            assert writer.counts.poison == 1
        assert_written(world.path, good)
        poison = await world.poison()
        assert list(poison) == [bad_id]
        assert "refuses this row" in poison[bad_id]
        [(_, moved)] = await world.redis.xrange(POISON[place])
        assert moved[b"e"] == payload
        assert len(store.sizes) <= 30, "halving 501 rows takes two writes a step"

    play(story)


def test_what_cannot_be_read_is_set_aside_with_its_reason_and_a_newer_form_is_left(play: Callable[[Story], None]) -> None:
    good = lives(40)
    name = b"\x05" * 20
    value = encode_token(TokenValue("a", 1, "orders", 1, "read", 1_790_000_000, 3600))
    event = encode_event(Event.ISSUED, name, 1_790_000_000_000, value)
    unreadable = {
        b"": "form",
        b"\xff\xfe": "form",
        b"1": "entry",
        b"1x" + event[2:]: "entry",
        event[:30]: "entry",
        event[: -len(value)] + b"1r 1790000000000 orders": "tombstone",
        event[: -len(value)] + b"garbage": "form",
        event[: -len(value)] + b"1a 1 orders": "form",
        event.replace(b" 1 orders", b" %d orders" % 2**64): "refuses this row",
        event.replace(b"1790000000000", b"9" * 20): "refuses this row",
    }
    newer = [b"2" + event[1:], b"9 anything at all", event.replace(b" 1a ", b" 2a ")]

    async def story(world: World) -> None:
        expected = {}
        for number, (payload, reason) in enumerate(unreadable.items()):
            expected[(await world.redis.xadd(STREAMS[5], {"e": payload}, id=f"{number + 1}-0")).decode()] = reason
        for payload in newer:
            await world.redis.xadd(STREAMS[5], {"e": payload})
        await world.add(good)
        store = WatchedStore(world.path)
        async with writing(world, store, claim_after_seconds=0.1) as writer:
            await world.drained(left=len(newer))
            later = lives(10, seed=5)
            await world.add(later)
            await until(_true(lambda: len(written(world.path))), 50, "rows, over many claiming times")
            await world.drained(left=len(newer))
            assert writer.counts.poison == len(unreadable)
        poison = await world.poison()
        assert poison.keys() == expected.keys()
        for entry, reason in expected.items():
            assert reason in poison[entry]
        assert [fields[b"e"] for _, fields in await world.redis.xrange(STREAMS[5])] == newer
        assert_written(world.path, good + later)

    play(story)


def test_poison_is_set_aside_and_counted_once_though_its_batch_is_tried_again(play: Callable[[Story], None]) -> None:
    good = issued(40)

    async def story(world: World) -> None:
        store = WatchedStore(world.path)
        await world.redis.xadd(STREAMS[3], {"e": b"unreadable"})
        await world.add(good)
        place, payload = refused_by_the_store(1)
        await world.redis.xadd(STREAMS[place], {"e": payload})

        async def fail_now_and_then() -> None:
            if len(store.sizes) in (2, 5):
                raise RecordsUnavailable("out of reach, says the test")

        store.before = fail_now_and_then
        async with writing(world, store, workers=1) as writer:
            await world.drained()
            assert writer.counts.poison == 2
        assert len(await world.poison()) == 2
        assert_written(world.path, good)

    play(story)


# Several writers, and stopping


def test_two_writers_share_the_streams_and_write_each_entry_once(play: Callable[[Story], None]) -> None:
    lots = [issued(500, seed) for seed in range(4)]

    async def story(world: World) -> None:
        async with writing(world, rows=50, consumer="one") as one, writing(world, rows=50, consumer="two") as two:
            for lot in lots:
                await world.add(lot)
            await world.drained()
            assert one.counts.rows + two.counts.rows == 2000
            assert min(one.counts.rows, two.counts.rows) > 0
        assert_written(world.path, lots[0] + lots[1] + lots[2] + lots[3])

    play(story)


def test_what_a_lost_writer_left_pending_is_written_by_another(play: Callable[[Story], None]) -> None:
    history = lives(500)

    async def story(world: World) -> None:
        await world.add(history)
        lost = Backlog(world.redis, "lost")
        await lost.make_groups()
        assert len(await lost.read(range(16), 1000)) == len(history.entries)
        async with writing(world, rows=100, claim_after_seconds=0.3):
            await world.drained()
        assert_written(world.path, history)

    play(story)


def test_stopping_writes_the_batch_at_hand_without_waiting_for_its_time(play: Callable[[Story], None]) -> None:
    history = lives(60)

    async def story(world: World) -> None:
        await world.add(history)
        async with writing(world, seconds=300):
            await until(world.pending, len(history.entries), "entries read")
            assert written(world.path) == []
        assert_written(world.path, history)
        assert await world.waiting() == 0

    play(story)


def test_stopping_while_the_store_is_out_of_reach_leaves_the_batch_to_another(play: Callable[[Story], None]) -> None:
    history = lives(60)

    async def story(world: World) -> None:
        await world.add(history)
        store = WatchedStore(world.path, call_timeout_seconds=0.1)
        with contextlib.ExitStack() as lock:
            async with writing(world, store, seconds=300):
                await until(world.pending, len(history.entries), "entries read")
                lock.enter_context(locked(world.path))
            assert store.sizes, "it was tried"
        assert written(world.path) == []
        assert await world.pending() == len(history.entries)
        async with writing(world, claim_after_seconds=0.1, consumer="another"):
            await world.drained()
        assert_written(world.path, history)

    play(story)


# Real writer processes


def add_all(server: RedisServer, history: History) -> None:
    """Write entries as instances do."""
    with redis.Redis(port=server.port) as client, client.pipeline(transaction=False) as pipe:
        for place, payload in history.entries:
            pipe.xadd(STREAMS[place], {"e": payload})
        pipe.execute()


def waiting(server: RedisServer) -> int:
    """Entries that stand in the streams."""
    with redis.Redis(port=server.port) as client:
        return sum(client.xlen(stream) for stream in STREAMS)


def pending(server: RedisServer, of_process: int | None = None) -> int:
    """Entries that were read and not acknowledged, of one process or of all."""
    with redis.Redis(port=server.port) as client:
        holders = [holder for stream in STREAMS for holder in client.xpending(stream, GROUP)["consumers"]]
    return sum(holder["pending"] for holder in holders if of_process is None or b"-%d-" % of_process in holder["name"])


def test_a_writer_tells_when_the_certificate_of_its_redis_ends(redis_server: RedisServer, tmp_path: Path) -> None:
    authority = Authority("ours")
    (tmp_path / "ca.pem").write_bytes(authority.certificate)
    with tls_relay(redis_server.port, tmp_path, authority.identity("redis", "localhost", days=3)) as port:
        writer = ServiceProcess(tmp_path, "write", redis_url=f"rediss://localhost:{port}/0", redis_ca_file=tmp_path / "ca.pem").start()
        with running(writer):
            writer.wait_ready()
            ends = wait_until(lambda: metrics(writer)["redis_certificate_expiry_timestamp_seconds"], "it has looked")
    assert ends == pytest.approx(time.time() + 3 * 86400, abs=3600)


def metrics(process: ServiceProcess) -> dict[str, float]:
    """Every sample of `/metrics` by its name and labels."""
    lines = ask(process.management_port, "GET", "/metrics").body.decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def not_ready_because(process: ServiceProcess) -> str:
    """What `/ready` says; empty when the writer is ready or does not answer yet."""
    try:
        answer = ask(process.management_port, "GET", "/ready")
    except OSError:
        return ""
    if answer.status == 200:
        return ""
    assert answer.status == 503
    assert answer.header("retry-after")
    sentence: str = answer.json["error_description"]
    return sentence


@dataclass
class Running:
    """A writer process, its Redis and its record store."""

    process: ServiceProcess
    redis: RedisServer
    path: Path


QUICK = {"writer_batch_seconds": 0.1, "writer_call_timeout_seconds": 0.5, "mirror_interval_seconds": 0.2}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A writer that is quick at everything, shared by tests that leave it ready."""
    folder = tmp_path_factory.mktemp("quick")
    path = folder / "records.db"
    upgrade(f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany(LONG_AGO, [()] * 12_000)
    server = RedisServer(folder / "redis").start()
    settings = {**QUICK, "retention_days": 0.000001, "purge_interval_seconds": 0.3}
    process = ServiceProcess(folder, "write", redis_url=server.url, records_url=f"sqlite:///{path}", **settings).start()
    with running(server, process):
        yield Running(process.wait_ready(), server, path)


def expired(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path, timeout=30)) as connection:
        return int(connection.execute("SELECT count(*) FROM tokens WHERE client_id = 'expired'").fetchone()[0])


def test_expired_rows_are_purged_in_chunks_and_live_ones_stay(quick: Running) -> None:
    history = issued(20, seed=70)
    add_all(quick.redis, history)
    wait_until(lambda: expired(quick.path) == 0, "expired rows are purged")
    wait_until(lambda: waiting(quick.redis) == 0, "the streams are empty")
    chunks = [line["rows"] for line in quick.process.log_lines() if line["event"] == "records purged"]
    assert chunks == [5000, 5000, 2000]
    assert {row[0] for row in written(quick.path)} >= history.rows.keys()


def test_nothing_is_purged_while_another_writer_has_the_lease(quick: Running) -> None:
    lease = "UPDATE leases SET holder = 'another', expires_at = ? WHERE name = 'purge'"
    until_ms = int(time.time() * 1000) + 1500
    with contextlib.closing(sqlite3.connect(quick.path, timeout=30)) as connection, connection:
        assert connection.execute(lease, (until_ms,)).rowcount == 1
        connection.execute(LONG_AGO)
    wait_until(lambda: expired(quick.path) == 0, "the row is purged")
    assert time.time() * 1000 >= until_ms - 50


def test_a_locked_store_holds_everything_up_says_so_and_loses_nothing(quick: Running) -> None:
    before = {row[0]: row for row in written(quick.path)}
    lots = [lives(100, seed) for seed in (71, 72, 73)]
    with locked(quick.path):
        for lot in lots:
            add_all(quick.redis, lot)
        reason = wait_until(lambda: not_ready_because(quick.process), "the writer is not ready")
        assert str(quick.path) in reason
        assert "busy" in reason
        wait_until(lambda: metrics(quick.process)["record_backlog_age_seconds"] > 1, "the backlog's age is exported")
        everything = sum(len(lot.entries) for lot in lots)
        wait_until(lambda: metrics(quick.process)["record_backlog_entries"] == everything, "the backlog is exported")
        assert len(written(quick.path)) == len(before)
    wait_until(lambda: waiting(quick.redis) == 0, "the streams are empty")
    assert_written(quick.path, History(rows=before) + lots[0] + lots[1] + lots[2])
    quick.process.wait_ready()
    wait_until(lambda: metrics(quick.process)["record_backlog_entries"] == 0, "the backlog is exported")


def test_status_tells_what_each_writer_complains_of_until_it_can_write_again(quick: Running, tmp_path: Path) -> None:
    def errors() -> dict[str, str]:
        status = run_json(quick.process.environ, "writer", "status")
        for found in status["errors"]:
            assert abs(datetime.fromisoformat(found["at"]).timestamp() - time.time()) < DEADLINE_SECONDS
        return {found["writer"].split("-")[-2]: found["error"] for found in status["errors"]}

    wait_until(lambda: errors() == {}, "nobody complains")
    before, history = {row[0]: row for row in written(quick.path)}, lives(30, seed=76)
    second = ServiceProcess(tmp_path, "write", redis_url=quick.redis.url, records_url=f"sqlite:///{quick.path}", **QUICK)
    both = {str(process.pid) for process in (quick.process.process, second.start().process)}
    with running(second):
        second.wait_ready()
        with locked(quick.path):
            add_all(quick.redis, history)
            wait_until(lambda: errors().keys() == both, "both complain")
            assert all("busy" in sentence and str(quick.path) in sentence for sentence in errors().values())
            shown = run_command(quick.process.environ, "writer", "status").stdout
            assert re.search(r"^errors: +2 writers .*\n  \d{4}-\S+  \S+  \S.*busy", shown, re.MULTILINE), shown
            second.stop()
            assert errors().keys() == {str(quick.process.process.pid)}, "who has gone complains no more"
    wait_until(lambda: errors() == {}, "nobody complains")
    wait_until(lambda: waiting(quick.redis) == 0, "the streams are empty")
    assert_written(quick.path, History(rows=before) + history)


def test_a_store_that_takes_no_records_makes_the_writer_unready(quick: Running) -> None:
    before = {row[0]: row for row in written(quick.path)}
    history = issued(10, seed=74)
    with contextlib.closing(sqlite3.connect(quick.path, timeout=30, isolation_level=None)) as connection:
        connection.execute("ALTER TABLE tokens RENAME TO put_away")
        try:
            add_all(quick.redis, history)
            reason = wait_until(lambda: not_ready_because(quick.process), "the writer is not ready")
            wait_until(lambda: not_ready_because(quick.process).startswith("records: "), "/ready tells of the batch")
            assert "no such table: tokens" in reason
            assert waiting(quick.redis) == 10, "that is the store's fault and not the rows'"
        finally:
            connection.execute("ALTER TABLE put_away RENAME TO tokens")
    wait_until(lambda: waiting(quick.redis) == 0, "the streams are empty")
    assert_written(quick.path, History(rows=before) + history)
    quick.process.wait_ready()


def test_poison_is_shown_by_the_status_command_and_a_newer_form_is_not_poison(quick: Running) -> None:
    good = lives(30, seed=75)
    entry = good.entries[0][1]
    with redis.Redis(port=quick.redis.port) as client:
        unreadable = client.xadd(STREAMS[0], {"e": b"neither form nor number"}).decode()
        refused = client.xadd(STREAMS[refused_by_the_store(3)[0]], {"e": refused_by_the_store(3)[1]}).decode()
        client.xadd(STREAMS[1], {"e": b"2" + entry[1:]})
    add_all(quick.redis, good)
    wait_until(lambda: waiting(quick.redis) == 1, "all but the newer form are written or set aside")
    status = run_json(quick.process.environ, "writer", "status")
    reasons = {found["entry"]: found["reason"] for found in status["poison"]}
    assert reasons.keys() == {unreadable, refused}
    assert "form" in reasons[unreadable]
    assert "refuses this row" in reasons[refused]
    assert (status["poison_entries"], status["backlog_entries"]) == (2, 1)
    assert status["backlog_age_seconds"] > 0
    wait_until(lambda: metrics(quick.process)["record_writer_poison_total"] == 2, "poison is exported")
    assert {row[0] for row in written(quick.path)} >= good.rows.keys()
    assert pending(quick.redis) == 1


def test_a_writer_from_its_start_without_redis_to_its_end_by_sigterm(tmp_path: Path) -> None:
    path, server = tmp_path / "records.db", RedisServer(tmp_path / "redis")
    first, rest = issued(20, seed=80), lives(30, seed=81)
    settings = {**QUICK, "writer_batch_rows": 20, "writer_batch_seconds": 300, "writer_workers": 1}
    process = ServiceProcess(tmp_path, "write", redis_url=server.url, records_url=f"sqlite:///{path}", **settings).start()
    with running(server, process):
        assert "connecting" in wait_until(lambda: not_ready_because(process), "the writer answers without Redis")
        assert metrics(process)["redis_up"] == 0
        server.start()
        process.wait_ready()
        assert metrics(process)["redis_up"] == 1
        add_all(server, first)
        wait_until(lambda: metrics(process)["record_writer_rows_total"] == 20, "a full batch is written and counted")
        assert metrics(process)["record_writer_batch_seconds_count"] == 1
        assert_written(path, first)
        add_all(server, History(rest.entries[:10]))
        wait_until(lambda: metrics(process)["record_backlog_entries"] == 10, "the backlog is exported")
        wait_until(lambda: pending(server) == 10, "the rest is read")
        server.kill()
        wait_until(lambda: not_ready_because(process), "the writer misses Redis")
        server.start()
        process.wait_ready()
        assert metrics(process)["record_writer_rows_total"] == 20, "the batch at hand waits for its time"
        assert process.stop() == 0
        assert waiting(server) == 0
        written_names = {row[0] for row in written(path)}
        assert written_names == first.rows.keys() | {payload[2:22] for _, payload in rest.entries[:10]}
        assert process.log_lines()[-1]["event"] == "stopped"


def test_a_writer_that_cannot_start_lets_the_status_tell_why(tmp_path: Path) -> None:
    path, server = tmp_path / "records.db", RedisServer(tmp_path / "redis").start()
    path.write_text("no database")
    process = ServiceProcess(tmp_path, "write", redis_url=server.url, records_url=f"sqlite:///{path}", **QUICK)

    def told() -> list[str]:
        return [found["error"] for found in run_json(process.environ, "writer", "status")["errors"]]

    with running(server):
        for _ in range(2):
            assert process.start().process.wait(DEADLINE_SECONDS) == 1
        [sentence] = told()
        assert sentence in process.log_file.read_text()
        note(server, Trouble("another-host at its start", 1, "It could not start either."))
        assert len(told()) == 2
        path.unlink()
        with running(process.start()):
            process.wait_ready()
            assert told() == []


def note(server: RedisServer, trouble: Trouble) -> None:
    async def noted() -> None:
        async with redis_client(server.port) as client:
            await Troubles(client).note(trouble)

    asyncio.run(noted())


def test_a_crash_in_compiled_code_tells_where(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis").start()
    process = ServiceProcess(tmp_path, "write", redis_url=server.url, records_url=f"sqlite:///{tmp_path / 'records.db'}", **QUICK).start()
    with running(server):
        process.wait_ready()
        process.process.send_signal(signal.SIGSEGV)
        assert process.process.wait(DEADLINE_SECONDS) == -signal.SIGSEGV
    told = process.log_file.read_text().partition("Fatal Python error: Segmentation fault")[2]
    assert "authsvc/commands/main.py" in told
    with pytest.raises(AssertionError, match="crashed"):
        process.stop()


def test_writers_killed_at_random_moments_leave_one_right_row_for_every_token(tmp_path: Path) -> None:
    path, server = tmp_path / "records.db", RedisServer(tmp_path / "redis").start()
    history = lives(4000, seed=90)
    chance = random.Random(91)
    left_pending = 0

    def process() -> ServiceProcess:
        settings = {**QUICK, "writer_batch_rows": 50}
        return ServiceProcess(tmp_path, "write", redis_url=server.url, records_url=f"sqlite:///{path}", **settings).start()

    ending = threading.Event()
    added = iter(history.entries)

    def add() -> None:
        with redis.Redis(port=server.port) as client:
            for place, payload in added:
                client.xadd(STREAMS[place], {"e": payload})
                if ending.wait(0.002):
                    return

    upgrade(f"sqlite:///{path}")
    adding = threading.Thread(target=add)
    writers = [process(), process()]
    with running(server):
        try:
            adding.start()
            for number in range(5):
                victim = writers[number % 2].wait_ready()
                # The moment is what is random here: nothing is waited for.
                time.sleep(chance.uniform(0, 0.4))
                victim.kill()
                left_pending += pending(server, of_process=victim.process.pid)
                writers[number % 2] = process()
            ending.set()
            adding.join()
            add_all(server, History(list(added)))
            wait_until(lambda: waiting(server) == 0, "the streams are empty", 40)
            assert pending(server) == 0
            assert_written(path, history)
            assert left_pending > 0, "no writer was killed at its work"
            assert [writer.wait_ready().stop() for writer in writers] == [0, 0]
        finally:
            ending.set()
            for writer in writers:
                writer.kill()
