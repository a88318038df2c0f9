"""The sums: cores, pods, memory, rows and sessions that a demand takes, and what would be the first to give out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sizing.costs import COMPONENTS, ROWS, Cost

TOKEN_BYTES, ENTRY_BYTES = 200, 256
"""Of Redis memory, as the chart reckons (charts/auth-service/templates/_capacity.tpl)."""
ROW_BYTES = 400
"""Of the embedded store's file, a token."""
WRITER_ROWS = 15_000
"""Rows a second that a writer writes while it drains a backlog over SQLite on a core that it shares (docs/performance.md)."""
WORKER_MIB, POD_MIB = 110, 64
POOL_MAX, SESSION_RESERVE = 4, 10
NGINX_CORES = 2
MOST_CONNECTIONS = 8192 // 2
"""Of clients, for each core of an nginx pod."""
REDIS_CORES = 1.0
"""Redis runs commands in one thread."""
Rate = Annotated[float, Field(ge=0)]


class Demand(BaseModel):
    """What is to be answered, requests a second at the busiest time."""

    model_config = ConfigDict(frozen=True)

    validate_: Rate = 0
    token: Rate = 0
    ott: Rate = 0
    revoke: Rate = 0
    introspect: Rate = 0
    health: Rate = 0
    ttl_seconds: Annotated[int, Field(ge=1)] = 3600
    one_time_ttl_seconds: Annotated[int, Field(ge=1)] = 120
    headroom: Annotated[float, Field(ge=0, le=10)] = 0.5
    """Of CPU, beyond what is used: 0.5 is half as much again."""
    outage_minutes: Annotated[int, Field(ge=0)] = 30
    connections: Annotated[int, Field(ge=0)] = 2000
    store: Literal["embedded", "oracle"] = "oracle"

    def rates(self) -> dict[str, float]:
        """By endpoint."""
        return {name: getattr(self, "validate_" if name == "validate" else name) for name in ROWS}


@dataclass(frozen=True)
class Line:
    """One number, with the sum that gave it."""

    what: str
    value: str
    formula: str


@dataclass
class Sizing:
    """The answer."""

    lines: list[Line] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    """Of the chart."""
    bottleneck: str = ""


def cores_in_use(rates: Mapping[str, float], costs: Mapping[str, Cost]) -> dict[str, float]:
    """Of each component, for requests a second of each endpoint."""
    return {name: sum(rate * getattr(costs[endpoint], name) / 1e6 for endpoint, rate in rates.items() if rate) for name in COMPONENTS}


def size(demand: Demand, costs: Mapping[str, Cost]) -> Sizing:
    """Size a release for a demand."""
    rates = demand.rates()
    cores = cores_in_use(rates, costs)
    made, events = demand.token + demand.ott, demand.token + 2 * demand.ott + demand.revoke
    found = Sizing()

    def line(what: str, value: str, formula: str) -> None:
        found.lines.append(Line(what, value, formula))

    for name in COMPONENTS:
        parts = [f"{rate:,.0f} x {getattr(costs[endpoint], name):.0f}" for endpoint, rate in rates.items() if rate]
        line(f"{name}: cores in use", f"{cores[name]:.2f}", f"({' + '.join(parts) or '0'}) us")
    spare = 1 + demand.headroom
    pods = max(2, math.ceil(cores["auth"] * spare))
    line("auth: pods of one core", str(pods), f"{cores['auth']:.2f} x {spare:g}, at least 2")
    least, most = max(2, math.ceil(pods / 3)), max(4, math.ceil(pods * 1.5))
    line("auth: autoscaler", f"{least} to {most}", "a third of the pods to half as many again")
    balancers = max(2, math.ceil(cores["nginx"] * spare / NGINX_CORES), math.ceil(demand.connections / (MOST_CONNECTIONS * NGINX_CORES)))
    line(
        "nginx: pods of two cores", str(balancers), f"{cores['nginx']:.2f} x {spare:g} / {NGINX_CORES}, {demand.connections:,} connections"
    )
    live = demand.token * demand.ttl_seconds + demand.ott * demand.one_time_ttl_seconds
    waiting = events * demand.outage_minutes * 60
    # The chart reckons every token as one of the access TTL, and an event for each; a revocation is one more.
    reckoned = made * demand.ttl_seconds * TOKEN_BYTES + made * demand.outage_minutes * 60 * ENTRY_BYTES
    filled = max(live * TOKEN_BYTES + waiting * ENTRY_BYTES, reckoned)
    memory = max(256, math.ceil(filled / 2**20 / 128) * 128)
    line(
        "redis: live tokens",
        f"{live:,.0f}",
        f"{demand.token:,.0f} x {demand.ttl_seconds} + {demand.ott:,.0f} x {demand.one_time_ttl_seconds}",
    )
    line("redis: events of an outage", f"{waiting:,.0f}", f"{events:,.0f} a second x {demand.outage_minutes} min x 60")
    line(
        "redis: maxmemory",
        f"{memory} MiB",
        f"tokens x {TOKEN_BYTES} + events x {ENTRY_BYTES} bytes; its limit is twice that, for the copy of a rewrite",
    )
    line("redis: volume", f"{math.ceil(3 * memory / 1024)} GiB", "3 x maxmemory: the file, its rewrite, and room")
    busy = cores["redis"] * spare / REDIS_CORES
    enough = "yes" if busy <= 1 else f"no: {cores['redis'] * spare:.2f} cores for its one thread"
    line("redis: one is enough", enough, f"{cores['redis']:.2f} x {spare:g} <= 1 core")
    writers = 1 if demand.store == "embedded" else max(2, math.ceil(events * spare / WRITER_ROWS))
    profile = "throughput" if events > WRITER_ROWS / 2 else "balanced"
    line(
        "writer: pods",
        str(writers),
        f"{events:,.0f} events a second x {spare:g} / {WRITER_ROWS:,}" + ("" if writers == 1 else ", at least 2"),
    )
    line("record store: rows a day", f"{made * 86_400:,.0f}", f"{made:,.0f} x 86,400; as much at most as the busiest time all day")
    if demand.store == "oracle":
        sessions = (writers + 1) * POOL_MAX + SESSION_RESERVE
        line("oracle: sessions", str(sessions), f"({writers} writers + 1) x {POOL_MAX} + {SESSION_RESERVE}")
    found.bottleneck = _first(cores, busy, events * spare / (writers * WRITER_ROWS))
    found.values = _values(demand, pods, least, most, balancers, memory, writers, profile, made)
    return found


def _first(cores: Mapping[str, float], redis_busy: float, writer_busy: float) -> str:
    """What cannot be had more of: pods of auth and nginx can."""
    name, busy = max((("Redis's one thread", redis_busy), ("the writers", writer_busy)), key=lambda each: each[1])
    more = f"{1 / busy:.1f} times this demand" if busy else "any demand"
    return f"{name}, at {more} with the same headroom; auth ({cores['auth']:.1f} cores) and nginx ({cores['nginx']:.1f}) grow by pods."


def _values(
    demand: Demand, pods: int, least: int, most: int, balancers: int, memory: int, writers: int, profile: str, made: float
) -> dict[str, Any]:
    auth_memory = {"memory": f"{POD_MIB + WORKER_MIB + 18}Mi"}
    values: dict[str, Any] = {
        "auth": {
            "replicas": pods,
            "autoscaling": {"enabled": True, "minReplicas": least, "maxReplicas": most},
            "resources": {"requests": {"cpu": "500m"} | auth_memory, "limits": {"cpu": "1", "memory": "384Mi"}},
        },
        "nginx": {
            "replicas": balancers,
            "resources": {"requests": {"cpu": "500m", "memory": "128Mi"}, "limits": {"cpu": str(NGINX_CORES), "memory": "256Mi"}},
        },
        "redis": {
            "resources": {"requests": {"cpu": "1", "memory": f"{2 * memory}Mi"}, "limits": {"cpu": "2", "memory": f"{2 * memory}Mi"}},
            "persistence": {"size": f"{math.ceil(3 * memory / 1024)}Gi"},
        },
        "writer": {"profile": profile},
        "capacity": {
            "tokensPerSecond": math.ceil(made),
            "accessTtlSeconds": demand.ttl_seconds,
            "outageMinutes": demand.outage_minutes,
            "clientConnections": demand.connections,
        },
    }
    if demand.store == "oracle":
        values["writer"]["replicas"] = writers
        values["oracle"] = {
            "poolMax": POOL_MAX,
            "sessionReserve": SESSION_RESERVE,
            "sessionLimit": (writers + 1) * POOL_MAX + SESSION_RESERVE,
        }
    else:
        values["writer"]["persistence"] = {"size": f"{max(1, math.ceil(made * 86_400 * 30 * ROW_BYTES / 2**30))}Gi"}
    return values
