"""The image's recipe: clean, of this release, and without nothing that is needed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from authsvc import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILE, LOAD_DOCKERFILE = ROOT / "service" / "Dockerfile", ROOT / "loadtest" / "Dockerfile"
LOCK = ROOT / "service" / "requirements.lock"
TEXT = DOCKERFILE.read_text(encoding="utf-8")


def statements(text: str) -> list[str]:
    return re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()


STATEMENTS = statements(TEXT)


def needed_by() -> dict[str, set[str]]:
    """Who asks for each package of the lock file."""
    entries = re.split(r"^(?=[a-z0-9-]+==)", LOCK.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    asking = re.compile(r"^    # +(?:via )?(?!via$)([a-z][a-z0-9-]*)", re.MULTILINE)
    return {entry.partition("==")[0]: set(asking.findall(entry)) for entry in entries}


@pytest.mark.parametrize("file", [DOCKERFILE, LOAD_DOCKERFILE], ids=["service", "loadtest"])
def test_the_linter_has_nothing_to_say(file: Path) -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_is_labelled_with_the_version_of_the_package() -> None:
    assert f'org.opencontainers.image.version="{__version__}"' in TEXT


def test_both_stages_have_the_python_whose_packages_are_cut() -> None:
    bases = re.findall(r"^FROM python:([\d.]+)-slim", TEXT, re.MULTILINE)
    folders = re.findall(r"lib/python([\d.]+)/", TEXT)
    assert len(bases) == 2
    assert {*bases, *folders} == {bases[0]}


def test_whoever_runs_it_is_nobody_in_particular() -> None:
    assert re.findall(r"^USER (.*)$", TEXT, re.MULTILINE) == ["10001:10001"]
    assert STATEMENTS[-1] == 'ENTRYPOINT ["authsvc"]'


def test_what_is_cut_is_needed_by_nothing_that_stays() -> None:
    (words,) = re.findall(r"uninstall --yes ([^&]*)&&", " ".join(STATEMENTS))
    cut, asking = set(words.split()), needed_by()
    assert asking["uvicorn"] == {"authsvc", "uvicorn-worker"}, "the lock file is read rightly"
    assert cut <= asking.keys()
    for package in cut:
        assert asking[package] <= cut | {"kubernetes"}, package


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    lines = STATEMENTS + statements(LOAD_DOCKERFILE.read_text(encoding="utf-8"))
    copied = {word for line in lines if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]}
    kept = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    assert copied == kept
    assert all((ROOT / path).exists() for path in copied)
