"""The processes of a bench: started, pinned to a core, timed by the CPU they used, and ended."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

SERVICE_CORE, LOAD_CORE = 0, 1


class BenchError(Exception):
    """The bench cannot go on: its message is the one sentence for the person."""


class Process:
    """A child pinned to one core."""

    def __init__(self, command: Sequence[str], core: int, log: Path, environ: dict[str, str] | None = None) -> None:
        self._log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                env={**os.environ, **(environ or {})},
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def cpu_seconds(self) -> float:
        """CPU used so far by the child and all its descendants."""
        return sum(_cpu_seconds(pid) for pid in _descendants(self._child.pid))

    def peak_memory_bytes(self) -> int:
        """The most resident memory that the child or one of its descendants has had."""
        return self._largest("VmHWM:")

    def memory_bytes(self) -> int:
        """The resident memory of the largest of the child and its descendants: of one worker, where it is one."""
        return self._largest("VmRSS:")

    def _largest(self, line_of: str) -> int:
        found = [0]
        for pid in _descendants(self._child.pid):
            with contextlib.suppress(FileNotFoundError):
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                found += [int(line.split()[1]) * 1024 for line in lines if line.startswith(line_of)]
        return max(found)

    def wait_for(self, url: str, seconds: float = 20) -> None:
        """Wait until `url` answers anything but 503."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                break
            if _answers(url):
                return
            time.sleep(0.05)
        raise BenchError(f"{url} does not answer: {self._log.read_text(errors='replace')[-500:]}")

    def wait_for_port(self, port: int, seconds: float = 20) -> None:
        """Wait until something listens on the port."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise BenchError(f"Nothing listens on port {port}: {self._log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        """End the child and its descendants."""
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGTERM)
            try:
                self._child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(self._child.pid, signal.SIGKILL)
                self._child.wait(10)


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code != 503
    except OSError:
        return False
    return True


def free_port() -> int:
    """A port of loopback that nobody listens on, below those that connections are given: by its use it might be taken else."""
    while True:
        port = random.randrange(16_384, 32_768)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        try:
            found += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
        except FileNotFoundError:
            continue
    return found


def _cpu_seconds(pid: int) -> float:
    """User and system time by the scheduler's own clock: ticks of 10 ms are too coarse for short runs."""
    try:
        total = 0
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += int((task / "schedstat").read_text().split()[0])
        return total / 1e9
    except FileNotFoundError:
        return 0.0
