"""nginx.mode: stream in a real cluster: it gets ready, instances learn who calls, and a roll costs nothing for callers who connect anew."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from release import SMALL_RELEASE, Release

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]

VALUES: dict[str, Any] = SMALL_RELEASE | {
    "nginx": SMALL_RELEASE["nginx"] | {"mode": "stream", "proxyProtocol": True, "replicas": 2},
    "settings": {"AUTH_ACCESS_LOG": True, "AUTH_ACCESS_LOG_SUCCESS_SHARE": 1},
}


def test_it_gets_ready_and_passes_its_trial(release: Release) -> None:
    release.helm("install", **VALUES)
    assert (release.ready("auth"), release.ready("nginx")) == (2, 2)
    assert release.get("horizontalpodautoscalers") == [], "pods are as many as the values say"
    log = release.trial()
    assert log.count("use it again") == 1, log


def test_a_roll_of_the_instances_under_load_costs_no_request(release: Release) -> None:
    with release.load("load", release.add_client("load")) as result:
        addresses = {pod["status"]["podIP"] for pod in release.pods("test")}
        release.kubectl("rollout", "restart", "deployment/auth-auth-service-auth")
        release.rolled("deployment", "auth")
        callers = {
            line["client"] for name in release.names("auth") for line in requests_of(release.logs(name)) if line["endpoint"] == "token"
        }
    assert result["failures"] == [], result
    assert sum(result["counts"].values()) > 200, result
    assert addresses
    assert callers == addresses, "not nginx's"


def requests_of(log: str) -> list[dict[str, Any]]:
    """The lines of the access log."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    return [line for line in lines if line.get("event") == "request"]
