"""Two releases in two namespaces, of the chart as it was before its last change, upgraded under load and rolled back."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from release import CHART, SMALL_RELEASE, Release

from localstack.layout import ROOT

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]


def git(*words: str) -> bytes:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.fixture(scope="module")
def previous_chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The newest chart of the history that is not the present one."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("The chart's history is needed: this is no git repository, or git is missing.")
    folder = str(CHART.relative_to(ROOT))
    for commit in git("log", "--format=%H", "--", folder).decode().split():
        differs = subprocess.run(["git", "diff", "--quiet", commit, "--", folder], cwd=ROOT).returncode
        if differs and git("ls-tree", commit, f"{folder}/Chart.yaml"):
            target = tmp_path_factory.mktemp("previous")
            with tarfile.open(fileobj=io.BytesIO(git("archive", commit, folder))) as archive:
                archive.extractall(target, filter="data")
            return target / folder
    pytest.skip("The chart has one revision in this repository's history.")


@pytest.fixture(scope="module")
def releases(volumes: None, previous_chart: Path) -> Iterator[tuple[Release, Release]]:
    made = Release(previous_chart), Release(previous_chart)
    yield made
    for each in made:
        each.delete()


def test_two_namespaces_have_releases_of_one_name(releases: tuple[Release, Release]) -> None:
    for release in releases:
        release.helm("install", **SMALL_RELEASE)
    for release in releases:
        assert release.trial().count("use it again") == 2


def test_an_upgrade_from_the_previous_chart_and_the_way_back_under_load(releases: tuple[Release, Release]) -> None:
    release, other = releases
    secret = release.add_client("load")
    release.chart = CHART
    with release.load("load", secret, threads=2) as result:
        release.helm("upgrade", **SMALL_RELEASE)
        for component in ("auth", "nginx"):
            release.rolled("deployment", component)
        assert release.trial().count("use it again") == 2
        release.rollback()
        for component in ("auth", "nginx"):
            release.rolled("deployment", component)
    assert result["failures"] == [], result
    assert result["counts"]["/token"] > 50, result
    assert other.trial().count("use it again") == 2
