"""The Kubernetes cluster that a command runs in or is pointed at: its API, the namespace at hand, and a sentence for what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from authsvc.errors import OperatorError

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException

TIMEOUT_SECONDS = (5, 20)
"""For a connection, and for an answer."""
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
NOT_FOUND, CONFLICT = 404, 409
_FORBIDDEN = 403


class Cluster(NamedTuple):
    """The core API, and the namespace that a command works in."""

    api: CoreV1Api
    namespace: str


@contextmanager
def at_cluster(namespace: str | None) -> Iterator[Cluster]:
    """The pod's own cluster, else the one that KUBECONFIG names. Whatever goes wrong with it meanwhile is an OperatorError.

    The client is big and no other command needs it, so it is imported here and nowhere at the start.
    """
    from kubernetes import client, config
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError
    from yaml import YAMLError

    configuration = client.Configuration()
    configuration.retries = False
    try:
        own = _configure_in_pod(configuration) or _configure_from_file(configuration)
    except (config.ConfigException, OSError, ValueError, YAMLError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise OperatorError(f"There is no cluster: run in a pod with its service account's token, or set KUBECONFIG ({reason}).") from error
    if not (namespace or own):
        raise OperatorError("There is no namespace: the context of KUBECONFIG names none, so give --namespace NAME.")
    try:
        with client.ApiClient(configuration) as connection:
            yield Cluster(client.CoreV1Api(connection), namespace or own)
    except ApiException as error:
        raise OperatorError(_sentence(error)) from error
    except HTTPError as error:
        raise OperatorError(f"The cluster at {configuration.host} does not answer: {str(error).rstrip('.')}.") from error


def _configure_in_pod(configuration: object) -> str:
    """Read what every pod with a service account's token has, and return its namespace; `` outside of pods."""
    from kubernetes import config

    try:
        config.load_incluster_config(client_configuration=configuration)
    except config.ConfigException:
        return ""
    return NAMESPACE_FILE.read_text(encoding="ascii").strip()


def _configure_from_file(configuration: object) -> str:
    """Read the file that KUBECONFIG names, and return the namespace of its context; `` if it has none."""
    from kubernetes import config

    config.load_kube_config(client_configuration=configuration)
    _, context = config.list_kube_config_contexts()
    return str(context["context"].get("namespace", ""))


def _sentence(error: ApiException) -> str:
    try:
        message = json.loads(error.body)["message"]
    except (TypeError, ValueError, KeyError):
        message = error.reason or f"status {error.status}"
    message = message.rstrip(".")
    if error.status == _FORBIDDEN:
        return f"The cluster forbids it: {message}; a Role must grant that right."
    return f"The cluster refuses: {message}."
