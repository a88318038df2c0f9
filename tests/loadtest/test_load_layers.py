"""The packages of loadtest/: each imports only what it may, and no module grows beyond what one reads at once."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from localstack.layout import ROOT

LOADTEST = ROOT / "loadtest"
LONGEST_MODULE_LINES = 300
MAY_IMPORT = {
    "outcome": set[str](),
    "traffic": {"outcome"},
    "autoscaling": {"outcome"},
    "sizing": {"outcome"},
    "bench": {"outcome", "localstack", "authsvc"},
    "suite": {"outcome", "traffic", "bench", "localstack", "authsvc"},
    "swarm": {"outcome", "localstack", "authsvc"},
    "scaling": {"outcome", "sizing", "swarm", "localstack", "authsvc"},
}
"""What a run gave stands below everything; what runs in the generator's image needs nothing of the service."""
OURS = MAY_IMPORT.keys() | {"localstack", "authsvc", "chart", "generate"}
LOCUST = {"locust", "gevent", "geventhttpclient"}
"""They patch the process that imports them."""
MODULES = sorted(LOADTEST.rglob("*.py"))


def imported(file: Path) -> set[str]:
    """Top names of what a module imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {each.name.partition(".")[0] for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_every_package_has_its_place() -> None:
    assert {file.relative_to(LOADTEST).parts[0] for file in MODULES} == MAY_IMPORT.keys()


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(LOADTEST)))
def test_a_module_imports_what_its_package_may_and_is_short(file: Path) -> None:
    package = file.relative_to(LOADTEST).parts[0]
    assert (imported(file) & OURS) - MAY_IMPORT[package] - {package} == set()
    assert not imported(file) & LOCUST or file.name in ("locustfile.py", "users.py")
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE_LINES
