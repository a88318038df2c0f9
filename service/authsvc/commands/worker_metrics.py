"""The folder in which the workers of one instance add up their metrics: made, wiped at the start, and left by none behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from prometheus_client import multiprocess

from authsvc.metrics import MULTIPROCESS_DIRECTORY

_OURS = "authsvc-metrics-"


def prepare(workers: int) -> bool:
    """Make ready for so many workers; true when the variable was set only now. A folder that the operator names is emptied and kept."""
    named = os.environ.get(MULTIPROCESS_DIRECTORY)
    if named is not None:
        folder = Path(named)
        folder.mkdir(parents=True, exist_ok=True)
        _empty(folder)
        return False
    if workers == 1:
        return False
    os.environ[MULTIPROCESS_DIRECTORY] = _make()
    return True


def forget_worker(pid: int) -> None:
    """A worker ended: its gauges are gone, its counters stay."""
    if MULTIPROCESS_DIRECTORY in os.environ:
        multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


def forget_all() -> None:
    """The instance ends."""
    if MULTIPROCESS_DIRECTORY in os.environ:
        folder = Path(os.environ[MULTIPROCESS_DIRECTORY])
        _empty(folder)
        if folder.name.startswith(_OURS):
            folder.rmdir()


def _empty(folder: Path) -> None:
    for file in folder.glob("*.db"):
        file.unlink(missing_ok=True)


def _make() -> str:
    """A folder named by this process, which becomes the master; those of masters that were killed are removed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_OURS}*"):
        pid = folder.name.removeprefix(_OURS).partition("-")[0]
        if pid.isdigit() and folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(folder, ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{_OURS}{os.getpid()}-")
