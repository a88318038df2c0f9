"""Whatever the values: what one object says of another is so. Selectors, targets, volumes, accounts, ports, hooks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from manifests import Object, Pods, all_pods, name_of, of_kind, references, selects, strings
from value_sets import VALUE_SETS

HOOK = "helm.sh/hook"
CPU_LAST = "A server that keeps the object in its older form gives the CPU metric back as the last one: any other order differs for ever."


def ports_of(pods: Pods) -> set[object]:
    """Names and numbers of the ports that the pods' containers open."""
    ports = [port for container in pods.containers for port in container.spec.get("ports") or ()]
    return {port[key] for port in ports for key in ("name", "containerPort") if key in port}


def meant(objects: list[Object], selector: Object | None) -> list[Pods]:
    """The pods that a selector means."""
    return [pods for pods in all_pods(objects) if selects(selector, pods.labels)]


def fixed_count(workload: Object) -> int:
    """How many pods there are while no autoscaler sees to it."""
    return int(workload["spec"].get("replicas", 1))


def scalers(objects: list[Object]) -> list[Object]:
    return of_kind(objects, "HorizontalPodAutoscaler", "ScaledObject")


def test_workloads_select_their_own_pods_and_no_others(objects: list[Object]) -> None:
    for workload in of_kind(objects, "Deployment", "StatefulSet", "DaemonSet"):
        assert [pods.name for pods in meant(objects, workload["spec"]["selector"])] == [name_of(workload)]


def test_services_lead_to_ports_that_pods_open(objects: list[Object]) -> None:
    services = of_kind(objects, "Service")
    assert services
    for service in services:
        targets = meant(objects, {"matchLabels": service["spec"]["selector"]})
        assert len(targets) == 1, f"{name_of(service)} selects the pods of {[pods.name for pods in targets]}"
        for port in service["spec"]["ports"]:
            assert port.get("targetPort", port["port"]) in ports_of(targets[0]), f"{name_of(service)} port {port}"


def test_stateful_sets_have_their_service(objects: list[Object]) -> None:
    for workload in of_kind(objects, "StatefulSet"):
        (service,) = references(objects, {"kind": "Service", "name": workload["spec"]["serviceName"]})
        assert service["spec"]["selector"] == workload["spec"]["selector"]["matchLabels"]


def test_routes_lead_to_services_and_their_ports(objects: list[Object]) -> None:
    def lead_to(backend: dict[str, Any], *ports: object) -> None:
        (service,) = references(objects, {"kind": "Service", "name": backend["name"]})
        assert set(ports) <= {port[key] for port in service["spec"]["ports"] for key in ("name", "port") if key in port}

    for ingress in of_kind(objects, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                lead_to(path["backend"]["service"], *path["backend"]["service"]["port"].values())
    for route in of_kind(objects, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                lead_to(backend, backend["port"])


def test_disruption_budgets_are_over_pods_that_are_several(objects: list[Object]) -> None:
    """A budget over a single pod blocks the drain of its node."""
    floors = {target["name"]: least for target, least in ((s["spec"]["scaleTargetRef"], _least(s)) for s in scalers(objects))}
    for budget in of_kind(objects, "PodDisruptionBudget"):
        (pods,) = meant(objects, budget["spec"]["selector"])
        count = floors.get(pods.owner["metadata"]["name"], fixed_count(pods.owner))
        assert count > 1, name_of(budget)
        assert "minAvailable" not in budget["spec"], "a number of pods that must stay is wrong as soon as the count changes"
        assert budget["spec"]["maxUnavailable"] not in (0, "0%"), name_of(budget)


def _least(scaler: Object) -> int:
    return int(scaler["spec"].get("minReplicas", scaler["spec"].get("minReplicaCount", 1)))


def test_one_autoscaler_a_workload_and_none_beside_a_number(objects: list[Object]) -> None:
    targets = []
    for scaler in scalers(objects):
        (target,) = references(objects, scaler["spec"]["scaleTargetRef"])
        assert "replicas" not in target["spec"], f"{name_of(target)}: each upgrade would set back what {name_of(scaler)} has done"
        targets.append(name_of(target))
    assert len(targets) == len(set(targets))


def test_autoscalers_measure_what_there_is_in_the_order_of_the_server(objects: list[Object]) -> None:
    for scaler in of_kind(objects, "HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        assert _least(scaler) <= spec["maxReplicas"]
        (target,) = references(objects, spec["scaleTargetRef"])
        (pods,) = all_pods([target])
        containers = {container.spec["name"] for container in pods.containers}
        measured = [metric["containerResource"]["container"] for metric in spec["metrics"] if metric["type"] == "ContainerResource"]
        assert set(measured) <= containers
        cpu = [metric["type"] == "Resource" and metric["resource"]["name"] == "cpu" for metric in spec["metrics"]]
        assert not any(cpu[:-1]), CPU_LAST


def test_network_policies_name_pods_and_ports_that_exist(objects: list[Object]) -> None:
    for policy in of_kind(objects, "NetworkPolicy"):
        spec = policy["spec"]
        here = meant(objects, spec["podSelector"])
        assert here, f"{name_of(policy)} is over no pods"
        for direction, peers_key in (("ingress", "from"), ("egress", "to")):
            for rule in spec.get(direction) or ():
                peers = rule.get(peers_key) or ()
                there = [pods for peer in peers if "namespaceSelector" not in peer for pods in meant(objects, peer.get("podSelector"))]
                unmet = [peer for peer in peers if set(peer) == {"podSelector"} and not meant(objects, peer["podSelector"])]
                assert unmet == [], f"{name_of(policy)}: no pods for {unmet}"
                listeners = here if direction == "ingress" else there
                if listeners:
                    known = set().union(*(ports_of(pods) for pods in listeners))
                    assert {port["port"] for port in rule.get("ports") or ()} <= known, f"{name_of(policy)} {direction}"


def test_every_pod_is_under_a_policy_where_there_are_policies(objects: list[Object]) -> None:
    policies = of_kind(objects, "NetworkPolicy")
    free = [pods.name for pods in all_pods(objects) if not any(selects(policy["spec"]["podSelector"], pods.labels) for policy in policies)]
    assert not policies or free == []


def test_monitors_find_pods_and_ports(objects: list[Object]) -> None:
    for monitor in of_kind(objects, "PodMonitor"):
        found = meant(objects, monitor["spec"]["selector"])
        assert found
        for endpoint in monitor["spec"]["podMetricsEndpoints"]:
            assert all(endpoint["port"] in ports_of(pods) for pods in found), name_of(monitor)


def test_mounts_have_volumes_and_volumes_are_mounted(objects: list[Object]) -> None:
    for pods in all_pods(objects):
        volumes = {volume["name"] for volume in pods.spec.get("volumes") or ()}
        volumes |= {claim["metadata"]["name"] for claim in pods.owner["spec"].get("volumeClaimTemplates") or ()}
        mounted = {mount["name"] for container in pods.containers for mount in container.spec.get("volumeMounts") or ()}
        assert mounted == volumes, pods.name


def configuration_of(pods: Pods) -> Iterator[tuple[str, str]]:
    """Kind and name of the ConfigMaps and Secrets that pods cannot start without."""
    for container in pods.containers:
        for source in container.spec.get("envFrom") or ():
            yield from _named(source)
        for variable in container.spec.get("env") or ():
            yield from _named(variable.get("valueFrom") or {})
    for volume in pods.spec.get("volumes") or ():
        for source in (volume, *(volume.get("projected") or {}).get("sources", ())):
            yield from _named(source)


def _named(source: Object) -> Iterator[tuple[str, str]]:
    for kind, keys in (
        ("ConfigMap", ("configMap", "configMapRef", "configMapKeyRef")),
        ("Secret", ("secret", "secretRef", "secretKeyRef")),
    ):
        for reference in (source[key] for key in keys if key in source):
            if not reference.get("optional"):
                yield kind, reference.get("name") or reference["secretName"]


def test_configuration_is_rendered_or_named_by_the_user_or_made_by_the_job(objects: list[Object], value_set: str) -> None:
    given = {text for _, text in strings(VALUE_SETS[value_set])}
    made = {
        word
        for pods in all_pods(objects)
        if pods.owner["kind"] == "Job"
        for container in pods.containers
        for word in container.spec.get("args") or ()
    }
    for pods in all_pods(objects):
        for kind, name in configuration_of(pods):
            known = references(objects, {"kind": kind, "name": name}) or name in given or (kind == "Secret" and name in made)
            assert known, f"{pods.name} needs {kind}/{name}, which nobody makes"


def test_servers_roll_when_their_configuration_changes(objects: list[Object]) -> None:
    for pods in all_pods(objects):
        # The clients' file is read again by the writer whenever it changes.
        rendered = [
            name
            for kind, name in configuration_of(pods)
            if references(objects, {"kind": kind, "name": name}) and not name.endswith("-clients")
        ]
        if pods.are_servers and rendered:
            annotations = pods.metadata.get("annotations") or {}
            assert any(key.startswith("checksum/") for key in annotations), f"{pods.name} would go on with the old {rendered}"


def test_accounts_exist_and_are_used(objects: list[Object]) -> None:
    there = {account["metadata"]["name"] for account in of_kind(objects, "ServiceAccount")}
    used = {pods.spec["serviceAccountName"] for pods in all_pods(objects) if "serviceAccountName" in pods.spec}
    assert used == there
    for binding in of_kind(objects, "RoleBinding"):
        assert {subject["name"] for subject in binding["subjects"]} <= there
        assert references(objects, binding["roleRef"])


def phases(thing: Object) -> set[str]:
    """The hooks that an object belongs to."""
    return set(filter(None, (thing["metadata"].get("annotations") or {}).get(HOOK, "").replace(" ", "").split(",")))


@pytest.mark.parametrize("phase", ["pre-install", "pre-upgrade"])
def test_hooks_before_an_installation_need_nothing_that_comes_with_it(objects: list[Object], phase: str) -> None:
    def weight(thing: Object) -> int:
        return int((thing["metadata"].get("annotations") or {}).get("helm.sh/hook-weight", "0"))

    for pods in all_pods(objects):
        if phase not in phases(pods.owner):
            continue
        needed = [{"kind": kind, "name": name} for kind, name in configuration_of(pods)]
        account = pods.spec.get("serviceAccountName")
        needed += [{"kind": "ServiceAccount", "name": account}] if account else []
        needed += [binding["roleRef"] for binding in of_kind(objects, "RoleBinding") if account in {s["name"] for s in binding["subjects"]}]
        for thing in (found for reference in needed for found in references(objects, reference)):
            assert phase in phases(thing), f"{pods.name} runs before {name_of(thing)} is there"
            assert weight(thing) < weight(pods.owner), f"{name_of(thing)} must come before {pods.name}"


def test_hooks_can_run_again(objects: list[Object]) -> None:
    """A Job cannot be changed: the old one goes before the new one comes."""
    for thing in objects:
        if phases(thing):
            policy = thing["metadata"]["annotations"].get("helm.sh/hook-delete-policy", "before-hook-creation")
            assert "before-hook-creation" in policy, name_of(thing)
    for job in of_kind(objects, "Job"):
        # Helm waits for a hook; any other Job ends when what it waits for is there.
        assert ("activeDeadlineSeconds" in job["spec"]) == bool(phases(job)), name_of(job)
        assert "backoffLimit" in job["spec"], name_of(job)
