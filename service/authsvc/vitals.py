"""Vitals: what every process of ours tells of itself and of the Redis that it sees, beside what it counts."""

from __future__ import annotations

import platform
import time
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from authsvc import __version__


class SeenRedis(Protocol):
    """What a look at Redis showed (live/survey.py)."""

    @property
    def time_seconds(self) -> float:
        """Its clock, Unix time."""

    @property
    def memory_bytes(self) -> int:
        """In use."""

    @property
    def memory_limit_bytes(self) -> int:
        """At most."""

    @property
    def evicted_keys(self) -> int:
        """Since it started."""

    @property
    def replicas(self) -> int:
        """Connected to it."""


class Vitals:
    """Gauges in the process's registry; with several workers each tells the same of Redis, and their CPU is added up."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._cpu_folded = 0.0
        self._cpu = Counter("process_cpu_seconds", "CPU time used.", registry=registry)
        build = Gauge(
            "authsvc_build_info", "1; its labels say what runs.", ["version", "python"], multiprocess_mode="livemax", registry=registry
        )
        build.labels(__version__, platform.python_version()).set(1)
        self.redis_up = Gauge("redis_up", "1 while Redis is in reach.", multiprocess_mode="livemin", registry=registry)
        self._memory = Gauge("redis_memory_used_bytes", "Memory that Redis uses.", multiprocess_mode="livemax", registry=registry)
        self._memory_limit = Gauge(
            "redis_memory_max_bytes",
            "Memory that Redis may use: its maxmemory, else its machine's.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._evicted = Gauge(
            "redis_evicted_keys",
            "Keys that Redis dropped since it started.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self._replicas = Gauge("redis_connected_replicas", "Replicas that follow Redis.", multiprocess_mode="livemax", registry=registry)
        self._skew = Gauge(
            "redis_clock_skew_seconds", "The clock of Redis less that of this process.", multiprocess_mode="livemax", registry=registry
        )
        self.certificate_expiry = Gauge(
            "redis_certificate_expiry_timestamp_seconds",
            "When the certificate that Redis shows ends, Unix time; 0 without TLS.",
            multiprocess_mode="livemax",
            registry=registry,
        )

    def fold(self) -> None:
        """Move the CPU time used since the last fold into the registry."""
        used = time.process_time()
        self._cpu.inc(used - self._cpu_folded)
        self._cpu_folded = used

    def show(self, redis: SeenRedis) -> None:
        """Take over what a look at Redis showed just now."""
        self._memory.set(redis.memory_bytes)
        self._memory_limit.set(redis.memory_limit_bytes)
        self._evicted.set(redis.evicted_keys)
        self._replicas.set(redis.replicas)
        self._skew.set(redis.time_seconds - time.time())
