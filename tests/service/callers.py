"""Those who ask a deployment in trouble all the while, judge each answer, and remember what they were told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, NamedTuple

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from authsvc.live.keys import VERSIONS
from authsvc.model import Kind
from servers import ServiceProcess, wait_until
from service.deployment import Deployment, form, name_of
from service.one_instance import GRANT, KEYS, assert_refused, basic, bearer
from service.threads import Threads
from service.wire import Answer, Connection, request

LONGEST_ANSWER_SECONDS = 2.0
BACK_SECONDS = 5.0
ENOUGH = 20
"""Answers of each kind that stand for all that would follow."""
UNAVAILABLE = "503"


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


class Callers(Threads):
    """Clients who ask all the while, each in a thread and on a connection of its own. A hang-up or a late answer is an error."""

    def __init__(self, questions: Mapping[str, Question], pause_seconds: float = 0.004) -> None:
        super().__init__()
        self.questions = dict(questions)
        self.answers: list[Asked] = []
        self.errors: list[str] = []
        self.ledger = Ledger()
        self._pause_seconds = pause_seconds
        for name in self.questions:
            self.add(self._guarded, self._repeat, name)

    def add_owners(self, deployment: Deployment, of_each_kind: int = 1) -> None:
        """More callers, who get tokens, access and one-time, keep every second one, end the others and note all that they are told."""
        for target in ("/token", "/ott") * of_each_kind:
            self.add(self._guarded, self._own, deployment, target)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        super().__exit__(kind, error, trace)
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
            while not self.ending.is_set():
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
            while not self.ending.is_set():
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


def assert_no_verdict_before(answers: Iterable[Asked], changed_at: float, complete_at: float) -> None:
    """Whatever was asked after the change got 503 as long as the new incarnation was not complete."""
    early = [asked for asked in answers if asked.began > changed_at and asked.outcome != UNAVAILABLE and asked.ended < complete_at]
    assert not early, early[:5]
