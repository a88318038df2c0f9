"""The first start on a fresh machine, and what it says when it cannot go on."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from localstack.layout import ROOT

LOCK = "scripts/requirements.lock"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout without the service; one for all tests, because making its virtual environment takes seconds."""
    root = tmp_path_factory.mktemp("install") / "a checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts" / "localstack", root / "scripts" / "localstack", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    return root


def lock(root: Path, digest: str) -> None:
    (root / LOCK).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")


def install(root: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(root / "scripts" / "localstack" / "install.py"), LOCK]
    quick = {"PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "2", "PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
    return subprocess.run(command, env={**os.environ, **quick, **env}, capture_output=True, text=True, timeout=100)


def wheel(folder: Path) -> bytes:
    folder.mkdir()
    file = folder / "tiny-1.0-py3-none-any.whl"
    members = {
        "tiny.py": "",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members["tiny-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in (*members, "tiny-1.0.dist-info/RECORD"))
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return file.read_bytes()


def test_no_network_is_one_sentence(checkout: Path) -> None:
    lock(checkout, "0" * 64)
    done = install(checkout, PIP_INDEX_URL="http://127.0.0.1:9/simple")
    assert done.returncode == 1
    assert "check the network" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_another_package_than_the_locked_one_is_not_trusted(checkout: Path, tmp_path: Path) -> None:
    wheel(tmp_path / "wheels")
    lock(checkout, "0" * 64)
    done = install(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert done.returncode == 1
    assert "nothing was trusted" in done.stderr.splitlines()[-1]
    assert not (checkout / ".venv" / "installed.json").exists()


def test_packages_are_installed_as_locked_and_a_failure_after_them_is_named(checkout: Path, tmp_path: Path) -> None:
    digest = hashlib.sha256(wheel(tmp_path / "wheels")).hexdigest()
    lock(checkout, digest)
    done = install(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert "fetching packages: 1 of 1 (tiny" in done.stderr
    assert "installing 1 packages" in done.stderr
    assert subprocess.run([checkout / ".venv" / "bin" / "python", "-c", "import tiny"], timeout=30).returncode == 0
    # This checkout has no service folder, so the project itself cannot be installed.
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("pip could not install the project")


@pytest.mark.parametrize("script", ["up", "test"])
def test_a_missing_python_is_one_sentence(tmp_path: Path, script: str) -> None:
    (tmp_path / "dirname").symlink_to(shutil.which("dirname") or "")
    done = subprocess.run(["/bin/sh", ROOT / "scripts" / script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=30)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "Python 3.11 to 3.14" in done.stderr


@pytest.mark.parametrize("script", ["down", "authsvc"])
def test_without_a_stack_the_other_scripts_say_so(tmp_path: Path, script: str) -> None:
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    shutil.copy(ROOT / "scripts" / script, scripts)
    done = subprocess.run([scripts / script], capture_output=True, text=True, timeout=30)
    assert len((done.stdout + done.stderr).splitlines()) == 1
    assert done.returncode == (0 if script == "down" else 1)


def test_scripts_are_short_and_in_the_index() -> None:
    index = (ROOT / "scripts" / "README.md").read_text()
    for script in (file for file in (ROOT / "scripts").iterdir() if file.is_file() and file.suffix != ".md" and file.suffix != ".lock"):
        assert len(script.read_text().splitlines()) <= 30, script.name
        assert f"`{script.name}" in index
