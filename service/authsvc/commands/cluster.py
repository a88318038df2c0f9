"""The Kubernetes cluster that a command runs in or is pointed at: its API, the namespace at hand, and a sentence for what it refuses."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from authsvc.errors import OperatorError, reason_of

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod
    from kubernetes.client.exceptions import ApiException
    from kubernetes.client.rest import RESTResponse

TIMEOUT_SECONDS = (5, 20)
"""For a connection, and for an answer to any call that names no other bound."""
COMMAND_SECONDS = 60
"""For a command that is run in a pod."""
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
    from kubernetes import client

    configuration = client.Configuration()
    configuration.retries = False
    try:
        own = _configure_in_pod(configuration) or _configure_from_file(configuration)
    except Exception as error:
        # A file that is missing, no YAML, or YAML of something else: each ends with an error of another family.
        reason = " ".join(str(error).split()).rstrip(".")
        raise OperatorError(f"There is no cluster: run in a pod with its service account's token, or set KUBECONFIG ({reason}).") from error
    if not (namespace or own):
        raise OperatorError("There is no namespace: the context of KUBECONFIG names none, so give --namespace NAME.")
    with client.ApiClient(configuration) as connection:
        connection.rest_client.pool_manager.connection_pool_kw["ssl_context"] = _tls()
        connection.rest_client.request = _bounded(connection.rest_client.request)
        cluster = Cluster(client.CoreV1Api(connection), namespace or own)
        with refusals_told(cluster):
            yield cluster


@contextmanager
def refusals_told(cluster: Cluster) -> Iterator[None]:
    """Whatever goes wrong with the cluster meanwhile is an OperatorError: for who goes on after one, which ends `at_cluster`."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ApiException as error:
        raise OperatorError(_sentence(error)) from error
    except HTTPError as error:
        host = cluster.api.api_client.configuration.host
        raise OperatorError(f"The cluster at {host} does not answer: {reason_of(error)}.") from error


def _tls() -> ssl.SSLContext:
    """The CAs of many clusters lack extensions that Python asks for from 3.13 on; the chain is verified all the same."""
    from urllib3.util.ssl_ import create_urllib3_context

    context = create_urllib3_context()
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _bounded(request: Callable[..., RESTResponse]) -> Callable[..., RESTResponse]:
    """The client by itself waits for ever."""

    @wraps(request)
    def bounded(*words: Any, _request_timeout: float | tuple[float, float] | None = None, **named: Any) -> RESTResponse:
        return request(*words, _request_timeout=_request_timeout or TIMEOUT_SECONDS, **named)

    return bounded


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
        message = str(json.loads(error.body or "")["message"]).rstrip(".")
    except (TypeError, ValueError, KeyError):
        message = error.reason or f"status {error.status}"
    if error.status == _FORBIDDEN:
        return f"The cluster forbids it: {message}; a Role must grant that right."
    return f"The cluster refuses: {message}."


def run_in_pod(cluster: Cluster, selector: str, command: Sequence[str]) -> str:
    """What a command prints that is run in one of the ready pods with these labels; OperatorError with its own words if it fails."""
    from kubernetes.stream import stream

    pods = cluster.api.list_namespaced_pod(cluster.namespace, label_selector=selector).items
    name = next((pod.metadata.name for pod in pods if pod.metadata and _is_ready(pod)), None)
    if name is None:
        raise OperatorError(f"No pod with the labels {selector} is ready in namespace {cluster.namespace}.")
    run = stream(
        cluster.api.connect_get_namespaced_pod_exec,
        name,
        cluster.namespace,
        command=list(command),
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    run.run_forever(timeout=COMMAND_SECONDS)
    printed, complained = str(run.read_stdout(timeout=0)), str(run.read_stderr(timeout=0))
    if run.is_open() or run.returncode != 0:
        raise OperatorError(f"`{' '.join(command[:3])}` in pod {name} failed: {complained.strip() or 'no answer in time'}")
    return printed


def _is_ready(pod: V1Pod) -> bool:
    conditions = (pod.status and pod.status.conditions) or ()
    return any(condition.type == "Ready" and condition.status == "True" for condition in conditions)
