"""A command's session: the record store, Redis and what stands over them, opened for as long as one command runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from authsvc import logs
from authsvc.clients import Clients
from authsvc.errors import OperatorError, Unavailable
from authsvc.live.connect import RedisClient, address_of, connect_redis
from authsvc.live.mirror import Mirror
from authsvc.live.pipeline import Pipeline
from authsvc.records.connect import connect_store
from authsvc.records.contract import RecordStore
from authsvc.settings import Settings, read_settings

T = TypeVar("T")


class Session:
    """What a command works with."""

    def __init__(self, settings: Settings, store: RecordStore, redis: RedisClient) -> None:
        self.settings = settings
        self.store = store
        self.redis = redis
        self.clients = Clients(store, Mirror(redis))

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """A connection as the instances have it; OperatorError with one sentence if Redis does not answer on it."""
        pipeline = Pipeline(address_of(self.settings), self.settings.redis_timeout_ms / 1000)
        try:
            await pipeline.connect()
            yield pipeline
        except Unavailable as error:
            raise OperatorError(f"Redis cannot be asked: {error.description}") from error
        finally:
            await pipeline.close()


@asynccontextmanager
async def open_session() -> AsyncIterator[Session]:
    """Read the settings and connect; everything is closed again at the end."""
    settings = read_settings()
    logs.configure("error")
    store = connect_store(settings.records_url, settings.writer_call_timeout_seconds)
    redis = connect_redis(settings)
    try:
        await store.open()
        yield Session(settings, store, redis)
    finally:
        await store.close()
        await redis.aclose()


def in_session(work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """Run one command's work in a session of its own."""

    async def run() -> T:
        async with open_session() as session:
            return await work(session)

    return asyncio.run(run())
