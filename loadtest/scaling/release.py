"""The release under test, in a namespace of its own: installed, brought to a number of pods, held to a limit, deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from authsvc.commands.cluster import CONFLICT, NOT_FOUND, Cluster
from localstack.layout import ROOT
from outcome.run import RunError
from scaling.plan import AUTOSCALED, ScalePlan
from swarm import helm
from swarm.listing import listed

CHART = ROOT / "charts" / "auth-service"
NAME = "auth"
"""Of the Helm release."""
DEPLOYMENT = "auth-auth-service-auth"
MARK = "auth-service/scale-test"
"""Label of a namespace that a scale test has made, and may delete."""
AUTH = f"app.kubernetes.io/name=auth-service,app.kubernetes.io/instance={NAME},app.kubernetes.io/component=auth"
ROLL_SECONDS = 300.0
POLL_SECONDS = 0.5
QUEUE_WAIT_MS = 3000
"""A pod at a limit so small stands still for most of each period of 100 ms; it is to answer what waits meanwhile, not to refuse it."""
CALM = {"stabilizationWindowSeconds": 20, "policies": [{"type": "Percent", "value": 10, "periodSeconds": 15}]}
"""Down within a test; the chart waits for five minutes."""


class Release:
    """One release, and the namespace that ends with it."""

    def __init__(self, cluster: Cluster, plan: ScalePlan, image: dict[str, str]) -> None:
        self._cluster, self._plan, self._image = cluster, plan, image
        self._apps = client.AppsV1Api(cluster.api.api_client)
        self._autoscaling = client.AutoscalingV2Api(cluster.api.api_client)

    def install(self) -> None:
        """In a new namespace; what an earlier test has left of this name is deleted first."""
        namespace = self._cluster.namespace
        self.delete()
        metadata = client.V1ObjectMeta(name=namespace, labels={MARK: "true"})
        try:
            self._cluster.api.create_namespace(client.V1Namespace(metadata=metadata))
        except ApiException as error:
            if error.status != CONFLICT:
                raise
            raise RunError(f"The namespace {namespace} is not of a scale test: name one that does not exist.") from error
        helm.upgrade(NAME, namespace, CHART, values(self._plan, self._image, autoscaled=False))

    def delete(self) -> None:
        """The namespace with all that is in it; nothing where it is not there, or is somebody else's."""
        namespace = self._cluster.namespace
        if not self._is_ours():
            return
        self._cluster.api.delete_namespace(namespace)
        _wait(lambda: not self._is_ours(), f"the end of the namespace {namespace}")

    def scale(self, pods: int) -> None:
        """Returns when nginx knows every pod that came, and those that went are gone."""
        body = {"spec": {"replicas": pods}}
        self._apps.patch_namespaced_deployment_scale(DEPLOYMENT, self._cluster.namespace, body)

        def is_done() -> bool:
            # A pod is available when DNS and nginx have had the time to learn of it: the chart's minReadySeconds.
            return self._available() == pods == len(self._pods())

        _wait(is_done, f"{pods} pods of auth")

    def hold(self) -> None:
        """Give every pod of auth its limit while it runs; RunError where the cluster cannot."""
        limit = f"{self._plan.auth_millicores}m"
        body = {"spec": {"containers": [{"name": "auth", "resources": {"limits": {"cpu": limit}}}]}}
        for pod in self._pods():
            try:
                self._cluster.api.patch_namespaced_pod_resize(pod["metadata"]["name"], self._cluster.namespace, body)
            except ApiException as error:
                if error.status != NOT_FOUND:
                    raise
                raise RunError("The cluster cannot give a running pod another limit: Kubernetes 1.33 or later is needed.") from error
        _wait(lambda: all(_limit(pod) == limit for pod in self._pods()), f"the limit of {limit} at every pod of auth")

    def limits(self) -> dict[str, float]:
        """Cores that the pods of each component may use together while they are held."""
        pods = len(self._pods())
        plan = self._plan
        found = {"auth": plan.auth_millicores * pods, "nginx": plan.nginx_millicores, "redis": plan.redis_millicores}
        return {name: millicores / 1000 for name, millicores in found.items()}

    def autoscale(self) -> None:
        """One to four pods from now on, as the autoscaler decides; returns when it has seen the CPU of the one."""
        helm.upgrade(NAME, self._cluster.namespace, CHART, values(self._plan, self._image, autoscaled=True))
        body = {"spec": {"behavior": {"scaleDown": CALM}}}
        self._autoscaling.patch_namespaced_horizontal_pod_autoscaler(DEPLOYMENT, self._cluster.namespace, body)
        _wait(self._sees_one, "the autoscaler's first look at one pod")

    def _sees_one(self) -> bool:
        answer: Any = self._autoscaling.read_namespaced_horizontal_pod_autoscaler(
            DEPLOYMENT, self._cluster.namespace, _preload_content=False
        )
        status = json.loads(answer.data).get("status", {})
        return status.get("desiredReplicas") == status.get("currentReplicas") == 1 == len(self._pods()) and bool(
            status.get("currentMetrics")
        )

    def _is_ours(self) -> bool:
        try:
            found: Any = self._cluster.api.read_namespace(self._cluster.namespace, _preload_content=False)
        except ApiException as error:
            if error.status == NOT_FOUND:
                return False
            raise
        return MARK in json.loads(found.data)["metadata"].get("labels", {})

    def _available(self) -> int:
        answer: Any = self._apps.read_namespaced_deployment_status(DEPLOYMENT, self._cluster.namespace, _preload_content=False)
        deployment = json.loads(answer.data)
        status = deployment["status"]
        is_seen = status.get("observedGeneration") == deployment["metadata"]["generation"]
        return int(status.get("availableReplicas", 0)) if is_seen else -1

    def _pods(self) -> list[dict[str, Any]]:
        """Those on their way out included."""
        return listed(self._cluster.api.list_namespaced_pod, self._cluster.namespace, label_selector=AUTH)


def values(plan: ScalePlan, image: dict[str, str], autoscaled: bool) -> dict[str, Any]:
    """Of the chart. nginx is always one pod, which the limits of the plan are for."""
    autoscaler = {"enabled": True, "minReplicas": AUTOSCALED[0], "maxReplicas": AUTOSCALED[1]} if autoscaled else {"enabled": False}
    request = "50m" if autoscaled else "20m"
    nginx = _resources("50m", f"{plan.nginx_millicores}m")
    return {
        "image": image,
        "settings": {"AUTH_QUEUE_WAIT_MS": str(QUEUE_WAIT_MS)},
        "auth": {"autoscaling": autoscaler, "replicas": 1, "resources": _resources(request, f"{plan.start_millicores}m")},
        "nginx": {"autoscaling": {"enabled": False}, "replicas": 1, "dnsTtlSeconds": 5, "resources": nginx},
        "redis": {"resources": _resources("50m", f"{plan.redis_millicores}m", "512Mi"), "persistence": {"size": "1Gi"}},
        "writer": {"resources": _resources("20m", "500m")},
        "capacity": {"tokensPerSecond": 10},
    }


def _resources(request: str, limit: str, memory: str = "256Mi") -> dict[str, dict[str, str]]:
    """Little is requested, so that all of them find a place on a node that has other pods."""
    return {"requests": {"cpu": request, "memory": "96Mi"}, "limits": {"cpu": limit, "memory": memory}}


def _limit(pod: dict[str, Any]) -> str | None:
    """What the kubelet has put into force."""
    statuses = pod["status"].get("containerStatuses", ())
    limit = next((each.get("resources", {}).get("limits", {}).get("cpu") for each in statuses), None)
    return None if limit is None else str(limit)


def _wait(is_so: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ROLL_SECONDS
    while not is_so():
        if time.monotonic() > deadline:
            raise RunError(f"There was no sign of {what} for {ROLL_SECONDS:.0f} s.")
        time.sleep(POLL_SECONDS)
