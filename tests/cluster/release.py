"""A release of the chart in a namespace of its own, as the tests handle it: helm, kubectl, waits, and a load from inside."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, ClassVar

import yaml
from tools import HELM, KUBECTL, path_of

from authsvc import __version__
from localstack.layout import ROOT
from servers import assert_holds_no_secret, wait_until

IMAGE = os.environ.get("TEST_IMAGE", f"docker.io/library/auth-service:{__version__}")
CHART = ROOT / "charts" / "auth-service"
LOAD = Path(__file__).with_name("load.py")
ROLL_SECONDS = 240.0
SMALL = {"requests": {"cpu": "20m", "memory": "96Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}}

SMALL_RELEASE = {
    "auth": {"autoscaling": {"enabled": False}, "replicas": 2, "resources": SMALL},
    "nginx": {"autoscaling": {"enabled": False}, "replicas": 1, "resources": SMALL, "dnsTtlSeconds": 5},
    "redis": {"resources": SMALL | {"limits": {"cpu": "1", "memory": "512Mi"}}, "persistence": {"size": "1Gi"}},
    "writer": {"resources": SMALL},
    "capacity": {"tokensPerSecond": 10},
}


def run(program: Any, *words: str, stdin: str | None = None) -> str:
    """What helm or kubectl prints; AssertionError with its complaint if it fails."""
    done = subprocess.run([str(path_of(program)), *words], input=stdin, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{program.name} {' '.join(words)}: {done.stderr or done.stdout}"
    return done.stdout


def known(values: dict[str, Any], of_chart: dict[str, Any]) -> dict[str, Any]:
    """The values without those that the chart has not; what is empty there takes anything."""
    found = {}
    for name, value in values.items():
        default = of_chart.get(name)
        if isinstance(value, dict) and isinstance(default, dict) and default:
            found[name] = known(value, default)
        elif name in of_chart:
            found[name] = value
    return found


class Namespace:
    """A namespace that ends with the tests that made it. What went on in those that are open is told when a test fails."""

    open: ClassVar[list[Namespace]] = []

    def __init__(self, name: str = "") -> None:
        self.name = name or f"auth-{token_hex(3)}"
        if not name:
            run(KUBECTL, "create", "namespace", self.name)
        self.open.append(self)

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        return run(KUBECTL, "-n", self.name, *words, stdin=stdin)

    def get(self, kind: str, *words: str) -> list[dict[str, Any]]:
        """Objects."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-o", "json", *words))["items"]
        return found

    def describe(self) -> str:
        """Events, pods and the ends of their logs, for whoever reads why a test failed."""
        parts = [["get", "events", "--sort-by=.lastTimestamp"], ["get", "pods", "-o", "wide"], ["describe", "pods"]]
        logs = ["logs", "-l", "app.kubernetes.io/name=auth-service", "--all-containers", "--prefix", "--tail=30", "--ignore-errors"]
        texts = []
        for words in [*parts, logs]:
            with contextlib.suppress(AssertionError):
                texts.append(self.kubectl(*words)[-8000:])
        return "\n".join(texts)

    def all_logs(self) -> str:
        """Whatever the containers of the release have logged that are there now."""
        of_all = ["--all-containers", "--tail=-1", "--max-log-requests=50", "--ignore-errors"]
        return self.kubectl("logs", "-l", "app.kubernetes.io/name=auth-service", *of_all)

    def delete(self) -> None:
        """With all that is in it, once its logs were searched for what nobody may read."""
        try:
            logs = self.all_logs()
        finally:
            self.open.remove(self)
            run(KUBECTL, "delete", "namespace", self.name, "--ignore-not-found", "--timeout=180s")
        assert_holds_no_secret(f"namespace {self.name}", logs)


class Release(Namespace):
    """The chart, installed under the name `auth`: whose service variables would be named AUTH_."""

    name_prefix = "auth-auth-service"
    url = "http://auth-auth-service"

    def __init__(self, chart: Path = CHART) -> None:
        super().__init__()
        self.chart = chart

    def helm(self, command: str, **values: Any) -> str:
        """Install or upgrade with these values, and wait until it is so."""
        repository, _, tag = IMAGE.rpartition(":")
        given = {"image": {"repository": repository, "tag": tag}, **values}
        if self.chart != CHART:
            # An older chart refuses what it does not know.
            given = known(given, yaml.safe_load((self.chart / "values.yaml").read_text()))
        words = [command, "auth", str(self.chart), "-n", self.name, "--wait", "--timeout", f"{ROLL_SECONDS:.0f}s", "-f", "-"]
        return run(HELM, *words, stdin=json.dumps(given))

    def rollback(self) -> None:
        """Back to the revision before."""
        run(HELM, "rollback", "auth", "-n", self.name, "--wait", "--timeout", f"{ROLL_SECONDS:.0f}s")

    def manifest(self, kind: str) -> list[dict[str, Any]]:
        """What Helm has applied of a kind."""
        found = yaml.safe_load_all(run(HELM, "get", "manifest", "auth", "-n", self.name))
        return [each for each in found if each and each["kind"] == kind]

    def trial(self) -> str:
        """`helm test`."""
        return run(HELM, "test", "auth", "-n", self.name, "--logs")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The component's pods that are not on their way out."""
        found = self.get("pods", "-l", f"app.kubernetes.io/instance=auth,app.kubernetes.io/component={component}")
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def names(self, component: str) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.pods(component)]

    def ready(self, component: str) -> int:
        """How many of them are ready."""
        return sum(
            any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
            for pod in self.pods(component)
        )

    def wait_ready(self, component: str, number: int) -> None:
        wait_until(lambda: self.ready(component) == len(self.pods(component)) == number, f"{number} pods of {component}", ROLL_SECONDS)

    def rolled(self, kind: str, component: str) -> None:
        """Wait until a rollout is over, the old pods' end included."""
        self.kubectl("rollout", "status", f"{kind}/{self.name_prefix}-{component}", f"--timeout={ROLL_SECONDS:.0f}s")
        selector = f"app.kubernetes.io/component={component}"
        wait_until(lambda: len(self.get("pods", "-l", selector)) == len(self.pods(component)), "the old pods are gone", ROLL_SECONDS)

    def execute(self, component: str, *words: str) -> str:
        """Run a command in a pod of the component."""
        return self.kubectl("exec", self.names(component)[0], "-c", component, "--", *words)

    def backlog(self) -> int:
        """Entries that wait for the writer, as it tells."""
        entries: int = json.loads(self.execute("writer", "authsvc", "writer", "status", "--json"))["backlog_entries"]
        return entries

    def add_client(self, client_id: str) -> str:
        """Its secret."""
        secret: str = json.loads(self.execute("writer", "authsvc", "client", "add", client_id, "--scope", "read", "--json"))[
            "client_secret"
        ]
        return secret

    @contextlib.contextmanager
    def load(self, client: str, secret: str, threads: int = 4) -> Iterator[dict[str, Any]]:
        """A load through nginx from a pod; when the block is over its counts are in the dictionary. At most ten minutes."""
        name = f"load-{token_hex(3)}"
        program = ["python", "-c", LOAD.read_text(), self.url, client, secret, str(threads), "600"]
        self.kubectl("apply", "-f", "-", stdin=json.dumps(_pod(name, program)))
        result: dict[str, Any] = {}
        try:
            wait_until(lambda: "started" in self.logs(name), "the load has begun", 120)
            yield result
            self.kubectl("exec", name, "--", "python", "-c", "open('/tmp/stop', 'w')")
            wait_until(lambda: self.get_phase(name) in ("Succeeded", "Failed"), "the load is over", 120)
            result.update(json.loads(self.logs(name).splitlines()[-1]))
        finally:
            self.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--ignore-not-found")

    def get_phase(self, pod: str) -> str:
        return self.kubectl("get", "pod", pod, "-o", "jsonpath={.status.phase}")

    def logs(self, pod: str) -> str:
        try:
            return self.kubectl("logs", pod)
        except AssertionError:
            return ""

    def uninstall(self) -> None:
        assert_holds_no_secret(f"namespace {self.name}", self.all_logs())
        run(HELM, "uninstall", "auth", "-n", self.name, "--wait", "--timeout", "180s")


def _pod(name: str, command: Sequence[str]) -> dict[str, Any]:
    security = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "load",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "resources": SMALL,
        "securityContext": security,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    # Under the labels of the trial: the policies let it through to nginx.
    labels = {f"app.kubernetes.io/{key}": value for key, value in {"name": "auth-service", "instance": "auth", "component": "test"}.items()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "restartPolicy": "Never",
            "enableServiceLinks": False,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }
