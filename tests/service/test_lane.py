"""The lane beside the way through ASGI: whatever is asked, in whatever pieces, both answer the same bytes."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from service.one_instance import FORM, JSON, OneInstance, basic, bearer, encoded, one_instance
from service.wire import Answer, Connection, Field
from service.wire import request as in_bytes

CHANGING = re.compile(
    rb"(?i)(?<=\ndate: )[^\r]*|(?<=x-request-id: )[0-9a-f]{12}-[0-9a-f]+|(?<=\"request_id\":\")[0-9a-f]{12}-[0-9a-f]+"
    rb"|(?<=content-length: )\d+|(?<=\"access_token\":\")[^\"]+"
)
"""What may differ: the date, an id that the service made (and with it the length), a fresh token."""

LAST = re.compile(rb"close|HTTP/1\.0")
"""A request that ends its connection."""


def request(method: str, target: str, *fields: Field, body: bytes | None = None) -> bytes:
    return in_bytes(method, target, fields, body)


class Both:
    """Two instances over one Redis, one without the lane."""

    def __init__(self, lane: OneInstance, asgi: OneInstance) -> None:
        self.lane = lane
        self.asgi = asgi

    def assert_same(self, *packets: bytes) -> bytes:
        """Send the packets to both, and a last request unless one of them is the last, and compare all that comes back."""
        if not LAST.search(b"".join(packets)):
            packets = (*packets, request("GET", "/health", ("Connection", "close")))
        lane, asgi = (_all_answers(instance.port, packets) for instance in (self.lane, self.asgi))
        assert CHANGING.sub(b"*", lane) == CHANGING.sub(b"*", asgi)
        return lane

    def assert_same_in_turn(self, asked: Sequence[tuple[bytes, int]]) -> None:
        """Send each request in two pieces, if its cut leaves two, when the one before was answered; compare all answers."""
        lane, asgi = (_answers_in_turn(instance.port, asked) for instance in (self.lane, self.asgi))
        assert lane == asgi


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """The lane and ASGI side by side."""
    with one_instance(tmp_path_factory.mktemp("lane")) as lane, lane.beside(tmp_path_factory.mktemp("asgi"), fast_lane=False) as asgi:
        yield Both(lane, asgi)
        for instance in (lane, asgi):
            assert "Traceback" not in instance.log()


def _answers_in_turn(port: int, asked: Sequence[tuple[bytes, int]]) -> list[bytes]:
    """What each request of one connection brings, without what may differ; the connection may end with one."""
    answers = []
    with Connection(port) as connection:
        for request, cut in asked:
            connection.send(*filter(None, (request[:cut], request[cut:])))
            answer = connection.answer(request.split(b" ", 1)[0].decode())
            while answer is not None and answer.status < 200:
                answer = connection.answer()
            answers.append(CHANGING.sub(b"*", b"none" if answer is None else _text(answer)))
            if answer is None or answer.header("connection") == "close":
                break
    return answers


def _text(answer: Answer) -> bytes:
    lines = (b"%b: %b" % (name.encode(), value.encode("latin-1")) for name, value in answer.fields)
    return b"\n".join((b"%d" % answer.status, *lines, b"", answer.body))


def _all_answers(port: int, packets: tuple[bytes, ...]) -> bytes:
    with Connection(port) as connection:
        connection.send(*packets)
        return connection.rest()


def _questions(both: Both) -> list[bytes]:
    """Requests of all sorts, plain and not, each answered the same however often it is asked."""
    live, ended = both.lane.issue(), both.lane.issue()
    assert both.lane.post("/revoke", {"token": ended}, basic("app")).status == 200
    form = ("Content-Type", FORM)
    close = ("Connection", "close")

    def post(target: str, parameters: dict[str, str], *fields: tuple[str, str], kind: str = FORM) -> bytes:
        return request("POST", target, ("Content-Type", kind), *fields, body=encoded(parameters, kind))

    return [
        request("GET", "/health"),
        request("HEAD", "/health"),
        request("OPTIONS", "/token"),
        request("GET", "/nothing"),
        request("GET", "/health?x=%41"),
        request("GET", "/health", ("X-Request-Id", "mine-1")),
        request("GET", "/health", ("X-Request-Id", "not allowed")),
        request("GET", "/health", ("X-Request-Id", "one"), ("X-Request-Id", "two")),
        request("GET", "/validate", bearer(live)),
        request("GET", "/validate", bearer(live), ("x-request-id", "mine-2")),
        request("GET", "/validate", bearer(ended)),
        request("GET", "/validate", bearer("")),
        request("GET", "/validate", bearer("\x80 x")),
        request("GET", "/validate", bearer(live), bearer(live)),
        request("GET", "/validate", ("authorization", f"bEARER {live}")),
        request("GET", "/validate?scope=read", bearer(live)),
        request("GET", "/validate?scope=admin", bearer(live)),
        request("GET", f"/validate?token={live}"),
        request("GET", "/validate"),
        post("/validate", {"token": live}),
        post("/validate", {"token": live, "scope": "read"}),
        post("/validate", {"token": live}, kind=JSON),
        post("/validate", {"token": live}, bearer(live)),
        post("/validate", {}, bearer(ended)),
        post("/validate", {"token": "garbage"}, ("X-Request-ID", "mine-3")),
        post("/introspect", {"token": live}, basic("app")),
        post("/introspect", {"token": ended}, basic("app")),
        post("/introspect", {"token": live}, basic("app", "wrong")),
        post("/token", {"grant_type": "client_credentials"}, basic("app")),
        post("/token", {"grant_type": "client_credentials", "scope": "admin"}, basic("app")),
        post("/token", {"grant_type": "password"}, basic("app")),
        post("/ott", {"grant_type": "client_credentials", "client_id": "app", "client_secret": "app-secret"}),
        post("/revoke", {"token": ended}, basic("app")),
        post("/revoke", {}, bearer(ended)),
        request("POST", "/token", form, basic("app"), body=b"grant_type=client_credentials&grant_type=client_credentials"),
        request("POST", "/token", form, body=b"=&&=x&grant_type="),
        request("POST", "/token", form, body=b"%zz=\xff"),
        request("POST", "/token", form, ("Expect", "100-continue"), basic("app"), body=b"grant_type=client_credentials"),
        request("GET", "/health", ("Upgrade", "websocket"), ("Connection", "upgrade")),
        request("GET", "/health", ("Connection", "keep-alive")),
        request("POST", "/validate", form, ("Transfer-Encoding", "chunked")) + b"5\r\ntoken\r\n2\r\n=x\r\n0\r\n\r\n",
        request("POST", "/validate", ("Content-Type", "text/plain"), body=b"token"),
        b"\r\n" + request("GET", "/health"),
        b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        request("GET", "http://auth.test/health"),
        request("GET", "/health", close),
    ]


def test_every_kind_of_request_is_answered_alike(both: Both) -> None:
    for asked in _questions(both):
        assert both.assert_same(asked).startswith(b"HTTP/1.1 ")


def test_a_head_that_was_seen_before_means_what_it_meant(both: Both) -> None:
    questions = [asked for asked in _questions(both) if not LAST.search(asked)]
    for asked in questions:
        both.assert_same(*[asked] * 3)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate])
@given(st.randoms(use_true_random=False), st.data())
def test_random_requests_in_random_pieces_are_answered_alike(both: Both, source: random.Random, data: st.DataObject) -> None:
    questions = _questions(both)
    chosen = data.draw(st.lists(st.integers(0, len(questions) - 1), min_size=1, max_size=12))
    last = next((at for at, number in enumerate(chosen) if LAST.search(questions[number])), len(chosen))
    asked = b"".join(questions[number] for number in chosen[: last + 1])
    cuts = sorted(source.randrange(len(asked) + 1) for _ in range(data.draw(st.integers(0, 6))))
    both.assert_same(*(asked[start:end] for start, end in zip([0, *cuts], [*cuts, len(asked)], strict=True) if end > start))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate])
@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), min_size=2, max_size=12))
def test_random_requests_in_turn_are_answered_alike(both: Both, drawn: list[tuple[int, int]]) -> None:
    """A connection that owes nothing goes the shortest way, whatever came before on it."""
    questions = _questions(both)
    chosen = [(questions[number % len(questions)], cut) for number, cut in drawn]
    both.assert_same_in_turn([(asked, cut % (2 * len(asked))) for asked, cut in chosen])


def test_what_comes_while_an_earlier_request_is_worked_on_waits_its_turn(both: Both) -> None:
    """Redis stands still with the second request of the first packet; the second packet could be answered at once."""
    live = both.lane.issue()
    health, validate = request("GET", "/health"), request("GET", "/validate", bearer(live))
    answers = []
    with Connection(both.lane.port) as connection:
        with both.lane.redis.standing_still():
            connection.send(health + validate)
            answers.append(connection.answer())
            connection.send(health)
            # Another connection is answered after the packet was read.
            assert both.lane.ask("GET", "/health").status == 200
        answers += [connection.answer() for _ in range(2)]
    assert ["active" in answer.json for answer in answers if answer is not None] == [False, True, False]


def test_who_stops_sending_is_answered_all_that_was_asked(both: Both) -> None:
    validate, health = request("GET", "/validate", bearer(both.lane.issue())), request("GET", "/health")
    with Connection(both.lane.port) as connection:
        with both.lane.redis.standing_still():
            connection.send(validate)
            assert both.lane.ask("GET", "/health").status == 200
            connection.send(health * 3)
            connection.stop_sending()
            assert both.lane.ask("GET", "/health").status == 200
        answers = [connection.answer() for _ in range(5)]
    assert ["active" in answer.json if answer is not None else None for answer in answers] == [True, False, False, False, None]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], phases=[Phase.generate])
@given(st.randoms(use_true_random=False))
def test_numbered_requests_are_answered_in_turn(both: Both, source: random.Random) -> None:
    """Whatever ways they take, in whatever pieces they come, and however long Redis stands still meanwhile."""
    live = bearer(both.lane.issue())
    form = ("Content-Type", FORM)
    kinds: tuple[tuple[str, str, tuple[Field, ...], bytes | None], ...] = (
        ("GET", "/health", (), None),
        ("GET", "/nothing", (), None),
        ("GET", "/validate", (live,), None),
        ("GET", "/validate", (bearer("garbage"),), None),
        ("POST", "/validate", (form,), b"token=garbage"),
        ("POST", "/token", (form, basic("app")), b"grant_type=client_credentials"),
    )
    with Connection(both.lane.port) as connection:
        ids = [f"numbered-{number}" for number in range(source.randint(2, 20))]
        packets = [b""]
        for number in ids:
            method, target, fields, body = source.choice(kinds)
            asked = request(method, target, *fields, ("X-Request-Id", number), body=body)
            cut = source.choice((0, 0, len(asked), source.randrange(len(asked))))
            packets[-1] += asked[:cut]
            if source.random() < 0.6:
                packets.append(b"")
            packets[-1] += asked[cut:]
        for packet in filter(None, packets):
            with both.lane.redis.standing_still() if source.random() < 0.3 else contextlib.nullcontext():
                connection.send(packet)
                if source.random() < 0.7:
                    # Another connection is answered after the packet was read.
                    assert both.lane.ask("GET", "/health").status == 200
        answers = [connection.answer() for _ in ids]
    assert [answer and answer.header("x-request-id") for answer in answers] == ids


def test_a_token_of_any_length_counts_as_a_part_of_its_head(both: Both) -> None:
    """It is cut out of a head before that is looked up."""
    assert both.assert_same(request("GET", "/validate", bearer("x" * 40_000))).startswith(b"HTTP/1.1 431 ")
    assert both.assert_same(request("GET", "/validate", bearer("x" * 3000))).startswith(b"HTTP/1.1 401 ")
