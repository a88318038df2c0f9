"""The survey over a real server: how far it has come, how much it holds, and what is no answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from authsvc.errors import Unavailable
from authsvc.live.backlog import EVERY_SHARD, Backlog
from authsvc.live.connect import RedisClient
from authsvc.live.forms import Malformed
from authsvc.live.keys import BEAT, HOME_VERSION, STREAMS
from authsvc.live.mirror import Mirror
from authsvc.live.survey import BEAT_MARK, Survey, take_survey
from authsvc.model import StreamMark, Version
from contract.live_parts import connected, now_ms, redis_client
from servers import RedisServer

HOUR_MS = 3_600_000


class Scene:
    """A server, a writer's view of its streams, and surveys of it."""

    def __init__(self, redis: RedisClient, look: Callable[..., Awaitable[Survey]]) -> None:
        self.redis = redis
        self.look = look
        self.backlog = Backlog(redis, "ours")

    async def add(self, shard: int, payload: bytes, entry_id: str = "*") -> None:
        await self.redis.xadd(STREAMS[shard], {"e": payload}, id=entry_id)


Story = Callable[[Scene], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One server for all tests of this file; each begins with an empty one."""
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def play(server: RedisServer) -> Callable[[Story], None]:
    """Run a story over an empty server with groups on every stream."""

    def run(story: Story) -> None:
        async def told() -> None:
            async with redis_client(server.port) as redis, connected(server.port) as pipeline:
                await redis.flushall()
                await Backlog(redis, "ours").make_groups()
                await story(Scene(redis, lambda **more: take_survey(pipeline.masters, **more)))

        asyncio.run(told())

    return run


def test_marks_tell_how_far_each_stream_came_whatever_was_deleted_since(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        await scene.add(9, b"one", entry_id="1790000000000-3")
        await scene.add(9, b"two", entry_id="1790000000001-0")
        await scene.redis.delete(STREAMS[10])
        expected = {name.decode(): StreamMark("0-0", 0) for name in (BEAT, *STREAMS)}
        expected[STREAMS[9].decode()] = StreamMark("1790000000001-0", 2)
        assert (await scene.look()).marks == expected
        await scene.backlog.acknowledge(await scene.backlog.read([9], 10))
        assert (await scene.look()).marks == expected

    play(story)


def test_the_beat_moves_when_asked_to_even_on_a_full_server(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        name = BEAT.decode()
        assert (await scene.look(beats={BEAT_MARK: 0})).marks[name].entries_added == 1
        await scene.redis.config_set("maxmemory", 1)
        try:
            assert (await scene.look(beats={BEAT_MARK: 1})).marks[name].entries_added == 2
            assert (await scene.look()).marks[name].entries_added == 2
        finally:
            await scene.redis.config_set("maxmemory", 0)

    play(story)


def test_the_server_its_mirror_and_its_memory_are_told(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        empty = await scene.look()
        assert (empty.version, empty.vouched, empty.token_keys) == (None, "", 0)
        built = await Mirror(scene.redis).build([], 7, "identity")
        await scene.redis.set("a token", "x", ex=60)
        await scene.redis.set("no token", "x")
        await scene.redis.config_set("maxmemory", 123_456_789)
        limited = await scene.look()
        await scene.redis.config_set("maxmemory", 0)
        facts = await scene.redis.info()
        assert (limited.version, limited.token_keys) == (built, 1)
        assert limited.vouched == limited.run_id == facts["run_id"]
        assert limited.memory_limit_bytes == 123_456_789
        assert 0 < limited.memory_bytes < limited.memory_limit_bytes
        assert (await scene.look()).memory_limit_bytes == facts["total_system_memory"]
        assert (limited.evicted_keys, limited.replicas) == (0, 0)
        assert abs(limited.time_seconds - time.time()) < 60

    play(story)


def test_evicted_keys_and_replicas_are_told(server: RedisServer, tmp_path: Path, play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        follower = RedisServer(tmp_path).start()
        async with redis_client(follower.port) as follows:
            try:
                await follows.execute_command("REPLICAOF", "127.0.0.1", server.port)
                while (await scene.look()).replicas != 1:
                    await asyncio.sleep(0.05)
            finally:
                follower.stop()
        await scene.redis.set("a token", "x" * 10_000, ex=60)
        await scene.redis.config_set("maxmemory-policy", "volatile-lru")
        await scene.redis.config_set("maxmemory", 1)
        try:
            with suppress(ResponseError):
                await scene.redis.set("another", "x")
            assert (await scene.look()).evicted_keys == 1
        finally:
            await scene.redis.config_set("maxmemory", 0)
            await scene.redis.config_set("maxmemory-policy", "noeviction")
            await scene.redis.config_resetstat()

    play(story)


def test_an_empty_backlog_has_no_depth(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        for _ in range(2):
            found = await scene.look()
            assert (found.backlog_entries, found.backlog_age_seconds, found.poison_entries) == (0, 0.0, 0)
            await scene.redis.flushall()

    play(story)


def test_depth_counts_entries_and_poison_of_all_streams_and_the_age_of_the_oldest(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        now = await now_ms(scene.redis)
        await scene.add(0, b"young", entry_id=f"{now - 30_000}-0")
        await scene.add(15, b"old", entry_id=f"{now - 90_000}-7")
        await scene.add(15, b"younger", entry_id=f"{now - 1_000}-0")
        await scene.add(4, b"bad")
        await scene.backlog.set_aside((await scene.backlog.read([4], 1))[0], "bad")
        found = await scene.look()
        assert (found.backlog_entries, found.backlog_age_seconds, found.poison_entries) == (3, pytest.approx(90, abs=10), 1)
        await scene.backlog.acknowledge(await scene.backlog.read(EVERY_SHARD[15:], 1))
        found = await scene.look()
        assert (found.backlog_entries, found.backlog_age_seconds, found.poison_entries) == (2, pytest.approx(30, abs=10), 1)

    play(story)


def test_the_age_is_by_the_servers_clock_and_never_negative(play: Callable[[Story], None], monkeypatch: pytest.MonkeyPatch) -> None:
    ours_ms = time.time() * 1000 + HOUR_MS
    monkeypatch.setattr(time, "time", lambda: ours_ms / 1000)

    async def story(scene: Scene) -> None:
        await scene.add(0, b"now")
        assert (await scene.look()).backlog_age_seconds == pytest.approx(0, abs=10)
        await scene.redis.flushall()
        await scene.add(0, b"from a server whose clock was ahead", entry_id=f"{int(ours_ms)}-0")
        assert (await scene.look()).backlog_age_seconds == 0.0

    play(story)


def test_what_cannot_be_had_or_read_is_no_survey(play: Callable[[Story], None]) -> None:
    async def story(scene: Scene) -> None:
        await scene.redis.set(HOME_VERSION, "neither number nor nonce")
        with pytest.raises(Malformed):
            await scene.look()
        await scene.redis.set(HOME_VERSION, "3-abc:9")
        assert (await scene.look()).version == Version(3, "abc", 9)
        await scene.redis.set(STREAMS[4], "no stream")
        with pytest.raises(Unavailable):
            await scene.look()

    play(story)
