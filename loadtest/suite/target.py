"""What a suite is run against: the local stack, or any service whose address and clients are named; and the environment that this makes."""

from __future__ import annotations

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from authsvc import __version__
from localstack.servers import find_nginx, find_redis
from localstack.statefile import read_state
from outcome.clients import Credentials
from outcome.run import RunError
from outcome.verdict import MACHINE
from suite.clients import clients_of_stack
from traffic.observer import Observer
from traffic.stack import StackObserver

Environment = dict[str, str | int | float]


@dataclass(frozen=True)
class Target:
    """A service, and two clients of it."""

    url: str
    clients_file: Path
    stack_file: Path | None
    environment: Environment
    version: str = ""

    def observer(self) -> Observer | None:
        """Who looks at its processes, where they are at hand."""
        return None if self.stack_file is None else StackObserver(self.stack_file)

    def around(self) -> dict[str, object]:
        """What a run must be told of it."""
        known: dict[str, object] = {"url": self.url, "clients_file": self.clients_file, "environment": self.environment}
        return known if self.stack_file is None else known | {"stack": self.stack_file}

    def credentials(self) -> Credentials:
        """Of its two clients."""
        return Credentials.model_validate_json(self.clients_file.read_bytes())


@contextmanager
def local_stack(run_dir: Path, folder: Path) -> Iterator[Target]:
    """The stack that runs in this folder, with two clients for the time."""
    state = read_state(run_dir / "stack.json")
    if state is None:
        raise RunError("The stack is not up: start it with scripts/up, or name a service with --url and --clients.")
    servers: Environment = {
        "target": "local stack",
        "instances": len(state["instances"]),
        "redis": find_redis().version,
        "nginx": find_nginx().version,
    }
    with clients_of_stack(run_dir, f"load-{secrets.token_hex(4)}", folder) as clients_file:
        yield Target(state["base_url"], clients_file, run_dir / "stack.json", _generator() | servers, __version__)


def elsewhere(url: str, clients_file: Path, words: list[str]) -> Target:
    """A service that somebody else runs; `words` are NAME=VALUE of its environment, which only they know."""
    if not all("=" in word for word in words):
        raise RunError("--environment takes NAME=VALUE.")
    try:
        Credentials.model_validate(json.loads(clients_file.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        wanted = ", ".join(Credentials.model_fields)
        raise RunError(f"{clients_file} does not hold the credentials of two clients (JSON with {wanted}).") from error
    named: Environment = {name: value for name, _, value in (word.partition("=") for word in words)}
    return Target(url.rstrip("/"), clients_file.absolute(), None, _generator() | {"target": url} | named)


def _generator() -> Environment:
    return {
        "python": platform.python_version(),
        "locust": version("locust"),
        "machine": f"{platform.system()} {platform.machine()}, {_processor()}",
        MACHINE: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor() or "unknown CPU")
