"""Reads rendered objects: finds them, their pods and containers, and what a selector selects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Object = dict[str, Any]

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Pod")
SERVERS = ("Deployment", "StatefulSet", "DaemonSet")
"""Workloads whose pods are meant to stay."""


def name_of(thing: Object) -> str:
    """As kubectl writes it: `Deployment/auth`."""
    return f"{thing['kind']}/{thing['metadata']['name']}"


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of the kinds, in order."""
    return [thing for thing in objects if thing["kind"] in kinds]


def get(objects: Iterable[Object], kind: str, name: str) -> Object:
    """The one of that kind and name."""
    (found,) = (thing for thing in objects if thing["kind"] == kind and thing["metadata"]["name"] == name)
    return found


def references(objects: Iterable[Object], reference: Object) -> list[Object]:
    """What an object's reference (a `scaleTargetRef`, say) means among these."""
    kind = reference.get("kind", "Deployment")
    return [thing for thing in objects if thing["kind"] == kind and thing["metadata"]["name"] == reference["name"]]


@dataclass(frozen=True)
class Container:
    """A container, and whether it starts before the others and then ends."""

    owner: str
    spec: Object
    is_init: bool

    @property
    def name(self) -> str:
        return f"{self.owner} container {self.spec['name']}"

    @property
    def serves(self) -> bool:
        """Whether it goes on running beside others: a sidecar among the init containers does."""
        return not self.is_init or self.spec.get("restartPolicy") == "Always"


@dataclass(frozen=True)
class Pods:
    """The pods that a workload makes: their template with the workload's name."""

    owner: Object
    metadata: Object
    spec: Object
    containers: tuple[Container, ...] = field(init=False)

    def __post_init__(self) -> None:
        found = [
            Container(self.name, spec, key == "initContainers")
            for key in ("initContainers", "containers")
            for spec in self.spec.get(key) or ()
        ]
        object.__setattr__(self, "containers", tuple(found))

    @property
    def name(self) -> str:
        return name_of(self.owner)

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.metadata.get("labels") or {})

    @property
    def are_servers(self) -> bool:
        """Whether the pods are meant to stay."""
        return self.owner["kind"] in SERVERS


def all_pods(objects: Iterable[Object]) -> list[Pods]:
    """The pods of all workloads."""
    return [_pods_of(thing) for thing in of_kind(objects, *WORKLOADS)]


def all_containers(objects: Iterable[Object]) -> list[Container]:
    """The containers of all workloads, init containers included."""
    return [container for pods in all_pods(objects) for container in pods.containers]


def _pods_of(workload: Object) -> Pods:
    if workload["kind"] == "Pod":
        return Pods(workload, workload["metadata"], workload["spec"])
    spec = workload["spec"]["jobTemplate"]["spec"] if workload["kind"] == "CronJob" else workload["spec"]
    template = spec["template"]
    return Pods(workload, template.get("metadata") or {}, template["spec"])


def selects(selector: Object | None, labels: dict[str, str]) -> bool:
    """Whether a label selector means these labels; an empty one means all, none means nothing."""
    if selector is None:
        return False
    wanted = (selector.get("matchLabels") or {}).items()
    return wanted <= labels.items() and all(_meets(term, labels) for term in selector.get("matchExpressions") or ())


def _meets(term: Object, labels: dict[str, str]) -> bool:
    value, values = labels.get(term["key"]), term.get("values") or ()
    match term["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case _:
            return value is None


def strings(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every string in an object, with where it stands."""
    if isinstance(node, str):
        yield path, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from strings(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from strings(value, f"{path}[{number}]")
