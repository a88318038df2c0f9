"""Volumes of a cluster that provisions none: folders of the node that belong to root and are used once. `python volumes.py` opens them."""

from __future__ import annotations

import json

from release import IMAGE, Namespace, run
from tools import KUBECTL

from servers import wait_until


def open_volumes() -> None:
    """Where volumes are folders of the node that nobody provisions, they belong to root and are used once: empty and open them."""
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


if __name__ == "__main__":
    open_volumes()
