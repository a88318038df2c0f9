"""What a real controller saw, second by second, and what the simulated one decides when it sees the same."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from pydantic import BaseModel

from autoscaling.algorithm import Controller, PodSample
from autoscaling.manifest import Autoscaler, cores


class SeenPod(BaseModel):
    """A pod as the API has it. Times are seconds of the epoch."""

    name: str
    started: float | None
    is_ready: bool
    changed: float | None
    """When it became ready or ceased to be."""
    request_cores: float
    used_cores: float | None = None
    sampled: float | None = None
    """The end of the sample's window."""
    window_seconds: float = 0


class Look(BaseModel):
    """One second."""

    at: float
    replicas: int
    """Of the Deployment's spec."""
    pods: list[SeenPod]


class Controls(NamedTuple):
    """Flags of the controller manager."""

    sync_seconds: float = 15
    cpu_initialization_seconds: float = 300
    initial_readiness_delay_seconds: float = 30


class Change(NamedTuple):
    """A decision that changed something."""

    at: float
    replicas: int


def look(at: float, deployment: dict[str, Any], pods: list[dict[str, Any]], metrics: list[dict[str, Any]], container: str) -> Look:
    """From the objects of the API."""
    used = {each["metadata"]["name"]: each for each in metrics}
    return Look(at=at, replicas=deployment["spec"]["replicas"], pods=[_seen(pod, used, container) for pod in pods if _counts(pod)])


def changes(looks: Sequence[Look]) -> list[Change]:
    """What the real controller did."""
    return [Change(later.at, later.replicas) for earlier, later in pairwise(looks) if later.replicas != earlier.replicas]


def steps(looks: Sequence[Look], sync_seconds: float) -> list[float]:
    """When the real controller decided, as far as it can be told: every sync before each of its changes, and after the last."""
    found: list[float] = []
    begins = looks[0].at
    for change in changes(looks):
        before = [change.at - number * sync_seconds for number in range(int((change.at - begins) / sync_seconds) + 1)]
        # The step of the change before is one of them, a little off: its clock drifts.
        found += [at for at in reversed(before) if not found or at > found[-1] + sync_seconds / 2]
        begins = change.at
    last = found[-1] if found else looks[0].at
    return found + [last + number * sync_seconds for number in range(1, int((looks[-1].at - last) / sync_seconds) + 1)]


def replay(looks: Sequence[Look], autoscaler: Autoscaler, controls: Controls) -> list[Change]:
    """What the simulated one does when the real one decided, by what was there to see just before; what follows is as it was."""
    controller = Controller(autoscaler)
    found = []
    for at in steps(looks, controls.sync_seconds):
        seen = next((each for each in reversed(looks) if each.at < at), looks[0])
        # Only CPU was recorded: other metrics are missing, as they were where no adapter offered them.
        cpu = [metric.name for metric in autoscaler.metrics if metric.kind == "Utilization"]
        samples = {name: [_sample(pod, at, controls) for pod in seen.pods] for name in cpu}
        wanted = controller.decide(at, seen.replicas, samples)
        if wanted != seen.replicas:
            found.append(Change(at, wanted))
    return found


def unexplained(real: Sequence[Change], simulated: Sequence[Change], within_seconds: float) -> list[str]:
    """Real changes that the simulated controller did not make at about the same time, and changes that it alone made."""
    return [*_without(real, simulated, within_seconds, "real"), *_without(simulated, real, within_seconds, "simulated")]


def _without(these: Sequence[Change], those: Sequence[Change], within_seconds: float, word: str) -> Iterator[str]:
    for change in these:
        if not any(abs(other.at - change.at) <= within_seconds and other.replicas == change.replicas for other in those):
            yield f"{word}: {change.replicas} replicas at {change.at:.1f}"


def _counts(pod: dict[str, Any]) -> bool:
    """The controller leaves out pods that are on their way out or have failed."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") != "Failed"


def _seen(pod: dict[str, Any], used: dict[str, dict[str, Any]], container: str) -> SeenPod:
    ready = next((each for each in pod["status"].get("conditions", ()) if each["type"] == "Ready"), None)
    started = pod["status"].get("startTime")
    [requests] = [each["resources"]["requests"] for each in pod["spec"]["containers"] if each["name"] == container]
    seen = SeenPod(
        name=pod["metadata"]["name"],
        started=None if started is None else _seconds(started),
        is_ready=ready is not None and ready["status"] == "True",
        changed=None if ready is None else _seconds(ready["lastTransitionTime"]),
        request_cores=cores(requests["cpu"]),
    )
    sample = used.get(seen.name)
    usage = [each["usage"]["cpu"] for each in sample["containers"] if each["name"] == container] if sample is not None else []
    if sample is not None and usage:
        window = cores(sample["window"].removesuffix("s"))
        seen = seen.model_copy(update={"used_cores": cores(usage[0]), "sampled": _seconds(sample["timestamp"]), "window_seconds": window})
    return seen


def _sample(pod: SeenPod, now: float, controls: Controls) -> PodSample:
    """As groupPods of replica_calculator.go sorts them."""
    if pod.started is None or pod.changed is None:
        return PodSample(pod.used_cores, pod.request_cores, is_ready=False)
    if pod.used_cores is None or pod.sampled is None:
        return PodSample(None, pod.request_cores)
    if pod.started + controls.cpu_initialization_seconds > now:
        unready = not pod.is_ready or pod.sampled < pod.changed + pod.window_seconds
    else:
        unready = not pod.is_ready and pod.started + controls.initial_readiness_delay_seconds > pod.changed
    return PodSample(pod.used_cores, pod.request_cores, not unready)


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
