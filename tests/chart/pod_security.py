"""The profile `restricted` of the Pod Security Standards, which contains `baseline`, as rules over the pods of any workload."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from manifests import Object, Pods

Rule = Callable[[Pods], Iterator[str]]
RULES: dict[str, Rule] = {}
"""By the names that the standard has for them."""

SECCOMP = ("RuntimeDefault", "Localhost")
SELINUX_TYPES = ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
VOLUMES = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": (1, 0),
    "net.ipv4.ip_local_port_range": (1, 0),
    "net.ipv4.ip_unprivileged_port_start": (1, 0),
    "net.ipv4.tcp_syncookies": (1, 0),
    "net.ipv4.ping_group_range": (1, 0),
    "net.ipv4.ip_local_reserved_ports": (1, 27),
    "net.ipv4.tcp_keepalive_time": (1, 29),
    "net.ipv4.tcp_fin_timeout": (1, 29),
    "net.ipv4.tcp_keepalive_intvl": (1, 29),
    "net.ipv4.tcp_keepalive_probes": (1, 29),
    "net.ipv4.tcp_rmem": (1, 32),
    "net.ipv4.tcp_wmem": (1, 32),
}
"""And the release of Kubernetes from which on the standard allows each."""
OLDEST = (1, 29)
"""The oldest Kubernetes that the chart is for: a sysctl that it does not allow is not safe."""


def violations(pods: Pods) -> list[str]:
    """Each rule that the pods break, with the place; none if a namespace that enforces `restricted` takes them."""
    return [f"{name}: {pods.name}: {place}" for name, rule in RULES.items() for place in rule(pods)]


def _rule(name: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES[name] = rule
        return rule

    return register


def _containers(pods: Pods) -> Iterator[tuple[str, Object]]:
    for key in ("initContainers", "containers", "ephemeralContainers"):
        for container in pods.spec.get(key) or ():
            yield f"{key} {container['name']}", container


def _contexts(pods: Pods) -> Iterator[tuple[str, Object]]:
    """The pod's security context and that of every container."""
    yield "pod", pods.spec.get("securityContext") or {}
    for place, container in _containers(pods):
        yield place, container.get("securityContext") or {}


def _effective(pods: Pods, key: str) -> Iterator[tuple[str, Any]]:
    """A field that a container has from its pod when it says nothing itself."""
    inherited = (pods.spec.get("securityContext") or {}).get(key)
    for place, container in _containers(pods):
        own = (container.get("securityContext") or {}).get(key)
        yield place, inherited if own is None else own


@_rule("HostProcess")
def _host_process(pods: Pods) -> Iterator[str]:
    return (place for place, context in _contexts(pods) if (context.get("windowsOptions") or {}).get("hostProcess"))


@_rule("Host Namespaces")
def _host_namespaces(pods: Pods) -> Iterator[str]:
    return (key for key in ("hostNetwork", "hostPID", "hostIPC") if pods.spec.get(key))


@_rule("Privileged Containers")
def _privileged(pods: Pods) -> Iterator[str]:
    return (place for place, context in _contexts(pods) if context.get("privileged"))


@_rule("Host Ports")
def _host_ports(pods: Pods) -> Iterator[str]:
    return (place for place, container in _containers(pods) for port in container.get("ports") or () if port.get("hostPort"))


@_rule("Host Probes / Lifecycle Hooks")
def _host_probes(pods: Pods) -> Iterator[str]:
    for place, container in _containers(pods):
        lifecycle = container.get("lifecycle") or {}
        handlers = {key: container.get(key) for key in ("startupProbe", "readinessProbe", "livenessProbe")}
        handlers |= {key: lifecycle.get(key) for key in ("postStart", "preStop")}
        for key, handler in handlers.items():
            if any(((handler or {}).get(action) or {}).get("host") for action in ("httpGet", "tcpSocket")):
                yield f"{place} {key}"


@_rule("AppArmor")
def _apparmor(pods: Pods) -> Iterator[str]:
    for key, value in (pods.metadata.get("annotations") or {}).items():
        if (
            key.startswith("container.apparmor.security.beta.kubernetes.io/")
            and value != "runtime/default"
            and not value.startswith("localhost/")
        ):
            yield f"annotation {key}"
    for place, context in _contexts(pods):
        if (context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") not in SECCOMP:
            yield place


@_rule("SELinux")
def _selinux(pods: Pods) -> Iterator[str]:
    for place, context in _contexts(pods):
        options = context.get("seLinuxOptions") or {}
        if options.get("type", "") not in SELINUX_TYPES or options.get("user") or options.get("role"):
            yield place


@_rule("/proc Mount Type")
def _proc_mount(pods: Pods) -> Iterator[str]:
    return (place for place, context in _contexts(pods) if context.get("procMount", "Default") != "Default")


@_rule("Sysctls")
def _sysctls(pods: Pods) -> Iterator[str]:
    for sysctl in (pods.spec.get("securityContext") or {}).get("sysctls") or ():
        since = SAFE_SYSCTLS.get(sysctl["name"])
        if since is None or since > OLDEST:
            yield sysctl["name"]


@_rule("Volume Types")
def _volumes(pods: Pods) -> Iterator[str]:
    return (f"volume {volume['name']}" for volume in pods.spec.get("volumes") or () if not set(volume) - {"name"} <= set(VOLUMES))


@_rule("Privilege Escalation")
def _escalation(pods: Pods) -> Iterator[str]:
    for place, container in _containers(pods):
        if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False:
            yield place


@_rule("Running as Non-root")
def _non_root(pods: Pods) -> Iterator[str]:
    return (place for place, value in _effective(pods, "runAsNonRoot") if value is not True)


@_rule("Running as Non-root user")
def _non_root_user(pods: Pods) -> Iterator[str]:
    return (place for place, context in _contexts(pods) if context.get("runAsUser") == 0)


@_rule("Seccomp")
def _seccomp(pods: Pods) -> Iterator[str]:
    for place, profile in _effective(pods, "seccompProfile"):
        if (profile or {}).get("type") not in SECCOMP:
            yield place


@_rule("Capabilities")
def _capabilities(pods: Pods) -> Iterator[str]:
    for place, container in _containers(pods):
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or ()) or set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
            yield place
