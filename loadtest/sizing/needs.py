"""The sums: cores, pods, memory, bytes and sessions that a demand takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property

from sizing.costs import Cost, cores_in_use
from sizing.demand import Demand
from sizing.footprint import USE, Footprint

TOKEN_BYTES, ENTRY_BYTES = 200, 256
"""Of Redis memory, as the chart reckons (charts/auth-service/templates/_capacity.tpl)."""
ROW_BYTES = 400
"""Of the embedded store's file, a token."""
HEAD_BYTES = 66
"""Ethernet, IPv4 and TCP before the contents of a packet; a request is one packet, and so is its answer."""
WRITER_ROWS = 15_000
"""Rows a second that a writer writes while it drains a backlog over SQLite on a core that it shares (docs/performance.md)."""
POOL_MAX, SESSION_RESERVE = 4, 10
TARGET = 0.8
"""Of what a pod requests: where there is more in use, the autoscaler adds pods. A pod must be able to show more than that."""
MASTERS = (2, 4, 8, 16)
"""Of a Redis Cluster: they share the slots of the keys evenly (docs/redis-cluster.md)."""
LEAST_REQUEST = 0.1
"""Cores: with less, what a pod does while nobody asks would look like load."""
NGINX_CORES = 2
MOST_CONNECTIONS = 8192 // 2
"""Of clients, for each core of an nginx pod."""
MIB = 2**20


class Needs:
    """Of one demand, by what a request was measured to cost."""

    def __init__(self, demand: Demand, costs: Mapping[str, Cost], footprint: Footprint) -> None:
        self.demand, self.costs, self.footprint = demand, costs, footprint
        self.rates = demand.rates()
        self.spare = 1 + demand.headroom
        self.requests = self.rates | {USE: demand.ott}
        """A second, the use of each one-time token included."""
        self.made = demand.token + demand.ott
        self.events = demand.token + 2 * demand.ott + demand.revoke
        """An issue each, a use of each one-time token, a revocation."""
        self.cores = cores_in_use(self.rates, costs)

    @cached_property
    def pods(self) -> int:
        """Of auth, one core each."""
        return max(2, math.ceil(self.cores["auth"] * self.spare_of_pods))

    @property
    def pods_request(self) -> float:
        """Cores that each of them requests."""
        return _request(self.cores["auth"] / self.pods)

    @property
    def pods_bounds(self) -> tuple[int, int]:
        """Of its autoscaler."""
        return max(2, math.ceil(self.pods / 2)), max(4, self.pods + 1, math.ceil(self.pods * self.spare))

    @property
    def spare_of_pods(self) -> float:
        """The headroom, or what a pod must have above its autoscaler's target."""
        return max(self.spare, 1 / TARGET)

    @property
    def balancers_for_connections(self) -> int:
        """Fewest nginx pods whose slots hold the clients' connections."""
        return math.ceil(self.demand.connections / (MOST_CONNECTIONS * NGINX_CORES))

    @cached_property
    def balancers(self) -> int:
        """Pods of nginx, two cores each."""
        return max(2, math.ceil(self.cores["nginx"] * self.spare_of_pods / NGINX_CORES), self.balancers_for_connections)

    @property
    def balancers_request(self) -> float:
        """Cores that each of them requests."""
        return _request(self.cores["nginx"] / self.balancers)

    @property
    def balancers_bounds(self) -> tuple[int, int]:
        """Of its autoscaler: connections must find a slot among the fewest."""
        least = max(2, math.ceil(self.balancers / 2), self.balancers_for_connections)
        return least, max(self.balancers + 1, math.ceil(self.balancers * self.spare))

    @property
    def redis_busy(self) -> float:
        """Cores that Redis must have, with the headroom; one server has one."""
        return self.cores["redis"] * self.spare

    @property
    def masters(self) -> int | None:
        """Fewest of a Redis Cluster that carry it, a core each; 1: one Redis is enough. None: no number of them."""
        return next((masters for masters in (1, *MASTERS) if self.redis_busy <= masters), None)

    @property
    def live(self) -> float:
        """Tokens at once."""
        return self.demand.token * self.demand.ttl_seconds + self.demand.ott * self.demand.one_time_ttl_seconds

    @property
    def waiting(self) -> float:
        """Events when the outage of the record store ends."""
        return self.events * self.demand.outage_minutes * 60

    @cached_property
    def memory_mib(self) -> int:
        """maxmemory of Redis."""
        seconds = self.demand.outage_minutes * 60
        # The chart reckons every token as one of the access TTL, and an event for each; a revocation is one more.
        reckoned = self.made * self.demand.ttl_seconds * TOKEN_BYTES + self.made * seconds * ENTRY_BYTES
        filled = max(self.live * TOKEN_BYTES + self.waiting * ENTRY_BYTES, reckoned)
        return max(256, math.ceil(filled / MIB / 128) * 128)

    @property
    def volume_gib(self) -> int:
        """Of Redis."""
        return math.ceil(3 * self.memory_mib / 1024)

    @cached_property
    def backlog_limit(self) -> int:
        """Events at which no more tokens are made: those of the outage, or what the chart has by itself if that is more."""
        of_chart = max(math.ceil(self.made) * self.demand.outage_minutes * 60, self.memory_mib * MIB // 1024, 1)
        return max(math.ceil(self.waiting), of_chart)

    @property
    def bridged_events(self) -> float:
        """That may wait: until the limit or the memory is reached."""
        return min(self.backlog_limit, (self.memory_mib * MIB - self.live * TOKEN_BYTES) / ENTRY_BYTES)

    @property
    def bridged_minutes(self) -> float:
        """How long the record store may be away until then."""
        return self.bridged_events / self.events / 60 if self.events else math.inf

    @property
    def writers(self) -> int:
        """Pods."""
        return 1 if self.demand.store == "embedded" else max(2, math.ceil(self.events * self.spare / WRITER_ROWS))

    @property
    def sessions(self) -> int:
        """Of Oracle."""
        return (self.writers + 1) * POOL_MAX + SESSION_RESERVE

    def mbits(self, wire: str) -> float:
        """Of all requests over one wire, heads included: `client_in`, `auth_out` and so on."""
        return sum(rate * (self._bytes(name, wire) + HEAD_BYTES) for name, rate in self.requests.items()) * 8 / 1e6

    def redis_mbits(self, wire: str) -> float:
        """What Redis reads or sends: many requests a packet."""
        return sum(rate * self._bytes(name, wire) for name, rate in self.requests.items()) * 8 / 1e6

    def _bytes(self, endpoint: str, wire: str) -> float:
        return float(getattr(self.footprint.of(endpoint), wire))

    @property
    def appending(self) -> list[tuple[float, float]]:
        """What makes Redis append to its file: so many a second, of so many bytes."""
        rates = {"token": self.demand.token, "ott": self.demand.ott, USE: self.demand.ott, "revoke": self.demand.revoke}
        return [(rate, self.footprint.of(name).appended) for name, rate in rates.items()]

    @property
    def appended_mb(self) -> float:
        """A second, to the file of Redis."""
        return sum(rate * size for rate, size in self.appending) / 1e6

    @property
    def disk_mb_per_second(self) -> float:
        """That the disk takes."""
        return self.demand.disk_mb_per_second or self.footprint.disk.mb_per_second

    @property
    def sync_ms(self) -> float:
        """Of the disk."""
        return self.demand.sync_ms or self.footprint.disk.sync_p99_ms

    def busy(self) -> dict[str, float]:
        """Share in use, with the headroom, of what there is one of; more than 1 is too much. There can be more pods of auth and nginx."""
        link = max(self.redis_mbits("redis_in"), self.redis_mbits("redis_out")) / (self.demand.link_gbits * 1000)
        return {
            "Redis's one thread": self.redis_busy,
            "the writers": self.events * self.spare / (self.writers * WRITER_ROWS),
            "the disk of Redis": self.appended_mb * self.spare / self.disk_mb_per_second,
            "the network of Redis": link * self.spare,
        }


def _request(used: float) -> float:
    """Of a pod that uses so many cores at the demand: its autoscaler wants just as many pods then. In steps of a hundredth."""
    return max(LEAST_REQUEST, math.ceil(used / TARGET * 100 - 1e-9) / 100)
