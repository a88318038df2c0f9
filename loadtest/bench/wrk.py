"""wrk: prepared requests asked as fast as connections answer; what Locust cannot reach."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from bench.processes import BenchError

SCRIPT = Path(__file__).parent / "load.lua"


class WrkResult(NamedTuple):
    """What wrk counted."""

    requests: int
    seconds: float
    refused: int
    """Answers of another status than 2xx or 3xx."""
    lost: int
    p99_ms: float


def run_wrk(url: str, file: Path, seconds: int, connections: int, *, once: bool = False, core: int | None = None) -> WrkResult:
    """Ask the requests of a file in turn, or each once, with one thread, pinned to a core where one is named."""
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    command = [*pinned, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), url, "--"]
    done = subprocess.run([*command, str(file), "once" if once else "again"], capture_output=True, text=True)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk gave no result: {done.stderr[-300:]}")
    requests, microseconds, refused, lost, p99_us = (int(word) for word in line.split()[1:])
    return WrkResult(requests, microseconds / 1e6, refused, lost, p99_us / 1000)
