"""The release of auth-service that a run is for: its address, its place, and clients made in its writer's pod."""

from __future__ import annotations

import json
from typing import Any

from kubernetes.client.exceptions import ApiException

from authsvc.commands.cluster import Cluster, run_in_pod
from authsvc.errors import OperatorError
from outcome.run import RunError

TTL_SECONDS, BRIEF_TTL_SECONDS = 86_400, 1


class Service:
    """A release by its name."""

    def __init__(self, cluster: Cluster, release: str) -> None:
        self._cluster = cluster
        self._release = f"app.kubernetes.io/name=auth-service,app.kubernetes.io/instance={release}"
        self.release = release

    def url(self) -> str:
        """nginx, as pods reach it."""
        found = _raw(
            self._cluster.api.list_namespaced_service,
            self._cluster.namespace,
            label_selector=self._of("nginx"),
        )
        if not found:
            raise RunError(f"There is no release {self.release} of auth-service in the namespace {self._cluster.namespace}.")
        service = found[0]
        return f"http://{service['metadata']['name']}.{self._cluster.namespace}:{service['spec']['ports'][0]['port']}"

    def place(self) -> dict[str, str | int | float]:
        """What tells its figures from those of another place: instances, their CPU, the nodes."""
        pods = _raw(
            self._cluster.api.list_namespaced_pod,
            self._cluster.namespace,
            label_selector=self._of("auth"),
        )
        limits = {pod["spec"]["containers"][0]["resources"].get("limits", {}).get("cpu", "none") for pod in pods}
        known: dict[str, str | int | float] = {"target": "cluster", "instances": len(pods), "auth_cpu_limit": ", ".join(sorted(limits))}
        return known | self._nodes()

    def _of(self, component: str) -> str:
        return f"{self._release},app.kubernetes.io/component={component}"

    def _nodes(self) -> dict[str, str]:
        """Nothing where whoever tests may not look at nodes."""
        try:
            nodes = _raw(self._cluster.api.list_node)
        except ApiException:
            return {}
        kinds = {f"{node['status']['capacity']['cpu']} cores, {node['status']['nodeInfo']['kubeletVersion']}" for node in nodes}
        return {"nodes": f"{len(nodes)} of {'; '.join(sorted(kinds))}"}

    def add_clients(self, name: str) -> dict[str, str]:
        """Credentials of the run's two clients, as the generators read them."""
        found: dict[str, str] = {}
        for prefix, client_id, ttl in (("", name, TTL_SECONDS), ("brief_", f"{name}-brief", BRIEF_TTL_SECONDS)):
            words = ["client", "add", client_id, "--scope", "read", "--scope", "write", "--access-ttl-seconds", str(ttl), "--json"]
            client = json.loads(self._authsvc(*words))
            found |= {f"{prefix}client_id": client["client_id"], f"{prefix}client_secret": client["client_secret"]}
        return found

    def delete_clients(self, name: str) -> None:
        """Delete them and end their tokens; those that are not there are no error."""
        for client_id in (name, f"{name}-brief"):
            try:
                self._authsvc("client", "delete", client_id)
            except OperatorError as error:
                if "no client" not in str(error).lower():
                    raise

    def _authsvc(self, *words: str) -> str:
        return run_in_pod(self._cluster, self._of("writer"), ["authsvc", *words])


def _raw(list_them: Any, *namespace: str, **selector: str) -> list[dict[str, Any]]:
    return list(json.loads(list_them(*namespace, **selector, _preload_content=False).data)["items"])
