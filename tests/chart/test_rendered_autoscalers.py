"""The autoscalers of auth and nginx: what they look at, how gently they shrink, and that the metrics they name are there."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from manifests import get, of_kind
from rendering import CHART, Object, notes, render
from schemas import VERSIONS
from value_sets import KEDA_TRIGGERS, VALUE_SETS

from authsvc.metrics import Counts, Metrics, described

HPA = "HorizontalPodAutoscaler"
CUSTOM = {"autoscaling": {"requestsPerSecond": 4000, "inFlight": 50}}
EXPORTED = {name: labels for name, _, labels, _ in described(Metrics(Counts()).registry)}
"""Of an instance: the labels of each series."""


def rules() -> dict[str, dict[str, Any]]:
    """The adapter's, by the names that an autoscaler asks for."""
    found = yaml.safe_load((CHART / "files" / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    return {rule["name"]["as"]: rule for rule in found}


def asked(autoscaler: Object) -> list[str]:
    """The types of its metrics, or the names of those of pods, in order."""
    return [each["pods"]["metric"]["name"] if each["type"] == "Pods" else each["type"] for each in autoscaler["spec"]["metrics"]]


def test_auth_and_nginx_grow_each_by_its_own_containers_cpu() -> None:
    auth, nginx = of_kind(render(), HPA)
    for scaler, container, bounds in ((auth, "auth", (4, 12)), (nginx, "nginx", (2, 6))):
        assert scaler["metadata"]["name"] == scaler["spec"]["scaleTargetRef"]["name"] == f"auth-auth-service-{container}"
        assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == bounds
        [metric] = scaler["spec"]["metrics"]
        assert metric["containerResource"]["container"] == container
    assert auth["metadata"]["labels"]["app.kubernetes.io/component"] == "auth"
    assert nginx["metadata"]["labels"]["app.kubernetes.io/component"] == "nginx"


def test_a_number_of_nginx_stands_where_no_autoscaler_sees_to_it() -> None:
    fixed = render({"nginx": {"replicas": 5, "autoscaling": {"enabled": False}}})
    assert get(fixed, "Deployment", "auth-auth-service-nginx")["spec"]["replicas"] == 5
    assert [each["metadata"]["name"] for each in of_kind(fixed, HPA)] == ["auth-auth-service-auth"]
    assert "replicas" not in get(render({"nginx": {"replicas": 5}}), "Deployment", "auth-auth-service-nginx")["spec"]


def test_all_of_them_behave_alike() -> None:
    auth, nginx = of_kind(render(), HPA)
    [keda] = of_kind(render(VALUE_SETS["keda"]), "ScaledObject")
    advanced = keda["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert auth["spec"]["behavior"] == nginx["spec"]["behavior"] == advanced
    down = advanced["scaleDown"]
    assert (down["stabilizationWindowSeconds"], down["policies"]) == (300, [{"type": "Percent", "value": 10, "periodSeconds": 60}])


def test_every_kubernetes_of_the_chart_has_metrics_of_a_container() -> None:
    """Since 1.27 they are on by default, so no cluster that the chart takes needs those of the whole pod."""
    floor = re.search(r">=1\.(\d+)", yaml.safe_load((CHART / "Chart.yaml").read_text())["kubeVersion"])
    assert floor is not None
    assert int(floor[1]) >= 27
    for version in (VERSIONS[0], VERSIONS[-1]):
        assert [asked(each) for each in of_kind(render(kubernetes=version), HPA)] == [["ContainerResource"]] * 2


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({}, ["ContainerResource"]),
        ({"requestsPerSecond": 4000}, ["auth_service_requests_per_second", "ContainerResource"]),
        ({"inFlight": 50}, ["auth_service_requests_in_flight", "ContainerResource"]),
        (CUSTOM["autoscaling"], ["auth_service_requests_per_second", "auth_service_requests_in_flight", "ContainerResource"]),
    ],
    ids=str,
)
def test_metrics_of_the_pods_come_before_cpu_as_the_server_gives_them_back(given: dict[str, int], wanted: list[str]) -> None:
    """Read back from Kubernetes 1.34 the order is that of the manifest; a server of the older form has CPU last."""
    auth, nginx = of_kind(render({"auth": {"autoscaling": given}}), HPA)
    assert asked(auth) == wanted
    assert asked(nginx) == ["ContainerResource"]


@pytest.mark.parametrize(("number", "text"), [(999, "999"), (4000, "4k"), (4500, "4500"), (2_000_000, "2M"), (1_500_000, "1500k")])
def test_a_target_of_the_pods_is_what_each_of_them_has_as_the_server_writes_it(number: int, text: str) -> None:
    for name in ("requestsPerSecond", "inFlight"):
        metric = of_kind(render({"auth": {"autoscaling": {name: number}}}), HPA)[0]["spec"]["metrics"][0]
        assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": text}


def test_the_adapter_offers_what_the_autoscaler_asks_for_from_what_an_instance_exports() -> None:
    auth = of_kind(render({"auth": CUSTOM}), HPA)[0]
    assert set(asked(auth)) - {"ContainerResource"} == rules().keys()
    for rule in rules().values():
        series, _, matchers = rule["seriesQuery"].partition("{")
        assert series in EXPORTED
        assert rule["name"]["matches"] == f"^{series}$"
        assert matchers == 'namespace!="",pod!=""}'
        assert rule["metricsQuery"].count("<<.Series>>{<<.LabelMatchers>>}[1m]") == 1
        assert rule["metricsQuery"].startswith("sum by (<<.GroupBy>>) (")
        assert {label: to["resource"] for label, to in rule["resources"]["overrides"].items()} == {"namespace": "namespace", "pod": "pod"}


@pytest.mark.parametrize("rule", rules().values(), ids=rules().keys())
def test_a_rule_names_no_label_that_scraping_renames(rule: dict[str, Any]) -> None:
    """A PodMonitor's own labels `endpoint`, `container`, `pod` win, where the chart's relabeling is not there: so a rule names none."""
    used = set(re.findall(r"(\w+) *(?:=|!=|=~|!~) *\"", rule["seriesQuery"] + rule["metricsQuery"]))
    assert used == {"namespace", "pod"}
    assert not used & {label for labels in EXPORTED.values() for label in labels}


def test_the_readmes_triggers_of_keda_are_those_that_are_tested_and_ask_for_what_there_is() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL)
    [values] = [found for block in blocks if "keda" in (found := yaml.safe_load(block)).get("auth", {})]
    assert values == {"auth": VALUE_SETS["keda"]["auth"]}
    query = KEDA_TRIGGERS[1]["metadata"]["query"]
    [series] = re.findall(r"(\w+)\{", query)
    assert series in EXPORTED
    [deployment] = [each for each in of_kind(render(VALUE_SETS["keda"]), "Deployment") if each["metadata"]["name"].endswith("-auth")]
    [pods] = re.findall(r'pod=~"(.+?)"', query)
    assert re.fullmatch(pods, f"{deployment['metadata']['name']}-6d8f9c7b5-x2x4z")


def test_the_notes_say_how_many_balancers_there_may_be() -> None:
    assert "nginx            2 to 6 pods" in notes()
    assert "nginx            3 pods" in notes({"nginx": {"replicas": 3, "autoscaling": {"enabled": False}}})
