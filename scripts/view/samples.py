"""What one look gave: the metrics of each process at one moment, who is ready, and why a process told nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

REQUESTS, BUCKETS = "http_requests_total", "http_request_duration_seconds_bucket"
CPU, ROWS = "process_cpu_seconds_total", "record_writer_rows_total"
_COUNTERS = {REQUESTS, BUCKETS, CPU, ROWS}
INSTANCE, WRITER = "auth", "writer"
ANSWER_SECONDS = 3.0
"""A process that takes longer is silent. All are asked at once, so a look lasts no longer than that."""


class Series(NamedTuple):
    """A counter's name and those of its labels that it has."""

    name: str
    endpoint: str = ""
    status: str = ""
    le: str = ""


@dataclass(frozen=True)
class Page:
    """What one process told: counters since it began, and gauges by name. `at_seconds` is monotonic time."""

    at_seconds: float
    counters: dict[Series, float]
    gauges: dict[str, float]


@dataclass(frozen=True)
class Process:
    """One instance or writer. Without a page `state` says why there is none; with one it is `` or what else is to be known."""

    name: str
    component: str
    page: Page | None
    state: str = ""


class Readiness(NamedTuple):
    """How many of a component's processes are ready, of how many that are there."""

    ready: int
    all: int


@dataclass(frozen=True)
class Look:
    """All that one look showed of a service; `place` says of which."""

    place: str
    readiness: dict[str, Readiness]
    processes: list[Process]


def read_page(text: str, at_seconds: float) -> Page | None:
    """Read Prometheus's text format; None if it is none, or not that of a process of ours."""
    counters: dict[Series, float] = {}
    gauges: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for name, labels, value, *_ in family.samples:
                if name in _COUNTERS:
                    series = Series(name, labels.get("endpoint", ""), labels.get("status", ""), labels.get("le", ""))
                    counters[series] = value
                elif family.type == "gauge" and not labels:
                    gauges[name] = value
    except ValueError:
        return None
    return Page(at_seconds, counters, gauges) if counters else None
