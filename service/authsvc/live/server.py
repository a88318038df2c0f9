"""The Redis server as an operator sees it: what it is, how it keeps data, how long its disk takes, how its clock stands."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from statistics import median
from typing import NamedTuple

from redis.exceptions import RedisError, ResponseError

from authsvc.errors import Unavailable
from authsvc.live.connect import RedisClient
from authsvc.live.keys import BEAT
from authsvc.live.scripts import BEAT_ON

SYNC_SAMPLES = 25


class Server(NamedTuple):
    """What a server tells of itself, and what was measured.

    `append_only`, `sync_policy` and `eviction_policy` are `` where the server does not let us ask. `write_seconds` is the
    median of a synced write less that of a read: the time of the disk. `clock_ahead_seconds` is its clock less ours.
    """

    name: str
    version: str
    append_only: str
    sync_policy: str
    last_write_ok: bool
    eviction_policy: str
    memory_bytes: int
    memory_limit_bytes: int
    answer_seconds: float
    write_seconds: float
    clock_ahead_seconds: float


async def inspect_server(redis: RedisClient) -> Server:
    """Ask and measure; takes some fifty small requests. Unavailable with the reason when the server does not answer."""
    try:
        facts = await redis.info()
        configured = {name: await _configured(redis, name) for name in ("appendonly", "appendfsync", "maxmemory-policy")}
        beat = redis.register_script(BEAT_ON.text)
        reads = [await _timed(redis.get(BEAT)) for _ in range(SYNC_SAMPLES)]
        # The beat is made to be moved on, so this leaves nothing behind.
        writes = [await _timed(beat(keys=[BEAT])) for _ in range(SYNC_SAMPLES)]
        asked = time.time()
        seconds, microseconds = await redis.time()
        clock_ahead = seconds + microseconds / 1e6 - (asked + time.time()) / 2
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(f"Redis is out of reach: {str(error).rstrip('.') or type(error).__name__}.") from error
    valkey = facts.get("valkey_version")
    return Server(
        name="Valkey" if valkey else "Redis",
        version=str(valkey or facts["redis_version"]),
        append_only=configured["appendonly"],
        sync_policy=configured["appendfsync"],
        last_write_ok=facts.get("aof_last_write_status", "ok") == "ok",
        eviction_policy=configured["maxmemory-policy"] or str(facts.get("maxmemory_policy", "")),
        memory_bytes=int(facts["used_memory"]),
        memory_limit_bytes=int(facts["maxmemory"]),
        answer_seconds=median(reads),
        write_seconds=max(0.0, median(writes) - median(reads)),
        clock_ahead_seconds=clock_ahead,
    )


async def _configured(redis: RedisClient, name: str) -> str:
    """A line of the server's configuration; `` where it may not be asked for, as on hosted servers."""
    try:
        return str((await redis.config_get(name)).get(name, ""))
    except ResponseError:
        return ""


async def _timed(request: Awaitable[object]) -> float:
    began = time.perf_counter()
    await request
    return time.perf_counter() - began
