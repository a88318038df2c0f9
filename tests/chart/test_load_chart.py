"""charts/loadtest renders what a swarm needs and no more: valid, restricted, with rights for its own results alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import Object, all_pods
from pod_security import violations
from rendering import lint, refused, render
from schemas import VERSIONS, complaints

from authsvc import __version__
from chart.__main__ import LOAD_CHART
from outcome.plan import Plan
from traffic.settings import to_environment

TARGET = {"url": "http://auth-auth-service", "clientsSecret": "load-clients"}
SETS: dict[str, dict[str, Any]] = {
    "least": {"target": TARGET},
    "all": {
        "target": TARGET | {"release": "auth"},
        "plan": {"endpoint": "validate", "shape": "ramp", "rate": 12345.5, "warmUpSeconds": 9},
        "thresholds": "[endpoints.validate]\np99_ms_at_most = 5\n",
        "environment": {"instances": 4, "nodes": "1 of 2 cores"},
        "podSpec": {"nodeSelector": {"load": "yes"}},
        "imagePullSecrets": [{"name": "pull"}],
        "image": {"digest": "sha256:" + "a" * 64},
        "userId": None,
        "workers": 7,
    },
}


def rendered(name: str, **values: Any) -> list[Object]:
    return render(SETS[name] | values, chart=LOAD_CHART, name="evening")


def only(objects: list[Object], kind: str, suffix: str = "") -> Object:
    [found] = [each for each in objects if each["kind"] == kind and each["metadata"]["name"].endswith(suffix)]
    return found


def variables(job: Object) -> dict[str, str]:
    return {each["name"]: each["value"] for each in job["spec"]["template"]["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("name", SETS)
def test_each_object_fits_every_kubernetes_and_each_pod_the_strictest_rules(name: str) -> None:
    objects = rendered(name)
    assert [(each["kind"], found) for each in objects for version in VERSIONS if (found := complaints(each, version))] == []
    assert [found for each in all_pods(objects) for found in violations(each)] == []
    assert lint(SETS[name], chart=LOAD_CHART) == []


def test_the_plan_reaches_the_generators_as_it_was_given() -> None:
    objects = rendered("all")
    plan = Plan(endpoint="validate", shape="ramp", rate=12345.5, warm_up_seconds=9)
    for suffix in ("-leader", "-worker"):
        found = variables(only(objects, "Job", suffix))
        assert {name: float(found[name]) if name in ("LOAD_RATE", "LOAD_BAD_SHARE") else found[name] for name in to_environment(plan)} == {
            name: float(value) if name in ("LOAD_RATE", "LOAD_BAD_SHARE") else value for name, value in to_environment(plan).items()
        }
        assert found["LOAD_NAME"] == "evening"
    assert variables(only(objects, "Job", "-leader"))["LOAD_ENVIRONMENT"] == '{"instances":4,"nodes":"1 of 2 cores"}'


def test_a_run_is_begun_once_and_its_workers_are_replaced() -> None:
    objects = rendered("all")
    leader, workers = (only(objects, "Job", suffix)["spec"] for suffix in ("-leader", "-worker"))
    assert leader["backoffLimit"] == 0
    assert (workers["completions"], workers["parallelism"], workers["backoffLimit"]) == (7, 7, 21)
    assert {each["template"]["spec"]["restartPolicy"] for each in (leader, workers)} == {"Never"}
    args = leader["template"]["spec"]["containers"][0]["args"]
    assert args[args.index("--expect-workers") + 1] == "7"


def test_the_leader_may_write_its_results_and_look_at_pods_and_workers_may_nothing() -> None:
    objects = rendered("all")
    assert only(objects, "Role")["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["evening-loadtest"], "verbs": ["patch"]},
        {"apiGroups": ["", "metrics.k8s.io"], "resources": ["pods"], "verbs": ["list"]},
    ]
    assert len(only(rendered("least"), "Role")["rules"]) == 1
    pods = {suffix: only(objects, "Job", suffix)["spec"]["template"]["spec"] for suffix in ("-leader", "-worker")}
    assert {suffix: pod["automountServiceAccountToken"] for suffix, pod in pods.items()} == {"-leader": True, "-worker": False}
    assert "serviceAccountName" not in pods["-worker"]


def test_results_stay_when_the_release_goes() -> None:
    assert only(rendered("least"), "ConfigMap")["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_workers_alone_reach_the_leader() -> None:
    [rule] = only(rendered("least"), "NetworkPolicy")["spec"]["ingress"]
    assert rule["from"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "worker"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({}, "target.url is missing"),
        ({"target": {"url": "http://auth"}}, "target.clientsSecret is missing"),
        ({"target": TARGET, "plan": {"rate": 0}}, "rate"),
        ({"target": TARGET, "plan": {"endpont": "mix"}}, "endpont"),
        ({"target": TARGET, "workers": 0}, "workers"),
    ],
)
def test_values_that_cannot_be_are_refused(values: dict[str, Any], sentence: str) -> None:
    assert sentence in refused(values, chart=LOAD_CHART)


def test_two_long_names_that_begin_alike_stay_apart() -> None:
    names = {only(render(SETS["least"], chart=LOAD_CHART, name="x" * 50 + end), "Service")["metadata"]["name"] for end in "ab"}
    assert len(names) == 2


def test_chart_and_image_are_of_this_release() -> None:
    assert yaml.safe_load((LOAD_CHART / "Chart.yaml").read_text())["appVersion"] == __version__
    dockerfile = Path(LOAD_CHART.parents[1] / "loadtest" / "Dockerfile").read_text()
    assert f'image.version="{__version__}"' in dockerfile
