"""`stack.json`: what runs where, for people, tests and tools; replaced in one step whenever a process is started."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict, cast

from localstack.layout import Layout, write_private


class Pids(TypedDict):
    """Process IDs; those of the instances are gunicorn masters."""

    nginx: int
    redis: int
    writer: int
    instances: list[int]


class StackState(TypedDict):
    """What `stack.json` holds."""

    base_url: str
    balancer: str
    instances: list[str]
    management: list[str]
    redis_url: str
    records_url: str
    client_id: str
    client_secret: str
    pids: Pids


def read_state(path: Path) -> StackState | None:
    """What the file holds, or None if there is none."""
    try:
        return cast(StackState, json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def write_state(layout: Layout, client_id: str, client_secret: str, pids: Callable[[], Pids]) -> StackState:
    """Write the whole file. The process IDs are asked for under its lock, so that older ones never replace newer ones."""
    with _locked(layout.state_file):
        state: StackState = {
            "base_url": layout.base_url,
            "balancer": layout.balancer,
            "instances": layout.instance_urls,
            "management": layout.management_urls,
            "redis_url": layout.redis_url,
            "records_url": layout.records_url,
            "client_id": client_id,
            "client_secret": client_secret,
            "pids": pids(),
        }
        _write(layout.state_file, state)
        return state


def refresh_pids(path: Path, pids: Callable[[], Pids]) -> None:
    """Put the present process IDs into the file; nothing happens before the stack is complete."""
    with _locked(path):
        state = read_state(path)
        if state is not None:
            state["pids"] = pids()
            _write(path, state)


def _write(path: Path, state: StackState) -> None:
    write_private(path, json.dumps(state, indent=2) + "\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
