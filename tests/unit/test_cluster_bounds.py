"""A cluster whose API takes a connection and never answers holds up nobody, neither a command nor a load test's end."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import Configuration
from kubernetes.config import kube_config

from authsvc.commands import cluster
from authsvc.errors import OperatorError
from outcome.run import RunError
from traffic import cluster as loads_cluster

AT_ONCE = (0.2, 0.2)


@pytest.fixture
def silent() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_command_ends_with_a_sentence(silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kubeconfig"
    entry = {"clusters": [{"name": "c", "cluster": {"server": silent}}], "users": [{"name": "u", "user": {}}]}
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "n"}}]
    file.write_text(json.dumps({**entry, "contexts": contexts, "current-context": "x"}))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))  # read from KUBECONFIG when it is imported
    monkeypatch.setattr(cluster, "TIMEOUT_SECONDS", AT_ONCE)
    with pytest.raises(OperatorError, match=f"^The cluster at {silent} does not answer: .* timed out"), cluster.at_cluster(None) as found:
        found.api.list_namespaced_pod(found.namespace)


def test_a_run_tells_that_its_result_was_not_kept(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_cluster, "TIMEOUT_SECONDS", AT_ONCE)
    account = loads_cluster.Account(loads_cluster.reach(Configuration(host=silent)), "n")
    with pytest.raises(RunError, match=r"^The ConfigMap results could not be written: .* timed out"):
        loads_cluster.Keeper("results", account).keep({"run.json": "{}"}, state="running")


def test_a_look_at_the_pods_sees_none_of_them(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads_cluster, "TIMEOUT_SECONDS", AT_ONCE)
    account = loads_cluster.Account(loads_cluster.reach(Configuration(host=silent)), "n")
    assert loads_cluster.ClusterObserver("auth", account).look() == (None, {})
