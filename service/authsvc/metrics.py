"""Metrics: hot paths add to plain integers, and a fold moves what was added into prometheus-client.

Names follow `<noun>_<verb>_<unit or total>`; label values come from closed enumerations and are there from the start.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest, multiprocess

from authsvc.model import Kind
from authsvc.vitals import Vitals

disable_created_metrics()  # type: ignore[no-untyped-call] # a gauge beside every counter doubles the page and nobody here reads it

ENDPOINTS = ("token", "ott", "validate", "introspect", "revoke", "health", "other")
STATUSES = (200, 204, 400, 401, 403, 404, 405, 413, 415, 429, 431, 500, 503)
SHED_REASONS = ("queue_wait", "backlog")
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MULTIPROCESS_DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""The variable by which prometheus-client is told that an instance has several workers."""

SECONDS_BUCKETS = tuple(0.00025 * 2**power for power in range(15))
"""Upper bounds of a duration's buckets: powers of two from 0.25 ms to 4 s, so that the bucket is a count of bits."""
_PER_SECOND = 4000


class Durations:
    """Observed durations, as one plain integer a bucket and their sum."""

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(SECONDS_BUCKETS) + 1)
        self.total_seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.total_seconds += seconds
        try:
            self.counts[int(seconds * _PER_SECOND).bit_length()] += 1
        except IndexError:
            self.counts[-1] += 1


class Counts:
    """What happened since the process began, as plain integers."""

    def __init__(self) -> None:
        self.requests = {endpoint: defaultdict(int, dict.fromkeys(STATUSES, 0)) for endpoint in ENDPOINTS}
        self.durations = {endpoint: Durations() for endpoint in ENDPOINTS}
        self.shed = dict.fromkeys(SHED_REASONS, 0)
        self.in_flight = 0
        self.redis = Durations()
        self.issued = dict.fromkeys(Kind, 0)
        self.revoked = 0
        self.consumed = 0
        self.found = 0
        self.missed = 0


class Metrics:
    """The registry of one process, or of all workers of an instance in multiprocess mode."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._folding = threading.Lock()
        self._folded: defaultdict[tuple[object, ...], float] = defaultdict(float)
        self.registry = registry = CollectorRegistry()
        self._requests = Counter("http_requests", "Answers given.", ["endpoint", "status"], registry=registry)
        self._durations = Histogram(
            "http_request_duration_seconds",
            "Time from a whole request to its answer.",
            ["endpoint"],
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "http_requests_in_flight", "Requests that are being worked on.", multiprocess_mode="livesum", registry=registry
        )
        self._shed = Counter(
            "http_requests_shed", "Requests refused with 429: they waited too long, or the backlog is full.", ["reason"], registry=registry
        )
        self._hits = Counter("token_cache_hits", "Reads of a token whose key Redis held.", registry=registry)
        self._misses = Counter("token_cache_misses", "Reads of a token whose key Redis did not hold.", registry=registry)
        self.token_keys = Gauge(
            "token_cache_size", "Keys with a lifetime in Redis: tokens and tombstones.", multiprocess_mode="livemax", registry=registry
        )
        self._issued = Counter("tokens_issued", "Tokens issued.", ["kind"], registry=registry)
        self._revoked = Counter("tokens_revoked", "Tokens that a revoke ended.", registry=registry)
        self._consumed = Counter("tokens_consumed", "One-time tokens that a validate used.", registry=registry)
        self.oldest_secret = Gauge(
            "client_secret_oldest_timestamp_seconds",
            "When the oldest secret that an enabled client may use was made, Unix time; 0 where none is known.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.backlog_entries = Gauge(
            "record_backlog_entries", "Entries of the streams not written yet.", multiprocess_mode="livemax", registry=registry
        )
        self.backlog_age_seconds = Gauge(
            "record_backlog_age_seconds", "Age of the oldest entry not written yet.", multiprocess_mode="livemax", registry=registry
        )
        self._redis = Histogram(
            "redis_request_duration_seconds",
            "Time from a batch of commands to its first reply.",
            buckets=SECONDS_BUCKETS,
            registry=registry,
        )
        self.backlog_limit_entries = Gauge(
            "record_backlog_limit_entries",
            "Entries of the backlog at which no more tokens are made; 0 until Redis was seen.",
            multiprocess_mode="livemax",
            registry=registry,
        )
        self.vitals = Vitals(registry)
        self.fold()

    def fold(self) -> None:
        """Move what was counted since the last fold into the registry."""
        # A scrape folds in a thread of its own while the tick folds in the event loop: what was added must be moved once.
        with self._folding:
            self._fold()

    def _fold(self) -> None:
        counts = self._counts
        for endpoint, statuses in counts.requests.items():
            for status, value in list(statuses.items()):
                self._add(self._requests.labels(endpoint, status), value, "requests", endpoint, status)
        for endpoint, durations in counts.durations.items():
            self._add_durations(self._durations.labels(endpoint), durations, "durations", endpoint)
        for reason, value in counts.shed.items():
            self._add(self._shed.labels(reason), value, "shed", reason)
        for kind, value in counts.issued.items():
            self._add(self._issued.labels(kind.name.lower()), value, "issued", kind)
        self._add(self._revoked, counts.revoked, "revoked")
        self._add(self._consumed, counts.consumed, "consumed")
        self._add(self._hits, counts.found, "found")
        self._add(self._misses, counts.missed, "missed")
        self._add_durations(self._redis, counts.redis, "redis")
        self._in_flight.set(counts.in_flight)
        self.vitals.fold()

    def _add(self, counter: Counter, value: float, *key: object) -> None:
        counter.inc(value - self._folded[key])
        self._folded[key] = value

    def _add_durations(self, histogram: Histogram, durations: Durations, *key: object) -> None:
        """Observations are many and buckets few, so the buckets' own values are moved: `observe` would be called for each."""
        for number, (bucket, value) in enumerate(zip(histogram._buckets, durations.counts, strict=True)):
            bucket.inc(value - self._folded[*key, number])
            self._folded[*key, number] = value
        histogram._sum.inc(durations.total_seconds - self._folded[*key, "sum"])
        self._folded[*key, "sum"] = durations.total_seconds

    def render(self) -> bytes:
        """The text format, over all workers where there are several."""
        self.fold()
        if MULTIPROCESS_DIRECTORY not in os.environ:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)


def described(registry: CollectorRegistry) -> Iterable[tuple[str, str, tuple[str, ...], str]]:
    """Name, type, labels and meaning of each metric, as a scraper sees them; each has its label values from the start."""
    for family in registry.collect():
        labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield name, family.type, tuple(labels), family.documentation
