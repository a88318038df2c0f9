"""`authsvc serve` as a process: workers, what happens to them when the master dies, and how it stops."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from authsvc.commands.serve import worker_count
from authsvc.live.connect import connect_redis
from authsvc.live.mirror import Mirror
from authsvc.settings import read_settings
from servers import RedisServer, ServiceProcess, running, service_environ, wait_until
from service.wire import Connection, request


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """A Redis with a complete mirror of no clients."""

    async def build() -> None:
        redis = connect_redis(read_settings({"AUTH_REDIS_URL": redis_server.url}))
        assert await Mirror(redis).build([], 1, "identity") is not None
        await redis.aclose()

    asyncio.run(build())
    return redis_server.url


@pytest.mark.parametrize(
    ("limit", "workers"),
    [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", len(os.sched_getaffinity(0)))],
)
def test_auto_is_one_worker_for_each_whole_cpu_of_the_limit(tmp_path: Path, limit: str, workers: int) -> None:
    (tmp_path / "cpu.max").write_text(limit + "\n")
    assert worker_count("auto", tmp_path / "cpu.max") == workers


def test_a_number_of_workers_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert worker_count(3, tmp_path / "cpu.max") == 3


def test_metrics_of_two_workers_add_up(tmp_path: Path, redis_url: str) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, workers=2).start().wait_ready()
    with running(service):
        for _ in range(100):
            urllib.request.urlopen(f"{service.url}/health").close()
        wait_until(lambda: 'http_requests_total{endpoint="health",status="200"} 100.0' in _metrics(service), "both workers are counted")


def test_a_killed_master_leaves_no_worker_that_holds_its_ports(tmp_path: Path, redis_url: str) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, workers=2).start().wait_ready()
    service.kill()
    for port in (service.port, service.management_port):
        wait_until(lambda port=port: _refused(port), f"port {port} is free")


def test_a_drain_turns_ready_red_and_goes_on_answering(tmp_path: Path, redis_url: str) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, drain_seconds=2).start().wait_ready()
    kept = http.client.HTTPConnection("127.0.0.1", service.port)
    kept.request("GET", "/health")
    answer = kept.getresponse()
    assert answer.getheader("Connection") is None
    answer.read()
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not service.ready(), "ready is red")
    for _ in range(3):
        kept.request("GET", "/health")
        answer = kept.getresponse()
        assert (answer.status, answer.getheader("Connection")) == (200, "close")
        answer.read()
    kept.close()
    assert service.process.wait(20) == 0


def test_a_quick_stop_does_not_wait_for_the_drain(tmp_path: Path, redis_url: str) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, drain_seconds=300).start().wait_ready()
    late = threading.Timer(30, service.process.kill)
    late.start()
    service.process.send_signal(signal.SIGINT)
    assert service.process.wait() == 0, "it ended by itself"
    late.cancel()


def test_no_connection_is_reset_at_the_end_of_a_drain(tmp_path: Path, redis_url: str) -> None:
    _assert_no_connection_is_reset(tmp_path, redis_url, drains=4)


@pytest.mark.long
@pytest.mark.timeout(2400)
def test_no_connection_is_reset_at_the_end_of_hundreds_of_drains(tmp_path: Path, redis_url: str) -> None:
    _assert_no_connection_is_reset(tmp_path, redis_url, drains=200)


def test_workers_that_are_only_replaced_leave_the_socket_open_to_newcomers(tmp_path: Path, redis_url: str) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, drain_seconds=0.1).start().wait_ready()
    with running(service):
        service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "Worker exiting" in service.log_file.read_text(), "the first worker is gone")
        for _ in range(5):
            urllib.request.urlopen(f"{service.url}/health", timeout=0.9).close()


def _assert_no_connection_is_reset(folder: Path, redis_url: str, drains: int) -> None:
    """Connect as fast as possible until it is refused; whatever the kernel has accepted must be answered."""
    with ThreadPoolExecutor(6) as pool:
        for _ in range(drains):
            service = ServiceProcess(folder, "serve", redis_url=redis_url, drain_seconds=0.3).start().wait_ready()
            with running(service):
                service.process.send_signal(signal.SIGTERM)
                connecting = [pool.submit(_connect_until_refused, service.port) for _ in range(6)]
                outcomes = sum((each.result() for each in connecting), Counter[str]())
                assert service.process.wait(10) == 0
            assert outcomes.pop("answered") > 0
            assert not outcomes


def _connect_until_refused(port: int) -> Counter[str]:
    outcomes = Counter[str]()
    while True:
        try:
            connection = Connection(port, 3.0)
        except (ConnectionRefusedError, TimeoutError):
            return outcomes
        with connection:
            try:
                connection.send(request("GET", "/health"))
                answer = connection.answer()
                outcomes["answered" if answer and answer.status == 200 else f"{answer}"] += 1
            except OSError as error:
                outcomes[type(error).__name__] += 1


OTHER_UVICORN = """
import importlib.util, pathlib, sys

spec = importlib.util.find_spec("uvicorn.protocols.http.httptools_impl")
source = pathlib.Path(spec.origin).read_text().replace("_unset_keepalive_if_required", "_stop_idle_timer")
sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
exec(compile(source, spec.origin, "exec"), module.__dict__)
"""
"""Makes uvicorn one that works as it does and calls one of its own things otherwise; run by Python at every start."""


def test_a_uvicorn_that_does_not_fit_serves_without_our_protocols(tmp_path: Path, redis_url: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(OTHER_UVICORN)
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url)
    service.environ["PYTHONPATH"] = os.pathsep.join((str(tmp_path), service_environ()["PYTHONPATH"]))
    with running(service.start().wait_ready()):
        assert urllib.request.urlopen(f"{service.url}/health").read() == b'{"status":"ok"}'
        assert "does not fit" in service.log_file.read_text()
    assert "Traceback" not in service.log_file.read_text()


def test_an_idle_instance_notices_that_redis_has_gone_silent(tmp_path: Path, redis_url: str, redis_server: RedisServer) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_url, ready_grace_seconds=1).start().wait_ready()
    with running(service):
        wait_until(lambda: "redis_up 1.0" in _metrics(service), "redis is up")
        os.kill(redis_server.pid, signal.SIGSTOP)
        wait_until(lambda: not service.ready(), "ready is red")
        wait_until(lambda: "redis_up 0.0" in _metrics(service), "the metric says so")
        os.kill(redis_server.pid, signal.SIGCONT)
        wait_until(service.ready, "ready is green again")


def test_a_port_in_use_is_one_sentence(tmp_path: Path, redis_server: RedisServer) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url=redis_server.url, port=redis_server.port)
    assert service.start().process.wait(20) == 1
    (line,) = service.log_file.read_text().splitlines()
    assert line.startswith(f"Port 127.0.0.1:{redis_server.port} cannot be opened: Address already in use")


def test_a_start_without_a_key_is_one_sentence(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path, "serve", redis_url="redis://127.0.0.1:1/0")
    del service.environ["AUTH_TOKEN_KEY"]
    assert service.start().process.wait(20) == 1
    assert service.log_file.read_text().splitlines() == [
        "AUTH_TOKEN_KEY (or AUTH_TOKEN_KEY_FILE) is not set: every instance needs the same key."
    ]


def _metrics(service: ServiceProcess) -> str:
    with urllib.request.urlopen(f"{service.management_url}/metrics") as answer:
        text: str = answer.read().decode()
        return text


def _refused(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0
