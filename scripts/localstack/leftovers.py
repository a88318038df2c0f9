"""Processes of a stack whose supervisor is gone: how they are told from anybody else's, and ended.

Every process of a stack carries the stack's folder in its environment, which tells it from anybody else's whatever
became of pid files. nginx overwrites its environment with its title, so it is known by title and working folder.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "LOCALSTACK_PROCESS_OF"
_PROC = Path("/proc")
_POLL_SECONDS = 0.02


def processes_of(run_dir: Path) -> set[int]:
    """The living processes of this stack; empty where the system has no `/proc`."""
    mark = f"{MARK}={run_dir}".encode()
    return {pid for pid in _all_pids() if mark in _read(pid, "environ").split(b"\0")} | nginx_processes_of(run_dir)


def nginx_processes_of(run_dir: Path) -> set[int]:
    """The masters and workers of this stack's nginx."""
    folder = str(run_dir / "nginx")
    return {pid for pid in _all_pids() if _read(pid, "cmdline").startswith(b"nginx: ") and _working_folder(pid) == folder}


def end(pids: Iterable[int], patience_seconds: float, how: signal.Signals = signal.SIGTERM) -> None:
    """Send the signal, wait until they are gone, and kill what is still there afterwards."""
    left = set(pids)
    for step, seconds in ((how, patience_seconds), (signal.SIGKILL, 5.0)):
        for pid in left:
            _send(pid, step)
        deadline = time.monotonic() + seconds
        while left and time.monotonic() < deadline:
            left = {pid for pid in left if alive(pid)}
            time.sleep(_POLL_SECONDS if left else 0)
        if not left:
            return


def alive(pid: int) -> bool:
    """Whether the process runs; one that only waits to be reaped does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _PROC.is_dir() or _state(pid) not in ("", "Z", "X")


def _state(pid: int) -> str:
    # The name before the state may itself hold blanks and brackets.
    fields = _read(pid, "stat").rpartition(b") ")[2].split()
    return fields[0].decode() if fields else ""


def _all_pids() -> list[int]:
    if not _PROC.is_dir():
        return []
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _read(pid: int, name: str) -> bytes:
    """A file of the process; empty for one that is gone or that belongs to somebody else."""
    try:
        return (_PROC / str(pid) / name).read_bytes()
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return b""


def _working_folder(pid: int) -> str:
    try:
        return os.readlink(_PROC / str(pid) / "cwd")
    except (FileNotFoundError, PermissionError, ProcessLookupError):
        return ""


def _send(pid: int, how: signal.Signals) -> None:
    try:
        os.kill(pid, how)
    except ProcessLookupError:
        return
