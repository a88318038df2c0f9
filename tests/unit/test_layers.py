"""The floors of the design: each module imports only what stands below it, and each driver has one home."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from servers import service_environ

ROOT = Path(__file__).parents[2] / "service"
LONGEST_MODULE_LINES = 300

FLOORS = {
    "authsvc": 0,
    "authsvc.model": 0,
    "authsvc.errors": 0,
    "authsvc.settings": 0,
    "authsvc.credentials": 1,
    "authsvc.metrics": 1,
    "authsvc.vitals": 1,
    "authsvc.admission": 1,
    "authsvc.logs": 1,
    "authsvc.profiling": 1,
    "authsvc.promise": 1,
    "authsvc.live": 2,
    "authsvc.records": 2,
    "authsvc.tokens": 3,
    "authsvc.clients": 3,
    "authsvc.writer": 3,
    "authsvc.reconcile": 3,
    "authsvc.http": 4,
    "authsvc.commands": 5,
    "authsvc.__main__": 6,
}
PACKAGES = ("authsvc.live", "authsvc.records", "authsvc.http", "authsvc.commands")
"""Their modules stand on one floor and may import each other."""

SAME_FLOOR = {
    ("authsvc.admission", "authsvc.metrics"): "what is let in and what is refused is counted",
    ("authsvc.metrics", "authsvc.vitals"): "an instance's registry holds what every process tells of itself",
    ("authsvc.admission", "authsvc.promise"): "a request waits for its turn as it waits for a reply",
    ("authsvc.settings", "authsvc.errors"): "a bad setting is an OperatorError",
}

DRIVERS = {
    "redis": ("authsvc.live",),
    "hiredis": ("authsvc.live",),
    "sqlite3": ("authsvc.records",),
    "sqlalchemy": ("authsvc.records",),
    "alembic": ("authsvc.records",),
    "oracledb": ("authsvc.records",),
    "fastapi": ("authsvc.http", "authsvc.commands"),
    "starlette": ("authsvc.http", "authsvc.commands"),
    "uvicorn": ("authsvc.http", "authsvc.commands"),
    "uvicorn_worker": ("authsvc.http", "authsvc.commands"),
    "gunicorn": ("authsvc.http", "authsvc.commands"),
    "kubernetes": ("authsvc.commands",),
}
CATCHES_REDIS_ERROR = {
    "authsvc.clients": "a change that is stored goes on being mirrored while Redis is out of reach",
    "authsvc.writer": "a batch waits while Redis is out of reach",
    "authsvc.commands.write": "a part of the writer fails and is tried again",
    "authsvc.commands.writer": "a command says in one sentence that Redis is out of reach",
}
"""The only modules above the live floor that know redis-py, and nothing of it but this exception."""


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted((ROOT / "authsvc").rglob("*.py"))}


def imports_of(module: str) -> set[str]:
    """Everything that a module imports, wherever in it the import stands; names of our own are resolved to modules."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: imports are absolute"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in MODULES or not node.module.startswith("authsvc") else node.module)
    return found


IMPORTS = {module: imports_of(module) for module in MODULES}
OURS = {module: {name for name in imported if name.split(".")[0] == "authsvc"} for module, imported in IMPORTS.items()}


def package(module: str) -> str | None:
    return next((name for name in PACKAGES if module == name or module.startswith(f"{name}.")), None)


def floor(module: str) -> int:
    return FLOORS[package(module) or module]


def may_import(module: str, other: str) -> bool:
    own = package(module)
    return floor(other) < floor(module) or (own is not None and package(other) == own) or (module, other) in SAME_FLOOR


def test_there_is_something_to_check() -> None:
    assert {"authsvc.tokens", "authsvc.live.pipeline", "authsvc.commands.serve"} <= set(MODULES)
    assert "authsvc.live.directory" in OURS["authsvc.tokens"]
    assert "redis.exceptions.RedisError" in IMPORTS["authsvc.writer"]


@pytest.mark.parametrize("module", MODULES)
def test_every_module_has_a_floor(module: str) -> None:
    assert package(module) is not None or module in FLOORS, f"{module} stands nowhere: give it a floor here and in the design"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_below_it(module: str) -> None:
    wrong = sorted(other for other in OURS[module] if not may_import(module, other))
    assert not wrong, f"{module} (floor {floor(module)}) imports {', '.join(f'{other} (floor {floor(other)})' for other in wrong)}"


def test_exemptions_are_in_use() -> None:
    assert all(other in OURS[module] for module, other in SAME_FLOOR)
    assert all("redis.exceptions.RedisError" in IMPORTS[module] for module in CATCHES_REDIS_ERROR)


def test_live_and_records_never_import_each_other() -> None:
    for module, others in OURS.items():
        if package(module) in ("authsvc.live", "authsvc.records"):
            assert {package(other) for other in others} <= {package(module), None}, module


def test_nobody_imports_the_commands() -> None:
    for module, others in OURS.items():
        if package(module) != "authsvc.commands" and module != "authsvc.__main__":
            assert not any(package(other) == "authsvc.commands" for other in others), module


def test_there_are_no_cycles() -> None:
    try:
        TopologicalSorter(OURS).prepare()
    except CycleError as error:
        pytest.fail(f"modules import each other: {' -> '.join(error.args[1])}")


@pytest.mark.parametrize("module", MODULES)
def test_a_driver_is_imported_only_where_it_belongs(module: str) -> None:
    for imported in IMPORTS[module]:
        homes = DRIVERS.get(imported.split(".")[0])
        if homes is None or package(module) in homes:
            continue
        assert imported == "redis.exceptions.RedisError", f"{module} imports {imported}, which belongs to {' and '.join(homes)}"
        assert module in CATCHES_REDIS_ERROR, f"{module} catches RedisError: say why in CATCHES_REDIS_ERROR"


def test_a_start_does_not_pay_for_what_two_commands_need() -> None:
    code = "import sys, authsvc.commands.main, authsvc.commands.serve, authsvc.commands.write; print('kubernetes' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=service_environ(), capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize("module", MODULES)
def test_every_module_opens_with_a_sentence(module: str) -> None:
    docstring = ast.get_docstring(ast.parse(MODULES[module].read_text(encoding="utf-8")))
    assert docstring, f"{module} has no docstring"
    assert docstring.splitlines()[0].endswith("."), f"{module}: the first line is no sentence: {docstring.splitlines()[0]}"


@pytest.mark.parametrize("module", MODULES)
def test_no_module_is_long(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST_MODULE_LINES, f"{module} has {lines} lines: split it by reason to change"
