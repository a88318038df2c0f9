"""Requests of no meaning and requests bent out of shape, to one instance and through nginx: refused politely, never worse."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote_plus, urlencode

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import authsvc
from servers import free_port, wait_until
from service.nginx_fixture import CONFIGURATION, NginxServer
from service.one_instance import FORM, GRANT, HOT_POST, JSON, OneInstance, basic, bearer, encoded, one_instance
from service.wire import ANSWER_SECONDS, Answer, Connection, Field, NotHttp, request

CANARY = "zq~canary~qz"
"""Put wherever a request has room; no answer may give it back. It is no request id, which is."""
PAGES = ("/docs", "/openapi.json", "/.well-known/oauth-authorization-server")
LEAKS = re.compile(
    rb'traceback|File "|\.py\b|authsvc|uvicorn|gunicorn|starlette|fastapi|pydantic|httptools|hiredis|redis|python|exception|0x[0-9a-f]{6}',
    re.IGNORECASE,
)
"""Words of the interpreter, of libraries and of our own modules."""
BODIES = {
    ("access_token", "token_type", "expires_in", "scope"),
    ("access_token", "token_type", "expires_in", "scope", "one_time"),
    ("active", "valid", "client_id", "scope", "scopes", "token_type", "iat", "exp", "jti"),
    ("active", "client_id", "scope", "scopes", "token_type", "iat", "exp", "jti"),
    ("active",),
    ("message",),
    ("status",),
}
"""Members of every success but a page."""
IMPATIENT = "client_header_timeout 150ms; client_body_timeout 150ms; keepalive_timeout 50ms; lingering_timeout 150ms; lingering_time 1s;"
"""nginx drops a client that stops sending, with what it asked; so it is told to hang up on who is silent instead."""


class Door(NamedTuple):
    """A port to send to, and the pages that may come back."""

    port: int
    is_nginx: bool
    pages: frozenset[bytes]


# --- what stands


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneInstance]:
    with one_instance(tmp_path_factory.mktemp("instance")) as instance:
        yield instance


@pytest.fixture(scope="module")
def nginx(instance: OneInstance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NginxServer]:
    folder, backend = tmp_path_factory.mktemp("nginx"), f"127.0.0.1:{instance.port}"
    options = {"server_options": "max_fails=0", "listen": IMPATIENT}
    with NginxServer(folder / "conf", folder / "run", free_port(), [backend], **options) as server:
        yield server
        assert server.error_log.read_text() == ""


@pytest.fixture(params=["instance", "management", "nginx"])
def door(request: pytest.FixtureRequest, instance: OneInstance) -> Iterator[Door]:
    """One way in. Whatever the test sent by it, afterwards the instance is as it was, and it has nothing to complain of."""
    worker = the_worker(instance)
    pages = frozenset(instance.ask("GET", page).body for page in PAGES)
    if request.param == "nginx":
        yield Door(request.getfixturevalue("nginx").port, True, pages)
    else:
        yield Door(instance.port if request.param == "instance" else instance.management_port, False, pages)
    assert instance.valid(instance.issue())
    assert instance.manage("GET", "/ready").status == 200
    assert the_worker(instance) == worker
    wait_until(lambda: unclosed(instance) == 0, "connections of clients that are gone are closed")
    wait_until(lambda: instance.metrics().get("http_requests_in_flight", 0) == 0, "nothing is in flight")
    assert {name: value for name, value in instance.metrics().items() if 'status="5' in name and value} == {}
    assert [line for line in instance.log().splitlines() if json.loads(line)["level"] != "info"] == []


def the_worker(instance: OneInstance) -> psutil.Process:
    [worker] = psutil.Process(instance.process.process.pid).children()
    return worker


def unclosed(instance: OneInstance) -> int:
    """Connections of which the client's end is closed and the instance's is not."""
    return sum(connection.status == psutil.CONN_CLOSE_WAIT for connection in the_worker(instance).net_connections("tcp"))


# --- what is sent and what may come back


def exchange(door: Door, packets: Sequence[bytes], methods: Sequence[str] = ()) -> list[Answer]:
    """Send each packet, and judge the answers to requests of these methods, which end with the server hanging up."""
    answers: list[Answer] = []
    with Connection(door.port) as connection:
        with contextlib.suppress(OSError):  # the server may hang up before: its answer is there to read all the same
            connection.send(*packets)
            if not door.is_nginx:
                connection.stop_sending()
        expected = iter(methods)
        method = next(expected, "GET")
        try:
            while (answer := connection.answer(method)) is not None:
                if answer.status != 100:
                    judge(door, answer)
                    answers.append(answer)
                    method = next(expected, "GET")
        except ConnectionResetError:
            pass  # it hung up with some of what we sent unread
        except TimeoutError:
            raise AssertionError(f"neither an answer nor an end within {ANSWER_SECONDS:.0f} s") from None
        except NotHttp:
            # What has no HTTP version in its first line is HTTP/0.9 to nginx, and answered by a body alone.
            bare = connection.rest()
            if not door.is_nginx or bare.startswith(b"HTTP/"):
                raise
            judge_body(door, bare)
    return answers


def judge(door: Door, answer: Answer) -> None:
    """Nothing but what the contract says. Everything is in reach, so a 503 would hide a request on which the instance hung up."""
    assert answer.status < 500
    head = "\n".join(f"{name}: {value}" for name, value in answer.fields).encode()
    assert CANARY.encode() not in head
    assert not LEAKS.search(head), head
    request_id = answer.header("x-request-id")
    assert re.fullmatch("[A-Za-z0-9._-]{1,64}", request_id or "")
    if not answer.body:
        return
    judge_body(door, answer.body)
    if answer.status >= 400:
        assert answer.json["request_id"] == request_id
    assert (answer.status >= 400) == answer.body.startswith(b'{"error"')


def judge_body(door: Door, body: bytes) -> None:
    """A page as it always is, the metrics, the members of a success, or an error that says a sentence of the source."""
    assert CANARY.encode() not in body
    if body in door.pages or body.startswith(b"# HELP "):
        return
    assert not LEAKS.search(body), body
    members = json.loads(body)
    if tuple(members) not in BODIES:
        assert list(members) == ["error", "error_description", "request_id"]
        assert re.fullmatch("[a-z_]+", members["error"])
        assert sentences().fullmatch(members["error_description"]), body


@cache
def sentences() -> re.Pattern[str]:
    """Every sentence that the service's source or nginx's configuration holds; what is filled into one is a name or a number."""
    found = {re.escape(text) for text in re.findall('"([A-Z][^"]*[.])"', (CONFIGURATION / "auth.conf").read_text())}
    for file in Path(authsvc.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            texts = [part.value if isinstance(part, ast.Constant) else None for part in parts]
            if isinstance(texts[-1], str) and texts[-1].endswith("."):
                found.add("".join(re.escape(text) if isinstance(text, str) else "[A-Za-z0-9_-]{1,20}" for text in texts))
    return re.compile("|".join(found))


def in_packets(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def in_chunks(body: bytes, cuts: Sequence[int] = ()) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in in_packets(body, cuts)) + b"0\r\n\r\n"


CUTS = st.lists(st.integers(0, 5000), max_size=4)
EXAMPLES = pytest.mark.parametrize(
    "examples",
    [pytest.param(100, id="some"), pytest.param(2000, id="many", marks=[pytest.mark.long, pytest.mark.timeout(900)])],
)


def run(examples: int, strategy: st.SearchStrategy[Any], holds: Callable[[Any], object]) -> None:
    """Try the property on so many examples."""

    def example(sent: Any) -> None:
        holds(sent)

    settings(max_examples=examples, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])(
        given(strategy)(example)
    )()


# --- valid requests, mutated

FRAGMENTS = st.sampled_from(
    [
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"\xff",
        b": ",
        b" ",
        b"%",
        b"%00",
        b"&",
        b'"',
        b"{",
        b"\\ud800",
        b"Content-Length: 5\r\n",
        b"Content-Length: 99999\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
        b"Expect: 100-continue\r\n",
        b"Authorization: Basic ",
        b"Authorization: Bearer ",
        b"0\r\n\r\n",
        b"[" * 3000,
        b"a" * 17000,
        CANARY.encode(),
    ]
)


def valid_requests(instance: OneInstance) -> list[bytes]:
    """Good requests of every kind, with a canary where it is ignored. None by HEAD: its answers could not be told from others."""
    client = {"client_id": "app", "client_secret": "app-secret"}
    canary = {CANARY: CANARY}
    made = [request("OPTIONS", "/token")]
    made.extend(request("GET", path) for path in (*PAGES, f"/{CANARY}", "/health", "/live", "/ready", "/metrics"))
    for kind, target in itertools.product((FORM, JSON), HOT_POST):
        token = instance.issue(target="/ott" if target == "/validate" else "/token")
        parameters = {**(GRANT if target in ("/token", "/ott") else {"token": token}), "scope": "read", **canary}
        fields = [("Content-Type", kind), ("X-Canary", CANARY)]
        made.append(request("POST", target, [*fields, basic("app")], encoded(parameters, kind)))
        body = encoded({**parameters, **client}, kind)
        made.append(request("POST", target, [*fields, ("Transfer-Encoding", "chunked")]) + in_chunks(body))
    made.append(request("GET", f"/validate?scope=read&{quote_plus(CANARY)}", [bearer(instance.issue())]))
    made.append(request("POST", "/revoke", [bearer(instance.issue())]))
    return made


@st.composite
def mutated(draw: st.DrawFn, samples: Sequence[bytes]) -> list[bytes]:
    """Some of these requests, pipelined, with bytes gone, changed, doubled or put in, in packets that end anywhere."""
    data = bytearray(b"".join(draw(st.lists(st.sampled_from(samples), min_size=1, max_size=3))))
    for _ in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(data))), draw(st.integers(0, 24))
        copied = bytes(data[at : at + draw(st.integers(0, 80))])
        data[at : at + length] = draw(st.one_of(FRAGMENTS, st.binary(max_size=8), st.just(copied)))
    return in_packets(bytes(data), draw(CUTS))


@EXAMPLES
def test_mutated_requests(door: Door, instance: OneInstance, examples: int) -> None:
    run(examples, mutated(valid_requests(instance)), lambda packets: exchange(door, packets))


# --- requests of no meaning

METHODS = st.sampled_from(["POST", "GET"]) | st.sampled_from(["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PROPFIND"])
TARGETS = st.one_of(
    st.sampled_from(HOT_POST),
    st.sampled_from([*PAGES, "/health", "/live", "/ready", "/metrics", "/", "//validate", "/token/", "/%74oken", "/../token"]),
    st.text(st.sampled_from(f"/%.;:@&=+$,!*'()~-_{CANARY}019azAZ"), max_size=40).map("/".__add__),
)
NAMES = st.sampled_from(["Accept", "Content-Encoding", "Cookie", "Expect", "If-None-Match", "Range", "X-Forwarded-For", "X-Request-Id"])
TEXT = st.text(max_size=20).map(CANARY.__add__)
FIELD_TEXT = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=40).map(CANARY.__add__)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)


class Asked(NamedTuple):
    """A request that is well-formed as HTTP, and its method."""

    method: str
    data: bytes


def meaningless(tokens: Sequence[str]) -> st.SearchStrategy[Asked]:
    """A request of which each part is drawn by itself: what would be right there, or any text behind a canary."""
    right = {
        "grant_type": st.just("client_credentials"),
        "client_id": st.just("app"),
        "client_secret": st.just("app-secret"),
        "token": st.sampled_from(tokens),
        "scope": st.sampled_from(["read", "read write", ""]),
        CANARY: st.just(CANARY),
    }
    parameters = st.fixed_dictionaries({}, optional={name: value | TEXT for name, value in right.items()})
    members = st.fixed_dictionaries({}, optional={name: value | ANYTHING for name, value in right.items()})
    body = st.one_of(
        st.just((None, None)),
        parameters.map(lambda given: (FORM, urlencode(given).encode())),
        (members | ANYTHING).map(lambda given: (JSON, json.dumps(given).encode())),
        st.tuples(st.sampled_from([FORM, JSON]) | FIELD_TEXT, st.binary(max_size=200)),
    )
    authorization = st.none() | st.just(basic("app")[1]) | st.sampled_from(tokens).map("Bearer ".__add__) | FIELD_TEXT
    fields = st.lists(st.tuples(NAMES, FIELD_TEXT), max_size=3)
    return st.builds(assembled, METHODS, TARGETS, st.just({}) | parameters, authorization, fields, body, st.none() | CUTS)


def assembled(
    method: str,
    path: str,
    query: dict[str, str],
    authorization: str | None,
    more_fields: list[Field],
    body: tuple[str | None, bytes | None],
    chunks: list[int] | None,
) -> Asked:
    kind, content = body
    single = (("Authorization", authorization), ("Content-Type", kind))
    fields = [*more_fields, *((name, value) for name, value in single if value is not None)]
    target = f"{path}?{urlencode(query)}" if query else path
    if content is None or chunks is None:
        return Asked(method, request(method, target, fields, content))
    return Asked(method, request(method, target, [*fields, ("Transfer-Encoding", "chunked")]) + in_chunks(content, chunks))


@EXAMPLES
def test_meaningless_requests(door: Door, instance: OneInstance, examples: int) -> None:
    def holds(sent: tuple[list[Asked], list[int]]) -> None:
        asked, cuts = sent
        answers = exchange(door, in_packets(b"".join(one.data for one in asked), cuts), [one.method for one in asked])
        assert len(answers) == len(asked) or answers[-1].header("connection") == "close"

    tokens = [instance.issue(target=target) for target in ("/token", "/ott") * 10]
    run(examples, st.tuples(st.lists(meaningless(tokens), min_size=1, max_size=4), CUTS), holds)


# --- what the OpenAPI document says

CHECKS_OF_OTHERS = ("positive_data_acceptance", "negative_data_rejection")
"""A schema cannot say that credentials are made up, nor that an empty parameter counts as absent (RFC 6749, 3.1)."""


@pytest.mark.parametrize(
    ("door", "authentication", "examples"),
    [
        ("instance", "client", 10),
        ("nginx", "token", 10),
        *(
            pytest.param(door, authentication, 200, marks=[pytest.mark.long, pytest.mark.timeout(900)])
            for door in ("instance", "nginx")
            for authentication in ("nobody", "client", "token")
        ),
    ],
    indirect=["door"],
)
def test_answers_are_as_described(door: Door, instance: OneInstance, tmp_path: Path, authentication: str, examples: int) -> None:
    """Statuses, types, bodies and headers, by schemathesis: in a process of its own, as it changes how hypothesis works in this one."""
    field = {"nobody": None, "client": basic("app"), "token": bearer(instance.issue())}[authentication]
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"http://127.0.0.1:{door.port}/openapi.json", "--no-color"]
    command += ["--phases", "coverage,fuzzing", "--max-examples", f"{examples}", "--generation-database", "none", "--warnings", "off"]
    command += ["--checks", "all", "--exclude-checks", ",".join(CHECKS_OF_OTHERS), "--request-timeout", f"{ANSWER_SECONDS}"]
    command += ["--header", ": ".join(field)] if field else []
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8 selected" in done.stdout
