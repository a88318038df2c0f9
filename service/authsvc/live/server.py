"""The Redis server as an operator sees it: what it is, how it keeps data, how long its disk takes, how its clock stands."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from statistics import median
from typing import NamedTuple

from redis.exceptions import MovedError, RedisError, ResponseError

from authsvc.errors import Unavailable, reason_of
from authsvc.live.connect import RedisClient, masters_of
from authsvc.live.keys import TOKEN_PREFIXES

SYNC_SAMPLES = 25
_CONFIGURED = ("appendonly", "appendfsync", "maxmemory-policy", "cluster-require-full-coverage")
PROBES = tuple(tag + b"probe" for tag in TOKEN_PREFIXES)
"""Written and deleted again, under its lead, to time a server's disk. Never the beat: moved on by someone who has not judged
the data, it hides an older copy."""


class Server(NamedTuple):
    """What a server tells of itself, and what was measured.

    `append_only`, `sync_policy` and `eviction_policy` are `` where the server does not let us ask. `write_seconds` is the
    median of a synced write less that of a read: the time of the disk; `write_refused` is what the server said instead, or ``.
    `clock_ahead_seconds` is its clock less ours. `clustered` says whether it is a node of a Redis Cluster, and
    `full_coverage` whether that answers nothing while any of its masters is away.
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
    write_refused: str
    clock_ahead_seconds: float
    clustered: bool
    full_coverage: bool


async def inspect_servers(redis: RedisClient) -> list[Server]:
    """The one server, or the masters of a cluster in the order of their slots; Unavailable if one of them is."""
    try:
        masters = await masters_of(redis)
    except (RedisError, OSError) as error:
        if "cluster support disabled" in str(error):
            raise Unavailable("The server is no node of a Redis Cluster: set AUTH_REDIS_MODE=single.") from error
        raise Unavailable(_sentence(f"Redis does not tell who its masters are: {str(error) or type(error).__name__}")) from error
    return [await inspect_server(masters[lead], lead) for lead in sorted(masters)]


async def inspect_server(redis: RedisClient, lead: int = 0) -> Server:
    """Ask and measure one server, the master of the shard `lead`; takes some fifty small requests.

    Unavailable with the reason when the server does not answer.
    """
    try:
        facts = await redis.info()
        configured = {name: await _configured(redis, name) for name in _CONFIGURED}
        read_seconds = median([await _timed(redis.get(PROBES[lead])) for _ in range(SYNC_SAMPLES)])
        written_seconds, write_refused = await _timed_writes(redis, PROBES[lead])
        asked = time.time()
        seconds, microseconds = await redis.time()
        clock_ahead = seconds + microseconds / 1e6 - (asked + time.time()) / 2
    except MovedError as error:
        raise Unavailable("Another master of the Redis Cluster has what was asked for: set AUTH_REDIS_MODE=cluster.") from error
    except (RedisError, OSError, TimeoutError) as error:
        raise Unavailable(_sentence(f"Redis is out of reach: {reason_of(error)}")) from error
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
        answer_seconds=read_seconds,
        write_seconds=max(0.0, written_seconds - read_seconds),
        write_refused=write_refused,
        clock_ahead_seconds=clock_ahead,
        clustered=bool(facts.get("cluster_enabled")),
        full_coverage=configured["cluster-require-full-coverage"] == "yes",
    )


async def _timed_writes(redis: RedisClient, probe: bytes) -> tuple[float, str]:
    """The median time of a write, or 0 and why the server takes none; either way nothing stays."""
    try:
        try:
            return median([await _timed(redis.set(probe, b"")) for _ in range(SYNC_SAMPLES)]), ""
        finally:
            await redis.delete(probe)
    except ResponseError as error:
        return 0.0, _sentence(str(error))


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


def _sentence(text: str) -> str:
    """The text with one mark at its end, whatever the server put there."""
    return text if text.endswith((".", "?", "!")) else f"{text}."
