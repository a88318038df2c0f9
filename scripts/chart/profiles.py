"""k8s/: the chart rendered for each profile, one file an object, for whoever applies manifests without Helm."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
RELEASE = "auth-service"
NAMESPACE = "auth"
KUBERNETES = "1.30.0"
"""The release whose forms are used: from 1.30 on a pod's wait needs no program."""
HEADER = "# Rendered by scripts/generate-k8s from charts/auth-service and {}: change them there.\n"
_OF_HELM = ("helm.sh/", "meta.helm.sh/")
_MANAGED_BY = "app.kubernetes.io/managed-by"


def profiles() -> list[str]:
    """Their names."""
    return sorted(file.stem for file in (K8S / "values").glob("*.yaml"))


def manifests(helm: Path, profile: str) -> dict[Path, str]:
    """Every file of a profile's folder."""
    values = K8S / "values" / f"{profile}.yaml"
    words = ["template", RELEASE, str(ROOT / "charts" / "auth-service"), "--namespace", NAMESPACE, "--skip-tests"]
    done = subprocess.run([helm, *words, "--kube-version", KUBERNETES, "-f", values], capture_output=True, text=True, check=True)  # noqa: S603 - helm, and files of ours
    objects = [_namespace(), *(_without_helm(found) for found in yaml.safe_load_all(done.stdout) if found)]
    header = HEADER.format(values.relative_to(ROOT))
    files = {K8S / profile / _file_name(thing): header + yaml.safe_dump(thing, sort_keys=False, width=140) for thing in objects}
    assert len(files) == len(objects), "two objects of one kind and name"
    kustomization = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    kustomization["resources"] = sorted(file.name for file in files)  # type: ignore[assignment] # a list among texts
    return files | {K8S / profile / "kustomization.yaml": header + yaml.safe_dump(kustomization, sort_keys=False)}


def _namespace() -> dict[str, Any]:
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}


def _file_name(thing: dict[str, Any]) -> str:
    return f"{thing['kind'].lower()}-{thing['metadata']['name']}.yaml"


def _without_helm(node: Any) -> Any:
    """Without the labels and annotations by which Helm knows what is its own."""
    if isinstance(node, dict):
        kept = {key: _without_helm(value) for key, value in node.items() if not str(key).startswith(_OF_HELM) and key != _MANAGED_BY}
        return {key: value for key, value in kept.items() if not (key == "annotations" and value == {})}
    return [_without_helm(value) for value in node] if isinstance(node, list) else node


def main() -> None:
    """Write them all."""
    helm = shutil.which("helm")
    if helm is None:
        sys.exit("helm 4 is needed and not on PATH: install it, for example from https://helm.sh.")
    for profile in profiles():
        shutil.rmtree(K8S / profile, ignore_errors=True)
        (K8S / profile).mkdir()
        for file, text in manifests(Path(helm), profile).items():
            file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
