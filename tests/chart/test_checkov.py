"""Checkov finds nothing in the render but what is exempt with a reason, and no exemption is idle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest
from rendering import rendered_text
from tools import CACHE
from value_sets import API_VERSIONS, VALUE_SETS

LOCK = Path(__file__).with_name("checkov.lock")
EXEMPTIONS = tomllib.loads(Path(__file__).with_name("checkov_exemptions.toml").read_text())
VENV = CACHE / f"checkov-{sys.version_info[0]}.{sys.version_info[1]}"

pytestmark = [
    pytest.mark.skipif("TEST_CHECKOV" not in os.environ, reason="checkov is 290 MB: TEST_CHECKOV=1 installs and runs it, as CI does"),
    pytest.mark.timeout(600),
]


@pytest.fixture(scope="module")
def checkov() -> Path:
    """Checkov's own environment, from its own lock: its pins do not go together with the project's."""
    stamp = VENV / "installed.lock"
    if not stamp.exists() or stamp.read_bytes() != LOCK.read_bytes():
        venv.create(VENV, clear=True, symlinks=True, with_pip=True)
        options = ["--disable-pip-version-check", "--quiet", "--require-hashes", "-r", str(LOCK)]
        done = subprocess.run([VENV / "bin" / "pip", "install", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"checkov could not be installed from {LOCK.name}: {done.stderr.strip()[-300:]}", pytrace=False)
        stamp.write_bytes(LOCK.read_bytes())
    return VENV / "bin" / "checkov"


@pytest.fixture(scope="module")
def failed(checkov: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The objects that fail, by check; over all sets of values at once, since starting checkov takes longest."""
    folder = tmp_path_factory.mktemp("renders")
    for number, values in enumerate(VALUE_SETS.values()):
        (folder / f"{number}.yaml").write_text(rendered_text(values, apis=API_VERSIONS))
    call = [str(checkov), "--directory", str(folder), "--framework", "kubernetes", "--skip-download", "--compact", "--output", "json"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    results = json.loads(done.stdout)["results"]
    assert results["parsing_errors"] == []
    found: dict[str, set[str]] = {}
    for check in results["failed_checks"]:
        found.setdefault(check["check_id"], set()).add(check["resource"])
    return found


def test_nothing_fails_that_is_not_exempt(failed: dict[str, set[str]]) -> None:
    assert {check: sorted(where) for check, where in failed.items() if check not in EXEMPTIONS} == {}


def test_every_exemption_is_needed(failed: dict[str, set[str]]) -> None:
    assert set(EXEMPTIONS) - set(failed) == set()
