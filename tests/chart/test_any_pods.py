"""Whatever the values: what every pod and container of the chart has, and what nobody finds in a render."""

from __future__ import annotations

import re

import pytest
from kubernetes.utils.quantity import parse_quantity
from manifests import Container, Object, Pods, all_containers, all_pods, get, name_of, of_kind, strings
from pod_security import violations

LEAST_USER = 10001
"""User IDs from here on are nobody's on a usual node."""
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|CREDENTIAL|(^|_)KEY(_|$)|API_?KEY", re.IGNORECASE)
LOGIN_IN_URL = re.compile(r"[a-z]://[^/\s:@]*:[^/\s@]+@")


def test_no_secret_is_rendered(objects: list[Object]) -> None:
    with_data = [name_of(secret) for secret in of_kind(objects, "Secret") if secret.get("data") or secret.get("stringData")]
    assert with_data == []


def test_nothing_secret_stands_in_an_argument_a_variable_or_a_url(objects: list[Object]) -> None:
    found = [
        f"{container.name} {variable['name']}"
        for container in all_containers(objects)
        for variable in container.spec.get("env") or ()
        if SECRET_NAME.search(variable["name"]) and variable.get("value") and not variable["name"].endswith("_FILE")
    ]
    for container in all_containers(objects):
        words = [*(container.spec.get("command") or ()), *(container.spec.get("args") or ())]
        found += [f"{container.name} {word}" for word in words if re.search(r"(pass(word)?|secret)\s*[=:]\s*[^\s$/]", word, re.IGNORECASE)]
    found += [f"{name_of(thing)} {place}" for thing in objects for place, text in strings(thing) if LOGIN_IN_URL.search(text)]
    assert found == []


def test_pods_keep_to_the_restricted_profile(objects: list[Object]) -> None:
    assert [broken for pods in all_pods(objects) for broken in violations(pods)] == []


def test_containers_cannot_write_to_their_image_and_run_as_nobody(objects: list[Object]) -> None:
    def lacks(pods: Pods, container: Container) -> bool:
        context = (pods.spec.get("securityContext") or {}) | (container.spec.get("securityContext") or {})
        return context.get("readOnlyRootFilesystem") is not True or not (context.get("runAsUser") or 0) >= LEAST_USER

    assert [container.name for pods in all_pods(objects) for container in pods.containers if lacks(pods, container)] == []


@pytest.mark.parametrize("resource", ["cpu", "memory"])
def test_containers_have_requests_and_limits_that_hold_them(objects: list[Object], resource: str) -> None:
    def wrong(container: Container) -> bool:
        resources = container.spec.get("resources") or {}
        requested, limit = ((resources.get(key) or {}).get(resource) for key in ("requests", "limits"))
        return requested is None or limit is None or not 0 < parse_quantity(requested) <= parse_quantity(limit)

    assert [container.name for container in all_containers(objects) if wrong(container)] == []


def test_containers_that_serve_are_probed_for_life_and_for_readiness_apart(objects: list[Object]) -> None:
    def wrong(container: Container) -> bool:
        live, ready = container.spec.get("livenessProbe"), container.spec.get("readinessProbe")
        return not live or not ready or live == ready

    serving = [
        container
        for pods in all_pods(objects)
        if pods.are_servers
        for container in pods.containers
        if container.serves and container.spec.get("ports")
    ]
    assert serving
    assert [container.name for container in serving if wrong(container)] == []


def test_servers_have_time_to_end(objects: list[Object]) -> None:
    """Kubernetes counts the preStop hook and what comes after it against the same grace."""
    for pods in all_pods(objects):
        grace = pods.spec.get("terminationGracePeriodSeconds", 30)
        for container in pods.containers:
            hook = (container.spec.get("lifecycle") or {}).get("preStop") or {}
            assert (hook.get("sleep") or {}).get("seconds", 0) < grace, container.name


def test_no_pod_gets_variables_for_services(objects: list[Object]) -> None:
    """A release named `auth` would give every pod AUTH_... variables, which the service takes for settings."""
    assert [pods.name for pods in all_pods(objects) if pods.spec.get("enableServiceLinks") is not False] == []


def test_only_pods_with_rights_of_their_own_get_a_token_of_the_api(objects: list[Object]) -> None:
    bound = {subject["name"] for binding in of_kind(objects, "RoleBinding") for subject in binding["subjects"]}
    for pods in all_pods(objects):
        has_rights = pods.spec.get("serviceAccountName") in bound
        assert pods.spec.get("automountServiceAccountToken") is has_rights, pods.name


def test_rights_are_those_of_the_own_namespace_and_name_what_they_are_for(objects: list[Object]) -> None:
    assert of_kind(objects, "ClusterRole", "ClusterRoleBinding") == []
    for binding in of_kind(objects, "RoleBinding"):
        rules = get(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])["rules"]
        assert rules
        assert not any("*" in rule.get(part, ()) for rule in rules for part in ("apiGroups", "resources", "verbs")), name_of(binding)


def test_images_are_pinned_to_a_tag_or_digest(objects: list[Object]) -> None:
    for container in all_containers(objects):
        image = container.spec["image"]
        assert re.search(r"(:[\w][\w.-]*|@sha256:[0-9a-f]{64})$", image), f"{container.name}: {image}"
        assert not image.endswith(":latest"), container.name


def test_names_within_a_pod_are_there_once(objects: list[Object]) -> None:
    def once(what: str, names: list[object]) -> None:
        assert len(names) == len(set(names)), f"{what}: {names}"

    for pods in all_pods(objects):
        once(f"containers of {pods.name}", [container.spec["name"] for container in pods.containers])
        once(f"volumes of {pods.name}", [volume["name"] for volume in pods.spec.get("volumes") or ()])
        for container in pods.containers:
            once(f"variables of {container.name}", [variable["name"] for variable in container.spec.get("env") or ()])
            once(f"mounts of {container.name}", [mount["mountPath"] for mount in container.spec.get("volumeMounts") or ()])
            once(f"ports of {container.name}", [port["containerPort"] for port in container.spec.get("ports") or ()])


def test_objects_are_there_once_and_carry_the_labels_that_tell_whose_they_are(objects: list[Object]) -> None:
    names = [name_of(thing) for thing in objects]
    assert len(names) == len(set(names))
    ours = [thing for thing in objects if thing["metadata"]["name"].startswith("auth")]
    assert ours
    for thing in ours:
        labels = thing["metadata"].get("labels") or {}
        assert labels.get("app.kubernetes.io/instance") == "auth", name_of(thing)
        assert {"app.kubernetes.io/name", "app.kubernetes.io/managed-by", "helm.sh/chart"} <= set(labels), name_of(thing)
        assert thing["metadata"].get("namespace") in (None, "auth"), name_of(thing)
