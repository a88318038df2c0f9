"""What writers complain of, kept in a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from authsvc.live.connect import RedisClient
from authsvc.live.keys import TROUBLES
from authsvc.live.troubles import Trouble, Troubles
from contract.live_parts import redis_client
from servers import RedisServer

ONE, TWO = Trouble("one", 1_790_000_000_000, "records: busy"), Trouble("two", 1_790_000_000_001, "marks: out of reach")


def play(server: RedisServer, story: Callable[[Troubles, RedisClient], Awaitable[None]]) -> None:
    async def told() -> None:
        async with redis_client(server.port) as client:
            await story(Troubles(client), client)

    asyncio.run(told())


def test_each_writer_has_its_last_trouble_until_it_is_forgotten(redis_server: RedisServer) -> None:
    async def story(troubles: Troubles, client: RedisClient) -> None:
        assert await troubles.all() == []
        await troubles.note(ONE)
        await troubles.note(TWO)
        assert await troubles.all() == [TWO, ONE], "the latest first"
        later = ONE._replace(at_ms=ONE.at_ms + 5, sentence="records: full")
        await troubles.note(later)
        assert await troubles.all() == [later, TWO]
        await troubles.forget("one")
        await troubles.forget("one")
        assert await troubles.all() == [TWO]

    play(redis_server, story)


def test_what_is_old_is_dropped(redis_server: RedisServer) -> None:
    async def story(troubles: Troubles, client: RedisClient) -> None:
        await troubles.note(ONE)
        await troubles.note(TWO)
        await troubles.forget_before(TWO.at_ms)
        assert await troubles.all() == [TWO]

    play(redis_server, story)


def test_what_another_release_wrote_is_left_alone(redis_server: RedisServer) -> None:
    async def story(troubles: Troubles, client: RedisClient) -> None:
        await troubles.note(ONE)
        await client.hset(TROUBLES, mapping={"newer": b"2 of a newer form", "spoilt": b"1"})
        await troubles.forget_before(TWO.at_ms)
        assert await troubles.all() == []
        assert await client.hlen(TROUBLES) == 2

    play(redis_server, story)
