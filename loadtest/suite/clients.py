"""The two clients of a run: made by the admin command before it, and deleted after it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from localstack.layout import ROOT
from outcome.clients import add_clients
from outcome.run import RunError

_COMMAND_SECONDS = 60


@contextmanager
def clients_of_stack(run_dir: Path, name: str, folder: Path) -> Iterator[Path]:
    """The file with the credentials of two new clients of a local stack, deleted with their tokens in the end."""
    environment = _environment(run_dir)
    made: list[str] = []
    try:
        credentials = add_clients(name, lambda words: _authsvc(words, environment), made.append)
        file = folder / "clients.json"
        file.touch(mode=0o600)
        file.write_text(credentials.model_dump_json(), encoding="utf-8")
        yield file
    finally:
        # A second Ctrl-C must not leave one of them behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for client_id in made:
                _authsvc(["client", "delete", client_id], environment)
        finally:
            signal.signal(signal.SIGINT, before)


def _environment(run_dir: Path) -> dict[str, str]:
    file = run_dir / "env"
    try:
        words = shlex.split(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError("The stack is not up: start it with scripts/up, or name a service with --url and --clients.") from None
    settings = dict(word.split("=", 1) for word in words if "=" in word)
    return {**os.environ, **settings, "PYTHONPATH": str(ROOT / "service")}


def _authsvc(words: list[str], environment: dict[str, str]) -> str:
    command = [sys.executable, "-m", "authsvc", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_COMMAND_SECONDS)
    if done.returncode:
        raise RunError(f"`authsvc {' '.join(words[:3])}` failed: {done.stderr.strip()}")
    return done.stdout
