"""The processes of a local stack under load, as `.run/stack.json` names them."""

from __future__ import annotations

import json
import time
from pathlib import Path

import psutil

from traffic.observer import Sight


class StackObserver:
    """Looks at instances (`auth`), nginx, redis and writer, with their workers."""

    every_seconds = 1.0
    lag_seconds = 0.0

    def __init__(self, state_file: Path) -> None:
        self._state_file = state_file
        self._seen: dict[str, float] = {}
        self._at = time.monotonic()
        self._instances = 0
        self.look()

    def look(self) -> Sight:
        """CPU since the last look; a process that went away in between is not counted."""
        now = time.monotonic()
        used = {name: sum(_cpu_seconds(pid) for pid in pids) for name, pids in self._pids().items()}
        wall = max(now - self._at, 1e-3)
        cores = {name: round(max(0.0, cpu - self._seen.get(name, cpu)) / wall, 3) for name, cpu in used.items()}
        self._seen, self._at = used, now
        return Sight(self._instances, cores)

    def limits(self) -> dict[str, float]:
        """One worker an instance, one thread of Redis, one worker of nginx a core, one writer."""
        return {"auth": float(self._instances), "redis": 1.0, "nginx": float(psutil.cpu_count() or 1), "writer": 1.0}

    def _pids(self) -> dict[str, list[int]]:
        try:
            pids = json.loads(self._state_file.read_text(encoding="utf-8"))["pids"]
        except FileNotFoundError:
            return {}
        instances = [pid for pid in pids["instances"] if pid]
        self._instances = len(instances)
        return {"auth": instances} | {name: [pids[name]] for name in ("nginx", "redis", "writer") if pids[name]}


def _cpu_seconds(pid: int) -> float:
    try:
        process = psutil.Process(pid)
        times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return 0.0
    return float(sum(each.user + each.system for each in times))
