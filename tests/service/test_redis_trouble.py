"""Redis stopped, gone, silent, locked, loading, full or emptied under the service: no answer wrong, none late, nothing answered lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from authsvc.credentials import jti
from authsvc.live.forms import decode_token
from authsvc.live.keys import STREAMS, VERSIONS
from authsvc.model import Kind, TokenValue
from authsvc.settings import Settings
from servers import RedisServer, ServiceProcess, TcpProxy, run_json, running, wait_until
from service.one_instance import FORM, GRANT, KEYS, assert_refused, basic, bearer, encoded
from service.wire import Answer, Connection, Field, ask, request

LONGEST_ANSWER_SECONDS = 2.0
BACK_SECONDS = 5.0
GRACE_SECONDS = float(Settings.model_fields["ready_grace_seconds"].default)
ENOUGH = 20
"""Answers of each kind that stand for all that would follow."""
UNAVAILABLE = "503"
TOKEN_KEY_LENGTH = 24
"""No other key of ours is as long."""


# The service in trouble


class Deployment:
    """A Redis, instances and a writer over a SQLite file, and two clients: `app`, and `leaver`, who is disabled now and then."""

    def __init__(self, folder: Path, *redis_options: str, instances: int = 1, records: Path | None = None, **settings: str | float) -> None:
        self.redis = RedisServer(folder / "redis", *redis_options)
        self.records = records or folder / "records.db"
        self._folder = folder / "service"
        self._settings: dict[str, str | float] = {
            "records_url": f"sqlite:///{self.records}",
            # A machine that is busy with other tests is not the trouble that is meant.
            "queue_wait_ms": 1000,
            "writer_batch_seconds": 0.1,
            # What the writer had asked for when Redis stood still it can claim only after this.
            "writer_call_timeout_seconds": 1,
            **settings,
        }
        self.instances = [self.process("serve") for _ in range(instances)]
        self.writer = self.process("write")
        self.secrets: dict[str, str] = {}
        self._started: list[ServiceProcess] = []

    def process(self, command: str, redis_port: int | None = None) -> ServiceProcess:
        """One more process of the service, not started."""
        url = f"redis://127.0.0.1:{redis_port or self.redis.port}/0"
        return ServiceProcess(self._folder, command, redis_url=url, **self._settings)

    @property
    def environ(self) -> dict[str, str]:
        """The settings of commands."""
        return {name: value for name, value in self.writer.environ.items() if name not in ("AUTH_PORT", "AUTH_MANAGEMENT_PORT")}

    def start(self) -> Deployment:
        self.redis.start()
        for process in (self.writer, *self.instances):
            self._started.append(process.start())
        with ThreadPoolExecutor() as pool:
            added = pool.map(lambda client_id: run_json(self.environ, "client", "add", client_id, "--scope", "read"), ("app", "leaver"))
            self.secrets = {client["client_id"]: client["client_secret"] for client in added}
        for process in (self.writer, *self.instances):
            process.wait_ready()
        return self

    def stop(self) -> None:
        for process in self._started:
            process.process.send_signal(signal.SIGCONT)
            process.process.send_signal(signal.SIGTERM)
        for process in self._started:
            process.stop()
        self.redis.stop()

    def authorization(self, client_id: str) -> Field:
        """The client's HTTP Basic."""
        return basic(client_id, self.secrets[client_id])

    def issuing(self, target: str, client_id: str = "app") -> bytes:
        """A request for a token."""
        return form(target, GRANT, self.authorization(client_id))

    def issue(self, target: str = "/token", client_id: str = "app") -> str:
        """A fresh token."""
        answer = send(self.instances[0].port, self.issuing(target, client_id))
        assert answer.status == 200, answer
        token: str = answer.json["access_token"]
        return token

    def validate(self, token: str) -> int:
        """The status that the token gets; consumes it if it is a one-time token."""
        return ask(self.instances[0].port, "GET", "/validate", [bearer(token)]).status

    def validate_all(self, tokens: Sequence[str]) -> set[int]:
        """The statuses that tokens get."""
        asking = [request("GET", "/validate", [bearer(token)]) for token in tokens]
        return {answer.status for answer in send_all(self.instances[0].port, asking)}

    def revoke(self, token: str) -> None:
        """End the token."""
        assert ask(self.instances[0].port, "POST", "/revoke", [bearer(token)]).status == 200

    @contextlib.contextmanager
    def redis_client(self) -> Iterator[Any]:
        """A connection to Redis that was there before the trouble."""
        with redis.Redis(port=self.redis.port, socket_timeout=5) as client:
            client.ping()
            yield client

    def waiting_entries(self) -> int:
        """Entries that stand in the streams."""
        with self.redis_client() as client:
            pipe = client.pipeline(transaction=False)
            for stream in STREAMS:
                pipe.xlen(stream)
            return sum(pipe.execute())

    def live_names(self) -> set[bytes]:
        """Names of all tokens that Redis holds, used and revoked ones not counted."""
        with self.redis_client() as client:
            keys = [key for key in client.scan_iter(count=1000) if len(key) == TOKEN_KEY_LENGTH]
            values = client.mget(keys) if keys else []
        return {key[-20:] for key, value in zip(keys, values, strict=True) if value and isinstance(decode_token(value), TokenValue)}

    def rows(self) -> dict[bytes, tuple[bool, bool, bool]]:
        """Every record, by its token's name: whether it is used, revoked, voided."""
        with contextlib.closing(sqlite3.connect(self.records, timeout=30)) as connection:
            found = connection.execute("SELECT jti, used_at, revoked_at, voided_at FROM tokens").fetchall()
        assert len({name for name, *_ in found}) == len(found)
        return {name: (used is not None, revoked is not None, voided is not None) for name, used, revoked, voided in found}


def form(target: str, parameters: Mapping[str, str], *fields: Field) -> bytes:
    """A POST with a form."""
    return request("POST", target, [("Content-Type", FORM), *fields], encoded(parameters, FORM))


def send(port: int, data: bytes) -> Answer:
    """One request, as bytes, on a connection of its own."""
    [answer] = send_all(port, [data])
    return answer


def send_all(port: int, requests: Sequence[bytes]) -> list[Answer]:
    """Requests on one connection, some at a time."""
    answers = []
    with Connection(port) as connection:
        for start in range(0, len(requests), 50):
            part = requests[start : start + 50]
            connection.send(b"".join(part))
            answers += [connection.answer() for _ in part]
    assert None not in answers
    return [answer for answer in answers if answer is not None]


# Those who ask it


class Question(NamedTuple):
    """A request that is asked again and again, where, and what it may be answered besides 503."""

    port: int
    data: bytes
    good: tuple[str, ...]


class Asked(NamedTuple):
    """One answer: what of it matters, and the time from the last byte asked to the last byte answered."""

    question: str
    began: float
    ended: float
    outcome: str


def outcome(answer: Answer) -> str:
    """The status; for an introspection what it says."""
    if answer.status == 503:
        assert_refused(answer, 503, "temporarily_unavailable")
    if answer.status == 200 and answer.body.startswith(b'{"active":') and b'"valid"' not in answer.body:
        return "active" if answer.json["active"] else "inactive"
    return str(answer.status)


class Fate(StrEnum):
    """What became of a token, as far as its owner was told."""

    KEPT = "kept"
    ENDED = "ended"
    PERHAPS = "perhaps ended"


@dataclass
class Ledger:
    """What owners of tokens were told: by token, whether it is one-time, and its fate."""

    fates: dict[str, tuple[bool, Fate]] = field(default_factory=dict)
    refused: int = 0

    def tokens(self, one_time: bool, fate: Fate) -> list[str]:
        return [token for token, held in self.fates.items() if held == (one_time, fate)]


class Callers:
    """Clients who ask all the while, each in a thread and on a connection of its own. A hang-up or a late answer is an error."""

    def __init__(self, questions: Mapping[str, Question], pause_seconds: float = 0.004) -> None:
        self.questions = dict(questions)
        self.answers: list[Asked] = []
        self.errors: list[str] = []
        self.ledger = Ledger()
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(self._repeat, name)) for name in self.questions]

    def add_owner(self, deployment: Deployment, target: str) -> None:
        """One more caller: gets tokens, keeps every second one, ends the others and notes all that it is told."""
        self._threads.append(threading.Thread(target=self._guarded, args=(self._own, deployment, target)))

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        if error is None:
            self.check()

    def since(self, moment: float, *questions: str) -> list[Asked]:
        """Answers to what was asked after that moment, of these questions or of all."""
        wanted = questions or tuple(self.questions)
        return [asked for asked in list(self.answers) if asked.began >= moment and asked.question in wanted]

    def check(self) -> None:
        """All that was answered until now was in time, and was 503 or right."""
        assert not self.errors, self.errors[:3]
        late = [asked for asked in self.answers if asked.ended - asked.began >= LONGEST_ANSWER_SECONDS]
        assert not late, late[:5]
        allowed = {name: {UNAVAILABLE, *question.good} for name, question in self.questions.items()}
        wrong = [asked for asked in self.answers if asked.outcome not in allowed.get(asked.question, {asked.outcome})]
        assert not wrong, wrong[:5]

    def wait_for(self, outcomes: Sequence[str], *questions: str, seconds: float = BACK_SECONDS, never: Sequence[str] = ()) -> None:
        """Wait until the last answers to each of these questions, asked from now on, are among these outcomes, and none was `never`."""
        began = time.monotonic()

        def all_so() -> bool:
            by_question: dict[str, list[str]] = defaultdict(list)
            for asked in self.since(began, *questions):
                assert asked.outcome not in never, asked
                by_question[asked.question].append(asked.outcome)
            last = [by_question[name][-ENOUGH:] for name in questions or self.questions]
            return all(len(told) == ENOUGH and set(told) <= set(outcomes) for told in last)

        wait_until(lambda: self.errors or all_so(), f"{outcomes} for {questions or 'all'}", seconds)
        self.check()

    def wait_back(self) -> None:
        """Wait until the service is back: everything is answered rightly."""
        self.wait_for([good for question in self.questions.values() for good in question.good])

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as error:
            self.errors.append(f"{arguments[-1]}: {error!r}")

    def _repeat(self, name: str) -> None:
        question = self.questions[name]
        with Connection(question.port) as connection:
            while not self._stopping.is_set():
                self._ask(connection, name, question.data)
                time.sleep(self._pause_seconds)

    def _ask(self, connection: Connection, name: str, data: bytes) -> Answer:
        began = time.monotonic()
        connection.send(data)
        answer = connection.answer()
        ended = time.monotonic()
        assert answer is not None, f"{name} was hung up on"
        self.answers.append(Asked(name, began, ended, outcome(answer)))
        return answer

    def _own(self, deployment: Deployment, target: str) -> None:
        fates, one_time = self.ledger.fates, target == "/ott"
        issuing = deployment.issuing(target)
        with Connection(deployment.instances[0].port) as connection:
            while not self._stopping.is_set():
                answer = self._ask(connection, target, issuing)
                if answer.status == 200:
                    token = answer.json["access_token"]
                    fates[token] = (one_time, Fate.KEPT)
                    if len(fates) % 2:
                        ended = self._ask(connection, "end", request("POST", "/validate" if one_time else "/revoke", [bearer(token)]))
                        fates[token] = (one_time, Fate.ENDED if ended.status == 200 else Fate.PERHAPS)
                        assert ended.status in (200, 503), ended
                else:
                    self.ledger.refused += 1
                    assert answer.status == 503, answer
                time.sleep(self._pause_seconds)


def questions_of(deployment: Deployment, instance: ServiceProcess | None = None) -> dict[str, Question]:
    """One question for each thing that an instance can be asked about what it does not know by itself."""
    instance = instance or deployment.instances[0]
    live, revoked, one_time, unused = (deployment.issue(target) for target in ("/token", "/token", "/ott", "/ott"))
    deployment.revoke(revoked)
    assert deployment.validate(one_time) == 200
    app = deployment.authorization("app")
    unknown = KEYS.new(Kind.ACCESS)[0].decode()
    public = {
        "validate live": (request("GET", "/validate", [bearer(live)]), ("200",)),
        "validate live for a scope that it lacks": (request("GET", "/validate?scope=write", [bearer(live)]), ("403",)),
        "validate revoked": (request("POST", "/validate", [bearer(revoked)]), ("401",)),
        "validate used": (form("/validate", {"token": one_time}), ("401",)),
        "validate unknown": (form("/validate", {"token": unknown}), ("401",)),
        "introspect live": (form("/introspect", {"token": live}, app), ("active",)),
        "introspect unused": (form("/introspect", {"token": unused}, app), ("active",)),
        "introspect revoked": (form("/introspect", {"token": revoked}, app), ("inactive",)),
        "revoke unknown": (form("/revoke", {"token": unknown}, app), ("200",)),
        "a wrong secret": (form("/token", GRANT, basic("app", "wrong")), ("401",)),
        "an unknown client": (form("/token", GRANT, basic("nobody", "wrong")), ("401",)),
    }
    management = {"live": (request("GET", "/live"), ("200",)), "ready": (request("GET", "/ready"), ("200",))}
    return {
        **{name: Question(instance.port, *question) for name, question in public.items()},
        **{name: Question(instance.management_port, *question) for name, question in management.items()},
        "live writer": Question(deployment.writer.management_port, *management["live"]),
        "health": Question(instance.port, request("GET", "/health"), ("200",)),
    }


KNOWN_WITHOUT_REDIS = ("live", "live writer", "health")


def assert_kept(deployment: Deployment, ledger: Ledger) -> None:
    """All that owners were told holds in Redis and, once the writer is done, in the record store."""
    for one_time in (False, True):
        assert deployment.validate_all(ledger.tokens(one_time, Fate.ENDED)) == {401}
        assert deployment.validate_all(ledger.tokens(one_time, Fate.KEPT)) == {200}
    assert deployment.validate_all(ledger.tokens(True, Fate.KEPT)) == {401}, "a second time"
    wait_until(lambda: deployment.waiting_entries() == 0, "the backlog is written")
    rows = deployment.rows()
    for token, (one_time, fate) in ledger.fates.items():
        used, revoked, voided = rows[name_of(token)]
        assert not voided
        if one_time:
            assert used or fate is Fate.PERHAPS
        elif fate is not Fate.PERHAPS:
            assert revoked == (fate is Fate.ENDED)


def name_of(token: str) -> bytes:
    """The name of a token's record."""
    name = KEYS.name(token.encode())
    assert name is not None
    return name


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Shared by tests that give Redis back as it was."""
    shared = Deployment(tmp_path_factory.mktemp("deployment"))
    with running(shared):
        yield shared.start()


# Out of reach, in every way

Trouble = Callable[[Deployment], AbstractContextManager[None]]


@contextlib.contextmanager
def stopped(deployment: Deployment) -> Iterator[None]:
    """The process stands still: connections are there, and new ones are taken by the kernel."""
    os.kill(deployment.redis.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(deployment.redis.pid, signal.SIGCONT)


@contextlib.contextmanager
def gone(deployment: Deployment) -> Iterator[None]:
    """Nobody listens on the port."""
    deployment.redis.kill()
    yield
    deployment.redis.start()


@contextlib.contextmanager
def locked(deployment: Deployment) -> Iterator[None]:
    """The password is not the service's any more."""
    with deployment.redis_client() as client:
        client.config_set("requirepass", "not-the-services")
        client.client_kill_filter(_type="normal", skipme=True)
        yield
        client.config_set("requirepass", "")


@contextlib.contextmanager
def loading(deployment: Deployment) -> Iterator[None]:
    """The server has begun again and answers `LOADING` until it has read its files, which takes some seconds here."""
    server = deployment.redis
    with deployment.redis_client() as client:
        client.bgrewriteaof()
        wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"], "the files are compact")
        key_count = client.dbsize()
    options = server.options
    server.kill()
    delay = ("--key-load-delay", str(int((GRACE_SECONDS + 1.5) * 1e6 / key_count)), "--loading-process-events-interval-bytes", "1024")
    server.options = (*options, *delay)
    starting = threading.Thread(target=server.start)
    starting.start()
    wait_until(lambda: _says(server.port, b"-LOADING"), "the server is loading")
    yield
    starting.join()
    server.options = options


def _says(port: int, words: bytes) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as client:
        client.sendall(b"PING\r\n")
        return client.recv(64).startswith(words)
    return False


@pytest.mark.parametrize("trouble", [stopped, loading, *(pytest.param(trouble, marks=pytest.mark.long) for trouble in (gone, locked))])
def test_redis_out_of_reach(deployment: Deployment, trouble: Trouble) -> None:
    callers = Callers(questions_of(deployment))
    for target in ("/token", "/ott"):
        callers.add_owner(deployment, target)
    with callers:
        callers.wait_back()
        began = time.monotonic()
        with trouble(deployment):
            assert_ready_turns_red(callers, began)
            callers.wait_for([UNAVAILABLE], *(set(callers.questions) - set(KNOWN_WITHOUT_REDIS)))
        callers.wait_back()
        deployment.writer.wait_ready()
    assert {asked.outcome for asked in callers.since(0, *KNOWN_WITHOUT_REDIS)} == {"200"}
    assert callers.ledger.refused
    assert_kept(deployment, callers.ledger)


def assert_ready_turns_red(callers: Callers, began: float) -> None:
    """`/ready` is 200 until the grace is over, and 503 soon after."""

    def red() -> Asked | None:
        return next((asked for asked in callers.since(began, "ready") if asked.outcome == UNAVAILABLE), None)

    turned = wait_until(red, "/ready is red")
    # What was under way when the trouble began had been unanswered for a moment by then.
    assert GRACE_SECONDS - 0.2 < turned.ended - began < GRACE_SECONDS + 1.5
    assert len(callers.since(began, "ready")) > ENOUGH


def test_a_blip_does_not_turn_ready_red(deployment: Deployment) -> None:
    with Callers(questions_of(deployment)) as callers:
        callers.wait_back()
        began = time.monotonic()
        with stopped(deployment):
            # Longer than a request waits, shorter than the grace.
            wait_until(lambda: time.monotonic() - began > GRACE_SECONDS * 0.7, "most of the grace is over")
        callers.wait_back()
        with gone(deployment):
            callers.wait_for([UNAVAILABLE], "validate live")
        callers.wait_back()
        assert UNAVAILABLE in {asked.outcome for asked in callers.since(began, "validate live")}
        assert {asked.outcome for asked in callers.since(began, "ready")} == {"200"}


class SwallowingProxy(TcpProxy):
    """A proxy that can also swallow: connections stay open and nothing passes any more, as with a firewall that forgot them."""

    def __init__(self, target_port: int) -> None:
        self._swallowed: set[socket.socket] = set()
        self.swallows_new = False
        super().__init__(target_port)

    def swallow_living(self) -> None:
        """Let nothing more pass on the connections that are there now."""
        self._swallowed |= {end for pair in self._pairs for end in pair}

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:  # type: ignore[override] # asks what is swallowed
        if self.swallows_new:
            self._swallowed |= {source, sink}
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._swallowed:
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("new_ones_too", [True, pytest.param(False, marks=pytest.mark.long)])
def test_connections_that_swallow(deployment: Deployment, new_ones_too: bool) -> None:
    proxy = SwallowingProxy(deployment.redis.port)
    instance = deployment.process("serve", proxy.port).start()
    with running(instance):
        instance.wait_ready()
        with Callers(questions_of(deployment, instance)) as callers:
            callers.wait_back()
            began = time.monotonic()
            proxy.swallows_new = new_ones_too
            proxy.swallow_living()
            if new_ones_too:
                assert_ready_turns_red(callers, began)
                proxy.swallows_new = False
            wait_until(lambda: UNAVAILABLE in {asked.outcome for asked in callers.since(began, "validate live")}, "a refusal")
            callers.check()
            callers.wait_back()
    proxy.cut()


# Full memory


def limit_memory(deployment: Deployment, limit: Callable[[int], int]) -> None:
    """Set the most that Redis may use, from what it uses now."""
    with deployment.redis_client() as client:
        client.config_set("maxmemory", limit(client.info("memory")["used_memory"]))


@pytest.fixture
def full(deployment: Deployment) -> Iterator[Deployment]:
    """Redis uses more than it may, whatever is deleted."""
    limit_memory(deployment, lambda used: used // 2)
    yield deployment
    limit_memory(deployment, lambda used: 0)


@pytest.fixture
def before_full(deployment: Deployment) -> dict[str, list[str]]:
    """Tokens that were issued while there was room."""
    return {
        "access": [deployment.issue() for _ in range(4)],
        "one-time": [deployment.issue("/ott") for _ in range(4)],
        "leaver's": [deployment.issue(client_id="leaver") for _ in range(2)],
    }


def test_memory_that_fills_up_leaves_no_token_half_stored(deployment: Deployment) -> None:
    wait_until(lambda: deployment.waiting_entries() == 0, "the backlog is written")
    before, rows_before = deployment.live_names(), deployment.rows()
    callers = Callers({})
    for target in ("/token", "/ott") * 2:
        callers.add_owner(deployment, target)
    os.kill(deployment.writer.process.pid, signal.SIGSTOP)
    try:
        with callers:
            wait_until(lambda: len(callers.ledger.fates) > ENOUGH, "tokens are issued")
            limit_memory(deployment, lambda used: used + 60_000)
            wait_until(lambda: callers.ledger.refused > 100 or callers.errors, "memory is full")
    finally:
        os.kill(deployment.writer.process.pid, signal.SIGCONT)
    kept = {name_of(token) for one_time in (False, True) for token in callers.ledger.tokens(one_time, Fate.KEPT)}
    assert not callers.ledger.tokens(False, Fate.PERHAPS)
    assert not callers.ledger.tokens(True, Fate.PERHAPS)
    assert deployment.live_names() - before == kept, "a refused issue left no live key"
    limit_memory(deployment, lambda used: 0)
    assert_kept(deployment, callers.ledger)
    told = {name_of(token) for token in callers.ledger.fates}
    nobodys = [row for name, row in deployment.rows().items() if name not in told and name not in rows_before]
    assert all(voided for _, _, voided in nobodys)


def test_full_memory_stops_issuing_alone(before_full: dict[str, list[str]], full: Deployment) -> None:
    questions = questions_while_full(full, before_full["access"][0])
    unchanged = [name for name in questions if not name.startswith("issue")]
    revoked, used = before_full["access"][1:], before_full["one-time"]
    ended = {name_of(token): (token in used, token in revoked, False) for token in (*revoked, *used)}
    with Callers(questions) as callers:
        callers.wait_for([UNAVAILABLE], "issue", "issue one-time")
        for token in revoked[1:]:
            full.revoke(token)
        assert run_json(full.environ, "token", "revoke", jti(name_of(revoked[0])))["revoked"]
        assert full.validate_all(revoked) == {401}
        assert [full.validate_all(used), full.validate_all(used)] == [{200}, {401}]
        assert run_json(full.environ, "client", "disable", "leaver")["in_force"]
        assert full.validate_all(before_full["leaver's"]) == {401}
        assert run_json(full.environ, "client", "enable", "leaver")["in_force"]
        assert full.validate_all(before_full["leaver's"]) == {200}
        wait_until(lambda: {name: row for name, row in full.rows().items() if name in ended} == ended, "the backlog is written")
        assert full.writer.ready()
        assert not [asked for asked in callers.since(0, *unchanged) if asked.outcome == UNAVAILABLE]
        assert {asked.outcome for asked in callers.since(0, "issue", "issue one-time")} == {UNAVAILABLE}
        limit_memory(full, lambda used: 0)
        callers.wait_back()


def questions_while_full(deployment: Deployment, live: str) -> dict[str, Question]:
    """What is answered as always, and what is refused."""
    [instance] = deployment.instances
    app = deployment.authorization("app")
    return {
        "validate live": Question(instance.port, request("GET", "/validate", [bearer(live)]), ("200",)),
        "introspect live": Question(instance.port, form("/introspect", {"token": live}, app), ("active",)),
        "ready": Question(instance.management_port, request("GET", "/ready"), ("200",)),
        "issue": Question(instance.port, deployment.issuing("/token"), ("200",)),
        "issue one-time": Question(instance.port, deployment.issuing("/ott"), ("200",)),
    }


def test_refused_issues_fill_a_full_memory_no_further(full: Deployment) -> None:
    os.kill(full.writer.process.pid, signal.SIGSTOP)
    try:
        before = full.waiting_entries()
        for target in ("/token", "/ott") * 50:
            answer = send(full.instances[0].port, full.issuing(target))
            assert_refused(answer, 503, "temporarily_unavailable")
        assert full.waiting_entries() == before
    finally:
        os.kill(full.writer.process.pid, signal.SIGCONT)


def test_processes_that_start_while_memory_is_full(before_full: dict[str, list[str]], full: Deployment) -> None:
    instance, writer = full.process("serve").start(), full.process("write").start()
    with running(instance, writer):
        instance.wait_ready()
        writer.wait_ready()
        [token, *_], [one_time, *_] = before_full["access"], before_full["one-time"]
        assert ask(instance.port, "GET", "/validate", [bearer(token)]).status == 200
        assert ask(instance.port, "GET", "/validate", [bearer(one_time)]).status == 200
        assert full.validate(one_time) == 401


# Full disks


@contextlib.contextmanager
def small_volume(folder: Path, size_mib: int) -> Iterator[Path]:
    """A volume of its own at `folder`; skips the test where nothing can be mounted."""
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(folder)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small volume cannot be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextlib.contextmanager
def nearly_full(volume: Path, free_bytes: int) -> Iterator[None]:
    """Something else takes all of the volume but so much."""
    ballast = volume / "ballast"
    usage = os.statvfs(volume)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - free_bytes)
    try:
        yield
    finally:
        ballast.unlink()


@pytest.fixture(scope="module")
def on_small_volumes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Deployment, Path, Path]]:
    """A deployment, the volume of Redis and that of the record store."""
    folder = tmp_path_factory.mktemp("volumes")
    with small_volume(folder / "of-redis", 16) as of_redis, small_volume(folder / "of-records", 16) as of_records:
        deployment = Deployment(folder, "--dir", str(of_redis), records=of_records / "records.db")
        with running(deployment):
            yield deployment.start(), of_redis, of_records


def test_a_full_disk_under_redis_loses_nothing_that_was_answered(on_small_volumes: tuple[Deployment, Path, Path]) -> None:
    deployment, volume, _ = on_small_volumes
    callers = Callers(questions_of(deployment))
    for target in ("/token", "/ott"):
        callers.add_owner(deployment, target)
    with callers:
        callers.wait_back()
        with nearly_full(volume, 64_000):
            callers.wait_for([UNAVAILABLE], "/token", "/ott", seconds=20)
            deployment.redis.kill()
            # Without room it serves nobody who needs a write, whether it starts or not.
            with contextlib.suppress(AssertionError):
                deployment.redis.start()
            callers.wait_for([UNAVAILABLE], "/token", "/ott")
            deployment.redis.kill()
        deployment.redis.start()
        callers.wait_back()
    assert callers.ledger.refused
    assert_kept(deployment, callers.ledger)


def test_a_full_disk_under_the_record_store_holds_up_the_backlog_alone(on_small_volumes: tuple[Deployment, Path, Path]) -> None:
    deployment, _, volume = on_small_volumes
    deployment.writer.wait_ready()
    callers = Callers(questions_of(deployment))
    for target in ("/token", "/ott"):
        callers.add_owner(deployment, target)
    with callers:
        callers.wait_back()
        began = time.monotonic()
        with nearly_full(volume, 64_000):
            wait_until(lambda: "is full" in not_ready_because(deployment.writer), "the writer says that its disk is full")
            waiting = deployment.waiting_entries()
            wait_until(lambda: deployment.waiting_entries() > waiting + ENOUGH, "the backlog grows")
        deployment.writer.wait_ready()
        callers.wait_back()
        assert not [asked for asked in callers.since(began) if asked.outcome == UNAVAILABLE]
    assert not callers.ledger.refused
    assert_kept(deployment, callers.ledger)


def not_ready_because(process: ServiceProcess) -> str:
    """What `/ready` says; empty when the process is ready."""
    answer = ask(process.management_port, "GET", "/ready")
    return "" if answer.status == 200 else str(answer.json["error_description"])


# Emptied


class Watch:
    """Looks all the time whether Redis has a complete mirror of another incarnation than the one at the start."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._older = self._incarnations()
        assert len(self._older) == 1
        self.incomplete_until = 0.0
        """When it was last asked for a complete new mirror and there was none."""
        self.complete = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.complete.set()
        self._thread.join()

    def _incarnations(self) -> set[bytes]:
        with redis.Redis(port=self._deployment.redis.port, socket_timeout=1, retry=Retry(NoBackoff(), 0)) as client:
            return {(version or b"").rpartition(b":")[0] for version in client.mget(VERSIONS)}

    def _look(self) -> None:
        while not self.complete.is_set():
            asked_at = time.monotonic()
            found: set[bytes] = set()
            with contextlib.suppress(redis.RedisError):
                found = self._incarnations()
            if len(found) == 1 and not found & {b"", *self._older}:
                self.complete.set()
            else:
                self.incomplete_until = asked_at
                time.sleep(0.0005)


LOST = {
    "validate live": ("401",),
    "validate live for a scope that it lacks": ("401",),
    "introspect live": ("inactive",),
    "introspect unused": ("inactive",),
}
"""Questions about tokens that were alive before Redis was lost, and what they get afterwards."""


def assert_no_verdict_before(answers: Iterable[Asked], changed_at: float, complete_at: float) -> None:
    """Whatever was asked after the change got 503 as long as the new incarnation was not complete."""
    early = [asked for asked in answers if asked.began > changed_at and asked.outcome != UNAVAILABLE and asked.ended < complete_at]
    assert not early, early[:5]


def assert_never_alive(answers: Iterable[Asked], changed_at: float) -> None:
    """Nobody who asked after the change was told that a token of before is alive; in the end, that it is not."""
    told = Counter(asked.outcome for asked in answers if asked.began > changed_at)
    assert set(told) <= {UNAVAILABLE, "401", "inactive"}, told
    assert told["401"]


def flushed(deployment: Deployment) -> None:
    """Everything in Redis is deleted."""
    with deployment.redis_client() as client:
        client.flushall()


def replaced(deployment: Deployment) -> None:
    """A new server without files takes the place of the other."""
    deployment.redis.kill()
    shutil.rmtree(deployment.redis.folder)
    deployment.redis.folder.mkdir()
    deployment.redis.start()


@pytest.mark.parametrize("empty", [flushed, replaced])
def test_an_emptied_redis_is_unavailable_until_a_new_incarnation_and_ends_all_tokens(
    deployment: Deployment, empty: Callable[[Deployment], None]
) -> None:
    questions = {name: question._replace(good=(*question.good, *LOST.get(name, ()))) for name, question in questions_of(deployment).items()}
    # It is held up itself.
    del questions["live writer"]
    dependent = set(questions) - {"ready", *KNOWN_WITHOUT_REDIS}
    with Callers(questions) as callers, Watch(deployment) as watch:
        callers.wait_back()
        os.kill(deployment.writer.process.pid, signal.SIGSTOP)
        try:
            empty(deployment)
            changed_at = time.monotonic()
            callers.wait_for([UNAVAILABLE], *dependent)
            wait_until(lambda: time.monotonic() - changed_at > 1, "a second without a writer")
        finally:
            os.kill(deployment.writer.process.pid, signal.SIGCONT)
        went_on_at = time.monotonic()
        callers.wait_back()
        assert time.monotonic() - went_on_at < BACK_SECONDS
        wait_until(watch.complete.is_set, "a new incarnation")
        assert deployment.validate(deployment.issue()) == 200
    assert_no_verdict_before(callers.since(0, *dependent), changed_at, watch.incomplete_until)
    assert_never_alive(callers.since(0, *LOST), changed_at)
