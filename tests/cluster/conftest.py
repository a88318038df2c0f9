"""What the suite needs of any cluster: KUBECONFIG, the image in it, and volumes that who is not root may write."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from release import IMAGE, Namespace, Release, run
from tools import KUBECTL

from servers import wait_until


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """A failure prints what went on in the namespaces that are open."""
    report = yield
    if report.failed and item.get_closest_marker("cluster"):
        report.sections += [(f"namespace {namespace.name}", namespace.describe()) for namespace in Namespace.open]
    return report


@pytest.fixture(scope="module")
def volumes() -> None:
    """Where volumes are folders of the node that nobody provisions, they belong to root and are used once: empty and open them."""
    if "KUBECONFIG" not in os.environ:
        return
    found = json.loads(run(KUBECTL, "get", "pv", "-o", "json"))["items"]
    free = [volume for volume in found if "hostPath" in volume["spec"] and volume["status"]["phase"] in ("Available", "Released")]
    if not free:
        return
    namespace = Namespace()
    folders = [{"name": f"v{number}", "hostPath": volume["spec"]["hostPath"]} for number, volume in enumerate(free)]
    script = "import os, pathlib, shutil\nfor folder in pathlib.Path('/volumes').iterdir():\n    folder.chmod(0o777)\n"
    script += "    for entry in folder.iterdir():\n        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()\n"
    mounts = [{"name": folder["name"], "mountPath": f"/volumes/{folder['name']}"} for folder in folders]
    container = {
        "name": "open",
        "image": IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", script],
        "volumeMounts": mounts,
    }
    container["securityContext"] = {"runAsUser": 0}
    spec = {"restartPolicy": "Never", "containers": [container], "volumes": folders}
    namespace.kubectl("apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "open"}, "spec": spec}))
    phase = ("get", "pod", "open", "-o", "jsonpath={.status.phase}")
    wait_until(lambda: namespace.kubectl(*phase) == "Succeeded", "the volumes are open", 120)
    for volume in free:
        run(KUBECTL, "patch", "pv", volume["metadata"]["name"], "--type=merge", "-p", '{"spec":{"claimRef":null}}')
    namespace.delete()


@pytest.fixture(scope="module")
def release(volumes: None) -> Iterator[Release]:
    """A namespace for a release; the module's first test installs it."""
    made = Release()
    yield made
    made.delete()
