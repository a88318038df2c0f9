"""How Redis is reached: the pipelines' address and the redis-py client, from the same settings, over one server or a cluster."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import unquote, urlsplit

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from authsvc.live.cluster import Cluster, Link
from authsvc.live.cluster_client import ClusterClient
from authsvc.live.pipeline import Address, Admit, Observe, Pipeline
from authsvc.settings import Settings

RedisClient = Any
"""A redis-py asyncio client that answers bytes; its own annotations know only unions of bytes and str."""


def link_of(settings: Settings, admit: Admit | None = None, observe_seconds: Observe = lambda seconds: None) -> Link:
    """The way of the hot path: one pipeline, or one to each master of a cluster."""
    kind = Cluster if settings.redis_mode == "cluster" else Pipeline
    return kind(address_of(settings), settings.redis_timeout_ms / 1000, admit, observe_seconds)


async def masters_of(redis: RedisClient) -> dict[int, RedisClient]:
    """The clients of each master by its lead; a lone server's lead is home. RedisError if a cluster cannot tell."""
    return await redis.masters() if isinstance(redis, ClusterClient) else {0: redis}


def address_of(settings: Settings) -> Address:
    """Where the hot path's connection goes."""
    parts = urlsplit(settings.redis_url)
    tls = None
    if parts.scheme == "rediss":
        tls = ssl.create_default_context(cafile=str(settings.redis_ca_file) if settings.redis_ca_file else None)
    password = unquote(parts.password) if parts.password else None
    if settings.redis_password is not None:
        password = settings.redis_password.get_secret_value()
    return Address(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 6379,
        username=unquote(parts.username) if parts.username else None,
        password=password,
        database=int(parts.path.strip("/") or 0),
        tls=tls,
    )


def connect_redis(settings: Settings) -> RedisClient:
    """The client for everything that is not hot. It never repeats a command by itself: a repeat may apply it twice."""
    address = address_of(settings)
    timeout_seconds = settings.redis_timeout_ms / 1000
    # As the pipeline greets: a password always goes with a user's name. Without one, a server that has no password refuses it.
    username = None if address.password is None else address.username or "default"
    kind = ClusterClient if settings.redis_mode == "cluster" else redis.asyncio.Redis
    return kind(
        host=address.host,
        port=address.port,
        username=username,
        password=address.password,
        db=address.database,
        ssl=address.tls is not None,
        ssl_ca_certs=str(settings.redis_ca_file) if settings.redis_ca_file else None,
        protocol=2,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
    )
