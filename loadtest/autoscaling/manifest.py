"""A HorizontalPodAutoscaler of `autoscaling/v2`, read from its manifest: bounds, metrics and behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from kubernetes.utils.quantity import parse_quantity

from outcome.run import RunError

DEFAULT_TOLERANCE = 0.1
"""`--horizontal-pod-autoscaler-tolerance` of the controller manager."""


class Policy(NamedTuple):
    """How far one step may go."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_seconds: int


class Direction(NamedTuple):
    """Behaviour up or down."""

    policies: tuple[Policy, ...]
    select: Literal["Max", "Min", "Disabled"]
    stabilization_seconds: int
    tolerance: float


class Metric(NamedTuple):
    """One target. `Utilization` is per cent of the request; `AverageValue` the metric's own unit a pod."""

    name: str
    kind: Literal["Utilization", "AverageValue"]
    target: float


class Autoscaler(NamedTuple):
    """What is simulated."""

    least: int
    most: int
    metrics: tuple[Metric, ...]
    up: Direction
    down: Direction


# https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/#default-behavior
_UP = {
    "stabilizationWindowSeconds": 0,
    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}, {"type": "Pods", "value": 4, "periodSeconds": 15}],
}
_DOWN = {"stabilizationWindowSeconds": 300, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}


def read_autoscaler(manifest: Mapping[str, Any]) -> Autoscaler:
    """RunError for what is no HorizontalPodAutoscaler of this version, or has a metric that is not simulated."""
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("autoscaling/v2", "HorizontalPodAutoscaler"):
        raise RunError("The manifest holds no HorizontalPodAutoscaler of autoscaling/v2.")
    spec = manifest["spec"]
    behaviour = spec.get("behavior", {})
    return Autoscaler(
        spec.get("minReplicas", 1),
        spec["maxReplicas"],
        tuple(_metric(each) for each in spec["metrics"]),
        _direction(_UP | behaviour.get("scaleUp", {})),
        _direction(_DOWN | behaviour.get("scaleDown", {})),
    )


def cores(quantity: Any) -> float:
    """A quantity of CPU in cores, or of anything in its unit."""
    return float(parse_quantity(str(quantity)))  # type: ignore[no-untyped-call] # the client's own parser has no annotations


def _metric(given: Mapping[str, Any]) -> Metric:
    if given["type"] in ("Resource", "ContainerResource"):
        source = given["containerResource" if given["type"] == "ContainerResource" else "resource"]
        if "averageUtilization" in source["target"]:
            return Metric(source["name"], "Utilization", source["target"]["averageUtilization"])
    if given["type"] == "Pods" and "averageValue" in given["pods"]["target"]:
        return Metric(given["pods"]["metric"]["name"], "AverageValue", cores(given["pods"]["target"]["averageValue"]))
    raise RunError(f"A metric of type {given['type']} with this target is not simulated.")


def _direction(given: Mapping[str, Any]) -> Direction:
    policies = tuple(Policy(each["type"], each["value"], each["periodSeconds"]) for each in given["policies"])
    tolerance = float(given.get("tolerance", DEFAULT_TOLERANCE))
    return Direction(policies, given.get("selectPolicy", "Max"), given["stabilizationWindowSeconds"] or 0, tolerance)
