"""The backlog: 16 streams of token events, read by writers through a consumer group and emptied as they are written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from redis.exceptions import ResponseError

from authsvc.live.connect import RedisClient
from authsvc.live.keys import GROUP, POISON, STREAMS
from authsvc.live.scripts import DROP_CONSUMER, SET_ASIDE

EVERY_SHARD = tuple(range(len(STREAMS)))


class Entry(NamedTuple):
    """One event as it stands in its stream."""

    shard: int
    id: bytes
    payload: bytes
    request_id: bytes = b""
    by: bytes = b""


class Backlog:
    """The streams as one consumer of the group sees them."""

    def __init__(self, redis: RedisClient, consumer: str) -> None:
        self._redis = redis
        self.consumer = consumer

    async def make_groups(self) -> None:
        """Make the group on every stream, from its very first entry; safe to repeat."""
        for stream in STREAMS:
            try:
                await self._redis.xgroup_create(stream, GROUP, id="0", mkstream=True)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(self, shards: Sequence[int], count: int) -> list[Entry]:
        """New entries, at most `count` of each shard; they stay pending with this consumer until acknowledged.

        A master of a cluster that is away costs none of what the others had: it is an error only where they had nothing.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for shard in shards:
                pipe.xreadgroup(GROUP, self.consumer, {STREAMS[shard]: ">"}, count=count)
            replies = await pipe.execute(raise_on_error=False)
        entries = []
        failure: Exception | None = None
        for shard, reply in zip(shards, replies, strict=True):
            if isinstance(reply, ResponseError) and str(reply).startswith("NOGROUP"):
                await self.make_groups()
            elif isinstance(reply, Exception):
                failure = reply
            else:
                entries += _entries(shard, _stream_entries(reply))
        if failure is not None and not entries:
            raise failure
        return entries

    async def claim(self, shards: Sequence[int], idle_ms: int, count: int) -> list[Entry]:
        """Entries that another consumer has left pending for at least this long."""
        entries = []
        for shard in shards:
            try:
                reply = await self._redis.xautoclaim(STREAMS[shard], GROUP, self.consumer, idle_ms, "0-0", count=count)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
                await self.make_groups()
            else:
                entries += _entries(shard, reply[1])
        return entries

    async def acknowledge(self, entries: Iterable[Entry]) -> None:
        """Acknowledge and delete in one step a stream: one acknowledged but not deleted would never be found again."""
        by_shard = sorted(entries, key=lambda entry: entry.shard)
        for shard, group in groupby(by_shard, key=lambda entry: entry.shard):
            ids = [entry.id for entry in group]
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.xack(STREAMS[shard], GROUP, *ids)
                pipe.xdel(STREAMS[shard], *ids)
                await pipe.execute()

    async def set_aside(self, entry: Entry, reason: str) -> None:
        """Move an entry that can never be written to the poison stream, in one step."""
        script = self._redis.register_script(SET_ASIDE.text)
        await script(keys=[STREAMS[entry.shard], POISON[entry.shard]], args=[GROUP, entry.id, reason])

    async def drop_idle_consumers(self, idle_ms: int) -> None:
        """Remove consumers that are gone, only with nothing pending."""
        script = self._redis.register_script(DROP_CONSUMER.text)
        for stream in STREAMS:
            for consumer in await self._redis.xinfo_consumers(stream, GROUP):
                if consumer["idle"] > idle_ms and consumer["name"] != self.consumer.encode():
                    await script(keys=[stream], args=[GROUP, consumer["name"]])

    async def writers_seen(self, within_ms: int) -> int:
        """Writers that asked for entries within that time, and so are alive."""
        seen = set()
        for stream in STREAMS:
            with contextlib.suppress(ResponseError):  # nobody has made the stream or its group yet
                consumers = await self._redis.xinfo_consumers(stream, GROUP)
                seen |= {consumer["name"] for consumer in consumers if consumer["idle"] <= within_ms}
        return len(seen)

    async def poison(self, count: int) -> list[dict[str, str]]:
        """The entries set aside, with the reason of each."""
        found = []
        for stream in POISON:
            for _, fields in await self._redis.xrange(stream, count=count):
                found.append({"entry": _text(fields.get(b"entry", b"")), "reason": _text(fields.get(b"reason", b""))})
        return found[:count]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _stream_entries(reply: Any) -> Any:
    """The entries of the one stream that was asked for."""
    return reply[0][1] if reply else []


def _entries(shard: int, found: Any) -> list[Entry]:
    """An entry that was deleted meanwhile has no fields; one of an earlier release has no request."""
    return [
        Entry(shard, entry_id, *(fields.get(field, b"") for field in (b"e", b"r", b"b"))) if fields else Entry(shard, entry_id, b"")
        for entry_id, fields in found
    ]
