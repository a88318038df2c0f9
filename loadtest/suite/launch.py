"""Locust for one run: alone in one process, or one that leads and as many workers as were asked for; ended whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.processes import free_port
from localstack.layout import ROOT
from outcome.plan import Plan
from outcome.run import Run, RunError, read_run
from traffic.settings import to_environment

LOCUSTFILE = ROOT / "loadtest" / "traffic" / "locustfile.py"
PATIENCE_SECONDS = 60
"""Beyond a plan's length: for Locust's start, the preparation of tokens and the end."""


def run_plan(plan: Plan, folder: Path, *, workers: int = 1, **around: object) -> Run:
    """Run a plan to its end and return what it gave; `around` is what `traffic.settings` wants besides. RunError if it gave nothing."""
    result = folder / "run.json"
    result.unlink(missing_ok=True)
    settings = to_environment(plan, result=result, workers=workers, **around)
    common = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary", "--loglevel", "WARNING"]
    leader: list[str] = []
    followers: list[list[str]] = []
    if workers > 1:
        port = free_port()
        wait = ["--expect-workers", str(workers), "--expect-workers-max-wait", "30"]
        leader = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(port), *wait]
        followers = [["--worker", "--master-host", "127.0.0.1", "--master-port", str(port)]] * workers
    with _processes([[*common, *leader], *([*common, *each] for each in followers)], settings, folder) as processes:
        _wait(processes[0], plan.seconds + PATIENCE_SECONDS, folder)
    if not result.exists():
        raise RunError(f"Locust gave no result: {_last_words(folder / 'locust-0.log')}")
    return read_run(result)


@contextmanager
def _processes(commands: Sequence[Sequence[str]], settings: Mapping[str, str], folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    paths = os.pathsep.join(str(ROOT / part) for part in ("loadtest", "scripts", "service"))
    environment = {**os.environ, **settings, "PYTHONPATH": paths}
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"locust-{number}.log").open("wb") as log:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder))
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], seconds: float, folder: Path) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None:
        if time.monotonic() > deadline:
            raise RunError(f"Locust did not end: {_last_words(folder / 'locust-0.log')}")
        time.sleep(0.1)


def _last_words(log: Path) -> str:
    lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()] if log.exists() else []
    return lines[-1] if lines else "it said nothing"
