"""nginx before real instances, passing on connections (nginx/stream.conf): what a caller meets when instances come, go and die."""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from certificates import Authority
from servers import free_port, runs, wait_until
from service.nginx_fixture import STREAM, NginxServer, silent_port
from service.one_instance import FORM, OneInstance, basic, one_instance
from service.steady_load import SteadyLoad
from service.wire import Connection, ask, request

INSTANCES = 3
DRAIN_SECONDS = 0.8
ISSUE = request("POST", "/token", [basic("app"), ("Content-Type", FORM)], b"grant_type=client_credentials")
BODY = b"grant_type=client_credentials"
HEAD = request("POST", "/token", [basic("app"), ("Content-Type", FORM), ("Expect", "100-continue")], BODY).removesuffix(BODY)
HEALTH = request("GET", "/health")
PATIENT = {"redis_timeout_ms": 5000, "queue_wait_ms": 10_000}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[OneInstance]]:
    """Instances over one Redis; every test leaves them running."""
    folder = tmp_path_factory.mktemp("fleet")
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(one_instance(folder, drain_seconds=DRAIN_SECONDS, **PATIENT))
        others = [stack.enter_context(first.beside(folder, drain_seconds=DRAIN_SECONDS, **PATIENT)) for _ in range(INSTANCES - 1)]
        yield [first, *others]


def stream(folder: Path, *ports: int, listen: str = "") -> NginxServer:
    """An nginx before these ports, not started."""
    backends = [f"127.0.0.1:{port}" for port in ports]
    return NginxServer(folder / "conf", folder / "run", free_port(), backends, listen=listen, shared=STREAM)


@pytest.fixture
def nginx(tmp_path: Path, fleet: list[OneInstance]) -> Iterator[NginxServer]:
    with stream(tmp_path, *(instance.port for instance in fleet)) as server:
        yield server


def healths(instance: OneInstance) -> float:
    return instance.metrics()['http_requests_total{endpoint="health",status="200"}']


def health_on(connection: Connection) -> int:
    connection.send(HEALTH)
    answer = connection.answer()
    assert answer is not None, "the connection was closed without an answer"
    return answer.status


def test_connections_are_balanced_and_each_stays_with_its_instance(nginx: NginxServer, fleet: list[OneInstance]) -> None:
    before = [healths(instance) for instance in fleet]
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(Connection(nginx.port)) for _ in range(2 * INSTANCES)]
        for asked in range(1, 4):
            for connection in connections:
                assert health_on(connection) == 200
            # Two of the connections each, whoever asks how often.
            assert [now - then for now, then in zip(map(healths, fleet), before, strict=True)] == [2 * asked] * INSTANCES
        for _ in range(5):
            health_on(connections[0])
        assert sorted(now - then for now, then in zip(map(healths, fleet), before, strict=True)) == [6, 6, 11]


def test_an_instance_that_is_not_there_costs_a_connect(tmp_path: Path, fleet: list[OneInstance]) -> None:
    with silent_port() as silent, stream(tmp_path, free_port(), silent, fleet[0].port) as nginx:
        for _ in range(6):
            with Connection(nginx.port, 15) as connection:
                connection.send(ISSUE)
                answer = connection.answer("POST")
                assert answer is not None
                assert answer.status == 200


def test_where_no_instance_is_the_connection_is_closed_without_an_answer(tmp_path: Path) -> None:
    with stream(tmp_path, free_port(), free_port()) as nginx, Connection(nginx.port, 15) as connection:
        connection.send(HEALTH)
        assert _until_closed(connection) == b""


def test_an_instance_that_dies_takes_what_was_in_flight_and_nothing_is_sent_again(tmp_path: Path, fleet: list[OneInstance]) -> None:
    with fleet[0].beside(tmp_path / "mortal") as mortal, stream(tmp_path / "of two", mortal.port, fleet[0].port) as two:
        with contextlib.ExitStack() as stack:
            begun = [stack.enter_context(Connection(two.port)) for _ in range(4)]
            for connection in begun:
                connection.send(HEAD)
                interim = connection.answer("POST")
                assert interim is not None
                assert interim.status == 100
            issued = fleet[0].metrics()['tokens_issued_total{kind="access"}']
            workers = psutil.Process(mortal.process.process.pid).children()
            mortal.process.kill()
            wait_until(lambda: not any(map(runs, workers)), "its workers are gone")
            lost = [connection for connection in begun if not _finished(connection)]
            assert 1 <= len(lost) <= 3, "both had some"
            assert [_until_closed(connection) for connection in lost] == [b""] * len(lost)
            assert fleet[0].metrics()['tokens_issued_total{kind="access"}'] == issued + 4 - len(lost)
        for _ in range(4):
            with Connection(two.port, 15) as anew:
                assert health_on(anew) == 200


def _finished(connection: Connection) -> bool:
    """Whether the rest of the request is answered."""
    with contextlib.suppress(ConnectionError):
        connection.send(BODY)
        answer = connection.answer("POST")
        if answer is not None:
            assert answer.status == 200
            return True
    return False


def _until_closed(connection: Connection) -> bytes:
    """What still comes; a reset is a close, too."""
    with contextlib.suppress(ConnectionError):
        return connection.rest()
    return b""


def test_instances_are_replaced_under_load_and_no_request_fails(nginx: NginxServer, fleet: list[OneInstance]) -> None:
    """Callers who connect anew after `Connection: close` lose nothing, though nginx is told of no drain."""
    with SteadyLoad(nginx.port) as load:
        load.go_on()
        for instance in [*fleet, fleet[0]]:
            instance.process.process.send_signal(signal.SIGTERM)
            assert instance.process.process.wait(30) == 0
            load.go_on(1)
            instance.process.start().wait_ready()
            load.go_on(1)
    load.assert_all_answered()


def test_a_drain_is_said_on_the_kept_connection(tmp_path: Path, fleet: list[OneInstance]) -> None:
    with contextlib.ExitStack() as stack:
        leaving = stack.enter_context(fleet[0].beside(tmp_path / "leaving", drain_seconds=3))
        nginx = stack.enter_context(stream(tmp_path, leaving.port))
        with Connection(nginx.port) as kept, Connection(nginx.port) as idle:
            assert [health_on(kept), health_on(idle)] == [200, 200]
            leaving.process.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not leaving.process.ready(), "the drain has begun")
            kept.send(HEALTH)
            answer = kept.answer()
            assert answer is not None
            assert (answer.status, answer.header("connection")) == (200, "close")
            assert _until_closed(idle) == b"", "at the end of the drain"


def test_a_caller_that_stopped_sending_gets_its_answers(nginx: NginxServer) -> None:
    with Connection(nginx.port) as connection:
        connection.send(ISSUE + ISSUE)
        connection.stop_sending()
        answers = [connection.answer("POST"), connection.answer("POST")]
        assert [answer and answer.status for answer in answers] == [200, 200]
        assert connection.rest() == b""


def test_refusals_are_the_instances_own(nginx: NginxServer) -> None:
    with Connection(nginx.port) as connection:
        connection.send(b"no HTTP\r\n\r\n")
        answer = connection.answer()
        assert answer is not None
        assert (answer.status, answer.json["error"]) == (400, "invalid_request")
    assert ask(nginx.port, "POST", "/token", [("Content-Type", FORM)], b"x" * 20_000).status == 413


@pytest.mark.parametrize("tls", [False, True])
def test_the_instance_learns_the_callers_address(tmp_path: Path, fleet: list[OneInstance], tls: bool) -> None:
    """The caller's own address is another than nginx's; TLS ends at nginx."""
    authority = Authority("ca")
    identity = authority.identity("auth", "localhost")
    for name, text in (("tls.crt", identity.certificate), ("tls.key", identity.key_text()), ("ca.crt", authority.certificate)):
        (tmp_path / name).write_bytes(text)
    secure = free_port()
    at_nginx = f"listen 127.0.0.1:{secure} ssl;\nssl_certificate {tmp_path}/tls.crt;\nssl_certificate_key {tmp_path}/tls.key;"
    with fleet[0].beside(tmp_path / "told", proxy_protocol=1, access_log=1, access_log_success_share=1) as told:
        with stream(tmp_path, told.port, listen=f"proxy_protocol on;\n{at_nginx}") as nginx:
            source = ("127.0.0.5", 0)
            if tls:
                trust = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
                caller: http.client.HTTPConnection = http.client.HTTPSConnection("localhost", secure, source_address=source, context=trust)
            else:
                caller = http.client.HTTPConnection("127.0.0.1", nginx.port, source_address=source)
            with contextlib.closing(caller):
                for _ in range(2):
                    caller.request("GET", "/health")
                    answer = caller.getresponse()
                    assert (answer.status, answer.read()) == (200, b'{"status":"ok"}')
        lines = [json.loads(line) for line in told.log().splitlines()]
        assert [line["client"] for line in lines if line["event"] == "request"] == ["127.0.0.5", "127.0.0.5"]


def test_the_access_log_tells_of_instances_that_were_not_there(tmp_path: Path, fleet: list[OneInstance]) -> None:
    narrowed = "access_log access.json json if=$trouble;"
    dead = free_port()
    with stream(tmp_path, dead, fleet[0].port, listen=narrowed) as nginx:
        for _ in range(4):
            assert ask(nginx.port, "GET", "/validate?token=at_secret").status in (400, 401)
        log = nginx.prefix / "access.json"
        wait_until(log.read_text, "the connection that met the dead one is logged")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert 1 <= len(lines) <= 3, "the others are not"
    assert {line["instance"] for line in lines} == {f"127.0.0.1:{dead}, 127.0.0.1:{fleet[0].port}"}
    assert "secret" not in log.read_text() + nginx.error_log.read_text()


def test_a_reload_leaves_connections_for_a_while_and_then_cuts_them(tmp_path: Path, fleet: list[OneInstance]) -> None:
    nginx = stream(tmp_path, fleet[0].port)
    process = tmp_path / "conf" / "process.conf"
    text = process.read_text()
    assert "worker_shutdown_timeout 15s" in text
    process.write_text(text.replace("worker_shutdown_timeout 15s", "worker_shutdown_timeout 2s"))
    with nginx, Connection(nginx.port, 20) as kept:
        assert health_on(kept) == 200
        nginx.signal(signal.SIGHUP)
        assert health_on(kept) == 200
        assert _until_closed(kept) == b"", "though nothing was said"
        assert ask(nginx.port, "GET", "/health").status == 200
