"""Makes and updates `.venv` from a hashed lock file, showing how far it is.

Run by its path with the machine's own Python, before anything is installed: it uses the standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
WHOLE_LOCK = "tests/requirements.lock"
"""The lock that holds everything: whatever else is asked for is there too, and is not installed over it."""
PYTHONS = ((3, 11), (3, 15))
_STAMP = VENV / "installed.json"
_FREE_BYTES = 700 * 1024 * 1024
_REASONS = (
    (r"No space left on device", "The disk that holds {root} is full: free 700 MB and run it again."),
    (r"DO NOT MATCH THE HASHES", "A downloaded package is not the one that {what} names: nothing was trusted; look at {log}."),
    (
        r"Retrying \(|NewConnectionError|ConnectionError|Connection refused|name resolution|ConnectTimeout|ProxyError",
        "The packages could not be downloaded: check the network and run it again; {log} has the details.",
    ),
)


class InstallError(Exception):
    """Says in one sentence why the environment could not be made."""


def main(lock: str) -> None:
    """Make `.venv` hold what the lock names; returns at once when it does already."""
    # One at a time: two first starts at once would write into the same folder.
    with (ROOT / lock).open(encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if _installed(lock):
            return
        if shutil.disk_usage(ROOT).free < _FREE_BYTES:
            raise InstallError(_REASONS[0][1].format(root=ROOT))
        _make_venv()
        _STAMP.unlink(missing_ok=True)
        packages = len(re.findall(r"^[A-Za-z0-9]\S*==", file.read(), re.MULTILINE))
        _pip(["--require-hashes", "-r", str(ROOT / lock)], lock, packages)
        _pip(["--no-deps", "--no-build-isolation", "--editable", str(ROOT)], "the project", 0)
        _STAMP.write_text(json.dumps({lock: _fingerprint(lock)}), encoding="utf-8")
        _say("")


def _installed(lock: str) -> bool:
    try:
        stamp = json.loads(_STAMP.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return PYTHON.exists() and any(stamp.get(name) == _fingerprint(name) for name in (lock, WHOLE_LOCK))


def _fingerprint(lock: str) -> str:
    """Changes with the packages, the project's own metadata and the folder it is installed from."""
    parts = ((ROOT / lock).read_bytes(), (ROOT / "pyproject.toml").read_bytes(), str(ROOT).encode())
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _make_venv() -> None:
    if PYTHON.exists() and _runs():
        return
    # Some systems ship Python without them; an emptied folder is found, but has no file to come from.
    for module in ("venv", "ensurepip"):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
            raise InstallError(f"This Python lacks its module {module}, so it cannot make .venv: install it (Debian, Ubuntu: {package}).")
    import venv

    _say("making .venv")
    try:
        venv.create(VENV, clear=True, symlinks=True, with_pip=True)
    except subprocess.CalledProcessError as error:
        raise InstallError(f"The virtual environment could not be made: {_last_line(str(error.output or error))}") from error


def _runs() -> bool:
    check = f"import sys; sys.exit(not {PYTHONS[0]} <= sys.version_info[:2] < {PYTHONS[1]})"
    return subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode == 0  # noqa: S603 - our own interpreter


def _pip(arguments: list[str], what: str, packages: int) -> None:
    log = VENV / "install.log"
    command = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off", *arguments]
    output: list[str] = []
    found = 0
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:  # noqa: S603 - our own command
        assert pip.stdout is not None
        for line in pip.stdout:
            output.append(line)
            if named := re.match(r"(?:Collecting |Requirement already satisfied: |Processing (?:[^(]*/)?)([\w.-]+)", line):
                found += 1
                _say(f"fetching packages: {found} of {max(packages, found)} ({named[1]})")
            elif line.startswith("Installing collected packages"):
                _say(f"installing {found} packages" if found else "installing the project")
            elif "Retrying (" in line:
                _say("the package index does not answer, trying again")
    log.write_text("".join(output), encoding="utf-8")
    if pip.returncode:
        raise InstallError(_reason("".join(output), what, log))


def _reason(output: str, what: str, log: Path) -> str:
    """pip's many lines as one sentence."""
    for pattern, sentence in _REASONS:
        if re.search(pattern, output):
            return sentence.format(root=ROOT, what=what, log=log)
    first = re.search(r"^ *error: *(.+)", output, re.MULTILINE | re.IGNORECASE)
    return f"pip could not install {what}: {first[1] if first else _last_line(output)}; {log} has the details."


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it gave no reason")


def _say(step: str) -> None:
    """Show the present step: in place on a terminal, else as a line of its own."""
    if sys.stderr.isatty():
        print(f"\r\033[K{step}", end="", file=sys.stderr, flush=True)
    elif step:
        print(step, file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except InstallError as error:
        _say("")
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _say("")
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(f"{error.strerror}: {error.filename or ROOT}.")
