"""A release under a load, second by second: pods that take time to start and to be found, samples that are late, the autoscaler's steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

from autoscaling.algorithm import Controller, PodSample
from autoscaling.manifest import Autoscaler, Metric


class Clocks(NamedTuple):
    """Seconds. Those of the controller and of metrics-server are what they have where nothing else was said."""

    sync: int = 15
    """Between two decisions."""
    sample: int = 15
    """That a sample of CPU is the mean of, and between two."""
    start: int = 5
    """From a new pod to its readiness: image at hand, worker up, directory read."""
    found: int = 35
    """From there until nginx sends to it: what cluster DNS and nginx keep."""
    cpu_initialization: int = 300
    """In which the samples from before a pod's readiness do not count."""
    scrape: int = 15
    """Between two scrapes of Prometheus, from which the metrics of the pods come."""
    window: int = 60
    """That such a metric is the mean of (files/prometheus-adapter.yaml of the chart)."""


class Pods(NamedTuple):
    """What each pod is."""

    request_cores: float
    limit_cores: float
    per_core: Mapping[str, float] = {}
    """What a pod shows of each metric of the pods for every core in use: requests a second, say. Those not named here are missing."""


class Moment(NamedTuple):
    """One second."""

    at: int
    demand_cores: float
    replicas: int
    serving: int
    """Pods that nginx sends to."""
    capacity_cores: float

    @property
    def is_short(self) -> bool:
        """Whether more is asked than the serving pods can do."""
        return self.demand_cores > self.capacity_cores + 1e-9


@dataclass
class _Pod:
    born: int
    used: list[float] = field(default_factory=list)

    def is_ready(self, now: int, clocks: Clocks) -> bool:
        return now >= self.born + clocks.start

    def is_found(self, now: int, clocks: Clocks) -> bool:
        return now >= self.born + clocks.start + clocks.found

    def sample(self, now: int, request: float, clocks: Clocks) -> PodSample:
        """The last whole sample; of the start of a young pod it does not count."""
        taken = now - now % clocks.sample
        seconds = self.used[max(0, taken - clocks.sample - self.born) : max(0, taken - self.born)]
        ready_at = self.born + clocks.start
        is_young = now < self.born + clocks.cpu_initialization
        counts = self.is_ready(now, clocks) and not (is_young and taken < ready_at + clocks.sample)
        return PodSample(sum(seconds) / len(seconds) if seconds else None, request, counts)

    def shown(self, now: int, per_core: float, clocks: Clocks) -> PodSample:
        """A metric of the pods: whoever has one counts, ready or not; who has not started is left out."""
        if not self.is_ready(now, clocks):
            return PodSample(None, is_ready=False)
        taken, ready_at = now - now % clocks.scrape, self.born + clocks.start
        seconds = self.used[max(taken - clocks.window, ready_at) - self.born : max(0, taken - self.born)]
        return PodSample(sum(seconds) / len(seconds) * per_core if seconds else None)


def _samples(metric: Metric, fleet: Sequence[_Pod], now: int, pods: Pods, clocks: Clocks) -> list[PodSample]:
    if metric.kind == "Utilization":
        return [pod.sample(now, pods.request_cores, clocks) for pod in fleet]
    per_core = pods.per_core.get(metric.name)
    return [] if per_core is None else [pod.shown(now, per_core, clocks) for pod in fleet]


def simulate(
    autoscaler: Autoscaler,
    pods: Pods,
    demand_cores: Callable[[int], float],
    seconds: int,
    *,
    replicas: int | None = None,
    clocks: Clocks | None = None,
) -> list[Moment]:
    """Run it. Demand is split evenly among the pods that nginx knows; what they cannot do is lost, not queued."""
    clocks = clocks or Clocks()
    controller = Controller(autoscaler)
    long_ago = -clocks.cpu_initialization - clocks.start - clocks.found
    fleet = [_Pod(long_ago) for _ in range(replicas or autoscaler.least)]
    for pod in fleet:
        pod.used = [min(demand_cores(0) / len(fleet), pods.limit_cores)] * -long_ago
    moments = []
    for now in range(seconds):
        serving = [pod for pod in fleet if pod.is_found(now, clocks)]
        demand = demand_cores(now)
        for pod in fleet:
            share = demand / len(serving) if pod in serving else 0.0
            pod.used.append(min(share, pods.limit_cores))
        moments.append(Moment(now, demand, len(fleet), len(serving), len(serving) * pods.limit_cores))
        if now % clocks.sync == 0:
            samples = {metric.name: _samples(metric, fleet, now, pods, clocks) for metric in autoscaler.metrics}
            wanted = controller.decide(now, len(fleet), samples)
            fleet += [_Pod(now + 1) for _ in range(wanted - len(fleet))]
            # The youngest go first: those that are not ready, then those that are new.
            del fleet[wanted:]
    return moments


MINUTE = 60
GROWN = 1.05
"""Times as much is more than trembling: half of the tolerance within which a controller does nothing."""


class Verdict(NamedTuple):
    """What a simulation showed."""

    short_seconds: int
    """In which more was asked than could be done."""
    seconds_to_capacity: int | None
    """From the first second of a shortage to its last, of the longest one; 0 where it was always enough, None where it ends short."""
    turns: int
    """Changes of direction, up to down or down to up."""
    flaps: int
    """Of these, pods that came back though the load had not grown since others were taken away."""
    most_removed_in_a_minute: float
    """Share of the pods."""


def judge(moments: list[Moment]) -> Verdict:
    """Look at a simulation."""
    spans = _shortages([moment.at for moment in moments if moment.is_short])
    to_capacity = None if moments[-1].is_short else max((last + 1 - first for first, last in spans), default=0)
    steps = [
        (number, later.replicas - earlier.replicas)
        for number, (earlier, later) in enumerate(pairwise(moments), start=1)
        if later.replicas != earlier.replicas
    ]
    turns = [(one, other) for one, other in pairwise(steps) if (one[1] > 0) != (other[1] > 0)]
    flaps = [(down, up) for (down, _), (up, by) in turns if by > 0 and _demand(moments, up) <= GROWN * _demand(moments, down)]
    removed = max((1 - later.replicas / earlier.replicas for earlier, later in zip(moments, moments[MINUTE:], strict=False)), default=0.0)
    return Verdict(sum(moment.is_short for moment in moments), to_capacity, len(turns), len(flaps), max(0.0, removed))


def _shortages(short: Sequence[int]) -> list[tuple[int, int]]:
    """First and last second of each; what comes again within a minute is the same one."""
    spans: list[tuple[int, int]] = []
    for at in short:
        first = spans.pop()[0] if spans and at - spans[-1][1] <= MINUTE else at
        spans.append((first, at))
    return spans


def _demand(moments: Sequence[Moment], number: int) -> float:
    """Mean of the minute before a moment."""
    seen = moments[max(0, number - MINUTE) : number]
    return sum(each.demand_cores for each in seen) / len(seen)
