"""A command's session: Redis, and where a command asks for them the record store and the clients, for as long as it runs."""

from __future__ import annotations

import asyncio
import os
import pwd
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from authsvc import logs
from authsvc.clients import Clients
from authsvc.errors import OperatorError, Unavailable
from authsvc.http.request import new_request_id
from authsvc.live.cluster import Link
from authsvc.live.connect import RedisClient, connect_redis, link_of
from authsvc.live.mirror import Mirror
from authsvc.records.connect import store_of
from authsvc.records.contract import RecordStore
from authsvc.settings import Settings, read_settings

CALL_SECONDS = 10.0
"""Longest wait for one answer of the record store: somebody sits before a command, who has less patience than a writer."""

T = TypeVar("T")


class Session:
    """What a command works with. Nothing is connected before it is used, so that each command needs only what it asks."""

    def __init__(self, settings: Settings, redis: RedisClient) -> None:
        self.settings = settings
        self.redis = redis

    @asynccontextmanager
    async def store(self, *, as_it_is: bool = False) -> AsyncIterator[RecordStore]:
        """The record store, open; with `as_it_is` nothing is made and nothing migrated."""
        store = store_of(self.settings, call_timeout_seconds=min(self.settings.writer_call_timeout_seconds, CALL_SECONDS))
        try:
            await (store.open_as_it_is() if as_it_is else store.open())
            yield store
        finally:
            await store.close()

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Link]:
        """Connected as the instances are; OperatorError with one sentence if Redis does not answer."""
        pipeline = link_of(self.settings)
        try:
            await pipeline.connect()
            yield pipeline
        except Unavailable as error:
            raise OperatorError(f"Redis cannot be asked: {error.description}") from error
        finally:
            await pipeline.close()


def in_session(work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """Read the settings and run one command's work in a session of its own."""

    async def run() -> T:
        settings = read_settings()
        logs.configure("error")
        redis = connect_redis(settings)
        try:
            return await work(Session(settings, redis))
        finally:
            await redis.aclose()

    return asyncio.run(run())


def with_clients(work: Callable[[Clients], Coroutine[Any, Any, T]], *, as_it_is: bool = False) -> T:
    """Run the work of a command that shows or changes clients; with `as_it_is` on a record store that is not made or migrated for it."""

    async def over_store(session: Session) -> T:
        async with session.store(as_it_is=as_it_is) as store:
            clients = Clients(store, Mirror(session.redis), operator_of(session.settings), new_request_id().decode("ascii"))
            return await work(clients)

    return in_session(over_store)


def operator_of(settings: Settings) -> str:
    """Who runs this command, as far as a machine can tell."""
    if settings.operator is not None:
        return settings.operator
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # images name no user for a number that a cluster chose
        user = f"uid {os.getuid()}"
    return f"{user}@{socket.gethostname()}"
