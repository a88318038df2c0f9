"""AUTH_PROXY_PROTOCOL: the header of every connection is read before the requests, on the public socket alone, and names the caller."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from authsvc.http import proxied
from servers import wait_until
from service.one_instance import FORM, OneInstance, basic, bearer, one_instance
from service.wire import Connection, request

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"
BINARY = b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes((192, 0, 2, 8, 198, 51, 100, 1, 0xDC, 0x04, 0x01, 0xBB))
ISSUE = request("POST", "/token", [basic("app"), ("Content-Type", FORM)], b"grant_type=client_credentials")
HEALTH = request("GET", "/health")
SLOW = request("GET", "/health", [("Connection", "keep-alive"), ("Expect", "x")])
"""Nothing that the lane takes: it goes through ASGI."""


@pytest.fixture(scope="module", params=["lane", "asgi"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    settings = {"proxy_protocol": 1, "access_log": 1, "access_log_success_share": 1, "fast_lane": int(request.param == "lane")}
    with one_instance(tmp_path_factory.mktemp("proxied"), **settings) as running:
        yield running


def clients_logged(instance: OneInstance) -> list[str]:
    lines = (json.loads(line) for line in instance.log().splitlines())
    return [line["client"] for line in lines if line["event"] == "request"]


def refusals_logged(instance: OneInstance) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in instance.log().splitlines())
    return [line for line in lines if "no good PROXY header" in line["event"]]


@pytest.mark.parametrize(("header", "client"), [(LINE, "192.0.2.7"), (BINARY, "192.0.2.8"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")])
@pytest.mark.parametrize("asked", [ISSUE, HEALTH, SLOW, request("GET", "/docs"), request("GET", "/nothing")])
def test_the_caller_in_the_log_is_whom_the_header_names(instance: OneInstance, header: bytes, client: str, asked: bytes) -> None:
    before = len(clients_logged(instance))
    with Connection(instance.port) as connection:
        connection.send(header + asked)
        assert connection.answer() is not None
        connection.send(asked)
        assert connection.answer() is not None
    wait_until(lambda: len(clients_logged(instance)) >= before + 2, "both are logged")
    assert clients_logged(instance)[before:] == [client, client]


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_it_may_come_in_any_packets(instance: OneInstance, header: bytes) -> None:
    """Split within, before the request, byte by byte, and with two requests behind it in one packet."""
    data = header + ISSUE
    cuts = [(5, len(header)), (len(header) - 1,), (len(header),), (len(header) + 9,), tuple(range(1, len(header) + 3))]
    for cut in cuts:
        with Connection(instance.port) as connection:
            connection.send(*(data[start:end] for start, end in pairwise((0, *cut, len(data)))))
            answer = connection.answer("POST")
            assert answer is not None
            assert answer.status == 200, cut
    with Connection(instance.port) as connection:
        connection.send(data + ISSUE)
        assert [answer and answer.status for answer in (connection.answer("POST"), connection.answer("POST"))] == [200, 200]


def test_it_is_read_once(instance: OneInstance) -> None:
    """A second one is no request."""
    with Connection(instance.port) as connection:
        connection.send(LINE + LINE + HEALTH)
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 400


@pytest.mark.parametrize("data", [HEALTH, b"PROXY TCP4 nobody\r\n" + HEALTH, b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_connection_without_a_good_one_is_closed_unanswered(instance: OneInstance, data: bytes) -> None:
    with Connection(instance.port) as connection:
        connection.send(data)
        assert connection.rest() == b""


def test_that_is_said_once_and_counted(instance: OneInstance) -> None:
    """A scanner brings thousands: they are one line in a while, with their number."""
    for _ in range(30):
        with Connection(instance.port) as connection:
            connection.send(HEALTH)
            assert connection.rest() == b""
    lines = refusals_logged(instance)
    assert 1 <= len(lines) < 30
    assert {line["problem"] for line in lines} <= {"it begins otherwise", "its line does not name two addresses and two ports"}
    assert lines[0]["closed"] == 1


def test_one_that_does_not_come_is_not_waited_for(instance: OneInstance) -> None:
    with Connection(instance.port, proxied.HEADER_SECONDS + 20) as connection:
        connection.send(LINE[:20])
        assert connection.rest() == b""


def test_who_only_looks_whether_the_port_is_open_is_no_refusal(instance: OneInstance) -> None:
    before = len(refusals_logged(instance))
    for data in (b"", LINE[:7]):
        with Connection(instance.port) as connection:
            connection.send(data)
            connection.stop_sending()
            assert connection.rest() == b""
    assert len(refusals_logged(instance)) == before


def test_the_management_socket_takes_none(instance: OneInstance) -> None:
    assert instance.manage("GET", "/ready").status == 200
    with Connection(instance.management_port) as connection:
        connection.send(LINE + HEALTH)
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 400


def test_a_validate_by_bearer_takes_the_same_way(instance: OneInstance) -> None:
    with Connection(instance.port) as connection:
        connection.send(LINE + ISSUE)
        issued = connection.answer("POST")
        assert issued is not None
        connection.send(request("GET", "/validate", [bearer(issued.json["access_token"])]))
        answer = connection.answer()
        assert answer is not None
        assert answer.json["active"] is True


def test_a_connection_that_came_just_before_the_end_is_answered(tmp_path: Path) -> None:
    """It has brought its header and no request, or not even that: the drain waits for both as for any newcomer."""
    with one_instance(tmp_path, proxy_protocol=1, drain_seconds=1) as instance:
        with Connection(instance.port) as early, Connection(instance.port) as bare, Connection(instance.port) as silent:
            early.send(LINE)
            instance.process.process.send_signal(signal.SIGTERM)
            wait_until(lambda: not instance.process.ready(), "the drain has begun")
            early.send(HEALTH)
            bare.send(LINE + HEALTH)
            for connection in (early, bare):
                answer = connection.answer()
                assert answer is not None
                assert (answer.status, answer.header("connection")) == (200, "close")
            assert silent.rest() == b""
        assert instance.process.process.wait(30) == 0


def test_switched_off_a_header_is_no_request(tmp_path: Path) -> None:
    with one_instance(tmp_path) as instance, Connection(instance.port) as connection:
        connection.send(LINE + HEALTH)
        answer = connection.answer()
        assert answer is not None
        assert answer.status == 400
