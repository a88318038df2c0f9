"""The real autoscaler under a real load: from one pod to four and back, no request fails, and the simulated one decides the same.

What it recorded once is replayed in every run of tests/loadtest/test_autoscaling.py; this takes four minutes of a quiet cluster.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from release import SMALL_RELEASE, Release
from test_swarm import IMAGE, swarm

from authsvc.commands.cluster import Cluster, at_cluster
from autoscaling.manifest import read_autoscaler
from autoscaling.recording import Controls, Look, changes, look, replay, unexplained
from outcome.run import read_run
from servers import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.long,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]
CONTROLS = Controls(
    float(os.environ.get("TEST_HPA_SYNC_SECONDS", 5)),
    float(os.environ.get("TEST_HPA_CPU_INITIALIZATION_SECONDS", 15)),
    float(os.environ.get("TEST_HPA_READINESS_DELAY_SECONDS", 5)),
)
"""Flags of the cluster's controller manager: those of Kubernetes are 15, 300 and 30."""
LIMITED = {"requests": {"cpu": "50m", "memory": "96Mi"}, "limits": {"cpu": "300m", "memory": "256Mi"}}
CALM = {"stabilizationWindowSeconds": 20, "policies": [{"type": "Percent", "value": 10, "periodSeconds": 15}]}
"""Down in a test's time: the chart waits for five minutes."""
SELECTOR = "app.kubernetes.io/instance=auth,app.kubernetes.io/component=auth"


LOOK_SECONDS = 0.2


class Eyes:
    """Looks at what the controller looks at."""

    def __init__(self, cluster: Cluster) -> None:
        api = cluster.api.api_client
        self._namespace = cluster.namespace
        self._core, self._apps, self._custom = cluster.api, client.AppsV1Api(api), client.CustomObjectsApi(api)

    def look(self) -> Look:
        deployment: Any = self._apps.read_namespaced_deployment("auth-auth-service-auth", self._namespace, _preload_content=False)
        pods: Any = self._core.list_namespaced_pod(self._namespace, label_selector=SELECTOR, _preload_content=False)
        words = ("metrics.k8s.io", "v1beta1", self._namespace, "pods")
        metrics: Any = self._custom.list_namespaced_custom_object(*words, label_selector=SELECTOR)
        return look(time.time(), json.loads(deployment.data), json.loads(pods.data)["items"], metrics["items"], "auth")


def test_switching_it_on_for_a_running_release_takes_no_pod_away(release: Release) -> None:
    fixed = {"autoscaling": {"enabled": False}, "replicas": 2, "resources": LIMITED}
    scaled = fixed | {"autoscaling": {"enabled": True, "minReplicas": 2, "maxReplicas": 4}}
    balancers = SMALL_RELEASE["nginx"]
    release.helm("install", **(SMALL_RELEASE | {"auth": fixed, "nginx": balancers | fixed}))
    # As the chart's README says: from here on the numbers belong to somebody else, too, and stay when Helm lets go of them.
    for component in ("auth", "nginx"):
        name = f"auth-auth-service-{component}"
        kept = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {"replicas": 2}}
        words = ("apply", "--server-side", "--field-manager=replicas", "--validate=false", "-f", "-")
        release.kubectl(*words, stdin=json.dumps(kept))
    release.helm("upgrade", **(SMALL_RELEASE | {"auth": scaled, "nginx": balancers | scaled}))
    for component in ("auth", "nginx"):
        events = release.get("events", f"--field-selector=reason=ScalingReplicaSet,involvedObject.name=auth-auth-service-{component}")
        assert [event["message"] for event in events if "Scaled down" in event["message"]] == []
        assert release.ready(component) == 2


def test_autoscalers_come_back_from_the_server_as_the_chart_has_them(release: Release) -> None:
    """What keeps a release in git and compares it with the cluster would else find a difference for ever."""
    scaled = {"autoscaling": {"enabled": True, "minReplicas": 2, "requestsPerSecond": 4000, "inFlight": 50}, "resources": LIMITED}
    release.helm("upgrade", **(SMALL_RELEASE | {"auth": scaled}))
    live = {each["metadata"]["name"]: each["spec"] for each in release.get("horizontalpodautoscalers")}
    applied = {each["metadata"]["name"]: each["spec"] for each in release.manifest("HorizontalPodAutoscaler")}
    assert [each["type"] for each in live["auth-auth-service-auth"]["metrics"]] == ["Pods", "Pods", "ContainerResource"]
    assert live == applied, "in any other order or form it would be told apart for ever"


def test_it_grows_to_four_and_shrinks_again_and_the_simulation_agrees(release: Release, tmp_path: Path) -> None:
    scaled = {"autoscaling": {"enabled": True, "minReplicas": 1, "maxReplicas": 4}, "resources": LIMITED, "pdbMaxUnavailable": 1}
    release.helm("upgrade", **(SMALL_RELEASE | {"auth": scaled}))
    autoscaler = "horizontalpodautoscaler/auth-auth-service-auth"
    release.kubectl("patch", autoscaler, "--type=merge", "-p", json.dumps({"spec": {"behavior": {"scaleDown": CALM}}}))
    with at_cluster(release.name) as cluster:
        eyes = Eyes(cluster)
        is_alone = [True]
        wait_until(lambda: [pod.used_cores is not None for pod in eyes.look().pods] == is_alone, "one pod, seen by metrics-server", 300)
        begun = time.time()
        words = [
            "--workers",
            "1",
            "--worker-cpu",
            "600m",
            "--users",
            "24",
            "--rate",
            "400",
            "--seconds",
            "75",
            "--image",
            IMAGE,
            "--detach",
        ]
        assert swarm(release, "start", "grow", *words).returncode == 0
        looks: list[Look] = []

        def is_over() -> bool:
            if not looks or time.time() > looks[-1].at + LOOK_SECONDS:
                looks.append(eyes.look())
            return time.time() > begun + 60 and looks[-1].replicas == 1

        wait_until(is_over, "one pod again", 400)
    real = changes(looks)
    (tmp_path / "looks.json").write_text(json.dumps([each.model_dump() for each in looks]))
    print([(round(change.at - begun, 1), change.replicas) for change in real])
    assert max(change.replicas for change in real) == 4
    four = next(change.at for change in real if change.replicas == 4)
    assert four - begun < 120
    spec = json.loads(release.kubectl("get", autoscaler, "-o", "json"))
    simulated = replay(looks, read_autoscaler(spec), CONTROLS)
    assert unexplained(real, simulated, within_seconds=CONTROLS.sync_seconds + 1) == [], (real, simulated)
    assert swarm(release, "collect", "grow", "--to", str(tmp_path / "grow")).returncode == 0
    run = read_run(tmp_path / "grow" / "run.json")
    assert (run.end, run.wrong_count) == ("complete", 0)
    assert {point.replicas for point in run.points} >= {1, 4}
    assert swarm(release, "stop", "grow", "--forget").returncode == 0
