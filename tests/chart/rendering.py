"""What helm makes of the chart for given values: the objects, or the sentence by which it refuses them."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from tools import CACHE, HELM, Program, path_of

from localstack.layout import ROOT

CHART = ROOT / "charts" / "auth-service"

Object = dict[str, Any]
"""An object of the Kubernetes API, or a part of one."""
Values = Mapping[str, Any]
NONE: Values = {}


@dataclass(frozen=True)
class Release:
    """Where a chart is installed, as far as a render can know: the keywords that every function here takes."""

    helm: Program = HELM
    name: str = "auth"
    namespace: str = "auth"
    kubernetes: str = "1.34"
    apis: tuple[str, ...] = ()
    chart: Path = CHART

    def call(self, command: str) -> tuple[str, ...]:
        """The words of a helm command for this release."""
        offered = [word for api in self.apis for word in ("--api-versions", api)]
        words = {
            "template": (self.name, str(self.chart), "--kube-version", self.kubernetes, *offered),
            "lint": (str(self.chart), "--kube-version", self.kubernetes),
            "install": (self.name, str(self.chart), "--dry-run=client"),
        }
        return (command, *words[command], "--namespace", self.namespace)


def render(values: Values = NONE, *options: str, **release: Any) -> list[Object]:
    """The objects of a release in helm's order, hooks and tests included; they are the caller's own to change."""
    objects: list[Object] = json.loads(_objects(rendered_text(values, *options, **release)))
    return objects


def rendered_text(values: Values = NONE, *options: str, **release: Any) -> str:
    """The same as YAML, as `helm template` prints it."""
    return _accepted(_helm(Release(**release), "template", options, json.dumps(values)))


def refused(values: Values = NONE, *options: str, **release: Any) -> str:
    """The sentence by which the chart refuses these values, without what helm puts around it."""
    done = _helm(Release(**release), "template", options, json.dumps(values))
    assert done.returncode != 0, "helm took these values"
    return _sentence(done.stderr)


def notes(values: Values = NONE, *options: str, **release: Any) -> str:
    """NOTES.txt as the installing user reads it; made without a cluster by helm 4 alone, and for its own Kubernetes version."""
    done = _helm(Release(**release), "install", options, json.dumps(values))
    return _accepted(done).partition("\nNOTES:\n")[2].strip()


def lint(values: Values = NONE, *options: str, **release: Any) -> list[str]:
    """What `helm lint --strict` finds."""
    done = _helm(Release(**release), "lint", ("--strict", *options), json.dumps(values))
    said = done.stdout + done.stderr
    return re.findall(r"^\[(?:WARNING|ERROR)\] .+", said, re.MULTILINE) or ([said] if done.returncode else [])


def run_helm(release: Release, command: str, options: tuple[str, ...], values: str) -> subprocess.CompletedProcess[str]:
    """Helm with an empty home and no cluster, so that nothing of this machine gets into a render; the values come on its standard input."""
    call = [str(path_of(release.helm)), *release.call(command), *options, "--values", "-"]
    environment = {"HOME": str(CACHE / "home"), "KUBECONFIG": "/dev/null"}
    return subprocess.run(call, input=values, env=environment, capture_output=True, text=True, timeout=60, check=False)


_helm = functools.cache(run_helm)
"""Once a session for the same call: the chart does not change while its tests run."""


def _accepted(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"helm refuses these values: {_sentence(done.stderr)}"
    return done.stdout


def _sentence(answer: str) -> str:
    """What the chart itself says: the text of its `fail`, else the schema's complaints."""
    answer = answer.replace("\n\nUse --debug flag to render out invalid YAML", "").strip()
    if failed := re.search(r"execution error at \([^)]*\): (.+)", answer, re.DOTALL):
        return failed[1].strip()
    complaints = re.findall(r"^- (.+)", answer, re.MULTILINE)
    return "; ".join(complaints) if complaints else answer.removeprefix("Error: ")


@functools.cache
def _objects(text: str) -> str:
    """As JSON: every caller gets objects of its own from it, sooner than from YAML."""
    return json.dumps([found for found in yaml.load_all(text, Loader=_StrictLoader) if found])


class _StrictLoader(yaml.CSafeLoader):
    """Refuses a key that is there twice, of which helm and Kubernetes silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        assert not twice, f"{', '.join(twice)} is there twice in one object, at line {node.start_mark.line + 1} of the render"
        return super().construct_mapping(node, deep)
