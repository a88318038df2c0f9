"""Live tokens in a real server: each step is one atomic change, and a refusal is no change at all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from redis.exceptions import OutOfMemoryError

from authsvc.errors import Unavailable
from authsvc.live.connect import RedisClient
from authsvc.live.directory import Directory
from authsvc.live.forms import encode_event, encode_token
from authsvc.live.keys import STREAMS, VERSIONS, shard, token_key
from authsvc.live.mirror import Mirror, Put
from authsvc.live.tokens import DONE, STALE, LiveTokens, decode, stored
from authsvc.model import Event, TokenValue, Tombstone, Version
from contract.live_parts import all_keys, answer, build, client, connected, events, now_ms, redis_client
from servers import RedisServer

OVER_EVERY_KIND = True

VALUE = TokenValue("o", 1, "alpha", 3, "read write", 1_790_000_000, 120)
NAMES = (
    bytes(range(20)),
    b"\r\n" * 10,
    b" " * 20,
    b"\x00" * 20,
    b"\xff" * 20,
    b"1o 1 alpha 3 1 2 r\r\n",
)
"""Names as the hash may give them: nothing in them may be taken for protocol, form or pattern."""


class Live(NamedTuple):
    """Live tokens over one pipeline, a client to look behind them, and the version that the mirror is at."""

    tokens: LiveTokens
    redis: RedisClient
    version: Version

    @property
    def stamp(self) -> bytes:
        return str(self.version).encode()

    async def store(self, name: bytes, value: TokenValue = VALUE) -> None:
        assert stored(await answer(self.tokens.store(name, value, 1_790_000_000_123, b"issuing"))) is None

    async def end(self, name: bytes, event: Event, judged: bytes | None = None, owner: str = "", by: str = "") -> bytes:
        reply: bytes = await answer(self.tokens.end(name, event, self.stamp if judged is None else judged, owner, b"ending", by))
        return reply

    async def read(self, name: bytes) -> TokenValue | Tombstone | None:
        return decode(await answer(self.tokens.read(name)))

    async def everything(self) -> dict[bytes, object]:
        """All that is kept, streams entry by entry, to show that nothing changed."""
        kept: dict[bytes, object] = {}
        for key in await all_keys(self.redis):
            kept[key] = await (self.redis.xrange(key) if key in STREAMS else self.redis.dump(key))
        return kept


@asynccontextmanager
async def live(server: RedisServer) -> AsyncIterator[Live]:
    version = await build(server.port, client("alpha"))
    async with redis_client(server.port) as redis, connected(server.port) as pipeline:
        yield Live(LiveTokens(pipeline), redis, version)


def name_in(place: int, number: int = 0) -> bytes:
    """A name that belongs to this shard."""
    return bytes([place]) + number.to_bytes(19, "big")


# Store and read


def test_a_token_is_stored_with_its_entry_and_read_back(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            for name in NAMES:
                await on.store(name)
                assert await on.read(name) == VALUE
                assert 119_000 < await on.redis.pttl(token_key(name)) <= 120_000
                [(entry_id, fields)] = await on.redis.xrange(STREAMS[shard(name)])
                assert fields == {b"e": b"1i" + name + b"1790000000123 1o 1 alpha 3 1790000000 120 read write", b"r": b"issuing"}
                assert abs(int(entry_id.split(b"-")[0]) - await now_ms(on.redis)) < 5000
                assert await all_keys(on.redis, "*stream") == [STREAMS[shard(name)]]
                await on.redis.delete(STREAMS[shard(name)])

    asyncio.run(main())


def test_what_is_not_there_reads_as_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            assert await on.read(NAMES[0]) is None
            assert await on.end(NAMES[0], Event.USED) == b"unknown"
            assert await on.end(NAMES[0], Event.REVOKED, owner="alpha") == b"unknown"
            assert await events(on.redis) == []

    asyncio.run(main())


def test_the_store_alone_ends_a_token(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            await on.store(NAMES[0], VALUE._replace(ttl_seconds=1))
            await on.store(NAMES[1], VALUE._replace(ttl_seconds=1))
            assert await on.end(NAMES[1], Event.USED) == DONE
            while any([await on.redis.exists(token_key(name)) for name in NAMES[:2]]):
                await asyncio.sleep(0.01)
            assert await on.end(NAMES[0], Event.USED) == b"unknown"
            assert await on.end(NAMES[1], Event.USED) == b"unknown"
            assert len(await events(on.redis)) == 3

    asyncio.run(main())


# End


@pytest.mark.parametrize(("event", "by"), [(Event.USED, ""), (Event.REVOKED, ""), (Event.REVOKED, "alice\u00e9@host")])
def test_ending_leaves_a_tombstone_and_one_entry(redis_server: RedisServer, event: Event, by: str) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            for name in NAMES:
                key, stream = token_key(name), STREAMS[shard(name)]
                await on.store(name)
                await on.redis.pexpire(key, 77_777)
                before_ms = await now_ms(on.redis)
                assert await on.end(name, event, by=by) == DONE
                left_ms = await on.redis.pttl(key)
                after_ms = await now_ms(on.redis)
                assert 77_777 - (after_ms - before_ms) - 100 <= left_ms <= 77_777

                tombstone = await on.read(name)
                assert isinstance(tombstone, Tombstone)
                assert (tombstone.reason, tombstone.client_id) == (event, "alpha")
                assert before_ms <= tombstone.at_ms <= after_ms
                assert await on.redis.get(key) == b"1%b %d alpha" % (event.encode(), tombstone.at_ms)
                _, *later = [fields for _, fields in await on.redis.xrange(stream)]
                entry = {b"e": b"1%b%b%d %b" % (event.encode(), name, tombstone.at_ms, encode_token(VALUE)), b"r": b"ending"}
                assert later == [entry | ({b"b": by.encode()} if by else {})]
                await on.redis.delete(stream)

    asyncio.run(main())


def test_the_first_end_stays_and_the_next_ones_change_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            for place, (first, word) in enumerate(((Event.USED, b"used"), (Event.REVOKED, b"revoked"))):
                name = name_in(place)
                await on.store(name)
                assert await on.end(name, first) == DONE
                kept = await on.everything()
                for second in (Event.USED, Event.REVOKED):
                    assert await on.end(name, second) == word
                    assert await on.end(name, second, owner="alpha") == word
                    assert await on.end(name, second, owner="beta") == b"foreign"
                assert await on.everything() == kept

    asyncio.run(main())


def test_only_the_owner_ends_a_token(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            await on.store(NAMES[0])
            kept = await on.everything()
            for owner in ("beta", "alph", "alphaa", "ALPHA", "1", "read", "%S+", "."):
                assert await on.end(NAMES[0], Event.REVOKED, owner=owner) == b"foreign"
            assert await on.everything() == kept
            assert await on.end(NAMES[0], Event.REVOKED, owner="alpha") == DONE

    asyncio.run(main())


def test_a_judgement_by_another_version_ends_nothing(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            name = name_in(5)
            await on.store(name)
            held = on.version._replace(change=10)
            await on.redis.set(VERSIONS[5], str(held))
            kept = await on.everything()
            behind = [held._replace(change=9), held._replace(change=0)]
            others = [held._replace(number=2), held._replace(number=0), held._replace(nonce="00000000"), held._replace(number=2, change=99)]
            for judged in [*behind, *others]:
                assert await on.end(name, Event.USED, str(judged).encode()) == STALE
                assert await on.end(name, Event.REVOKED, str(judged).encode(), owner="beta") == STALE
            for nonsense in (b"", b":", b"x", str(held).encode() + b"x"):
                assert await on.end(name, Event.USED, nonsense) == STALE
            # A token that is not there, or ended, is no exception: the caller's directory is what is in doubt.
            assert await on.end(name_in(5, 1), Event.USED, str(behind[0]).encode()) == STALE
            assert await on.everything() == kept

            await on.redis.delete(VERSIONS[5])
            assert await on.end(name, Event.USED, str(held).encode()) == STALE
            await on.redis.set(VERSIONS[5], str(held))
            assert await on.everything() == kept
            ahead = held._replace(change=100)
            assert await on.end(name, Event.USED, str(ahead).encode()) == DONE

    asyncio.run(main())


def test_each_shard_is_judged_by_its_own_version(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            for place in range(16):
                await on.store(name_in(place))
            await on.redis.set(VERSIONS[7], str(on.version._replace(change=1)))
            outcomes = [await on.end(name_in(place), Event.USED) for place in range(16)]
            assert outcomes == [STALE if place == 7 else DONE for place in range(16)]

    asyncio.run(main())


def test_a_form_that_is_not_known_is_left_alone(redis_server: RedisServer) -> None:
    key = token_key(NAMES[0])

    async def main() -> None:
        async with live(redis_server) as on:
            for value in (b"2o 1 alpha 3 1790000000 120 read", b"9", b"1z 1 alpha 3", b"1", b"", b"1o 1", b"1u 12 alpha beta"):
                await on.redis.set(key, value, ex=60)
                for owner in ("", "alpha"):
                    assert await on.end(NAMES[0], Event.USED, owner=owner) == b"form"
                    assert await on.end(NAMES[0], Event.REVOKED, owner=owner) == b"form"
                with pytest.raises(Unavailable):
                    await on.read(NAMES[0])
                assert await on.redis.get(key) == value
                assert await on.redis.ttl(key) > 50
                assert await events(on.redis) == []

    asyncio.run(main())


# Races


def test_of_fifty_racers_one_ends_a_token(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on, AsyncExitStack() as stack:
            racers = [LiveTokens(await stack.enter_async_context(connected(redis_server.port))) for _ in range(5)]

            async def race(name: bytes, number: int, event: Event) -> tuple[Event, bytes]:
                return event, await answer(racers[number % len(racers)].end(name, event, on.stamp))

            for number in range(48):
                name = name_in(number % 16, number)
                await on.store(name)
                # A third all consume, a third all revoke, a third do both at once.
                kinds = ((Event.USED,), (Event.REVOKED,), (Event.USED, Event.REVOKED))[number % 3]
                outcomes = await asyncio.gather(*(race(name, racer, kinds[racer % len(kinds)]) for racer in range(50)))
                [winner] = [event for event, outcome in outcomes if outcome == DONE]
                lost = b"used" if winner == Event.USED else b"revoked"
                assert Counter(outcome for _, outcome in outcomes) == {DONE: 1, lost: 49}
                tombstone = await on.read(name)
                assert isinstance(tombstone, Tombstone)
                assert tombstone.reason == winner
                assert [event.event for event in await events(on.redis) if event.name == name] == [Event.ISSUED, winner]

    asyncio.run(main())


# Void


def test_void_takes_a_token_back(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            for name in NAMES:
                await on.store(name)
                before_ms = await now_ms(on.redis)
                assert await answer(on.tokens.void(name, VALUE)) == DONE
                assert await on.read(name) is None
                _, (_, fields) = await on.redis.xrange(STREAMS[shard(name)])
                [voided] = [event for event in await events(on.redis) if event.name == name and event.event == Event.VOIDED]
                assert before_ms <= voided.at_ms <= await now_ms(on.redis)
                assert fields == {b"e": encode_event(Event.VOIDED, name, voided.at_ms, encode_token(VALUE))}
                await on.redis.delete(STREAMS[shard(name)])

    asyncio.run(main())


def test_void_takes_half_a_token_back(redis_server: RedisServer) -> None:
    async def main() -> None:
        async with live(redis_server) as on:
            token_only, entry_only, neither = NAMES[:3]
            await on.redis.set(token_key(token_only), encode_token(VALUE), ex=60)
            await on.redis.xadd(STREAMS[shard(entry_only)], {"e": encode_event(Event.ISSUED, entry_only, 1, encode_token(VALUE))})
            for name in (token_only, entry_only, neither):
                assert await answer(on.tokens.void(name, VALUE)) == DONE
                assert await on.read(name) is None
                assert [event.event for event in await events(on.redis) if event.name == name][-1] == Event.VOIDED

    asyncio.run(main())


# A full store


@pytest.fixture
def small_server(tmp_path: Path) -> RedisServer:
    return RedisServer(tmp_path / "redis", "--maxmemory", "8mb").start()


def test_a_full_store_takes_no_token_and_ends_every_one(small_server: RedisServer) -> None:
    async def fits(redis: RedisClient, key: str, size: int) -> bool:
        try:
            await redis.set(key, b"x" * size)
        except OutOfMemoryError:
            return False
        return True

    async def fill(redis: RedisClient) -> None:
        # Big pieces, then small ones, until not even a token fits. The server's own buffers come and go, so not once but
        # twenty times in a row.
        for size in (100_000, 1000, 10):
            number = refused = 0
            while refused < 20:
                refused = 0 if await fits(redis, f"filling-{size}-{number}", size) else refused + 1
                number += 1

    async def main() -> None:
        async with live(small_server) as on:
            for place in range(16):
                await on.store(name_in(place))
            await on.store(name_in(0, 1))
            await fill(on.redis)

            refusal = stored(await answer(on.tokens.store(name_in(1, 1), VALUE, 1)))
            assert isinstance(refusal, Unavailable)
            assert "full" in refusal.description
            assert await answer(on.tokens.void(name_in(1, 1), VALUE)) == DONE
            assert await on.read(name_in(1, 1)) is None

            for place in range(16):
                assert await on.read(name_in(place)) == VALUE
                assert await on.end(name_in(place), Event.USED if place % 2 else Event.REVOKED) == DONE
                assert isinstance(await on.read(name_in(place)), Tombstone)
            assert await answer(on.tokens.void(name_in(0, 1), VALUE)) == DONE
            assert await on.read(name_in(0, 1)) is None
            found = Counter(event.event for event in await events(on.redis))
            assert found == {Event.ISSUED: 17, Event.USED: 8, Event.REVOKED: 8, Event.VOIDED: 2}

            # A client can be disabled, every instance sees it, and a new one can connect.
            mirror, directory = Mirror(on.redis), Directory(on.redis)
            [result] = await mirror.put([client("alpha", 2, enabled=False)])
            assert result.outcome is Put.DONE
            assert await mirror.raise_versions(result.version)
            await directory.refresh()
            known = directory.get("alpha")
            assert known is not None
            assert not known.enabled
            async with connected(small_server.port) as another:
                assert await answer(LiveTokens(another).end(name_in(0), Event.USED, directory.stamp())) == b"revoked"

    try:
        asyncio.run(main())
    finally:
        small_server.stop()
