"""helm: installs and removes the chart of a run, and the release that is loaded where a test has one of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from authsvc import __version__
from localstack.layout import ROOT
from outcome.run import RunError

CHART = ROOT / "charts" / "loadtest"


def install(name: str, namespace: str, values: dict[str, Any]) -> None:
    """Install a run; RunError with helm's own sentence."""
    _helm("install", name, str(CHART), "--namespace", namespace, "--values", "-", given=json.dumps(values))


def upgrade(name: str, namespace: str, chart: Path, values: dict[str, Any]) -> None:
    """Install a release of any chart, or upgrade it to these values, and wait until it is so."""
    _helm(
        "upgrade",
        "--install",
        name,
        str(chart),
        "--namespace",
        namespace,
        "--wait",
        "--timeout",
        "5m",
        "--values",
        "-",
        given=json.dumps(values),
    )


def image(words: str) -> dict[str, str]:
    """Repository and tag of an image, as the charts' values have them; the tag is that of this release where none is named."""
    repository, colon, tag = words.rpartition(":")
    known = (repository, tag) if colon and "/" not in tag else (words, __version__)
    return dict(zip(("repository", "tag"), known, strict=True))


def uninstall(name: str, namespace: str) -> None:
    """Remove a run's objects, but for its results; nothing where there are none."""
    _helm("uninstall", name, "--namespace", namespace, "--ignore-not-found", "--wait", "--timeout", "2m")


def _helm(*words: str, given: str | None = None) -> str:
    program = shutil.which("helm")
    if program is None:
        raise RunError("helm is needed and not on PATH: install it, for example from https://helm.sh.")
    done = subprocess.run([program, *words], input=given, capture_output=True, text=True)
    if done.returncode:
        last = [line for line in done.stderr.splitlines() if line.strip()] or ["it gave no reason"]
        raise RunError(f"helm {words[0]}: {last[-1].removeprefix('Error: ')}")
    return done.stdout
