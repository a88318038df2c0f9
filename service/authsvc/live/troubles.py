"""Troubles: what keeps each writer from its work, kept where commands can read it while the record store is away."""

from __future__ import annotations

from typing import NamedTuple

from authsvc.live.connect import RedisClient
from authsvc.live.forms import Malformed, UnknownForm, decode_trouble, encode_trouble
from authsvc.live.keys import TROUBLES


class Trouble(NamedTuple):
    """What a writer complained of last, and when (Unix milliseconds, by its own clock)."""

    writer: str
    at_ms: int
    sentence: str


class Troubles:
    """One trouble a writer, as long as it lasts; that of a killed writer stays until it is old."""

    def __init__(self, redis: RedisClient) -> None:
        self._redis = redis

    async def note(self, trouble: Trouble) -> None:
        """Keep a writer's trouble in place of the one before."""
        await self._redis.hset(TROUBLES, trouble.writer, encode_trouble(trouble.at_ms, trouble.sentence))

    async def forget(self, writer: str) -> None:
        """All is well with this writer."""
        await self._redis.hdel(TROUBLES, writer)

    async def forget_before(self, at_ms: int) -> None:
        """Drop what was noted before that time: its writer is gone."""
        for trouble in await self.all():
            if trouble.at_ms < at_ms:
                await self.forget(trouble.writer)

    async def all(self) -> list[Trouble]:
        """Those of all writers, the latest first; what another release wrote in a form of its own is left out."""
        found = []
        for writer, stored in (await self._redis.hgetall(TROUBLES)).items():
            try:
                found.append(Trouble(writer.decode("utf-8", "replace"), *decode_trouble(stored)))
            except (UnknownForm, Malformed):
                continue
        return sorted(found, key=lambda trouble: -trouble.at_ms)
