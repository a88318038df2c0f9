"""The release of auth-service that a run is for: its address, its place, and clients made in its writer's pod."""

from __future__ import annotations

from kubernetes.client.exceptions import ApiException

from authsvc.commands.cluster import Cluster, run_in_pod
from authsvc.errors import OperatorError
from outcome.clients import Credentials, add_clients, client_ids
from outcome.run import RunError
from swarm.listing import listed


class Service:
    """A release by its name."""

    def __init__(self, cluster: Cluster, release: str) -> None:
        self._cluster = cluster
        self._release = f"app.kubernetes.io/name=auth-service,app.kubernetes.io/instance={release}"
        self.release = release

    def url(self) -> str:
        """nginx, as pods reach it."""
        found = listed(self._cluster.api.list_namespaced_service, self._cluster.namespace, label_selector=self._of("nginx"))
        if not found:
            raise RunError(f"There is no release {self.release} of auth-service in the namespace {self._cluster.namespace}.")
        service = found[0]
        return f"http://{service['metadata']['name']}.{self._cluster.namespace}:{service['spec']['ports'][0]['port']}"

    def place(self) -> dict[str, str | int | float]:
        """What tells its figures from those of another place: instances, their CPU, the nodes."""
        pods = listed(self._cluster.api.list_namespaced_pod, self._cluster.namespace, label_selector=self._of("auth"))
        limits = {pod["spec"]["containers"][0]["resources"].get("limits", {}).get("cpu", "none") for pod in pods}
        known: dict[str, str | int | float] = {"target": "cluster", "instances": len(pods), "auth_cpu_limit": ", ".join(sorted(limits))}
        return known | self._nodes()

    def _of(self, component: str) -> str:
        return f"{self._release},app.kubernetes.io/component={component}"

    def _nodes(self) -> dict[str, str]:
        """Nothing where whoever tests may not look at nodes."""
        try:
            nodes = listed(self._cluster.api.list_node)
        except ApiException:
            return {}
        kinds = {f"{node['status']['capacity']['cpu']} cores, {node['status']['nodeInfo']['kubeletVersion']}" for node in nodes}
        return {"nodes": f"{len(nodes)} of {'; '.join(sorted(kinds))}"}

    def add_clients(self, name: str) -> Credentials:
        """Credentials of the run's two clients, as the generators read them."""
        return add_clients(name, self._authsvc)

    def delete_clients(self, name: str) -> None:
        """Delete them and end their tokens; those that are not there are no error."""
        for client_id in client_ids(name):
            try:
                self._authsvc(["client", "delete", client_id])
            except OperatorError as error:
                if "no client" not in str(error).lower():
                    raise

    def _authsvc(self, words: list[str]) -> str:
        return run_in_pod(self._cluster, self._of("writer"), ["authsvc", *words])
