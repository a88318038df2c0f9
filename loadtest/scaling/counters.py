"""CPU counters of a namespace's pods, as the kubelets of its nodes keep them: cores in use over any span that holds two counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from authsvc.commands.cluster import Cluster
from swarm.listing import listed

USED = "container_cpu_usage_seconds_total"
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"


class Counts:
    """Of one namespace's pods. A kubelet shows its last count only, and makes a new one every ten seconds or so: look again and again."""

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._used: defaultdict[tuple[str, str], dict[float, float]] = defaultdict(dict)
        """By pod and container: CPU seconds at a moment of the kubelet's clock."""
        self._component: dict[str, str] = {}

    def note_pods(self, pods: Iterable[dict[str, Any]]) -> None:
        """Objects of the API."""
        self._component |= {pod["metadata"]["name"]: component_of(pod) for pod in pods}

    def read(self, text: str) -> None:
        """Note what is new on a kubelet's page of metrics."""
        lines = [line for line in text.splitlines() if line.startswith(USED) and f'namespace="{self._namespace}"' in line]
        for family in text_string_to_metric_families("\n".join([f"# TYPE {USED} counter", *lines, ""])):
            for sample in family.samples:
                # A pod's own sum has no container's name.
                if sample.labels.get("container") and sample.timestamp is not None:
                    self._used[sample.labels["pod"], sample.labels["container"]][float(sample.timestamp)] = sample.value

    def cores(self, began: float, ended: float) -> dict[str, float]:
        """Mean use by component between two moments; a component of which a pod has fewer than two counts there is left out."""
        seen = {pod: cores for pod in self._component if (cores := self._cores_of(pod, began, ended)) is not None}
        unseen = {component for pod, component in self._component.items() if pod not in seen}
        found: dict[str, float] = {}
        for pod, cores in seen.items():
            component = self._component[pod]
            if component and component not in unseen:
                found[component] = round(found.get(component, 0.0) + cores, 5)
        return found

    def _cores_of(self, pod: str, began: float, ended: float) -> float | None:
        spans = [
            [(at, used) for at, used in sorted(counts.items()) if began <= at <= ended]
            for (name, _), counts in self._used.items()
            if name == pod
        ]
        known = [(span[0], span[-1]) for span in spans if len(span) > 1]
        return sum((last[1] - first[1]) / (last[0] - first[0]) for first, last in known) if known else None


def look(cluster: Cluster, counts: Counts) -> None:
    """At every kubelet that has a pod of the namespace. Needs the right to get nodes/proxy."""
    pods = listed(cluster.api.list_namespaced_pod, cluster.namespace)
    counts.note_pods(pods)
    for node in sorted({pod["spec"]["nodeName"] for pod in pods if "nodeName" in pod["spec"]}):
        counts.read(_page(cluster, node))


def _page(cluster: Cluster, node: str) -> str:
    # The client's own method for it writes the slash as %2F, which the kubelet does not know.
    api: Any = cluster.api.api_client
    asked = api.param_serialize("GET", f"/api/v1/nodes/{node}/proxy/metrics/resource", auth_settings=["BearerToken"])
    answer = api.call_api(*asked)
    answer.read()
    return str(api.response_deserialize(answer, {"200": "str"}).data)


def component_of(pod: dict[str, Any]) -> str:
    """auth, nginx, redis, writer or generator; empty for what is none of them."""
    labels = pod["metadata"].get("labels", {})
    if labels.get(NAME) == "loadtest":
        return "generator"
    return str(labels.get(COMPONENT, "")) if labels.get(NAME) == "auth-service" else ""
