"""Which processes belong to a stack, and that they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from localstack.leftovers import MARK, alive, end, processes_of
from servers import wait_until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
PLAIN = "import time; print('ready', flush=True); time.sleep(60)"

Start = Callable[[str, Path], subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program marked as one of the given folder's stack; all are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def run(program: str, folder: Path) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", program], env={**os.environ, MARK: str(folder)}, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def test_only_processes_of_the_same_folder_are_found(start: Start, tmp_path: Path) -> None:
    ours = start(PLAIN, tmp_path / "run")
    start(PLAIN, tmp_path / "run2")
    start(PLAIN, tmp_path)
    assert processes_of(tmp_path / "run") == {ours.pid}


def test_a_process_that_only_works_in_the_folder_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    with subprocess.Popen(["sleep", "60"], cwd=tmp_path / "nginx") as bystander:
        assert processes_of(tmp_path) == set()
        bystander.kill()


def test_an_unreaped_process_is_not_alive(start: Start, tmp_path: Path) -> None:
    process = start(PLAIN, tmp_path)
    assert alive(process.pid)
    process.kill()
    wait_until(lambda: not alive(process.pid), "the kill was noticed")
    assert process.returncode is None, "nobody has reaped it yet"


def test_end_asks_first_and_kills_who_does_not_go(start: Start, tmp_path: Path) -> None:
    polite, stubborn = start(PLAIN, tmp_path), start(STUBBORN, tmp_path)
    end([polite.pid, stubborn.pid], patience_seconds=0.5)
    assert polite.wait(1) == -signal.SIGTERM
    assert stubborn.wait(1) == -signal.SIGKILL


def test_end_of_nothing_returns() -> None:
    end([], patience_seconds=60)
