"""The backlog over a real server: what is read stays pending, what is acknowledged is gone, and nothing falls between."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import ResponseError

from authsvc.live.backlog import EVERY_SHARD, Backlog, Entry
from authsvc.live.connect import RedisClient
from authsvc.live.keys import GROUP, POISON, STREAMS
from contract.live_parts import redis_client
from servers import DEADLINE_SECONDS, RedisServer

HOUR_MS = 3_600_000


class Streams:
    """The streams as they stand in the server, and two writers that read them."""

    def __init__(self, redis: RedisClient) -> None:
        self.redis = redis
        self.ours = Backlog(redis, "ours")
        self.theirs = Backlog(redis, "theirs")

    async def add(self, shard: int, *payloads: bytes, entry_id: str = "*") -> None:
        for payload in payloads:
            await self.redis.xadd(STREAMS[shard], {"e": payload}, id=entry_id)

    async def lengths(self) -> list[int]:
        """Entries of each stream."""
        return [await self.redis.xlen(stream) for stream in STREAMS]

    async def pending(self, consumer: str | None = None) -> int:
        """Entries that were read and not acknowledged, of one consumer or of all."""
        found = 0
        for stream in STREAMS:
            holders = (await self.redis.xpending(stream, GROUP))["consumers"]
            found += sum(holder["pending"] for holder in holders if consumer in (None, holder["name"].decode()))
        return found

    async def consumers(self, shard: int) -> set[str]:
        return {consumer["name"].decode() for consumer in await self.redis.xinfo_consumers(STREAMS[shard], GROUP)}

    async def make_idle(self, entry: Entry, holder: str, idle_ms: int) -> None:
        """Have the entry read this long ago."""
        await self.redis.xclaim(STREAMS[entry.shard], GROUP, holder, 0, [entry.id], idle=idle_ms, justid=True)

    async def calls(self) -> dict[str, int]:
        """How often each command was run since the statistics were reset."""
        stats = await self.redis.info("commandstats")
        return {name.removeprefix("cmdstat_"): figures["calls"] for name, figures in stats.items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests of this file; each begins with an empty one."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


Story = Callable[[Streams], Awaitable[None]]


@pytest.fixture
def play(server: RedisServer) -> Callable[[Story], None]:
    """Run a story over an empty server with groups on every stream."""

    def run(story: Story) -> None:
        async def told() -> None:
            async with _streams(server) as streams:
                await streams.ours.make_groups()
                await streams.redis.config_resetstat()
                await story(streams)

        asyncio.run(told())

    return run


@asynccontextmanager
async def _streams(server: RedisServer) -> AsyncIterator[Streams]:
    async with redis_client(server.port) as redis:
        await redis.flushall()
        yield Streams(redis)


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"not in {DEADLINE_SECONDS:.0f} s: {what}"
        await asyncio.sleep(0.005)


def payloads(entries: list[Entry]) -> list[bytes]:
    return [entry.payload for entry in entries]


# Groups


def test_what_stood_in_a_stream_before_its_group_is_read(server: RedisServer) -> None:
    async def story() -> None:
        async with _streams(server) as streams:
            await streams.add(0, b"first", b"second")
            await streams.add(15, b"third")
            await streams.ours.make_groups()
            assert payloads(await streams.ours.read(EVERY_SHARD, 10)) == [b"first", b"second", b"third"]

    asyncio.run(story())


def test_groups_are_made_on_all_sixteen_streams_though_nothing_was_written(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for stream in STREAMS:
            assert [group["name"] for group in await streams.redis.xinfo_groups(stream)] == [GROUP]

    play(story)


def test_making_the_groups_again_gives_nothing_out_twice(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(3, b"one", b"two")
        assert len(await streams.ours.read([3], 10)) == 2
        await streams.ours.make_groups()
        assert await streams.theirs.read([3], 10) == []
        assert await streams.pending("ours") == 2

    play(story)


def test_a_refusal_that_is_not_about_a_group_being_there_is_raised(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.redis.set(STREAMS[4], "no stream")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await streams.ours.make_groups()
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await streams.ours.read([4], 10)

    play(story)


# Reading


def test_each_entry_comes_once_in_order_with_its_bytes_and_its_shard(play: Callable[[Story], None]) -> None:
    odd = [b"", b"\x00\r\n\xff", b"1i" + bytes(range(20)) + b"1790000000000 x"]

    async def story(streams: Streams) -> None:
        await streams.add(7, *odd)
        await streams.add(8, b"other")
        entries = await streams.ours.read([7, 8], 10)
        assert [(entry.shard, entry.payload) for entry in entries] == [*((7, payload) for payload in odd), (8, b"other")]
        assert [entry.id for entry in entries[:3]] == [entry_id for entry_id, _ in await streams.redis.xrange(STREAMS[7])]
        assert await streams.ours.read([7, 8], 10) == []

    play(story)


def test_a_read_takes_its_count_of_each_shard_asked_for_and_touches_no_other(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for shard in (1, 2, 3):
            await streams.add(shard, *(b"%d" % number for number in range(5)))
        entries = await streams.ours.read([1, 3], 2)
        assert [entry.shard for entry in entries] == [1, 1, 3, 3]
        assert await streams.pending() == 4
        assert payloads(await streams.ours.read([1, 3], 100)) == [b"2", b"3", b"4"] * 2
        assert payloads(await streams.ours.read([2], 100)) == [b"0", b"1", b"2", b"3", b"4"]

    play(story)


def test_two_consumers_share_without_overlap(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for shard in EVERY_SHARD:
            await streams.add(shard, *(b"%d-%d" % (shard, number) for number in range(20)))
        taken: list[Entry] = []
        while True:
            found = await asyncio.gather(streams.ours.read(EVERY_SHARD, 3), streams.theirs.read(EVERY_SHARD, 3))
            if not any(found):
                break
            taken += [*found[0], *found[1]]
        assert sorted(payloads(taken)) == sorted(b"%d-%d" % (shard, number) for shard in EVERY_SHARD for number in range(20))

    play(story)


def test_an_entry_without_the_field_we_write_is_read_as_empty(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.redis.xadd(STREAMS[2], {"another": "field"})
        assert payloads(await streams.ours.read([2], 10)) == [b""]

    play(story)


# Acknowledging


def test_what_is_acknowledged_is_neither_in_the_stream_nor_pending(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for shard in EVERY_SHARD:
            await streams.add(shard, b"one", b"two", b"three")
        entries = await streams.ours.read(EVERY_SHARD, 10)
        await streams.ours.acknowledge(entry for entry in reversed(entries) if entry.payload != b"two")
        assert await streams.lengths() == [1] * 16
        assert await streams.pending() == 16
        await streams.ours.acknowledge(entries)
        assert await streams.lengths() == [0] * 16
        assert await streams.pending() == 0

    play(story)


def test_acknowledging_is_one_transaction_a_stream(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for shard in (0, 5, 9):
            await streams.add(shard, b"one", b"two")
        entries = await streams.ours.read(EVERY_SHARD, 10)
        await streams.ours.acknowledge(sorted(entries, key=lambda entry: entry.payload))
        calls = await streams.calls()
        assert {name: calls[name] for name in ("multi", "exec", "xack", "xdel")} == {"multi": 3, "exec": 3, "xack": 3, "xdel": 3}

    play(story)


def test_acknowledging_nothing_asks_nothing(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.ours.acknowledge([])
        assert "multi" not in await streams.calls()

    play(story)


# Claiming


def test_an_entry_is_claimed_only_after_the_idle_time(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(6, b"old", b"fresh")
        old, _ = await streams.theirs.read([6], 10)
        assert await streams.ours.claim(EVERY_SHARD, HOUR_MS, 10) == []
        assert await streams.pending("theirs") == 2
        await streams.make_idle(old, "theirs", HOUR_MS + 1000)
        assert await streams.ours.claim(EVERY_SHARD, HOUR_MS, 10) == [old]
        assert (await streams.pending("ours"), await streams.pending("theirs")) == (1, 1)
        assert await streams.ours.claim(EVERY_SHARD, HOUR_MS, 10) == [], "claiming makes it young again"

    play(story)


def test_a_claim_takes_at_most_its_count_of_each_shard_asked_for(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(1, b"a", b"b", b"c")
        await streams.add(2, b"d")
        for entry in await streams.theirs.read([1, 2], 10):
            await streams.make_idle(entry, "theirs", HOUR_MS)
        assert payloads(await streams.ours.claim([1], 1000, 2)) == [b"a", b"b"]
        assert payloads(await streams.ours.claim([1, 2], 1000, 2)) == [b"c", b"d"]

    play(story)


def test_an_entry_that_is_gone_from_the_stream_is_claimed_by_nobody(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(1, b"gone", b"there")
        gone, there = await streams.theirs.read([1], 10)
        await streams.redis.xdel(STREAMS[1], gone.id)
        for entry in (gone, there):
            await streams.make_idle(entry, "theirs", HOUR_MS)
        assert await streams.ours.claim([1], 1000, 10) == [there]
        assert await streams.pending() == 1

    play(story)


# Setting aside


def test_an_entry_is_set_aside_with_its_fields_its_id_and_the_reason(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(11, b"\xffbad", b"good")
        await streams.redis.xadd(STREAMS[12], {"x": "1", "y": "2"})
        bad, good, strange = await streams.ours.read([11, 12], 10)
        await streams.ours.set_aside(bad, "no form number")
        await streams.ours.set_aside(strange, "nor here")
        assert [entry_id for entry_id, _ in await streams.redis.xrange(STREAMS[11])] == [good.id]
        assert await streams.pending() == 1
        [(_, moved)] = await streams.redis.xrange(POISON[11])
        assert moved == {b"e": b"\xffbad", b"entry": bad.id, b"reason": b"no form number"}
        [(_, moved)] = await streams.redis.xrange(POISON[12])
        assert moved == {b"x": b"1", b"y": b"2", b"entry": strange.id, b"reason": b"nor here"}
        assert await streams.ours.poison(10) == [
            {"entry": bad.id.decode(), "reason": "no form number"},
            {"entry": strange.id.decode(), "reason": "nor here"},
        ]
        assert len(await streams.ours.poison(1)) == 1

    play(story)


def test_setting_aside_is_one_step_and_a_second_time_makes_no_second_entry(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(0, b"bad", b"worse")
        bad, worse = await streams.ours.read([0], 10)
        await streams.ours.set_aside(bad, "bad")
        await streams.redis.config_resetstat()
        await streams.ours.set_aside(worse, "worse")
        calls = await streams.calls()
        assert calls.get("evalsha", 0) == 1
        assert "multi" not in calls
        for _ in range(2):
            await streams.ours.set_aside(bad, "bad")
        assert await streams.redis.xlen(POISON[0]) == 2

    play(story)


# A server that is full, or was emptied


def test_a_full_server_is_drained_all_the_same(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(0, b"one", b"bad", b"left", b"two")
        await streams.theirs.read([0], 1)
        await streams.redis.config_set("maxmemory", 1)
        try:
            with pytest.raises(ResponseError):
                await streams.add(0, b"more")
            entries = await streams.ours.read([0], 2) + await streams.ours.claim([0], 0, 1)
            assert payloads(entries) == [b"bad", b"left", b"one"]
            await streams.ours.set_aside(entries[0], "bad")
            await streams.ours.acknowledge(entries[1:])
            assert payloads(await streams.ours.read([0], 2)) == [b"two"]
            assert await streams.lengths() == [1] + 15 * [0]
            assert await streams.redis.xlen(POISON[0]) == 1
        finally:
            await streams.redis.config_set("maxmemory", 0)

    play(story)


def test_groups_lost_with_all_else_are_made_again_by_the_next_read(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(2, b"lost")
        await streams.ours.read(EVERY_SHARD, 10)
        await streams.redis.flushall()
        await streams.add(2, b"before", b"the read")
        assert await streams.ours.read(EVERY_SHARD, 10) == []
        await streams.add(3, b"after")
        assert payloads(await streams.ours.read(EVERY_SHARD, 10)) == [b"before", b"the read", b"after"]

    play(story)


def test_one_lost_group_does_not_cost_what_the_same_read_found_elsewhere(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        for shard in (0, 1, 2):
            await streams.add(shard, b"%d" % shard)
        await streams.redis.xgroup_destroy(STREAMS[1], GROUP)
        assert payloads(await streams.ours.read([0, 1, 2], 10)) == [b"0", b"2"]
        assert payloads(await streams.ours.read([0, 1, 2], 10)) == [b"1"]

    play(story)


# Consumers


def test_idle_consumers_go_only_with_nothing_pending(play: Callable[[Story], None]) -> None:
    async def story(streams: Streams) -> None:
        await streams.add(5, b"theirs", b"done")
        await streams.theirs.read([5], 1)
        gone = Backlog(streams.redis, "gone")
        await gone.acknowledge(await gone.read([5], 1))
        await streams.ours.read([5], 1)
        everyone = {"ours", "theirs", "gone"}

        async def all_idle() -> bool:
            return all(consumer["idle"] > 20 for consumer in await streams.redis.xinfo_consumers(STREAMS[5], GROUP))

        await until(all_idle, "every consumer has been idle for 20 ms")
        await streams.ours.drop_idle_consumers(HOUR_MS)
        assert await streams.consumers(5) == everyone, "nobody has been idle for an hour"
        await streams.ours.drop_idle_consumers(20)
        assert await streams.consumers(5) == {"ours", "theirs"}
        assert await streams.pending("theirs") == 1

    play(story)
