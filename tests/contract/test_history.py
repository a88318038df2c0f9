"""History over a real server whose data is set back: noticed by whoever saw more, and never served before somebody judged it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from authsvc.errors import Unavailable
from authsvc.live.cluster import Link
from authsvc.live.connect import RedisClient, link_of
from authsvc.live.history import WITNESS_MS, History
from authsvc.live.keys import BEAT, HOME_VERSION, STREAMS, VERSIONS
from authsvc.live.mirror import Mirror
from authsvc.live.survey import BEAT_MARK, take_survey
from authsvc.model import StreamMark, Version
from contract.live_parts import answer, connected, kept_connected, on_all, redis_client, settings_of, until
from servers import RedisServer

OVER_EVERY_KIND = True

Story = Callable[[RedisClient, Link], Awaitable[None]]
Step = Callable[[History, Link], Awaitable[None]]


def play(server: RedisServer, story: Story) -> None:
    """Tell a story over a server that holds a complete mirror, incarnation 5."""

    async def told() -> None:
        async with redis_client(server.port) as redis, connected(server.port) as pipeline:
            assert await Mirror(redis).build([], 5, "identity") is not None
            await redis.xadd(STREAMS[3], {"e": "x"}, id="7-1")
            await redis.xadd(STREAMS[3], {"e": "x"}, id="7-2")
            await story(redis, pipeline)

    asyncio.run(told())


async def admit(history: History, pipeline: Link) -> None:
    """Judge a new connection to each master."""
    for master in pipeline.masters:
        await history.admit(master)


async def watch(history: History, pipeline: Link, *, leaving: bool = False) -> None:
    """Look at all masters."""
    await history.watch(pipeline.masters, leaving=leaving)


async def versions(redis: RedisClient) -> list[Any]:
    return [await redis.get(key) for key in VERSIONS]


async def set_back_stream(redis: RedisClient) -> None:
    """The stream as it was one entry earlier."""
    await redis.delete(STREAMS[3])
    await redis.xadd(STREAMS[3], {"e": "x"}, id="7-1")


async def set_back_count(redis: RedisClient) -> None:
    """The same last id, fewer entries ever added."""
    await redis.delete(STREAMS[3])
    await redis.xadd(STREAMS[3], {"e": "x"}, id="7-2")


async def lose_stream(redis: RedisClient) -> None:
    await redis.delete(STREAMS[3])


async def set_back_beat(redis: RedisClient) -> None:
    milliseconds, _, number = (await redis.get(BEAT)).decode().partition("-")
    await redis.set(BEAT, f"{milliseconds}-{int(number) - 1}")


async def earlier_incarnation(redis: RedisClient) -> None:
    for key in VERSIONS:
        await redis.set(key, "4-abcdefgh:3")


async def other_incarnation_of_the_same_number(redis: RedisClient) -> None:
    for key in VERSIONS:
        await redis.set(key, "5-abcdefgh:0")


SET_BACK = [set_back_stream, set_back_count, lose_stream, set_back_beat, earlier_incarnation, other_incarnation_of_the_same_number]


@pytest.mark.parametrize("set_back", SET_BACK)
@pytest.mark.parametrize("step", [admit, watch])
def test_data_that_ran_back_loses_every_version(redis_server: RedisServer, set_back: Callable[[Any], Awaitable[None]], step: Step) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        history = History()
        await watch(history, pipeline)
        await watch(history, pipeline)
        await set_back(redis)
        await step(history, pipeline)
        found = await versions(redis)
        # The others hold what they held.
        ran_back = next(master.shards for master in pipeline.masters if 3 in master.shards)
        assert {found[shard] for shard in ran_back} == {None}

    play(redis_server, story)


def test_data_that_only_grew_keeps_its_versions(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        history = History()
        before = await versions(redis)
        await watch(history, pipeline)
        await redis.xdel(STREAMS[3], "7-1", "7-2")
        await redis.xadd(STREAMS[4], {"e": "x"})
        await redis.bgrewriteaof()
        await admit(history, pipeline)
        await watch(history, pipeline)
        assert await versions(redis) == before

    play(redis_server, story)


def test_marks_end_with_their_incarnation(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        history = History()
        await watch(history, pipeline)
        await on_all(redis, "FLUSHALL")
        assert await Mirror(redis).build([], 6, "identity") is not None
        before = await versions(redis)
        await admit(history, pipeline)
        await watch(history, pipeline)
        assert await versions(redis) == before
        assert history.number == 6

    play(redis_server, story)


def test_whoever_saw_nothing_yet_waits_until_a_writer_vouched(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        mirror = Mirror(redis)
        run_id = (await take_survey(pipeline.masters)).run_id
        await mirror.vouch("an earlier process")
        with pytest.raises(Unavailable, match="Nobody has compared"):
            await admit(History(), pipeline)
        later = History()
        later.recall(4, {BEAT.decode(): StreamMark("0-0", 99)})
        with pytest.raises(Unavailable, match="Nobody has compared"):
            await admit(later, pipeline)
        knowing = History()
        await watch(knowing, pipeline)
        await admit(knowing, pipeline)
        await mirror.vouch(run_id)
        await admit(History(), pipeline)
        await mirror.vouch("an earlier process")
        await mirror.drop()
        await admit(History(), pipeline)

    play(redis_server, story)


def test_whoever_saw_the_data_until_its_end_vouches_for_the_server_that_started_again(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        run_id = (await take_survey(pipeline.masters)).run_id
        witness, absent = History(), History()
        for history in (witness, absent):
            await watch(history, pipeline)
        await watch(witness, pipeline)
        await Mirror(redis).vouch("an earlier process")
        milliseconds, _, number = (await redis.get(BEAT)).decode().partition("-")
        await redis.set(BEAT, f"{int(milliseconds) + WITNESS_MS + 60_000}-{int(number) + 1}")
        with pytest.raises(Unavailable, match="Nobody has compared"):
            await admit(absent, pipeline)
        await watch(witness, pipeline)
        await admit(witness, pipeline)
        assert (await take_survey(pipeline.masters)).vouched == run_id
        await admit(absent, pipeline)

    play(redis_server, story)


def test_nobody_moves_on_the_beat_of_older_data(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        async def beat() -> int:
            return (await take_survey(pipeline.masters)).marks[BEAT_MARK].entries_added

        history = History()
        await watch(history, pipeline)
        assert await beat() == 0, "who has noted nothing has judged nothing"
        for _ in range(3):
            await watch(history, pipeline)
        await watch(history, pipeline, leaving=True)
        assert await beat() == 3
        await take_survey(pipeline.masters, beats={BEAT_MARK: 4})
        assert await beat() == 3
        await take_survey(pipeline.masters, beats={BEAT_MARK: 3})
        assert await beat() == 4

    play(redis_server, story)


def test_a_version_that_cannot_be_read_is_not_served(redis_server: RedisServer) -> None:
    async def story(redis: RedisClient, pipeline: Link) -> None:
        await redis.set(HOME_VERSION, "garbage")
        for step in (admit, watch):
            with pytest.raises(Unavailable, match="cannot be read"):
                await step(History(), pipeline)

    play(redis_server, story)


def test_a_pipeline_is_not_given_to_callers_before_it_is_admitted(redis_server: RedisServer) -> None:
    @asynccontextmanager
    async def judged(history: History) -> Any:
        pipeline = link_of(settings_of(redis_server.port), history.admit)
        pipeline.start()
        try:
            yield pipeline
        finally:
            await pipeline.close()

    async def story(redis: RedisClient, pipeline: Link) -> None:
        run_id = (await take_survey(pipeline.masters)).run_id
        await Mirror(redis).vouch("an earlier process")
        async with judged(History()) as waiting, kept_connected(redis_server.port) as other:
            await until(lambda: other.silent_since is None, "a connection without judgement is up")
            assert waiting.silent_since is not None
            with pytest.raises(Unavailable):
                await waiting.shards[0].ask_version()
            await Mirror(redis).vouch(run_id)
            await until(lambda: waiting.silent_since is None, "the connection is admitted")
            assert Version.parse(await answer(waiting.shards[0].ask_version())).number == 5

    play(redis_server, story)
