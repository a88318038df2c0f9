"""The figures of one look and of the growth since earlier ones: by endpoint, by process, of what is shared, and whether all is well."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from authsvc.metrics import ENDPOINTS
from view.rates import Growth, quantile
from view.samples import BUCKETS, CPU, INSTANCE, REQUESTS, ROWS, WRITER, Look, Process, Readiness

BACKLOG_OLD_SECONDS, MEMORY_HIGH = 60.0, 0.8
"""As in the alert rules, charts/auth-service/monitoring/rules.yaml."""

PASSING = ("leaving", "Pending", "ContainerCreating", "PodInitializing")
"""States of pods that come and go: they say nothing, and nothing is amiss."""


class Fact(NamedTuple):
    """A part of the head line, and whether it is as it should be."""

    text: str
    well: bool


class EndpointFigures(NamedTuple):
    """Answers a second, and times in seconds. `refused` counts 4xx but for 429, which is `shed`. None while nothing is known."""

    name: str
    requests: float | None = None
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    refused: float | None = None
    shed: float | None = None
    failed: float | None = None


class ProcessFigures(NamedTuple):
    """None is what it did not tell; a writer has no requests."""

    name: str
    requests: float | None
    in_flight: float | None
    cpu_cores: float | None
    redis_up: bool | None
    state: str


@dataclass(frozen=True)
class Shared:
    """What all processes share, by the worst that anybody tells; None is what nobody tells."""

    live_tokens: float | None
    memory_bytes: float | None
    memory_max_bytes: float | None
    backlog_entries: float | None
    backlog_limit_entries: float | None
    backlog_age_seconds: float | None
    poison_entries: float | None
    rows: float | None
    connections_open: float | None
    connections_idle: float | None
    connections_waiting: float | None


@dataclass(frozen=True)
class Figures:
    """All that is shown. `seconds` are those that the rates are of; None while there are none yet."""

    place: str
    seconds: float | None
    facts: list[Fact]
    endpoints: list[EndpointFigures]
    processes: list[ProcessFigures]
    shared: Shared


def figures(look: Look, growths: Mapping[str, Growth]) -> Figures:
    """What the look and the growth of its processes amount to."""
    endpoints = _endpoints(growths.values())
    shared = _shared(look.processes, growths)
    return Figures(
        place=look.place,
        seconds=max((growth.seconds for growth in growths.values()), default=None),
        facts=_facts(look, endpoints[-1], shared),
        endpoints=endpoints,
        # Who is silent comes first: a long list may be cut off at the terminal's end.
        processes=[
            _process(process, growths.get(process.name)) for process in sorted(look.processes, key=lambda each: each.page is not None)
        ],
        shared=shared,
    )


def _endpoints(growths: Collection[Growth]) -> list[EndpointFigures]:
    """One for each endpoint, then one for all of them."""
    names = (*ENDPOINTS, "all")
    if not growths:
        return [EndpointFigures(name) for name in names]
    answers: defaultdict[tuple[str, str], float] = defaultdict(float)
    buckets: defaultdict[str, defaultdict[float, float]] = defaultdict(lambda: defaultdict(float))
    for growth in growths:
        for series, grown in growth.by.items():
            for name in (series.endpoint, "all"):
                if series.name == REQUESTS:
                    answers[name, _kind(series.status)] += grown / growth.seconds
                elif series.name == BUCKETS:
                    buckets[name][float(series.le)] += grown / growth.seconds
    return [
        EndpointFigures(
            name,
            sum(answers[name, kind] for kind in ("good", "refused", "shed", "failed")),
            quantile(buckets[name].items(), 0.5),
            quantile(buckets[name].items(), 0.99),
            *(answers[name, kind] for kind in ("refused", "shed", "failed")),
        )
        for name in names
    ]


def _kind(status: str) -> str:
    if status == "429":
        return "shed"
    return {"4": "refused", "5": "failed"}.get(status[:1], "good")


def _process(process: Process, growth: Growth | None) -> ProcessFigures:
    gauges = process.page.gauges if process.page is not None else {}
    redis_up = gauges.get("redis_up")
    return ProcessFigures(
        process.name,
        _rate(growth, REQUESTS) if process.component == INSTANCE else None,
        gauges.get("http_requests_in_flight"),
        _rate(growth, CPU),
        None if redis_up is None else redis_up > 0,
        process.state,
    )


def _rate(growth: Growth | None, name: str) -> float | None:
    if growth is None:
        return None
    return sum(grown for series, grown in growth.by.items() if series.name == name) / growth.seconds


def _shared(processes: Iterable[Process], growths: Mapping[str, Growth]) -> Shared:
    told: defaultdict[str, list[float]] = defaultdict(list)
    rows: list[float] = []
    for process in processes:
        for name, value in (process.page.gauges if process.page is not None else {}).items():
            told[name].append(value)
        rate = _rate(growths.get(process.name), ROWS)
        if process.component == WRITER and rate is not None:
            rows.append(rate)

    def worst(name: str) -> float | None:
        return max(told[name], default=None)

    def together(values: list[float]) -> float | None:
        return sum(values) if values else None

    return Shared(
        live_tokens=worst("token_cache_size"),
        memory_bytes=worst("redis_memory_used_bytes"),
        memory_max_bytes=worst("redis_memory_max_bytes"),
        backlog_entries=worst("record_backlog_entries"),
        backlog_limit_entries=worst("record_backlog_limit_entries"),
        backlog_age_seconds=worst("record_backlog_age_seconds"),
        poison_entries=worst("record_poison_entries"),
        rows=together(rows),
        connections_open=together(told["db_connections_open"]),
        connections_idle=together(told["db_connections_idle"]),
        connections_waiting=together(told["db_connections_waiting"]),
    )


def _facts(look: Look, every: EndpointFigures, shared: Shared) -> list[Fact]:
    facts = [_redis(look.processes), *(_ready(name, readiness) for name, readiness in look.readiness.items())]
    silent = sum(process.page is None and process.state not in PASSING for process in look.processes)
    if silent:
        facts.append(Fact(f"{silent} silent", False))
    for what, rate in (("5xx", every.failed), ("429", every.shed)):
        if rate is not None:
            facts.append(Fact(f"{what} {_percent(rate, every.requests or 0)}", rate == 0))
    age = shared.backlog_age_seconds
    facts.append(Fact("backlog unknown" if age is None else f"backlog {age:,.1f} s", age is not None and age <= BACKLOG_OLD_SECONDS))
    if shared.backlog_limit_entries and (shared.backlog_entries or 0) >= shared.backlog_limit_entries:
        facts.append(Fact("backlog full: no more tokens are made", False))
    if shared.memory_max_bytes and (shared.memory_bytes or 0) > MEMORY_HIGH * shared.memory_max_bytes:
        facts.append(Fact(f"Redis memory {_percent(shared.memory_bytes or 0, shared.memory_max_bytes)}", False))
    if shared.poison_entries:
        facts.append(Fact(f"poison {shared.poison_entries:,.0f}", False))
    return facts


def _redis(processes: Iterable[Process]) -> Fact:
    told = [process.page.gauges["redis_up"] > 0 for process in processes if process.page and "redis_up" in process.page.gauges]
    if told and all(told):
        return Fact("Redis up", True)
    return Fact(f"Redis out of reach for {told.count(False)} of {len(told)}" if told else "Redis unknown", False)


def _ready(name: str, readiness: Readiness) -> Fact:
    if readiness.all == 0:
        return Fact(f"no {name}", False)
    return Fact(f"{name} {readiness.ready}/{readiness.all}", readiness.ready == readiness.all)


def _percent(part: float, whole: float) -> str:
    """Never 0 for what is not nothing."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.0f} %" if share == 0 or share >= 10 else f"{max(share, 0.01):.2g} %"
