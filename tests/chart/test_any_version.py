"""Whatever the values: Kubernetes 1.29 to 1.37 take every object, helm 3 and 4 make the same of the chart, and make it again."""

from __future__ import annotations

import json

import pytest
from manifests import Object, name_of, strings
from rendering import Release, lint, refused, render, rendered_text, run_helm
from schemas import OURS, VERSIONS, complaints
from tools import HELM, HELM_3, Program
from value_sets import API_VERSIONS, VALUE_SETS

LONGEST_NAME = "r" * 53
"""Helm takes no longer name for a release."""
MOST_CHARACTERS = {"StatefulSet": 52, "CronJob": 52, "Deployment": 52}
"""Kubernetes puts a hash of up to 11 characters after these, and the whole into a label."""
LABEL = 63


@pytest.mark.parametrize("version", VERSIONS)
def test_kubernetes_takes_every_object(value_set: str, version: str) -> None:
    objects = render(VALUE_SETS[value_set], apis=API_VERSIONS, kubernetes=version)
    assert {name_of(thing): found for thing in objects if (found := complaints(thing, version))} == {}


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("PodMonitor", "podMetricsEndpoints", [{"port": 9090}]),
        ("ServiceMonitor", "endpoints", [{"interval": "often"}]),
        ("PrometheusRule", "groups", [{"rules": []}]),
        ("HTTPRoute", "rules", [{"backendRefs": [{"name": "auth", "port": "http"}]}]),
        ("ScaledObject", "scaleTargetRef", {"nam": "auth"}),
        ("ScaledObject", "advanced", {"horizontalPodAutoscalerConfig": {"behavior": {"scaleDown": {"policies": [{"type": "Percent"}]}}}}),
    ],
)
def test_schemas_of_our_own_refuse_what_is_wrong(kind: str, field: str, value: object) -> None:
    (schema,) = (json.loads(file.read_text()) for file in OURS.glob(f"{kind.lower()}-*.json"))
    thing: Object = {
        "apiVersion": schema["properties"]["apiVersion"]["const"],
        "kind": kind,
        "metadata": {"name": "auth"},
        "spec": {field: value},
    }
    assert any(found.startswith(f"spec.{field}") for found in complaints(thing, VERSIONS[-1]))


def test_unknown_fields_and_kinds_are_seen() -> None:
    service: Object = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "auth"}, "spec": {"port": []}}
    assert complaints(service, "1.34") == ["spec: Additional properties are not allowed ('port' was unexpected)"]
    with pytest.raises(AssertionError, match="has no Servant of v1"):
        complaints(service | {"kind": "Servant"}, "1.34")


def test_a_render_is_the_same_each_time(value_set: str) -> None:
    call = (Release(apis=API_VERSIONS), "template", (), json.dumps(VALUE_SETS[value_set]))
    assert run_helm(*call).stdout == run_helm(*call).stdout


def test_helm_3_renders_the_same(value_set: str) -> None:
    def rendered(helm: Program) -> dict[str, Object]:
        return {name_of(thing): thing for thing in render(VALUE_SETS[value_set], apis=API_VERSIONS, helm=helm)}

    assert rendered(HELM_3) == rendered(HELM)


@pytest.mark.parametrize("helm", [HELM, HELM_3], ids=["helm 4", "helm 3"])
def test_lint_finds_nothing(value_set: str, helm: Program) -> None:
    assert lint(VALUE_SETS[value_set], helm=helm) == []


def test_names_are_short_enough_for_the_longest_release(value_set: str) -> None:
    for thing in render(VALUE_SETS[value_set], name=LONGEST_NAME, apis=API_VERSIONS):
        assert len(thing["metadata"]["name"]) <= MOST_CHARACTERS.get(thing["kind"], LABEL), name_of(thing)
        for place, text in strings(thing):
            if "abels." in place or ".labels" in place:
                assert len(text) <= LABEL, f"{name_of(thing)} {place}"


def test_two_releases_in_a_namespace_share_no_name(value_set: str) -> None:
    given = {thing["metadata"]["name"] for thing in VALUE_SETS[value_set].get("extraObjects", ())}
    one, other = ({name_of(thing) for thing in render(VALUE_SETS[value_set], name=name, apis=API_VERSIONS)} for name in ("auth", "second"))
    assert {name.partition("/")[2] for name in one & other} <= given


@pytest.mark.parametrize("helm", [HELM, HELM_3], ids=["helm 4", "helm 3"])
def test_a_kubernetes_that_is_too_old_is_refused(helm: Program) -> None:
    assert "1.29.0" in refused(kubernetes="1.28", helm=helm)
    assert rendered_text(kubernetes="1.29.4-gke.100", helm=helm)


def test_two_long_names_that_begin_alike_stay_two() -> None:
    first, second = ({name_of(thing) for thing in render(name="r" * 52 + last)} for last in "ab")
    assert not first & second


def test_labels_of_the_user_do_not_replace_those_that_selectors_need() -> None:
    mine = {"app.kubernetes.io/name": "mine", "app.kubernetes.io/component": "mine", "team": "platform"}
    for thing in render({"commonLabels": mine, "auth": {"podLabels": mine}}):
        assert thing["metadata"]["labels"]["app.kubernetes.io/name"] == "auth-service"
        assert thing["metadata"]["labels"]["team"] == "platform"
    [deployment] = [thing for thing in render({"auth": {"podLabels": mine}}) if name_of(thing) == "Deployment/auth-auth-service-auth"]
    assert deployment["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "auth"
