"""k8s/ is what the chart renders for its profiles now, and kustomize takes it."""

from __future__ import annotations

import subprocess

import pytest
import yaml
from manifests import all_pods
from pod_security import violations
from tools import HELM, KUBECTL, path_of

from chart.profiles import K8S, manifests, profiles


def test_the_profiles() -> None:
    assert profiles() == ["four-instances", "laptop", "oracle-production"]
    assert sorted(path.name for path in K8S.iterdir() if path.is_dir()) == sorted([*profiles(), "values"])


@pytest.mark.parametrize("profile", profiles())
def test_a_profile_is_as_it_would_be_rendered(profile: str) -> None:
    files = manifests(path_of(HELM), profile)
    assert {file.name for file in files} == {file.name for file in (K8S / profile).iterdir()}, "run scripts/generate-k8s"
    for file, text in files.items():
        assert file.read_text(encoding="utf-8") == text, "run scripts/generate-k8s"


@pytest.mark.parametrize("profile", profiles())
def test_kustomize_builds_it_with_nothing_of_helm(profile: str) -> None:
    words = [str(path_of(KUBECTL)), "kustomize", str(K8S / profile)]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    objects = [found for found in yaml.safe_load_all(text) if found]
    assert len(objects) == len(list((K8S / profile).iterdir())) - 1
    assert "helm" not in text.lower()
    assert [found for pods in all_pods(objects) for found in violations(pods)] == []
