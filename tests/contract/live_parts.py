"""The live floor for tests, put together as an instance does it, and ways to wait for what only promises wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.exceptions import RedisError

from authsvc.credentials import TokenKeys, secret_digest
from authsvc.errors import Unavailable
from authsvc.live.cluster import Cluster, Link
from authsvc.live.connect import RedisClient, connect_redis, link_of, masters_of
from authsvc.live.connection import Call
from authsvc.live.directory import Directory
from authsvc.live.forms import decode_event
from authsvc.live.keys import STREAMS
from authsvc.live.mirror import Mirror, Put
from authsvc.live.pipeline import Address, Pipeline
from authsvc.live.tokens import LiveTokens
from authsvc.metrics import Counts
from authsvc.model import Client, DeletedClient, Kind, Secret, TokenEvent, TokenValue, Version
from authsvc.promise import drive, settle
from authsvc.settings import Settings, read_settings
from authsvc.tokens import Credentials, Tokens
from servers import DEADLINE_SECONDS, TOKEN_KEY, RedisCluster

SECRET = b"mYs3cretOfThisTest"
IDENTITY = "store-of-the-test"


PATIENT_MS = 20_000
"""Hundreds of requests at once may take a busy machine its time, and that is no refusal."""


def settings_of(port: int, **settings: str | int) -> Settings:
    """Settings for the server, or the cluster, on this port of loopback."""
    if port in RedisCluster.ports:
        settings = {"redis_mode": "cluster", **settings}
    given = {f"AUTH_{name.upper()}": str(value) for name, value in settings.items()}
    return read_settings({"AUTH_REDIS_URL": f"redis://127.0.0.1:{port}/0", "AUTH_TOKEN_KEY": TOKEN_KEY, **given})


async def answer(call: Call) -> Any:
    """The reply of a call, for ordinary asyncio code; cancelling this abandons the call."""

    async def wait() -> Any:
        return await call

    return await settle(wait())


def refused(call: Call) -> bool:
    """Whether a call is refused already, before anything else could happen."""
    errors: list[Exception | None] = []

    async def wait() -> Any:
        return await call

    if call.settled:
        drive(wait(), lambda _, error: errors.append(error))
    return bool(errors) and isinstance(errors[0], Unavailable)


async def until(condition: Callable[[], Any], what: str, seconds: float = DEADLINE_SECONDS) -> None:
    """Let the loop run until the condition holds; AssertionError with `what` after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        await asyncio.sleep(0.002)


async def succeeds(work: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Again and again, as the service's loops do it, until the store can answer and the answer is something."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            found = await work()
        except (Unavailable, RedisError):
            found = False
        if found is None or found:
            return found
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


@asynccontextmanager
async def redis_client(port: int, **settings: int) -> AsyncIterator[RedisClient]:
    """The client for everything that is not hot, as the service connects it."""
    redis = connect_redis(settings_of(port, **settings))
    try:
        yield redis
    finally:
        await redis.aclose()


def _link(address: Address, timeout_seconds: float) -> Link:
    return (Cluster if address.port in RedisCluster.ports else Pipeline)(address, timeout_seconds)


@asynccontextmanager
async def connected(port: int, timeout_seconds: float = 2.0, **address: Any) -> AsyncIterator[Link]:
    """A pipeline with one connection (to each master) that is not made again."""
    pipeline = _link(Address("127.0.0.1", port, **address), timeout_seconds)
    await pipeline.connect()
    try:
        yield pipeline
    finally:
        await pipeline.close()


@asynccontextmanager
async def kept_connected(port: int, timeout_seconds: float = 2.0, **address: Any) -> AsyncIterator[Link]:
    """A pipeline that connects by itself and again whenever the connection is lost; it may be down at first."""
    pipeline = _link(Address("127.0.0.1", port, **address), timeout_seconds)
    pipeline.start()
    try:
        yield pipeline
    finally:
        await pipeline.close()


async def is_up(pipeline: Link, seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until the pipeline's server answers."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await asyncio.gather(*(answer(shard.ask_version()) for shard in pipeline.shards))
        except Unavailable:
            assert time.monotonic() < deadline, f"not in {seconds:.0f} s: the pipeline is connected"
            await asyncio.sleep(0.002)
        else:
            return


@dataclass
class Instance:
    """One instance of the service below HTTP. Its directory is refreshed when an answer needs it, by no tick."""

    redis: RedisClient
    pipeline: Link
    live: LiveTokens
    directory: Directory
    tokens: Tokens
    mirror: Mirror
    keys: TokenKeys
    counts: Counts

    async def issue(self, client_id: str = "alpha", kind: Kind = Kind.ACCESS, scopes: Sequence[str] = ()) -> bytes:
        """A token of this client, by its secret."""
        issued = await settle(self.tokens.issue(Credentials(client_id, SECRET), kind, tuple(scopes)))
        return issued.token

    async def validate(self, token: bytes, *scopes: str) -> TokenValue:
        """What a validate answers."""
        return (await settle(self.tokens.validate(token, scopes))).value

    async def introspect(self, token: bytes, client_id: str = "alpha") -> TokenValue | None:
        """What an introspect answers."""
        found = await settle(self.tokens.introspect(Credentials(client_id, SECRET), token))
        return None if found is None else found.value

    async def revoke(self, token: bytes, client_id: str = "alpha") -> None:
        """Revoke as this client."""
        await settle(self.tokens.revoke(Credentials(client_id, SECRET), token))

    async def change(self, *records: Client | DeletedClient) -> None:
        """Bring changes into force, as a command does after they were stored."""
        results = await self.mirror.put(records)
        assert {result.outcome for result in results} == {Put.DONE}
        assert await self.mirror.raise_versions(results[-1].version)


@asynccontextmanager
async def open_instance(port: int, clock: Callable[[], float] = time.time) -> AsyncIterator[Instance]:
    """An instance that is connected and has loaded the directory, if there is a mirror."""
    settings = settings_of(port, redis_timeout_ms=PATIENT_MS)
    redis = connect_redis(settings)
    pipeline = link_of(settings)
    directory = Directory(redis)
    live = LiveTokens(pipeline)
    counts = Counts()
    keys = TokenKeys(settings.issuing_key(), settings.accepted_keys())
    tokens = Tokens(keys, live, directory, counts, clock)
    try:
        await pipeline.connect()
        await directory.refresh()
        yield Instance(redis, pipeline, live, directory, tokens, Mirror(redis), keys, counts)
    finally:
        await directory.close()
        await pipeline.close()
        await redis.aclose()


@asynccontextmanager
async def open_instances(port: int, count: int) -> AsyncIterator[list[Instance]]:
    """Several instances over one server."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_instance(port)) for _ in range(count)]


async def build(port: int, *records: Client | DeletedClient, number: int = 1) -> Version:
    """A complete mirror of these clients."""
    async with redis_client(port) as redis:
        version = await Mirror(redis).build(records, number, IDENTITY)
    assert version is not None
    return version


def client(client_id: str = "alpha", revision: int = 1, **changes: Any) -> Client:
    """A client whose secret is SECRET."""
    values: dict[str, Any] = {"scopes": ("read", "write"), "secrets": (Secret(secret_digest(SECRET), 1_790_000_000_000),), "epoch": 1}
    return Client(id=client_id, revision=revision, **{**values, **changes})


async def events(redis: RedisClient) -> list[TokenEvent]:
    """Everything that stands in the 16 streams."""
    return [decode_event(fields[b"e"]) for stream in STREAMS for _, fields in await redis.xrange(stream)]


async def all_keys(redis: RedisClient, pattern: str = "*") -> list[bytes]:
    """The keys of all masters."""
    return [key for master in (await masters_of(redis)).values() for key in await master.keys(pattern)]


async def on_all(redis: RedisClient, *words: str | int) -> None:
    """Have every master do it."""
    for master in (await masters_of(redis)).values():
        await master.execute_command(*words)


async def now_ms(redis: RedisClient) -> int:
    """The server's own time."""
    seconds, microseconds = await redis.time()
    return int(seconds * 1000 + microseconds // 1000)
