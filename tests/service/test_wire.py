"""HTTP as it may arrive: in pieces, in heaps, malformed or not HTTP at all. Refused with the error body or hung up on, never worse."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.one_instance import FORM, OneInstance, assert_refused, basic, bearer, one_instance
from service.wire import Answer, Connection, NotHttp, request

HEALTH = request("GET", "/health")
CREDENTIALS = b"client_id=app&client_secret=app-secret"
GRANT = b"grant_type=client_credentials&" + CREDENTIALS
CHUNKED = [("Content-Type", FORM), ("Transfer-Encoding", "chunked")]


@pytest.fixture(scope="module", params=[True, False], ids=["lane", "asgi"])
def instance(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    """An instance that must have answered no 500 and logged nothing worth a look when all is over."""
    with one_instance(tmp_path_factory.mktemp("instance"), fast_lane=request.param) as instance:
        yield instance
        assert instance.valid(instance.issue())
        assert {name: value for name, value in instance.metrics().items() if 'status="5' in name and value} == {}
        assert [line for line in instance.log().splitlines() if json.loads(line)["level"] != "info"] == []


def post(target: str, body: bytes, *lines: bytes) -> bytes:
    """A POST of a form with these header lines, which say how the body is framed."""
    fields = b"".join(line + b"\r\n" for line in (b"Host: auth.test", f"Content-Type: {FORM}".encode(), *lines))
    return b"POST %b HTTP/1.1\r\n%b\r\n%b" % (target.encode(), fields, body)


def chunked(body: bytes, size: int = 1, last: bytes = b"0\r\n\r\n") -> bytes:
    """The body in chunks of this size."""
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + last


def in_chunks(target: str, framed: bytes) -> bytes:
    return post(target, framed, b"Transfer-Encoding: chunked")


def until_closed(connection: Connection) -> list[Answer]:
    """All answers that come before the server hangs up. It may reset a connection on which it said that it would close."""
    answers: list[Answer] = []
    try:
        while (answer := connection.answer()) is not None:
            answers.append(answer)
    except ConnectionResetError:
        assert answers, "a reset without a word"
        assert answers[-1].header("connection") == "close"
    return answers


def exchange(port: int, *packets: bytes) -> list[Answer]:
    """Send, stop sending, and read all answers until the server hangs up."""
    with Connection(port) as connection:
        send_until_refused(connection, *packets)
        return until_closed(connection)


def send_until_refused(connection: Connection, *packets: bytes) -> None:
    """Send and stop sending. The server may hang up before: its answer is there to read all the same."""
    with contextlib.suppress(OSError):
        connection.send(*packets)
        connection.stop_sending()


def in_packets(data: bytes) -> list[bytes]:
    return [data[at : at + 5000] for at in range(0, len(data), 5000)]


def assert_hung_up_on(port: int, packets: Sequence[bytes], status: int, error: str, after: int = 0) -> None:
    """The only answer, after those to good requests, is this refusal, and the server hangs up by itself."""
    with Connection(port) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.send(*packets)
        *earlier, answer = until_closed(connection)
        assert [one.status for one in earlier] == [200] * after
        assert_refused(answer, status, error)
        assert answer.header("connection") == "close"
        assert answer.header("date")


# --- pieces and heaps


@dataclass(frozen=True)
class Asked:
    """A request with an id of its own, and what is known of its answer."""

    data: bytes
    status: int
    method: str = "GET"


def mixed(instance: OneInstance, number: int) -> list[Asked]:
    """Requests that take different ways and times: to Redis, to FastAPI, or nowhere."""
    token = instance.issue()
    fields = iter([("X-Request-Id", f"asked-{index}")] for index in range(number))
    made: list[Asked] = []
    while len(made) < number:
        for build in (
            lambda fields: Asked(request("GET", "/validate", [bearer(token), *fields]), 200),
            lambda fields: Asked(request("GET", "/health", fields), 200),
            lambda fields: Asked(request("GET", "/docs", fields), 200),
            lambda fields: Asked(request("POST", "/token", [("Content-Type", FORM), *fields], GRANT), 200, "POST"),
            lambda fields: Asked(request("GET", "/nothing", fields), 404),
            lambda fields: Asked(request("HEAD", "/openapi.json", fields), 200, "HEAD"),
            lambda fields: Asked(
                in_chunks("/token", chunked(GRANT, 7)).replace(b"Host:", f"X-Request-Id: {fields[0][1]}\r\nHost:".encode()), 200
            ),
            lambda fields: Asked(request("POST", "/introspect", [basic("app"), ("Content-Type", FORM), *fields], b"token=x"), 200),
            lambda fields: Asked(request("PUT", "/health", fields, b"a body"), 405),
            lambda fields: Asked(request("OPTIONS", "/token", fields), 204),
            lambda fields: Asked(request("GET", "/.well-known/oauth-authorization-server", fields), 200),
            lambda fields: Asked(request("POST", "/token", fields, b"no type"), 415),
        ):
            if len(made) < number:
                made.append(build(next(fields)))
    return made


def assert_in_order(connection: Connection, asked: Sequence[Asked]) -> None:
    for number, one in enumerate(asked):
        answer = connection.answer(one.method)
        assert answer is not None, f"hung up instead of answer {number}"
        assert (answer.header("x-request-id"), answer.status) == (f"asked-{number}", one.status)


def test_pipelined_requests_are_answered_in_order(instance: OneInstance) -> None:
    asked = mixed(instance, 200)
    with Connection(instance.port) as connection:
        connection.send(b"".join(one.data for one in asked))
        assert_in_order(connection, asked)
        connection.send(HEALTH)
        assert connection.answer() is not None, "the connection is still good"


def test_many_requests_of_which_the_last_is_split(instance: OneInstance) -> None:
    """What is not whole yet is a short head, however much came before it."""
    whole, split = [request("GET", "/health", [("X-Padding", "a" * 300)])] * 400, HEALTH
    with Connection(instance.port) as connection:
        connection.send(b"".join(whole) + split[:-1])
        assert [connection.answer().status for _ in whole] == [200] * 400  # type: ignore[union-attr]
        connection.send(split[-1:])
        assert connection.answer().status == 200  # type: ignore[union-attr]


@pytest.mark.parametrize("body", [post("/token", GRANT, b"Content-Length: %d" % len(GRANT)), in_chunks("/token", chunked(GRANT))])
def test_a_request_byte_by_byte(instance: OneInstance, body: bytes) -> None:
    with Connection(instance.port) as connection:
        connection.send(*(body[position : position + 1] for position in range(len(body))))
        answer = connection.answer("POST")
        assert answer is not None
        assert answer.json["token_type"] == "Bearer"


@given(cuts=st.lists(st.integers(0, 4000), max_size=30))
@settings(max_examples=60, deadline=None, print_blob=True)
def test_requests_cut_anywhere(instance: OneInstance, cuts: list[int]) -> None:
    asked = mixed(instance, 12)
    data = b"".join(one.data for one in asked)
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    with Connection(instance.port) as connection:
        connection.send(*(data[start:end] for start, end in itertools.pairwise(places)))
        assert_in_order(connection, asked)


@pytest.mark.parametrize(
    "framed",
    [
        chunked(GRANT, 1),
        chunked(GRANT, 1000),
        b'%X;name=value;other="quoted"\r\n%b\r\n0;last\r\n\r\n' % (len(GRANT), GRANT),
        b"00000%x\r\n%b\r\n000\r\n\r\n" % (len(GRANT), GRANT),
        chunked(GRANT, 5, b"0\r\nX-Trailer: x\r\nX-Request-Id: trailer\r\n\r\n"),
        chunked(GRANT + b"&x=" + b"a" * (16 * 1024 - len(GRANT) - 3)),
    ],
    ids=["bytes", "one chunk", "extensions", "leading zeros", "trailers", "16 KiB in chunks of one byte"],
)
def test_chunked_bodies(instance: OneInstance, framed: bytes) -> None:
    [answer] = exchange(instance.port, in_chunks("/token", framed))
    assert answer.status == 200
    assert answer.header("x-request-id") != "trailer"


def test_a_trailer_is_no_header(instance: OneInstance) -> None:
    token = instance.issue(target="/ott")
    head, trailer = in_chunks("/validate", b"0\r\n"), f"Authorization: Bearer {token}\r\n\r\n".encode()
    for packets in ([head + trailer], [head, trailer]):
        [answer] = exchange(instance.port, *packets)
        assert_refused(answer, 400, "invalid_request")
    assert instance.valid(token)


def test_a_body_that_is_announced(instance: OneInstance) -> None:
    head = post("/token", b"", b"Expect: 100-continue", b"Content-Length: %d" % len(GRANT))
    with Connection(instance.port) as connection:
        connection.send(head)
        assert connection.answer() == Answer(100, (), b"")
        connection.send(GRANT)
        assert connection.answer().status == 200  # type: ignore[union-attr]
    assert [answer.status for answer in exchange(instance.port, head + GRANT)] in ([100, 200], [200])
    other = head.replace(b"100-continue", b"something-else")
    assert [answer.status for answer in exchange(instance.port, other + GRANT)] == [200]


def test_a_body_that_is_announced_too_large(instance: OneInstance) -> None:
    with Connection(instance.port) as connection:
        connection.send(post("/token", b"", b"Expect: 100-continue", b"Content-Length: 16385"))
        answer = connection.answer("POST")
        assert answer is not None
        assert_refused(answer, 413, "content_too_large")


# --- what is no request

GOOD_CHUNK = b"3\r\na=b\r\n"
MALFORMED: dict[str, bytes] = {
    "negative length": post("/token", b"", b"Content-Length: -1"),
    "signed length": post("/token", b"a", b"Content-Length: +1"),
    "length no number": post("/token", b"", b"Content-Length: abc"),
    "length in hex": post("/token", b"a" * 16, b"Content-Length: 0x10"),
    "length of two words": post("/token", b"a", b"Content-Length: 1 2"),
    "empty length": post("/token", b"", b"Content-Length:"),
    "length list": post("/token", b"a=b", b"Content-Length: 3, 3"),
    "length beyond 64 bits": post("/token", b"a=b", b"Content-Length: 99999999999999999999999"),
    "two lengths": post("/token", b"a=b", b"Content-Length: 3", b"Content-Length: 4"),
    "two equal lengths": post("/token", b"a=b", b"Content-Length: 3", b"Content-Length: 3"),
    "length and chunks": post("/token", GOOD_CHUNK + b"0\r\n\r\n", b"Content-Length: 3", b"Transfer-Encoding: chunked"),
    "chunks and length": post("/token", GOOD_CHUNK + b"0\r\n\r\n", b"Transfer-Encoding: chunked", b"Content-Length: 3"),
    "other coding": post("/token", b"a=b", b"Transfer-Encoding: gzip"),
    "identity": post("/token", b"a=b", b"Transfer-Encoding: identity", b"Content-Length: 3"),
    "chunked is not last": post("/token", GOOD_CHUNK, b"Transfer-Encoding: chunked, gzip"),
    "nearly chunked": post("/token", GOOD_CHUNK, b"Transfer-Encoding: xchunked"),
    "chunked after a vertical tab": post("/token", GOOD_CHUNK, b"Transfer-Encoding: \x0bchunked"),
    "chunked twice": post("/token", GOOD_CHUNK, b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "space before the colon": post("/token", GOOD_CHUNK, b"Transfer-Encoding : chunked"),
    "chunk size no number": in_chunks("/token", b"zz\r\na=b\r\n0\r\n\r\n"),
    "chunk size negative": in_chunks("/token", b"-3\r\na=b\r\n0\r\n\r\n"),
    "chunk size prefixed": in_chunks("/token", b"0x3\r\na=b\r\n0\r\n\r\n"),
    "chunk size empty": in_chunks("/token", b"\r\na=b\r\n0\r\n\r\n"),
    "chunk size beyond 64 bits": in_chunks("/token", b"fffffffffffffffff\r\na=b\r\n"),
    "second chunk size bad": in_chunks("/token", GOOD_CHUNK + b"zz\r\na=b\r\n0\r\n\r\n"),
    "chunk longer than its size": in_chunks("/token", b"3\r\na=bcd\r\n0\r\n\r\n"),
    "chunk lines end in LF": in_chunks("/token", b"3\na=b\n0\n\n"),
    "NUL in the path": b"GET /hea\0lth HTTP/1.1\r\nHost: x\r\n\r\n",
    "not ASCII in the path": b"GET /hea\xfflth HTTP/1.1\r\nHost: x\r\n\r\n",
    "not ASCII in the query": b"GET /validate?scope=\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "NUL in a header": b"GET /health HTTP/1.1\r\nX: a\0b\r\n\r\n",
    "NUL in a header's name": b"GET /health HTTP/1.1\r\nX\0: ab\r\n\r\n",
    "not ASCII in a header's name": b"GET /health HTTP/1.1\r\nX\xff: ab\r\n\r\n",
    "CR in a header": b"GET /health HTTP/1.1\r\nX: a\rb\r\n\r\n",
    "folded header": b"GET /health HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "line without a colon": b"GET /health HTTP/1.1\r\nHost\r\n\r\n",
    "line without a name": b"GET /health HTTP/1.1\r\n: x\r\n\r\n",
    "space before the first name": b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n",
    "LF only": b"GET /health HTTP/1.1\nHost: x\n\n",
    "LF after CRLF": b"GET /health HTTP/1.1\r\nHost: x\n\r\n",
    "CR only": b"GET /health HTTP/1.1\rHost: x\r\r",
    "lower-case method": b"get /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "unknown method": b"FETCH /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "no target": b"GET  HTTP/1.1\r\nHost: x\r\n\r\n",
    "relative target": b"GET health HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target without a path": b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute target with a bad port": b"GET http://x:99999/health HTTP/1.1\r\nHost: x\r\n\r\n",
    "two targets": b"GET /health /health HTTP/1.1\r\nHost: x\r\n\r\n",
    "authority target": b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "no such version": b"GET /health HTTP/9.9\r\nHost: x\r\n\r\n",
    "no version at all": b"GET /health HTPP/1.1\r\nHost: x\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "TLS ClientHello": bytes.fromhex("16030100a5010000a10303") + bytes(range(150)),
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "an answer": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "NULs": bytes(100),
    "JSON": b'{"token": "x"}\r\n\r\n',
    "an upgrade with a body": post("/token", GRANT, b"Content-Length: %d" % len(GRANT), b"Connection: Upgrade", b"Upgrade: h2c"),
    "an upgrade with chunks": post("/token", chunked(GRANT), b"Transfer-Encoding: chunked", b"Connection: Upgrade", b"Upgrade: h2c"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_is_refused(instance: OneInstance, name: str) -> None:
    data = MALFORMED[name]
    for port in (instance.port, instance.management_port):
        assert_hung_up_on(port, [data], 400, "invalid_request")
        assert_hung_up_on(port, [data[: len(data) // 2], data[len(data) // 2 :]], 400, "invalid_request")
        assert_hung_up_on(port, [data + b"more of it " * 5000], 400, "invalid_request")


@pytest.mark.parametrize("name", MALFORMED)
def test_what_comes_before_something_malformed_is_answered(instance: OneInstance, name: str) -> None:
    asked = mixed(instance, 3)
    with Connection(instance.port) as connection:
        connection.send(b"".join(one.data for one in asked) + MALFORMED[name] + HEALTH)
        assert_in_order(connection, asked)
        assert [answer.status for answer in until_closed(connection)] in ([], [400])


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_after_an_answer_is_refused(instance: OneInstance, name: str) -> None:
    with Connection(instance.port) as connection:
        connection.send(HEALTH)
        assert connection.answer() is not None
        connection.send(MALFORMED[name])
        [answer] = until_closed(connection)
        assert_refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("target", ["/token", "/validate", "/health", "/docs", "/nothing"])
def test_a_body_that_turns_bad_later(instance: OneInstance, target: str) -> None:
    """The head and a good chunk are there; a path that does not wait for the body has answered, and then nothing is added."""
    with Connection(instance.port) as connection:
        connection.send(in_chunks(target, GOOD_CHUNK))
        early = [connection.answer()] if target not in ("/token", "/validate") else []
        connection.send(b"zz\r\n")
        answers = [*early, *until_closed(connection)]
        assert [answer and answer.status for answer in answers] == [{"/health": 405, "/docs": 405, "/nothing": 404}.get(target, 400)]


def test_a_body_that_turns_bad_after_it_was_refused(instance: OneInstance) -> None:
    with Connection(instance.port) as connection:
        connection.send(in_chunks("/token", chunked(b"a" * 20000, 1000, last=b"")))
        answer = connection.answer("POST")
        assert answer is not None
        assert_refused(answer, 413, "content_too_large")
        connection.send(b"zz\r\n")
        assert connection.rest() == b""


def test_the_rest_of_a_refused_body_is_dropped(instance: OneInstance) -> None:
    size = 300_000
    with Connection(instance.port) as connection:
        connection.send(post("/token", b"a" * size, b"Content-Length: %d" % size), HEALTH)
        assert [connection.answer().status for _ in range(2)] == [413, 200]  # type: ignore[union-attr]


ENDLESS_HEADS = {
    "target": (b"GET /", b"a"),
    "query": (b"GET /health?", b"a"),
    "header": (b"GET /health HTTP/1.1\r\nX: ", b"a"),
    "header's name": (b"GET /health HTTP/1.1\r\n", b"a"),
    "headers": (b"GET /health HTTP/1.1\r\n", b"X: a\r\n"),
}
ENDLESS_BODIES = {
    "trailer": (in_chunks("/token", chunked(GRANT, last=b"0\r\nX: ")), b"a"),
    "trailers": (in_chunks("/token", chunked(GRANT, last=b"0\r\n")), b"X: a\r\n"),
    "chunk extension": (in_chunks("/token", b"3;"), b"a"),
    "chunk size": (in_chunks("/token", b""), b"0"),
}


@pytest.mark.parametrize("name", ENDLESS_HEADS)
@pytest.mark.parametrize("size", [60_000, 400_000])
def test_a_head_that_does_not_end(instance: OneInstance, name: str, size: int) -> None:
    start, more = ENDLESS_HEADS[name]
    rest = more * (size // len(more))
    assert_hung_up_on(instance.port, [start + rest], 431, "header_fields_too_large")
    assert_hung_up_on(
        instance.port, [HEALTH[:-2] + b"X:", *(rest[at : at + 5000] for at in range(0, size, 5000))], 431, "header_fields_too_large"
    )


@pytest.mark.parametrize("name", ENDLESS_BODIES)
def test_a_body_that_does_not_end(instance: OneInstance, name: str) -> None:
    start, more = ENDLESS_BODIES[name]
    rest = more * (400_000 // len(more))
    assert_hung_up_on(instance.port, [start, *in_packets(rest)], 413, "content_too_large")


@pytest.mark.parametrize("size", [33_000, 70_000, 200_000])
def test_a_huge_target(instance: OneInstance, size: int) -> None:
    for target in ("/" + "a" * size, "/validate?scope=" + "a" * size):
        [answer] = exchange(instance.port, request("GET", target))
        assert (answer.status, answer.json["error"]) in ((431, "header_fields_too_large"), (400, "invalid_request"))


# --- what is unusual, but a request

ODD: dict[str, tuple[bytes, int]] = {
    "empty lines first": (b"\r\n\r\n\r\n" + HEALTH, 200),
    "no Host": (b"GET /health HTTP/1.1\r\n\r\n", 200),
    "absolute target": (b"GET http://auth.test/health?x=y HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "absolute target of a page": (b"GET https://user@auth.test:99/docs HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "escaped path": (b"GET /%68ealth HTTP/1.1\r\nHost: x\r\n\r\n", 200),
    "escaped NUL": (b"GET /health%00 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "escaped bytes": (b"GET /%ff%fe%80 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "broken escapes": (b"GET /%zz%4 HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "bytes in a header": (b"GET /health HTTP/1.1\r\nX: \xff\xfe\x80\r\n\r\n", 200),
    "bytes in the request id": (b"GET /health HTTP/1.1\r\nX-Request-Id: \xff\xfe\r\n\r\n", 200),
    "bytes in the token": (b"GET /validate HTTP/1.1\r\nAuthorization: Bearer \xff\xfe\r\n\r\n", 401),
    "bytes in Basic": (post("/token", GRANT, b"Content-Length: %d" % len(GRANT), b"Authorization: Basic \xff\xfe"), 401),
    "bytes in the type": (b"POST /token HTTP/1.1\r\nContent-Type: \xff\r\nContent-Length: 1\r\n\r\nx", 415),
    "NUL in the body": (post("/token", b"a=\0", b"Content-Length: 3"), 400),
    "bytes in the body": (post("/token", b"a=\xff", b"Content-Length: 3"), 400),
    "spaces around the length": (post("/token", GRANT, b"Content-Length:   %d  " % len(GRANT)), 200),
    "HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 to stay": (b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200),
    "HTTP/1.0 for a page": (b"GET /openapi.json HTTP/1.0\r\n\r\n", 200),
    "HTTP/1.0 with a body": (post("/token", GRANT, b"Content-Length: %d" % len(GRANT)).replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
    "close": (b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
    "close in a list": (b"GET /docs HTTP/1.1\r\nConnection: x, Close\r\n\r\n", 200),
    "TRACE": (b"TRACE /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "CONNECT": (b"CONNECT /health HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "websocket": (b"GET /health HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\r\n", 200),
    "HTTP/2 by upgrade": (b"GET /docs HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", 200),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_unusual_is_answered(instance: OneInstance, name: str) -> None:
    data, status = ODD[name]
    [answer] = exchange(instance.port, data)
    assert answer.status == status
    if status >= 400:
        assert list(answer.json) == ["error", "error_description", "request_id"]


@pytest.mark.parametrize("name", [name for name in ODD if "1.0" in name or "close" in name])
def test_connections_that_are_to_end_do(instance: OneInstance, name: str) -> None:
    with Connection(instance.port) as connection:
        connection.send(ODD[name][0])
        [answer] = until_closed(connection)
        assert answer.header("connection") == "close"


@pytest.mark.parametrize("name", [name for name in ODD if "1.0" not in name and "close" not in name])
def test_connections_that_are_to_stay_do(instance: OneInstance, name: str) -> None:
    """In one packet too, though some of the requests ask for another protocol after them."""
    with Connection(instance.port) as connection:
        connection.send(ODD[name][0] + HEALTH, HEALTH)
        answers = [connection.answer() for _ in range(3)]
        assert [answer and answer.status for answer in answers] == [ODD[name][1], 200, 200]


# --- clients that leave


HALF_BODIES = (in_chunks("/token", GOOD_CHUNK), post("/token", b"a", b"Content-Length: 9"))


@pytest.mark.parametrize("target", ["/health", "/validate", "/token", "/docs"])
def test_a_client_that_stopped_sending_is_answered(instance: OneInstance, target: str) -> None:
    data = request("POST", target, [("Content-Type", FORM)], GRANT) if target == "/token" else request("GET", target)
    status = 401 if target == "/validate" else 200
    for number in (1, 3):
        assert [answer.status for answer in exchange(instance.port, data * number)] == [status] * number
    for unfinished in (data[:-1], data[:10], *HALF_BODIES):
        assert [answer.status for answer in exchange(instance.port, data + unfinished)] == [status]


@pytest.mark.parametrize(
    "data", [b"", b"\r\n", HEALTH[:1], HEALTH[:-1], in_chunks("/token", GOOD_CHUNK), post("/token", b"a", b"Content-Length: 9")]
)
def test_a_client_that_left_within_a_request_is_let_go(instance: OneInstance, data: bytes) -> None:
    assert exchange(instance.port, data) == []


def test_clients_that_are_gone_before_the_answer(instance: OneInstance) -> None:
    asked = mixed(instance, 12)
    for number in range(120):
        with Connection(instance.port) as connection:
            connection.send(b"".join(one.data for one in asked[number % 12 :]))
            if number % 2:
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert instance.ask("GET", "/health").status == 200


def test_connections_that_are_silent_are_closed(tmp_path_factory: pytest.TempPathFactory) -> None:
    starts = [b"", b"\r\n", HEALTH, HEALTH + b"\r\n", HEALTH[:20], HEALTH + HEALTH[:20], *HALF_BODIES]
    with one_instance(tmp_path_factory.mktemp("silent"), keep_alive_seconds=1) as instance:

        def statuses(start: bytes) -> list[int]:
            with Connection(instance.port) as connection:
                connection.send(start)
                return [answer.status for answer in until_closed(connection)]

        with ThreadPoolExecutor(len(starts)) as threads:
            assert list(threads.map(statuses, starts)) == [[], [], [200], [200], [], [200], [], []]


# --- anything at all

SAMPLES = (
    HEALTH,
    request("GET", "/validate", [bearer("at_" + "A" * 43)]),
    post("/token", GRANT, b"Content-Length: %d" % len(GRANT)),
    in_chunks("/token", chunked(GRANT, 9)),
    request("GET", "/docs"),
    post("/revoke", b"token=x", b"Content-Length: 7", b"Authorization: Basic YXBwOmFwcC1zZWNyZXQ="),
)
WORDS = (
    b"\r\n",
    b"\n",
    b"\0",
    b"\xff",
    b":",
    b" ",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close\r\n",
    b"0\r\n\r\n",
)


def blob(chance: random.Random) -> bytes:
    """Bytes of no meaning, or requests with some bytes gone, changed, doubled or put in."""
    if chance.random() < 0.3:
        return chance.randbytes(chance.randrange(1, 2000))
    data = bytearray(b"".join(chance.choices(SAMPLES, k=chance.randrange(1, 4))))
    for _ in range(chance.randrange(1, 6)):
        at = chance.randrange(len(data) - 1)
        match chance.randrange(5):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at + 2 : at + chance.randrange(3, 22)]
            case 2:
                data[at:at] = chance.choice(WORDS)
            case 3:
                data[at:at] = data[at : at + chance.randrange(1, 100)]
            case _:
                del data[at + 2 :]
    return bytes(data)


@pytest.mark.parametrize("part", range(4))
def test_whatever_is_sent_is_answered_or_hung_up_on(instance: OneInstance, part: int) -> None:
    chance = random.Random(part)
    for _ in range(250):
        data = blob(chance)
        cut = chance.randrange(len(data) + 1)
        try:
            answers = exchange(instance.port, data[:cut], data[cut:])
        except (NotHttp, OSError) as error:
            raise AssertionError(f"{error!r} for {data!r} cut at {cut}") from error
        for answer in answers:
            assert answer.status < 500, data
            if answer.status >= 400 and answer.body:
                assert list(answer.json) == ["error", "error_description", "request_id"], data
    assert instance.ask("GET", "/health").status == 200


def test_bad_input_is_not_worth_a_line_in_the_log(instance: OneInstance) -> None:
    before = instance.log()
    for data in (*MALFORMED.values(), *(data for data, _ in ODD.values())):
        exchange(instance.port, data)
    assert instance.log() == before
