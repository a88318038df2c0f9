"""The rules of `restricted` each catch what they are for, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from manifests import Object, all_pods
from pod_security import RULES, violations

CONTEXT = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
GOOD: Object = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "good"},
    "spec": {
        "selector": {"matchLabels": {"app": "good"}},
        "template": {
            "metadata": {
                "labels": {"app": "good"},
                "annotations": {"container.apparmor.security.beta.kubernetes.io/main": "runtime/default"},
            },
            "spec": {
                "securityContext": {
                    "runAsNonRoot": True,
                    "seccompProfile": {"type": "RuntimeDefault"},
                    "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1024 65535"}],
                },
                "initContainers": [{"name": "first", "image": "first", "securityContext": CONTEXT}],
                "containers": [{"name": "main", "image": "main", "ports": [{"containerPort": 8080}], "securityContext": CONTEXT}],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            },
        },
    },
}
BAD: list[tuple[str, str, Any]] = [
    ("HostProcess", "securityContext.windowsOptions", {"hostProcess": True}),
    ("HostProcess", "containers.0.securityContext.windowsOptions", {"hostProcess": True}),
    ("Host Namespaces", "hostNetwork", True),
    ("Host Namespaces", "hostPID", True),
    ("Host Namespaces", "hostIPC", True),
    ("Privileged Containers", "containers.0.securityContext.privileged", True),
    ("Host Ports", "containers.0.ports", [{"containerPort": 80, "hostPort": 80}]),
    ("Host Probes / Lifecycle Hooks", "containers.0.livenessProbe", {"httpGet": {"port": 80, "host": "10.0.0.1"}}),
    ("Host Probes / Lifecycle Hooks", "containers.0.lifecycle", {"preStop": {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}}),
    ("AppArmor", "securityContext.appArmorProfile", {"type": "Unconfined"}),
    ("AppArmor", "../metadata.annotations", {"container.apparmor.security.beta.kubernetes.io/main": "unconfined"}),
    ("SELinux", "securityContext.seLinuxOptions", {"type": "spc_t"}),
    ("SELinux", "containers.0.securityContext.seLinuxOptions", {"user": "system_u"}),
    ("/proc Mount Type", "containers.0.securityContext.procMount", "Unmasked"),
    ("Sysctls", "securityContext.sysctls", [{"name": "net.core.somaxconn", "value": "65535"}]),
    ("Sysctls", "securityContext.sysctls", [{"name": "net.ipv4.tcp_rmem", "value": "4096 87380 1048576"}]),
    ("Volume Types", "volumes", [{"name": "node", "hostPath": {"path": "/"}}]),
    ("Volume Types", "volumes", [{"name": "share", "nfs": {"server": "10.0.0.1", "path": "/"}}]),
    ("Privilege Escalation", "initContainers.0.securityContext.allowPrivilegeEscalation", None),
    ("Privilege Escalation", "containers.0.securityContext.allowPrivilegeEscalation", True),
    ("Running as Non-root", "securityContext.runAsNonRoot", None),
    ("Running as Non-root", "containers.0.securityContext.runAsNonRoot", False),
    ("Running as Non-root user", "securityContext.runAsUser", 0),
    ("Running as Non-root user", "containers.0.securityContext.runAsUser", 0),
    ("Seccomp", "securityContext.seccompProfile", None),
    ("Seccomp", "containers.0.securityContext.seccompProfile", {"type": "Unconfined"}),
    ("Capabilities", "containers.0.securityContext.capabilities", None),
    ("Capabilities", "initContainers.0.securityContext.capabilities", {"drop": ["NET_RAW"]}),
    ("Capabilities", "containers.0.securityContext.capabilities", {"drop": ["ALL"], "add": ["NET_ADMIN"]}),
]


def changed(path: str, value: Any) -> Object:
    """The good pods with one field set, or left out for None; a path begins at the pods' spec, or with `../` at their template."""
    thing: Object = json.loads(json.dumps(GOOD))  # a copy in which nothing is shared
    node: Any = thing["spec"]["template"] if path.startswith("../") else thing["spec"]["template"]["spec"]
    *way, last = path.removeprefix("../").split(".")
    for key in way:
        node = node[int(key)] if key.isdigit() else node[key]
    if value is None:
        del node[last]
    else:
        node[last] = value
    return thing


def test_good_pods_break_no_rule() -> None:
    (pods,) = all_pods([GOOD])
    assert violations(pods) == []


@pytest.mark.parametrize(("rule", "path", "value"), BAD)
def test_bad_pods_break_their_rule_alone(rule: str, path: str, value: Any) -> None:
    (pods,) = all_pods([changed(path, value)])
    assert {found.partition(":")[0] for found in violations(pods)} == {rule}


def test_every_rule_is_tried() -> None:
    assert {rule for rule, _, _ in BAD} == set(RULES)


@pytest.mark.parametrize("kind", ["Job", "CronJob", "StatefulSet", "DaemonSet", "Pod"])
def test_pods_of_every_kind_are_found(kind: str) -> None:
    template = changed("hostPID", True)["spec"]["template"]
    spec = {"template": template}
    specs = {"CronJob": {"jobTemplate": {"spec": spec}}, "Pod": template["spec"]}
    (pods,) = all_pods([{"kind": kind, "metadata": {"name": "bad"}, "spec": specs.get(kind, spec)}])
    assert violations(pods) == [f"Host Namespaces: {kind}/bad: hostPID"]
