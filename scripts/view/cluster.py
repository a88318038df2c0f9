"""A look at a release in a cluster: its pods, asked through the API server, so that nothing is forwarded and no pod is exposed."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from authsvc.commands.cluster import Cluster, refusals_told
from authsvc.errors import OperatorError
from view.samples import ANSWER_SECONDS, INSTANCE, WRITER, Look, Page, Process, Readiness, read_page

PODS_AT_ONCE = 16
_FORBIDDEN = 403
_OTHERS = ("nginx", "redis")
"""They have no metrics of the service; whether they are ready is shown. Both may run elsewhere."""
FINISHED = ("Succeeded", "Failed")
"""Phases of pods that only stay listed: evicted ones, say."""


class Release:
    """A release by its name."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self._cluster = cluster
        self._name = name

    def look(self) -> Look:
        """List the pods and ask all of them at once; OperatorError if there are none or the cluster refuses."""
        # Not by the chart's name, which `nameOverride` changes.
        selector = f"app.kubernetes.io/instance={self._name},app.kubernetes.io/component in ({', '.join((INSTANCE, WRITER, *_OTHERS))})"
        api, namespace = self._cluster.api, self._cluster.namespace
        with refusals_told(self._cluster):
            listed: Any = api.list_namespaced_pod(namespace, label_selector=selector, _preload_content=False)
            there = (pod for pod in json.loads(listed.data)["items"] if pod["status"].get("phase") not in FINISHED)
            pods = sorted(there, key=lambda pod: (component_of(pod), name_of(pod)))
            asked = [pod for pod in pods if component_of(pod) in (INSTANCE, WRITER)]
            if not asked:
                raise OperatorError(f"There is no release {self._name} of auth-service in the namespace {namespace}.")
            with ThreadPoolExecutor(PODS_AT_ONCE) as pool:
                processes = list(pool.map(self._process, asked))
        return Look(f"release {self._name}, namespace {namespace}", readiness(pods), processes)

    def _process(self, pod: dict[str, Any]) -> Process:
        name, component, state = name_of(pod), component_of(pod), state_of(pod)
        if pod["status"].get("phase") != "Running":
            return Process(name, component, None, state)
        page = self._page(name, _management_port(pod))
        return Process(name, component, page, state if page is not None else state or "no answer")

    def _page(self, name: str, port: int) -> Page | None:
        try:
            answer: Any = self._cluster.api.connect_get_namespaced_pod_proxy_with_path(
                f"{name}:{port}", self._cluster.namespace, "metrics", _preload_content=False, _request_timeout=ANSWER_SECONDS
            )
            return read_page(answer.data.decode("utf-8", "replace"), time.monotonic())
        except ApiException as error:
            if error.status == _FORBIDDEN:
                raise
            return None
        except HTTPError:
            return None


def readiness(pods: list[dict[str, Any]]) -> dict[str, Readiness]:
    """By component. Pods on their way out do not count."""
    found = {}
    for component in (INSTANCE, *_OTHERS, WRITER):
        there = [pod for pod in pods if component_of(pod) == component and "deletionTimestamp" not in pod["metadata"]]
        if there or component not in _OTHERS:
            found[component] = Readiness(sum(_is_ready(pod) for pod in there), len(there))
    return found


def state_of(pod: dict[str, Any]) -> str:
    """What is to be known of a pod that is not simply ready, in Kubernetes' own words where it has some."""
    if "deletionTimestamp" in pod["metadata"]:
        return "leaving"
    if _is_ready(pod):
        return ""
    waiting = (each["state"].get("waiting", {}).get("reason") for each in pod["status"].get("containerStatuses", ()))
    phase = pod["status"].get("phase", "unknown")
    return next((reason for reason in waiting if reason), "not ready" if phase == "Running" else phase)


def component_of(pod: dict[str, Any]) -> str:
    """Its part in the release."""
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component", ""))


def name_of(pod: dict[str, Any]) -> str:
    """Its name."""
    return str(pod["metadata"]["name"])


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _management_port(pod: dict[str, Any]) -> int:
    ports = [port for container in pod["spec"]["containers"] for port in container.get("ports", ()) if port.get("name") == "management"]
    return int(ports[0]["containerPort"])
