"""The answer: a line for each number with the sum that gave it, the chart's values, and what would be the first to give out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sizing.costs import COMPONENTS, Cost
from sizing.demand import Demand
from sizing.footprint import Footprint
from sizing.needs import (
    ENTRY_BYTES,
    HEAD_BYTES,
    LEAST_REQUEST,
    MASTERS,
    MOST_CONNECTIONS,
    NGINX_CORES,
    POOL_MAX,
    ROW_BYTES,
    SESSION_RESERVE,
    TARGET,
    TOKEN_BYTES,
    WRITER_ROWS,
    Needs,
)
from sizing.values import chart_values

GUIDE_CORE_RATE, GUIDE_TOKEN_BYTES = 20_000, 1000
"""What the original guide says, for reference: requests a second a core, and 100 MB for 100,000 tokens. Nothing here follows from it."""


@dataclass(frozen=True)
class Line:
    """One number, with the sum that gave it."""

    what: str
    value: str
    formula: str
    guide: str = ""
    """What the original guide has in its place."""


@dataclass
class Sizing:
    """The answer."""

    lines: list[Line] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """Of the chart."""
    bottleneck: str = ""
    advice: list[str] = field(default_factory=list)
    """Where the chart's own Redis is not enough; empty where it is."""


def size(demand: Demand, costs: Mapping[str, Cost], footprint: Footprint) -> Sizing:
    """Size a release for a demand."""
    needs = Needs(demand, costs, footprint)
    parts = (_cores, _pods, _redis, _disk, _network, _records)
    return Sizing([line for part in parts for line in part(needs)], chart_values(needs), _first(needs), _advice(needs))


def _cores(needs: Needs) -> Iterator[Line]:
    for name in COMPONENTS:
        parts = [f"{rate:,.0f} x {getattr(needs.costs[endpoint], name):.0f}" for endpoint, rate in needs.rates.items() if rate]
        guide = f"{sum(needs.rates.values()) / GUIDE_CORE_RATE:.2f} in all" if name == "auth" else ""
        yield Line(f"{name}: cores in use", f"{needs.cores[name]:.2f}", f"({' + '.join(parts) or '0'}) us", guide)


def _pods(needs: Needs) -> Iterator[Line]:
    cores, spare, slots = needs.cores, needs.spare_of_pods, MOST_CONNECTIONS * NGINX_CORES
    yield Line("auth: pods of one core", f"{needs.pods}", f"{cores['auth']:.2f} x {spare:g}, at least 2", "4+ cores, 2 GB")
    yield Line("auth: autoscaler", "{} to {}".format(*needs.pods_bounds), f"half of that, to that x {needs.spare:g}, one more at least")
    yield Line("auth: a pod requests", f"{needs.pods_request:.2f} cores", _requested(cores["auth"], needs.pods))
    by_cpu = f"{cores['nginx']:.2f} x {spare:g} / {NGINX_CORES}"
    yield Line("nginx: pods of two cores", f"{needs.balancers}", f"{by_cpu}, at least 2")
    least, most = needs.balancers_bounds
    yield Line("nginx: autoscaler", f"{least} to {most}", "the same, and connections fit")
    yield Line("nginx: a pod requests", f"{needs.balancers_request:.2f} cores", _requested(cores["nginx"], needs.balancers))
    taken = f"{least} x {NGINX_CORES} workers x 8192 / 2 >= {needs.demand.connections:,}"
    yield Line("nginx: connections", f"{least * slots:,}", taken)


def _requested(cores: float, pods: int) -> str:
    return f"{cores:.2f} / {pods} / {TARGET:g}, the autoscaler's target; at least {LEAST_REQUEST:g}"


def _redis(needs: Needs) -> Iterator[Line]:
    demand = needs.demand
    sums = (f"{demand.token:,.0f} x {demand.ttl_seconds}", f"{demand.ott:,.0f} x {demand.one_time_ttl_seconds}")
    yield Line("redis: live tokens", f"{needs.live:,.0f}", " + ".join(sums))
    yield Line("redis: events of an outage", f"{needs.waiting:,.0f}", f"{needs.events:,.0f} a second x {demand.outage_minutes} min x 60")
    bytes_ = f"tokens x {TOKEN_BYTES} + events x {ENTRY_BYTES} bytes; the limit is twice that, to copy at a rewrite"
    guide = f"{needs.live * GUIDE_TOKEN_BYTES / 2**20:,.0f} MiB"
    yield Line("redis: maxmemory", f"{needs.memory_mib:,} MiB", bytes_, guide)
    bridged = "any" if math.isinf(needs.bridged_minutes) else f"{needs.bridged_minutes:,.0f} min"
    limit = f"{needs.bridged_events:,.0f} events / {needs.events:,.0f} / 60"
    yield Line("redis: outage bridged", bridged, limit)
    yield Line(
        "redis: one is enough",
        "yes" if needs.masters == 1 else f"no: {needs.redis_busy:.2f} cores",
        f"{needs.cores['redis']:.2f} x {needs.spare:g} <= 1: it has one thread",
    )
    if needs.masters != 1:
        carry = f"more than {MASTERS[-1]}" if needs.masters is None else f"{needs.masters}"
        yield Line("redis: masters of a cluster", carry, f"{needs.redis_busy:.2f} / 1, of {_listed(MASTERS)}: docs/redis-cluster.md")


def _advice(needs: Needs) -> list[str]:
    """What to do where one Redis is not enough, a sentence a line."""
    if needs.masters == 1:
        return []
    said = [f"One Redis is not enough: {needs.redis_busy:.2f} cores for its one thread."]
    if needs.masters is None:
        said.append(f"{MASTERS[-1]} masters of a Redis Cluster are not either: less demand a release.")
    else:
        said += [
            f"Run a Redis Cluster of {needs.masters} masters, or more: each gets smaller batches, which cost more (docs/redis-cluster.md).",
            f"Set redis.external.url, redis.external.cluster: true and redis.external.memory: {needs.memory_mib}Mi, all masters together.",
        ]
    if needs.cores["redis"] <= 1:
        said.append(f"Or less headroom: {1 / needs.cores['redis'] - 1:.2f} at most fits one Redis.")
    return said


def _listed(numbers: Sequence[int]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} or {numbers[-1]}"


def _disk(needs: Needs) -> Iterator[Line]:
    yield Line("disk: volume of redis", f"{needs.volume_gib:,} GiB", "3 x maxmemory: file, rewrite, room", "10 GB")
    appended = " + ".join(f"{rate:,.0f} x {size:.0f}" for rate, size in needs.appending if rate)
    room = f"of {needs.disk_mb_per_second:,.0f} MB/s"
    yield Line("disk: appended by redis", f"{needs.appended_mb:,.1f} MB/s", f"({appended or '0'}) bytes, {room}")
    tail = f"2 x {needs.sync_ms:.1f}: a sync under way, and its own"
    yield Line("disk: part of the p99", f"{2 * needs.sync_ms:.1f} ms", tail)


def _network(needs: Needs) -> Iterator[Line]:
    heads = f"bytes of each + {HEAD_BYTES} of heads"
    into, out = needs.mbits("client_in"), needs.mbits("client_out")
    yield Line("network: clients, in and out", f"{into:,.0f}, {out:,.0f} Mb/s", f"({heads}) x 8", "1 Gb/s each")
    pod_in, pod_out = (into + needs.mbits("auth_out")) / needs.balancers, (out + needs.mbits("auth_in")) / needs.balancers
    yield Line("network: an nginx pod", f"{pod_in:,.0f}, {pod_out:,.0f} Mb/s", f"clients and instances, / {needs.balancers} pods")
    redis = (needs.redis_mbits("redis_in"), needs.redis_mbits("redis_out"))
    pod_in, pod_out = (needs.mbits("auth_in") + redis[1]) / needs.pods, (needs.mbits("auth_out") + redis[0]) / needs.pods
    yield Line("network: an auth pod", f"{pod_in:,.0f}, {pod_out:,.0f} Mb/s", f"nginx and Redis, / {needs.pods} pods", "1 Gb/s")
    link = f"auth and writers, of {needs.demand.link_gbits:g} Gb/s"
    yield Line("network: redis", f"{redis[0]:,.0f}, {redis[1]:,.0f} Mb/s", link)


def _records(needs: Needs) -> Iterator[Line]:
    rows = f"{needs.events:,.0f} events a second x {needs.spare:g} / {WRITER_ROWS:,}" + ("" if needs.writers == 1 else ", at least 2")
    yield Line("writer: pods", f"{needs.writers}", rows)
    day = f"{needs.made:,.0f} x 86,400; at the busiest all day"
    yield Line("record store: rows a day", f"{needs.made * 86_400:,.0f}", day)
    if needs.demand.store == "oracle":
        yield Line("oracle: sessions", f"{needs.sessions}", f"({needs.writers} writers + 1) x {POOL_MAX} + {SESSION_RESERVE}")
    else:
        yield Line("record store: disk a day", f"{needs.made * 86_400 * ROW_BYTES / 1e9:,.1f} GB", f"rows x {ROW_BYTES} bytes")


def _first(needs: Needs) -> str:
    """What cannot be had more of: pods of auth and nginx can."""
    name, busy = max(needs.busy().items(), key=lambda each: each[1])
    more = f"{1 / busy:.1f} times this demand" if busy else "any demand"
    auth, nginx = needs.cores["auth"], needs.cores["nginx"]
    return f"{name}, at {more} with the same headroom; auth ({auth:.1f} cores) and nginx ({nginx:.1f}) grow by pods."
