"""nginx/ on the wire: what may be sent twice, what nginx answers by itself, and what it leaves alone."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

from servers import free_port, runs
from service.nginx_fixture import (
    CONFIGURATION,
    HTTP,
    LONGEST_SCOPE,
    OLDEST_VERSION,
    STREAM,
    Answer,
    NginxServer,
    StubFleet,
    ask,
    ask_raw,
    check_configuration,
    nginx_binary,
    nginx_version,
    silent_port,
    stub_fleet,
    wait_until,
    write_configuration,
)
from service.wire import Connection

INCLUDED = ["http.conf", "listen.conf", "main.conf", "upstream.conf"]
IDS = (f"test-{number}" for number in itertools.count())
AT = {"Authorization": "Bearer at_" + "a" * 43}
OT = {"Authorization": "Bearer ot_" + "a" * 43}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}

# method, target, headers, body of requests by what may happen to them when an instance fails
AGAIN = [
    ("GET", "/health", {}, None),
    ("GET", "/.well-known/oauth-authorization-server", {}, None),
    ("POST", "/introspect", FORM, b"token=ot_x"),
    ("POST", "/revoke", FORM, b"token=at_x"),
    ("POST", "/revoke", OT, None),
    ("GET", "/validate?scope=a", AT, None),
    ("HEAD", "/validate", AT, None),
    ("POST", "/validate", AT, None),
    ("GET", "/validate", {"Authorization": "bEARER  at_x"}, None),
    ("GET", "/validate", {}, None),
]
ONCE = [
    ("POST", "/token", FORM, b"grant_type=client_credentials"),
    ("POST", "/token?scope=a", FORM, b"grant_type=client_credentials"),
    ("POST", "/ott", FORM, b"grant_type=client_credentials"),
    ("POST", "/validate", FORM, b"token=ot_x"),
    ("POST", "/validate", FORM, b"token=at_x"),
    ("POST", "/validate", OT, None),
    ("POST", "/%76alidate", FORM, b"token=ot_x"),
    ("POST", "/anything-else", FORM, b""),
]
NEVER = [
    ("GET", "/validate?scope=a", OT, None),
    ("HEAD", "/validate", OT, None),
    ("PUT", "/validate", OT, b"x"),
    ("GET", "/validate", {"Authorization": "bEARER ot_x"}, None),
    ("GET", "/validate", {"Authorization": "Bearer  ot_x"}, None),
    ("GET", "/validate", {"Authorization": "Bearer x at_x"}, None),
    ("GET", "/%76alidate", OT, None),
    ("GET", "//validate", OT, None),
]
Request = tuple[str, str, dict[str, str], bytes | None]


def asked(port: int, request: Request, **more: str) -> tuple[str, Answer]:
    """Send one of the requests above with a request ID of its own; returns the ID and the answer."""
    method, target, headers, body = request
    request_id = next(IDS)
    more_headers = {name.replace("_", "-"): value for name, value in more.items()}
    return request_id, ask(port, method, target, {**headers, **more_headers, "X-Request-Id": request_id}, body)


def assert_refusal(answer: Answer, status: int, error: str, request_id: str | None = None) -> None:
    """nginx answered by itself, the way the service does."""
    assert answer.status == status
    assert answer.headers.get_all("Content-Type") == ["application/json"]
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    [answered_id] = answer.headers.get_all("X-Request-Id", [])
    assert re.fullmatch(request_id or "[0-9a-f]{32}", answered_id)
    assert answer.headers.get_all("Retry-After") == (["1"] if status in (429, 503) else None)
    if answer.body:  # none to a HEAD
        said = json.loads(answer.body)
        assert list(said) == ["error", "error_description", "request_id"]
        assert (said["error"], said["request_id"]) == (error, answered_id)
        assert re.fullmatch(r"[A-Z].*\.", said["error_description"])
        assert ("not well-formed" in said["error_description"]) == (status == 400)


@pytest.fixture(scope="module")
def fleet() -> Iterator[StubFleet]:
    with stub_fleet(4) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def nginx(fleet: StubFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    """nginx over four instances; failures of one test must not turn them away in the next, so none are counted."""
    folder = tmp_path_factory.mktemp("nginx")
    with NginxServer(folder / "conf", folder / "run", free_port(), fleet.addresses, server_options="max_fails=0") as server:
        yield server


@pytest.fixture(scope="module")
def half_dead(fleet: StubFleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    """nginx over one instance that answers and one port that nobody listens on."""
    folder = tmp_path_factory.mktemp("half-dead")
    backends = [fleet.addresses[0], f"127.0.0.1:{free_port()}"]
    with NginxServer(folder / "conf", folder / "run", free_port(), backends, server_options="max_fails=0") as server:
        yield server


# Sent again, or not


@pytest.mark.parametrize("failure", ["close", "half"])
@pytest.mark.parametrize("request_", AGAIN, ids=str)
def test_safe_request_goes_to_a_second_instance(nginx: NginxServer, fleet: StubFleet, request_: Request, failure: str) -> None:
    request_id, answer = asked(nginx.port, request_, X_Stub=f"{failure}-first")
    seen = fleet.seen(request_id)
    assert answer.status == 200
    assert len({request.instance for request in seen}) == len(seen) == 2
    assert seen[0].body == seen[1].body == (request_[3] or b"")


@pytest.mark.parametrize("failure", ["close", "half"])
@pytest.mark.parametrize("request_", ONCE + NEVER, ids=str)
def test_unsafe_request_is_sent_once(nginx: NginxServer, fleet: StubFleet, request_: Request, failure: str) -> None:
    for _ in fleet.addresses:
        ask(nginx.port, "GET", "/health")  # so that kept connections are met too: nginx treats their loss apart
    request_id, answer = asked(nginx.port, request_, X_Stub=f"{failure}-first")
    assert_refusal(answer, 503, "temporarily_unavailable", request_id)
    assert len(fleet.seen(request_id)) == 1


@pytest.mark.parametrize("request_", AGAIN, ids=str)
def test_safe_request_that_fails_everywhere_ends_in_503(nginx: NginxServer, fleet: StubFleet, request_: Request) -> None:
    request_id, answer = asked(nginx.port, request_, X_Stub="close")
    assert_refusal(answer, 503, "temporarily_unavailable", request_id)
    assert 2 <= len(fleet.seen(request_id)) <= 4


@pytest.mark.parametrize("request_", AGAIN + ONCE, ids=str)
def test_refused_connection_goes_on_to_the_next_instance(half_dead: NginxServer, fleet: StubFleet, request_: Request) -> None:
    for _ in range(4):
        request_id, answer = asked(half_dead.port, request_)
        assert answer.status == 200
        assert len(fleet.seen(request_id)) == 1


@pytest.mark.parametrize("request_", NEVER, ids=str)
def test_one_time_token_by_get_meets_one_instance_only(half_dead: NginxServer, fleet: StubFleet, request_: Request) -> None:
    statuses = set()
    for _ in range(4):
        request_id, answer = asked(half_dead.port, request_)
        statuses.add(answer.status)
        assert len(fleet.seen(request_id)) == (1 if answer.status == 200 else 0)
    assert statuses == {200, 503}


def test_silent_instance_is_left_after_a_few_seconds(nginx: NginxServer, fleet: StubFleet) -> None:
    def timed(request: Request, wish: str = "stall-first") -> tuple[str, Answer, float]:
        started = time.monotonic()
        return *asked(nginx.port, request, X_Stub=wish), time.monotonic() - started

    fleet.release.clear()
    safe, unsafe = AGAIN[:6], [*ONCE[:1], *ONCE[2:6], *NEVER[:1]]
    with ThreadPoolExecutor(len(safe + unsafe) + 1) as pool:
        all_silent = pool.submit(timed, AGAIN[0], "stall")
        results = list(pool.map(timed, safe + unsafe))
        request_id, answer, seconds = all_silent.result()
    fleet.release.set()
    assert_refusal(answer, 503, "temporarily_unavailable", request_id)
    assert len(fleet.seen(request_id)) == 2
    assert 5.5 < seconds < 7
    for request_id, answer, seconds in results[: len(safe)]:
        assert (answer.status, len(fleet.seen(request_id))) == (200, 2)
        assert 2.5 < seconds < 4.5
    for request_id, answer, seconds in results[len(safe) :]:
        assert_refusal(answer, 503, "temporarily_unavailable", request_id)
        assert len(fleet.seen(request_id)) == 1
        assert 4.5 < seconds < 6.5


def test_machine_that_is_gone_costs_a_second(fleet: StubFleet, tmp_path: Path) -> None:
    with silent_port() as silent:
        backends = [f"127.0.0.1:{silent}", fleet.addresses[0]]
        with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), backends) as server:
            started = time.monotonic()
            for _ in backends:
                request_id, answer = asked(server.port, ONCE[0])
                assert answer.status == 200
                assert len(fleet.seen(request_id)) == 1
            assert 0.9 < time.monotonic() - started < 2


def test_request_that_ends_instances_does_not_reach_all(tmp_path: Path) -> None:
    with stub_fleet(6) as fleet, NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server:
        request_id, answer = asked(server.port, AGAIN[0], X_Stub="close")
        assert_refusal(answer, 503, "temporarily_unavailable", request_id)
        assert len(fleet.seen(request_id)) == 4


def test_instances_that_failed_come_back_soon(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), [f"127.0.0.1:{port}" for port in ports]) as server:
        for _ in range(10):  # the first few try to connect, the others find nobody left to try
            assert_refusal(ask(server.port, "GET", "/health"), 503, "temporarily_unavailable")
        with stub_fleet(2, ports) as fleet:
            wait_until(lambda: ask(server.port, "GET", "/health").status == 200, seconds=4)
            assert fleet.requests
            server.stop()


def test_one_lost_request_takes_no_instance_out(tmp_path: Path) -> None:
    with stub_fleet(2) as fleet, NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server:
        request_id, _ = asked(server.port, ONCE[0], X_Stub="close")
        [lost] = fleet.seen(request_id)
        wait_until(lambda: fleet.seen(asked(server.port, AGAIN[0])[0])[0].instance == lost.instance, seconds=1)


# What nginx refuses by itself

LINE = b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
BEARER = b"Authorization: Bearer at_x\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
TOO_LARGE = {
    "body": b"POST /token" + LINE + b"Content-Length: 16385\r\n\r\n" + b"a" * 16385,
    "chunked body": b"POST /introspect" + LINE + CHUNKED + b"\r\n4001\r\n" + b"a" * 0x4001 + b"\r\n0\r\n\r\n",
    "announced body": b"POST /token" + LINE + b"Expect: 100-continue\r\nContent-Length: 16385\r\n\r\n",
}
HEADERS_TOO_LARGE = {
    "one line over 32 KiB": b"GET /health" + LINE + b"X: " + b"a" * 33000 + b"\r\n\r\n",
    "together over 64 KiB": b"GET /health" + LINE + b"X: %s\r\n" % (b"a" * 995) * 70 + b"\r\n",
}
MALFORMED = {
    "no request line": b"\x16\x03\x01\x02\x00\r\n\r\n",
    "no host": b"GET /health HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /health" + LINE + b"Host: b\r\n\r\n",
    "two authorizations": b"GET /validate" + LINE + BEARER + BEARER + b"\r\n",
    "NUL in a header": b"GET /health" + LINE + b"X: a\0b\r\n\r\n",
    "NUL in the path": b"GET /hea%00lth" + LINE + b"\r\n",
    "path above the root": b"GET /../health" + LINE + b"\r\n",
    "method in small letters": b"get /health" + LINE + b"\r\n",
    "negative length": b"POST /token" + LINE + b"Content-Length: -5\r\n\r\n",
    "unknown transfer encoding": b"POST /token" + LINE + b"Transfer-Encoding: gzip\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}
INNER_LOCATIONS = [b"/validate/again", b"/validate/once", b"/validate/never", b"/refusal"]
REFUSALS = {
    **{f"{name} over 16 KiB": (request, 413, "content_too_large") for name, request in TOO_LARGE.items()},
    **{f"header lines, {name}": (request, 431, "header_fields_too_large") for name, request in HEADERS_TOO_LARGE.items()},
    **{name: (request, 400, "invalid_request") for name, request in MALFORMED.items()},
    "request line over 32 KiB": (b"GET /" + b"a" * 33000 + LINE + b"\r\n", 414, "invalid_request"),
    **{f"inner location {path.decode()}": (b"GET " + path + LINE + b"\r\n", 404, "not_found") for path in INNER_LOCATIONS},
}


@pytest.mark.parametrize(("request_", "status", "error"), REFUSALS.values(), ids=REFUSALS)
def test_own_refusal_has_the_contracts_form(nginx: NginxServer, fleet: StubFleet, request_: bytes, status: int, error: str) -> None:
    before = len(fleet.requests)
    assert_refusal(ask_raw(nginx.port, request_), status, error)
    assert len(fleet.requests) == before


@pytest.mark.parametrize(
    ("request_line", "allow"),
    [
        (b"TRACE /token", "OPTIONS, POST"),
        (b"TRACE /validate?scope=a", "GET, HEAD, OPTIONS, POST"),
        (b"TRACE /health", "GET, HEAD, OPTIONS"),
        (b"CONNECT a:80", "GET, HEAD, OPTIONS"),
    ],
)
def test_methods_that_nginx_takes_for_no_path(nginx: NginxServer, request_line: bytes, allow: str) -> None:
    answer = ask_raw(nginx.port, request_line + LINE + b"\r\n")
    assert_refusal(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == allow


def test_refusal_to_head_has_no_body(nginx: NginxServer) -> None:
    answer = ask(nginx.port, "HEAD", "/refusal")
    assert_refusal(answer, 404, "not_found")
    assert answer.body == b""


@pytest.mark.parametrize(
    "limit",
    [
        "limit_req_zone $binary_remote_addr zone=callers:1m rate=1r/m; limit_req zone=callers;",
        "limit_conn_zone $server_name zone=all:1m; limit_conn all 1;",
    ],
)
def test_rate_limits_switched_on_by_an_included_file(fleet: StubFleet, tmp_path: Path, limit: str) -> None:
    fleet.release.clear()
    server = NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses, level=limit)
    with server, ThreadPoolExecutor(1) as pool:
        first_id = next(IDS)
        first = pool.submit(ask, server.port, "GET", "/health", {"X-Request-Id": first_id, "X-Stub": "hold"})
        wait_until(lambda: bool(fleet.seen(first_id)))
        assert_refusal(ask(server.port, "GET", "/health"), 429, "slow_down")
        fleet.release.set()
        assert first.result().status == 200


def test_address_denied_by_an_included_file(fleet: StubFleet, tmp_path: Path) -> None:
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses, listen="deny all;") as server:
        assert_refusal(ask(server.port, "GET", "/health"), 403, "access_denied")


def test_request_that_does_not_arrive_ends_the_connection(nginx: NginxServer, fleet: StubFleet) -> None:
    before = len(fleet.requests)
    with ThreadPoolExecutor(2) as pool:
        begun = [pool.submit(ask_raw, nginx.port, b"POST /token" + LINE + rest) for rest in (b"Content-Le", b"Content-Length: 5\r\n\r\nab")]
        for lost in begun:
            with pytest.raises(ConnectionResetError, match="reset by peer"):  # nginx answers no 408
                lost.result()
    assert len(fleet.requests) == before


# What passes untouched


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 429, 431, 500, 502, 503, 504])
def test_answer_of_an_instance_passes_whatever_its_status(nginx: NginxServer, fleet: StubFleet, status: int) -> None:
    for request in (AGAIN[0], ONCE[0], NEVER[0]):
        request_id, answer = asked(nginx.port, request, X_Stub=f"status-{status}")
        assert (answer.status, answer.body) == (status, b'{"from":"instance"}')
        said = {
            "X-Request-Id": [request_id],
            "Cache-Control": ["no-store, private"],
            "Content-Type": ["application/json"],
            "X-Auth-Client": ["demo"],
            "X-Auth-Scope": [LONGEST_SCOPE],
            "Location": ["http://auth/validate"],
            "Retry-After": None,
        }
        assert {name: answer.headers.get_all(name) for name in said} == said
        assert len(fleet.seen(request_id)) == 1


@pytest.mark.parametrize(
    "target",
    [
        "/validate?scope=a%20b&x=%2F",
        "/validate?",
        "/introspect?a",
        "/docs",
        "/openapi.json",
        "/metrics",
        "/live",
        "/no/such%20path/",
    ],
)
def test_target_reaches_the_instance_as_it_was(nginx: NginxServer, fleet: StubFleet, target: str) -> None:
    request_id, _ = asked(nginx.port, ("GET", target, AT, None))
    [seen] = fleet.seen(request_id)
    assert seen.target == target.rstrip("?")
    assert seen.values("authorization") == [AT["Authorization"]]


def test_what_an_instance_is_told(nginx: NginxServer, fleet: StubFleet) -> None:
    claims = {"X_Forwarded_For": "203.0.113.7", "X_Forwarded_Proto": "https", "Expect": "100-continue"}
    request_id, _ = asked(nginx.port, ONCE[0], Host="auth.test:8080", **claims)
    [seen] = fleet.seen(request_id)
    told = {"host": ["auth.test"], "x-forwarded-for": ["127.0.0.1"], "x-forwarded-proto": ["http"], "connection": [], "expect": []}
    assert {name: seen.values(name) for name in told} == told


def test_caller_behind_a_trusted_proxy_is_told_by_its_header(fleet: StubFleet, tmp_path: Path) -> None:
    trust = "set_real_ip_from 127.0.0.0/8; real_ip_header X-Forwarded-For; real_ip_recursive on;"
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses, listen=trust) as server:
        request_id, _ = asked(server.port, AGAIN[0], X_Forwarded_For="198.51.100.1, 203.0.113.7")
        [seen] = fleet.seen(request_id)
    assert seen.values("x-forwarded-for") == ["203.0.113.7"]


@pytest.mark.parametrize(
    "framed",
    [
        b"Content-Length: 16384\r\n\r\n" + b"a" * 16384,
        CHUNKED + b"\r\n" + b"1\r\na\r\n" * 16384 + b"0\r\n\r\n",
    ],
    ids=["length", "one-byte chunks"],
)
def test_body_of_16_kib_passes_without_a_file(fleet: StubFleet, tmp_path: Path, framed: bytes) -> None:
    request_id = next(IDS)
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server:
        shutil.rmtree(server.prefix / "client_body_temp")
        answer = ask_raw(server.port, b"POST /introspect" + LINE + f"X-Request-Id: {request_id}\r\n".encode() + framed)
    assert answer.status == 200
    [seen] = fleet.seen(request_id)
    assert seen.body == b"a" * 16384


# Request IDs


@pytest.mark.parametrize("request_id", ["a", "A-Z.a_z-09", "x" * 64])
def test_request_id_of_the_caller_is_kept(nginx: NginxServer, fleet: StubFleet, request_id: str) -> None:
    answer = ask(nginx.port, "GET", "/health", {"X-Request-Id": request_id})
    assert answer.headers.get_all("X-Request-Id") == [request_id]
    assert len(fleet.seen(request_id)) == 1
    refusal = ask(nginx.port, "GET", "/refusal", {"X-Request-Id": request_id})
    assert_refusal(refusal, 404, "not_found", re.escape(request_id))


@pytest.mark.parametrize("given", [[], [""], ["x" * 65], ["a b"], ["a,b"], ['"a"'], ["ä"], ["a", "b"], ["$a"]], ids=repr)
def test_request_id_that_is_not_well_formed_is_replaced(nginx: NginxServer, given: list[str]) -> None:
    lines = "".join(f"X-Request-Id: {value}\r\n" for value in given).encode()
    for target in (b"/health", b"/refusal"):
        [answered] = ask_raw(nginx.port, b"GET " + target + LINE + lines + b"\r\n").headers.get_all("X-Request-Id", [])
        assert re.fullmatch("[0-9a-f]{32}", answered)


# Smuggling: two readings of one message

TRAILING = b"GET /smuggled HTTP/1.1\r\nHost: a\r\nX-Request-Id: smuggled\r\n\r\n"
SMUGGLING = {
    "length and chunked": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "two lengths": b"Content-Length: 0\r\nContent-Length: 60\r\n\r\n",
    "one length twice": b"Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
    "list of lengths": b"Content-Length: 4, 4\r\n\r\nabcd",
    "plus sign": b"Content-Length: +4\r\n\r\nabcd",
    "hexadecimal length": b"Content-Length: 0x4\r\n\r\nabcd",
    "space before the colon of the length": b"Content-Length : 4\r\n\r\nabcd",
    "space before the colon of chunked": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "xchunked": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "list of encodings": b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "folded line": b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "bare CR": b"X: a\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "request behind a bare LF": b"X: a\nGET /smuggled HTTP/1.1\r\n\r\n",
    "chunk size ended by LF": b"Transfer-Encoding: chunked\r\n\r\n4\nabcd\r\n0\r\n\r\n",
    "chunk extension ended by LF": b"Transfer-Encoding: chunked\r\n\r\n4;a\nabcd\r\n0\r\n\r\n",
    "chunk size too large": b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabcd\r\n0\r\n\r\n",
    "chunk longer than its size": b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING)
def test_message_of_two_readings_reaches_no_instance(nginx: NginxServer, fleet: StubFleet, rest: bytes) -> None:
    before = len(fleet.requests)
    answer = ask_raw(nginx.port, b"POST /revoke HTTP/1.1\r\nHost: a\r\n" + rest + TRAILING)
    assert_refusal(answer, 400, "invalid_request")
    assert answer.headers["Connection"] == "close"
    assert len(fleet.requests) == before


def test_lines_ended_by_lf_alone_reach_the_instance_as_one_request(nginx: NginxServer, fleet: StubFleet) -> None:
    request_id = next(IDS)
    head = f"POST /revoke HTTP/1.1\nHost: a\nConnection: close\nX-Request-Id: {request_id}\nContent-Length: {len(TRAILING)}\n\n"
    answer = ask_raw(nginx.port, head.encode() + TRAILING)
    assert answer.status == 200
    [seen] = fleet.seen(request_id)
    assert seen.body == TRAILING
    assert not fleet.seen("smuggled")


def test_pipelined_requests_with_large_headers_are_told_apart(nginx: NginxServer, fleet: StubFleet) -> None:
    ids = [next(IDS) for _ in range(5)]
    request = "GET /health HTTP/1.1\r\nHost: a\r\nX-Request-Id: {}\r\nX: " + "a" * 12000 + "\r\n\r\n"
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=5) as connection, connection.makefile("rb") as answers:
        connection.sendall("".join(request.format(request_id) for request_id in ids).encode())
        answered = [line.split()[1].decode() for line in itertools.islice((x for x in answers if x.startswith(b"X-Request-Id")), len(ids))]
    assert answered == ids
    assert [len(fleet.seen(request_id)) for request_id in ids] == [1] * len(ids)


# Connections and the process


def test_connections_to_instances_are_kept_but_not_for_long(tmp_path: Path) -> None:
    with stub_fleet(1) as fleet, NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server:
        for request in [*AGAIN, *ONCE, *NEVER] * 2:
            assert asked(server.port, request)[1].status == 200
        assert fleet.connections == 1
        # shorter than the drain of an instance, 5 s: what is idle then is closed here before it is closed there
        wait_until(lambda: fleet.closed_connections == 1, seconds=4.9)


def test_sigquit_finishes_what_is_in_flight(fleet: StubFleet, tmp_path: Path) -> None:
    fleet.release.clear()
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server, ThreadPoolExecutor(2) as pool:
        ids = [next(IDS), next(IDS)]
        held = [pool.submit(ask, server.port, "POST", "/token", {"X-Request-Id": request_id, "X-Stub": "hold"}, b"x") for request_id in ids]
        wait_until(lambda: all(fleet.seen(request_id) for request_id in ids))
        server.signal(signal.SIGQUIT)
        wait_until(lambda: not server.listening())
        fleet.release.set()
        assert [answer.result().status for answer in held] == [200, 200]
        assert server.process is not None
        assert server.process.wait(timeout=10) == 0


def test_reload_loses_no_request(fleet: StubFleet, tmp_path: Path) -> None:
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server:
        assert server.process is not None
        master = psutil.Process(server.process.pid)

        def answered_by_new_workers(old: list[psutil.Process]) -> bool:
            assert ask(server.port, "GET", "/health").status == 200
            return not any(worker in master.children() for worker in old)

        for _ in range(3):
            workers = master.children()
            server.signal(signal.SIGHUP)
            wait_until(partial(answered_by_new_workers, workers))


@pytest.mark.parametrize("told", [signal.SIGHUP, signal.SIGQUIT], ids=["reload", "quit"])
def test_kept_connection_may_ask_once_more_of_a_worker_that_is_to_end(fleet: StubFleet, tmp_path: Path, told: signal.Signals) -> None:
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server, Connection(server.port) as connection:
        assert asked_again(connection) == (200, "keep-alive")
        worker = told_to_end(server, told)
        assert asked_again(connection) == (200, "close")
        assert connection.answer() is None
        wait_until(lambda: not runs(worker), seconds=1)


def test_silent_connection_keeps_a_worker_for_seconds_only(fleet: StubFleet, tmp_path: Path) -> None:
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses) as server, Connection(server.port) as connection:
        assert asked_again(connection) == (200, "keep-alive")
        worker = told_to_end(server, signal.SIGQUIT)
        # and an answer of 9 s that begins then ends before the 15 s of worker_shutdown_timeout
        wait_until(lambda: not runs(worker), seconds=6)
        assert connection.answer() is None


def told_to_end(server: NginxServer, told: signal.Signals) -> psutil.Process:
    """The one worker, once it has begun to end; whatever is sent to it then comes after its idle connections were closed."""
    assert server.process is not None
    [worker] = psutil.Process(server.process.pid).children()
    server.signal(told)
    wait_until(lambda: not runs(worker) or "shutting down" in title_of(worker))
    return worker


def title_of(process: psutil.Process) -> str:
    """Its command line; empty for one that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def asked_again(connection: Connection) -> tuple[int, str | None] | None:
    """Status and `Connection` of an answer on a kept connection; None if nginx hung up."""
    connection.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = connection.answer()
    return answer and (answer.status, answer.header("connection"))


@pytest.mark.parametrize("user", ["nobody"] if os.geteuid() == 0 else [None])
def test_everything_written_is_below_the_prefix(fleet: StubFleet, user: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="nginx-test-") as folder:
        confdir, prefix = Path(folder, "conf"), Path(folder, "run")
        Path(folder).chmod(0o755)
        server = NginxServer(confdir, prefix, free_port(), fleet.addresses, user=user)
        if user:
            os.chown(prefix, 65534, 65534)
        confdir.chmod(0o555)
        with server:
            assert asked(server.port, ONCE[0])[1].status == 200
            assert sorted(path.name for path in prefix.iterdir()) == [
                "client_body_temp",
                "fastcgi_temp",
                "nginx.pid",
                "proxy_temp",
                "scgi_temp",
                "stderr",
                "uwsgi_temp",
            ]
        assert {path.name for path in confdir.iterdir()} == {*HTTP, *INCLUDED}
        assert server.error_log.read_text() == ""


# Logs


def test_logs_hold_no_query_and_no_token(fleet: StubFleet, tmp_path: Path) -> None:
    leaky = [
        ("GET", "/validate?token=at_secret", OT, None),
        ("POST", "/token?client_secret=at_secret", FORM, b"x=at_secret"),
        ("GET", "/health?at_secret", {}, None),
    ]
    backends = [*fleet.addresses, f"127.0.0.1:{free_port()}"]
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), backends, listen="access_log access.json json;") as server:
        for request, wish in itertools.product(leaky, ("answer", "close", "half")):
            asked(server.port, request, X_Stub=wish)
        ask_raw(server.port, b"POST /token?at_secret" + LINE + b"Content-Length: 16385\r\n\r\n")
        ask_raw(server.port, b"GET /token?at_secret" + LINE + b"X: " + b"a" * 33000 + b"\r\n\r\n")
        ask_raw(server.port, b"GET at_secret HTTP/1.1\r\n\r\n")
        log = server.prefix / "access.json"
        wait_until(lambda: log.read_text().count("\n") == 12)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    logged = {(line["method"], line["path"], line["status"]) for line in lines}
    assert logged >= {("GET", "/validate", 200), ("POST", "/token", 200), ("POST", "/token", 413), ("GET", "/token", 431), ("GET", "", 400)}
    assert all(line["request_id"] for line in lines)
    written = log.read_text() + server.error_log.read_text()
    assert "secret" not in written
    assert "ot_" not in written


def test_log_can_be_narrowed_to_trouble(fleet: StubFleet, tmp_path: Path) -> None:
    narrowed = "access_log access.json json if=$trouble;"
    with NginxServer(tmp_path / "conf", tmp_path / "run", free_port(), fleet.addresses, listen=narrowed) as server:
        asked(server.port, AGAIN[0])
        asked(server.port, AGAIN[0], X_Stub="status-503")
        troubled = [
            asked(server.port, AGAIN[0], X_Stub="close-first")[0],
            asked(server.port, ONCE[0], X_Stub="close")[0],
            asked(server.port, ("GET", "/refusal", {}, None))[0],
        ]
        log = server.prefix / "access.json"
        wait_until(lambda: log.read_text().count("\n") == 3)
    assert [json.loads(line)["request_id"] for line in log.read_text().splitlines()] == troubled


def test_silent_by_default(nginx: NginxServer) -> None:
    asked(nginx.port, AGAIN[0])
    asked(nginx.port, ONCE[0], X_Stub="close")
    assert nginx.error_log.read_text() == ""
    assert not (nginx.prefix / "logs").exists()


# The files themselves

README = (CONFIGURATION / "README.md").read_text()
GIXY = Path(sys.executable).with_name("gixy")


def example(title: str) -> dict[str, str]:
    """The included files that README.md shows under a heading, by name."""
    section = README.split(f"### {title}\n", 1)[1].split("\n### ", 1)[0].split("\n## ", 1)[0]
    return dict(re.findall(r"`(\w+\.conf)`:\n\n```nginx\n(.*?)```", section, flags=re.DOTALL))


@pytest.mark.parametrize(("title", "shared"), [("On a laptop", HTTP), ("In a cluster", HTTP), ("In a cluster, over TCP", STREAM)])
def test_examples_in_the_readme_load_and_are_clean(tmp_path: Path, title: str, shared: Sequence[str]) -> None:
    included = example(title)
    assert sorted(included) == sorted([*INCLUDED[1:], "http.conf" if shared is HTTP else "tcp.conf"])
    configuration = write_configuration(tmp_path / "conf", included, shared)
    loaded = check_configuration(configuration, tmp_path)
    assert loaded.returncode == 0, loaded.stderr
    assert "[" not in loaded.stderr  # [warn] and above
    gixy = subprocess.run([GIXY, configuration], capture_output=True, text=True, check=False)
    assert gixy.returncode == 0, gixy.stdout


@pytest.mark.parametrize("missing", INCLUDED)
def test_missing_included_file_stops_the_start(tmp_path: Path, missing: str) -> None:
    included = example("On a laptop")
    del included[missing]
    loaded = check_configuration(write_configuration(tmp_path / "conf", included), tmp_path)
    assert loaded.returncode == 1
    assert missing in loaded.stderr


def test_readme_explains_every_directive() -> None:
    used = set()
    for name in {*HTTP, *STREAM}:
        text = re.sub(r"map [^{]*\{[^}]*\}", "map ;", re.sub(r"(^|\s)#.*", "", (CONFIGURATION / name).read_text()))
        used |= set(re.findall(r"^\s*([a-z_]+)\b[^\n]*[;{,']$", text, flags=re.MULTILINE))
    structure = {"events", "http", "server", "location", "upstream", "map", "include", "proxy_pass", "stream"}
    assert {"proxy_next_upstream", "reset_timedout_connection", "zone"} <= used
    assert sorted(directive for directive in used - structure if f"`{directive}" not in README) == []


def test_binary_is_new_enough() -> None:
    assert nginx_version(nginx_binary()) >= OLDEST_VERSION
