"""The processes of a run: each ends with it, and its exit code says whether another must take its place."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_generator import CREDENTIALS, KnownServer

from localstack.layout import ROOT
from outcome.plan import Plan
from outcome.run import read_run
from servers import free_port, wait_until
from suite.launch import LOCUSTFILE
from traffic.settings import to_environment

pytestmark = pytest.mark.alone

WHOLE, MISSED, LOST = 0, 1, 4
BEGUN = "Shape test updating"
# A Locust that never stops, whatever it is told.
ENDLESS = """
import gevent
from locust import runners
from traffic import locustfile
from traffic.locustfile import AskingUser, PlanShape

locustfile.OVERTIME_SECONDS = 1
runners.MasterRunner.stop = lambda self, **_: gevent.sleep(1000)
"""


class Processes:
    """A leader and workers over a server whose answers are known, in a folder of their own."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder, self._url, self._port = folder, url, free_port()
        (folder / "clients.json").write_text(json.dumps(CREDENTIALS))
        self._started: list[subprocess.Popen[bytes]] = []

    def leader(self, locustfile: Path = LOCUSTFILE, seconds: int = 30, workers: int = 1) -> subprocess.Popen[bytes]:
        words = ["--master", "--master-bind-host", "127.0.0.1", "--master-bind-port", str(self._port), "--enable-rebalancing"]
        return self._start("leader", locustfile, seconds, *words, "--expect-workers", str(workers))

    def worker(self, name: str = "worker", seconds: int = 30, wait_seconds: float = 60) -> subprocess.Popen[bytes]:
        words = ["--worker", "--master-host", "127.0.0.1", "--master-port", str(self._port)]
        return self._start(name, LOCUSTFILE, seconds, *words, wait_seconds=wait_seconds)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def _start(self, name: str, locustfile: Path, seconds: int, *words: str, **around: object) -> subprocess.Popen[bytes]:
        plan = Plan(endpoint="health", arrival="open", users=2, rate=20, seconds=seconds, warm_up_seconds=1)
        result, clients = self._folder / "run.json", self._folder / "clients.json"
        settings = to_environment(plan, result=result, clients_file=clients, url=self._url, **around)
        paths = os.pathsep.join(str(ROOT / part) for part in ("loadtest", "scripts", "service"))
        command = [sys.executable, "-m", "locust", "-f", str(locustfile), "--headless", "--only-summary", *words]
        with (self._folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, env=os.environ | settings | {"PYTHONPATH": paths}, stdout=log, stderr=log)
        self._started.append(process)
        return process

    def end(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    # Requests that went wrong are figures of the run, and no reason for another worker.
    with KnownServer(wrong_every=3).running() as server:
        started = Processes(tmp_path, server.url)
        yield started
        started.end()


def test_a_worker_ends_well_with_its_run(processes: Processes, tmp_path: Path) -> None:
    leader, worker = processes.leader(seconds=3), processes.worker(seconds=3)
    leader.wait(60)
    assert worker.wait(60) == WHOLE
    run = read_run(tmp_path / "run.json")
    assert (run.end, run.wrong_count > 0) == ("complete", True)


def test_a_worker_that_is_sent_away_amid_a_run_is_lost_and_another_takes_its_place(processes: Processes, tmp_path: Path) -> None:
    leader, stays, goes = (
        processes.leader(seconds=20, workers=2),
        processes.worker("stays", seconds=20),
        processes.worker("goes", seconds=20),
    )
    wait_until(lambda: BEGUN in processes.log("leader"), "the run begins")
    goes.send_signal(signal.SIGTERM)
    assert goes.wait(60) == LOST
    another = processes.worker("another", seconds=20)
    leader.wait(60)
    assert (stays.wait(60), another.wait(60)) == (WHOLE, WHOLE)
    assert read_run(tmp_path / "run.json").end == "complete"


def test_workers_end_well_when_their_leader_is_killed(processes: Processes) -> None:
    leader, worker = processes.leader(), processes.worker()
    wait_until(lambda: BEGUN in processes.log("leader"), "the run begins")
    leader.kill()
    assert worker.wait(60) == WHOLE


def test_a_worker_without_a_leader_ends_well_and_says_so(processes: Processes) -> None:
    assert processes.worker(wait_seconds=1).wait(60) == WHOLE
    assert "There has been no leader at 127.0.0.1:" in processes.log("worker")


def test_a_run_ends_with_its_result_though_locust_does_not(processes: Processes, tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    leader, worker = processes.leader(tmp_path / "endless.py", seconds=3), processes.worker(seconds=3)
    assert leader.wait(60) == MISSED
    assert "Locust has not ended 1 s after the plan did. It waits for this:" in processes.log("leader")
    assert "in shape_worker" in processes.log("leader")
    run = read_run(tmp_path / "run.json")
    assert run.end == "interrupted"
    assert run.requests > 0
    assert worker.wait(60) == WHOLE
