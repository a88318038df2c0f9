"""How the controller decides: replicas from metrics, then stabilised, then held to the policies.

After kubernetes/pkg/controller/podautoscaler (`replica_calculator.go`, `horizontal.go`) of Kubernetes 1.34.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from autoscaling.manifest import Autoscaler, Direction, Metric, Policy


class PodSample(NamedTuple):
    """What the controller knows of one pod for one metric."""

    value: float | None
    """Cores, or the metric's own unit; None: no sample."""
    request: float = 1.0
    """Cores that it requests."""
    is_ready: bool = True
    """False: it never was, or its first samples are of its start and do not count."""


@dataclass
class Controller:
    """One autoscaler and what it remembers. Times are seconds of any clock that goes on."""

    autoscaler: Autoscaler
    _recommendations: list[tuple[float, int]] = field(default_factory=list)
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now: float, replicas: int, samples: Mapping[str, Sequence[PodSample]]) -> int:
        """The replicas from now on; `samples` by the metrics' names."""
        autoscaler = self.autoscaler
        if not self._recommendations:
            # As recordInitialRecommendation does: what is there at the first look was recommended then, and holds for the window.
            self._recommendations = [(now, replicas)]
        if replicas > autoscaler.most:
            wanted = autoscaler.most
        elif replicas < autoscaler.least:
            wanted = autoscaler.least
        else:
            proposal = self._proposal(replicas, samples)
            wanted = replicas if proposal is None else self._limited(now, replicas, self._stabilised(now, replicas, proposal))
        if wanted != replicas:
            self._changes.append((now, wanted - replicas))
        return wanted

    def _proposal(self, replicas: int, samples: Mapping[str, Sequence[PodSample]]) -> int | None:
        """The greatest of all metrics; None where one that is missing might have asked for more than we would go down to."""
        found = [proposed_replicas(metric, replicas, samples.get(metric.name, ()), self.autoscaler) for metric in self.autoscaler.metrics]
        known = [each for each in found if each is not None]
        if not known or (len(known) < len(found) and max(known) < replicas):
            return None
        return max(known)

    def _stabilised(self, now: float, replicas: int, proposal: int) -> int:
        up, down = self.autoscaler.up.stabilization_seconds, self.autoscaler.down.stabilization_seconds
        before = [each for each in self._recommendations if each[0] > now - max(up, down, 1)]
        self._recommendations = [*before, (now, proposal)]
        least_up = min([proposal, *(number for at, number in before if at > now - up)])
        most_down = max([proposal, *(number for at, number in before if at > now - down)])
        return min(max(replicas, least_up), most_down)

    def _limited(self, now: float, replicas: int, wanted: int) -> int:
        autoscaler = self.autoscaler
        if wanted > replicas:
            limit = max(replicas, self._limit(now, replicas, autoscaler.up, sign=1))
            return min(wanted, limit, autoscaler.most)
        if wanted < replicas:
            limit = min(replicas, self._limit(now, replicas, autoscaler.down, sign=-1))
            return max(wanted, limit, autoscaler.least)
        return replicas

    def _limit(self, now: float, replicas: int, direction: Direction, sign: int) -> int:
        if direction.select == "Disabled":
            return replicas
        allowed = [self._allowed(now, replicas, policy, sign) for policy in direction.policies]
        # The policy that changes most is the highest number up and the lowest down.
        return max(allowed) if (direction.select == "Max") == (sign > 0) else min(allowed)

    def _allowed(self, now: float, replicas: int, policy: Policy, sign: int) -> int:
        began_with = replicas - sum(change for at, change in self._changes if at > now - policy.period_seconds)
        if policy.kind == "Pods":
            return began_with + sign * policy.value
        share = began_with * (1 + sign * policy.value / 100)
        return math.ceil(share) if sign > 0 else int(share)


def proposed_replicas(metric: Metric, replicas: int, pods: Sequence[PodSample], autoscaler: Autoscaler) -> int | None:
    """What one metric asks for; None where no pod has a sample."""
    counted = [pod for pod in pods if pod.is_ready and pod.value is not None]
    missing = [pod for pod in pods if pod.is_ready and pod.value is None]
    unready = [pod for pod in pods if not pod.is_ready]
    if not counted:
        return None
    ratio = _ratio(metric, counted)
    grows_with_unready = bool(unready) and ratio > 1
    if not grows_with_unready and not missing:
        return replicas if _is_near(ratio, autoscaler) else math.ceil(ratio * len(counted))
    assumed = list(counted)
    if missing and ratio != 1:
        assumed += [pod._replace(value=_assumed(metric, pod) if ratio < 1 else 0.0) for pod in missing]
    if grows_with_unready:
        assumed += [pod._replace(value=0.0) for pod in unready]
    again = _ratio(metric, assumed)
    if _is_near(again, autoscaler) or (ratio < 1 < again) or (again < 1 < ratio):
        return replicas
    wanted = math.ceil(again * len(assumed))
    return replicas if (again < 1 and wanted > replicas) or (again > 1 and wanted < replicas) else wanted


def _ratio(metric: Metric, pods: Sequence[PodSample]) -> float:
    used = sum(pod.value or 0.0 for pod in pods)
    if metric.kind == "AverageValue":
        return used / len(pods) / metric.target
    # The controller has whole per cents.
    return int(round(used * 100 / sum(pod.request for pod in pods), 6)) / metric.target


def _assumed(metric: Metric, pod: PodSample) -> float:
    """On the way down a pod without a sample is taken to be busy."""
    return metric.target if metric.kind == "AverageValue" else pod.request * max(100.0, metric.target) / 100


def _is_near(ratio: float, autoscaler: Autoscaler) -> bool:
    tolerance = autoscaler.up.tolerance if ratio > 1 else autoscaler.down.tolerance
    return abs(1 - ratio) <= tolerance
