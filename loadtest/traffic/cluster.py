"""The pods of a release under load, and the ConfigMap that keeps what a run gave after its own pods are gone."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import client, config
from kubernetes.client import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError
from urllib3.util.ssl_ import create_urllib3_context

from outcome.packing import pack
from outcome.run import RunError
from traffic.observer import Sight

COMPONENTS = ("auth", "nginx", "redis", "writer")
MOST_BYTES = 900_000
"""Of a ConfigMap's content; the API server takes 1 MiB."""
TIMEOUT_SECONDS = (5, 20)
"""For a connection to the API, and for its answer."""
_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class ClusterObserver:
    """Looks at the pods of a release through the API: who is ready, and what metrics-server says that they use."""

    every_seconds = 5.0
    lag_seconds = 30.0
    """Of metrics-server: a window of 15 s, scraped every 15 s."""

    def __init__(self, release: str, account: Account) -> None:
        self._selector = f"app.kubernetes.io/name=auth-service,app.kubernetes.io/instance={release}"
        self._namespace = account.namespace
        self._core, self._custom = client.CoreV1Api(account.api), client.CustomObjectsApi(account.api)

    def look(self) -> Sight:
        """What a cluster without metrics-server cannot say is left out, and so is everything while the API does not answer."""
        try:
            pods = self._pods()
        except (ApiException, HTTPError):
            return Sight(None, {})
        component = {pod["metadata"]["name"]: _component(pod) for pod in pods}
        ready = sum(_is_ready(pod) for pod in pods if _component(pod) == "auth")
        cores: dict[str, float] = {}
        try:
            seen: Any = self._custom.list_namespaced_custom_object(
                "metrics.k8s.io", "v1beta1", self._namespace, "pods", label_selector=self._selector
            )
        except (ApiException, HTTPError):
            return Sight(ready, cores)
        for pod in seen["items"]:
            name = component.get(pod["metadata"]["name"], "")
            if name in COMPONENTS:
                cores[name] = round(cores.get(name, 0.0) + sum(_cores(each["usage"]["cpu"]) for each in pod["containers"]), 3)
        return Sight(ready, cores)

    def limits(self) -> dict[str, float]:
        """The sum of the CPU limits of a component's pods."""
        found: dict[str, float] = {}
        try:
            pods = self._pods()
        except (ApiException, HTTPError):
            return found
        for pod in pods:
            given = [each.get("resources", {}).get("limits", {}).get("cpu") for each in pod["spec"]["containers"]]
            if _component(pod) in COMPONENTS and None not in given:
                found[_component(pod)] = found.get(_component(pod), 0.0) + sum(_cores(each) for each in given)
        return found

    def _pods(self) -> list[dict[str, Any]]:
        answer: Any = self._core.list_namespaced_pod(self._namespace, label_selector=self._selector, _preload_content=False)
        return list(json.loads(answer.data)["items"])


class Keeper:
    """Writes files into the run's ConfigMap: compressed, and whole or not at all."""

    def __init__(self, name: str, account: Account) -> None:
        self._name, self._namespace = name, account.namespace
        self._core = client.CoreV1Api(account.api)

    def keep(self, files: dict[str, str], **words: str) -> None:
        """Replace the ConfigMap's content: `words` as they are, `files` compressed under their name with `.gz`."""
        packed = pack(files)
        size = sum(len(each) for each in packed.values())
        if size > MOST_BYTES:
            raise RunError(f"The result has {size} bytes, more than a ConfigMap holds ({MOST_BYTES}): run shorter or ask fewer endpoints.")
        try:
            self._core.patch_namespaced_config_map(self._name, self._namespace, {"data": words, "binaryData": packed})
        except ApiException as error:
            raise RunError(f"The ConfigMap {self._name} could not be written: {error.status} {error.reason}.") from error
        except HTTPError as error:
            raise RunError(f"The ConfigMap {self._name} could not be written: {error}.") from error


class Account(NamedTuple):
    """The pod's own account at the API, and its namespace."""

    api: client.ApiClient
    namespace: str


def connect() -> Account:
    """Use the pod's own account."""
    configuration = client.Configuration()
    config.load_incluster_config(client_configuration=configuration)
    return Account(reach(configuration), _NAMESPACE.read_text(encoding="utf-8").strip())


def reach(configuration: client.Configuration) -> client.ApiClient:
    """An API that is asked once, and for a bounded time: a run does not hang at its end because the API does."""
    configuration.retries = False
    api = client.ApiClient(configuration)
    # The CAs of many clusters lack extensions that Python asks for from 3.13 on; the chain is verified all the same.
    context = create_urllib3_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    api.rest_client.pool_manager.connection_pool_kw["ssl_context"] = context
    # The client by itself waits for ever.
    ask: Any = api.rest_client.request

    def bounded(*words: Any, **named: Any) -> Any:
        return ask(*words, **named | {"_request_timeout": TIMEOUT_SECONDS})

    api.rest_client.request = bounded  # type: ignore[method-assign]
    return api


def _component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


def _is_ready(pod: dict[str, Any]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))


def _cores(quantity: str) -> float:
    return float(parse_quantity(quantity))  # type: ignore[no-untyped-call] # the client's own parser has no annotations
