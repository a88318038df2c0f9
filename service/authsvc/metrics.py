"""Metrics: hot paths add to plain integers, and a fold moves what was added into prometheus-client.

Names follow `<noun>_<verb>_<unit or total>`; label values come from closed enumerations and are there from the start.
"""

from __future__ import annotations

import os
import threading
from collections import defaultdict

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics, generate_latest, multiprocess

from authsvc.model import Kind

disable_created_metrics()  # type: ignore[no-untyped-call] # a gauge beside every counter doubles the page and nobody here reads it

ENDPOINTS = ("token", "ott", "validate", "introspect", "revoke", "health", "other")
STATUSES = (200, 204, 400, 401, 403, 404, 405, 413, 415, 429, 431, 500, 503)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Counts:
    """What happened since the process began, as plain integers."""

    def __init__(self) -> None:
        self.requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.issued = dict.fromkeys(Kind, 0)
        self.revoked = 0
        self.consumed = 0
        self.found = 0
        self.missed = 0
        for endpoint in ENDPOINTS:
            for status in STATUSES:
                self.requests[endpoint, status] = 0


class Metrics:
    """The registry of one process, or of all workers of an instance in multiprocess mode."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._folding = threading.Lock()
        self._folded: dict[tuple[str, ...], int] = {}
        self._registry = registry = CollectorRegistry()
        self._requests = Counter("http_requests", "Answers given.", ["endpoint", "status"], registry=registry)
        self._issued = Counter("tokens_issued", "Tokens issued.", ["kind"], registry=registry)
        self._revoked = Counter("tokens_revoked", "Tokens that a revoke ended.", registry=registry)
        self._consumed = Counter("tokens_consumed", "One-time tokens that a validate used.", registry=registry)
        self._hits = Counter("token_cache_hits", "Reads of a token whose key Redis held.", registry=registry)
        self._misses = Counter("token_cache_misses", "Reads of a token whose key Redis did not hold.", registry=registry)
        self.redis_up = Gauge("redis_up", "1 while Redis is in reach.", multiprocess_mode="min", registry=registry)

    def fold(self) -> None:
        """Move what was counted since the last fold into the registry."""
        # A scrape folds in a thread of its own while the tick folds in the event loop: what was added must be moved once.
        with self._folding:
            self._fold()

    def _fold(self) -> None:
        counts = self._counts
        for (endpoint, status), value in counts.requests.items():
            self._add(self._requests.labels(endpoint, status), value, "requests", endpoint, str(status))
        for kind, value in counts.issued.items():
            self._add(self._issued.labels(kind.name.lower()), value, "issued", kind)
        self._add(self._revoked, counts.revoked, "revoked")
        self._add(self._consumed, counts.consumed, "consumed")
        self._add(self._hits, counts.found, "found")
        self._add(self._misses, counts.missed, "missed")

    def _add(self, counter: Counter, value: int, *key: str) -> None:
        counter.inc(value - self._folded.get(key, 0))
        self._folded[key] = value

    def render(self) -> bytes:
        """The text format, over all workers where there are several."""
        self.fold()
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
