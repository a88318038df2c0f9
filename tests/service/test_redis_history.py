"""Redis started from an older copy of its files is noticed before anyone is answered, whoever is left to remember; its own are no alarm."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from authsvc.live.history import WITNESS_MS
from authsvc.live.keys import BEAT
from servers import ServiceProcess, run_json, running, wait_until
from service.callers import (
    BACK_SECONDS,
    UNAVAILABLE,
    Asked,
    Callers,
    Question,
    Watch,
    assert_kept,
    assert_no_verdict_before,
)
from service.deployment import Deployment, form
from service.one_instance import bearer
from service.wire import ask, request

OLD_ENOUGH_SECONDS = 2.0
"""A copy of this age is noticed by whoever ran since."""
ENDED = ("401", "inactive")
ALIVE = ("200", "active")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = Deployment(tmp_path_factory.mktemp("history"), instances=2)
    with running(deployment):
        yield deployment.start()


@pytest.fixture
def deployment(shared: Deployment) -> Deployment:
    """Two instances and a writer, all ready; both clients are enabled."""
    for process in (*shared.instances, shared.writer):
        process.wait_ready()
    assert run_json(shared.environ, "client", "enable", "leaver")["in_force"]
    return shared


class Past:
    """Tokens that were alive, and a copy of Redis's files."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self._deployment = deployment
        self._files = deployment.redis.folder / "appendonlydir"
        self._copy = folder / "copy"
        self.live, self.revoked, self.one_time = (deployment.issue(target) for target in ("/token", "/token", "/ott"))
        self.leavers = deployment.issue(client_id="leaver")
        self._made_at = 0.0

    def copy(self) -> None:
        """Copy Redis's files as they are now."""
        shutil.copytree(self._files, self._copy)
        self._made_at = time.monotonic()

    def wait_until_old(self) -> None:
        """Return when the copy is so old that it must be noticed."""
        wait_until(lambda: time.monotonic() - self._made_at > OLD_ENOUGH_SECONDS, "the copy is old")

    def end_the_others(self) -> None:
        """Use the one-time token and disable a client."""
        assert self._deployment.validate(self.one_time) == 200
        assert run_json(self._deployment.environ, "client", "disable", "leaver")["in_force"]

    def restore(self) -> float:
        """Kill Redis and start it from the copy; returns when it was gone."""
        self._deployment.redis.kill()
        gone_at = time.monotonic()
        shutil.rmtree(self._files)
        shutil.copytree(self._copy, self._files)
        self._deployment.redis.start()
        return gone_at

    def questions(self) -> dict[str, Question]:
        """All that tells, on each instance, whether one of the tokens is alive or the client that left is there."""
        app = self._deployment.authorization("app")
        data = {
            "live": request("GET", "/validate", [bearer(self.live)]),
            "revoked": request("GET", "/validate", [bearer(self.revoked)]),
            "revoked by introspection": form("/introspect", {"token": self.revoked}, app),
            "used": request("POST", "/validate", [bearer(self.one_time)]),
            "of the client that left": form("/validate", {"token": self.leavers}),
            "for the client that left": self._deployment.issuing("/token", "leaver"),
        }
        return {
            f"{name}, instance {number}": Question(instance.port, asked, (*ALIVE, *ENDED))
            for name, asked in data.items()
            for number, instance in enumerate(self._deployment.instances)
        }


def callers_of(past: Past) -> Callers:
    """They ask without a pause, so that a gap of milliseconds is met."""
    return Callers(past.questions(), pause_seconds=0)


def assert_unavailable_then_ended(answers: Iterable[Asked], changed_at: float, complete_at: float) -> None:
    """503 for all that was asked after the change, and an end to every token of before with the new incarnation, no sooner."""
    later = [asked for asked in answers if asked.began > changed_at]
    told = Counter(asked.outcome for asked in later)
    assert set(told) == {UNAVAILABLE, *ENDED}, told
    assert_no_verdict_before(later, changed_at, complete_at)


def assert_works(deployment: Deployment) -> None:
    """A new token is good on every instance."""
    token = deployment.issue()
    for instance in deployment.instances:
        assert ask(instance.port, "GET", "/validate", [bearer(token)]).status == 200


def incarnations(deployment: Deployment) -> set[bytes]:
    """Of all versions that Redis holds."""
    with deployment.redis_client() as client:
        return {version.rpartition(b":")[0] for version in client.mget([*client.scan_iter(match="*version")])}


@pytest.mark.parametrize("stories", [1, pytest.param(8, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
def test_instances_and_writer_notice_an_older_copy(deployment: Deployment, tmp_path: Path, stories: int) -> None:
    for story in range(stories):
        past = Past(deployment, tmp_path / str(story))
        past.copy()
        past.wait_until_old()
        deployment.revoke(past.revoked)
        past.end_the_others()
        for _ in range(2):
            # The second time even the incarnation of the copy is an older one.
            with callers_of(past) as callers, Watch(deployment) as watch:
                callers.wait_for([*ALIVE, *ENDED])
                changed_at = past.restore()
                started_at = time.monotonic()
                callers.wait_for(ENDED, never=ALIVE)
                assert time.monotonic() - started_at < BACK_SECONDS
                wait_until(watch.complete.is_set, "a new incarnation")
            assert_unavailable_then_ended(callers.answers, changed_at, watch.incomplete_until)
            assert_works(deployment)
        assert run_json(deployment.environ, "client", "enable", "leaver")["in_force"]


def test_without_a_writer_nothing_is_served_from_an_older_copy_however_quiet_it_was(deployment: Deployment, tmp_path: Path) -> None:
    past = Past(deployment, tmp_path)
    past.end_the_others()
    past.copy()
    past.wait_until_old()
    deployment.writer.stop()
    with callers_of(past) as callers, Watch(deployment) as watch:
        callers.wait_for([*ALIVE, *ENDED])
        # Nothing else has changed since the copy, and nobody has time to look again.
        deployment.revoke(past.revoked)
        changed_at = past.restore()
        wait_without_writer(callers, changed_at)
        deployment.writer.start().wait_ready()
        callers.wait_for(ENDED, never=ALIVE)
        wait_until(watch.complete.is_set, "a new incarnation")
    assert_unavailable_then_ended(callers.answers, changed_at, watch.incomplete_until)
    assert_works(deployment)


@pytest.mark.parametrize("writer_is_new", [True, pytest.param(False, marks=pytest.mark.long)])
def test_processes_that_start_after_the_restore_wait_for_the_writer_who_remembers(
    deployment: Deployment, tmp_path: Path, writer_is_new: bool
) -> None:
    if writer_is_new:
        # The one before it had no time to hand anything over.
        noted = beats_noted(deployment)
        wait_until(lambda: beats_noted(deployment) > noted, "the writer notes how far Redis has come")
        deployment.writer.kill()
        deployment.writer.start().wait_ready()
    assert_noticed_by_whoever_starts(deployment, Past(deployment, tmp_path))


@pytest.mark.long
def test_an_older_copy_is_noticed_though_no_writer_kept_marks_for_long(deployment: Deployment, tmp_path: Path) -> None:
    deployment.writer.kill()
    kept_ms = beat_kept_ms(deployment)
    with deployment.redis_client() as client:
        wait_until(lambda: _milliseconds(client.get(BEAT).decode()) - kept_ms > WITNESS_MS + 1000, "the marks are old", seconds=30)
    assert_noticed_by_whoever_starts(deployment, Past(deployment, tmp_path))


def assert_noticed_by_whoever_starts(deployment: Deployment, past: Past) -> None:
    """Copy, let the copy grow old, end tokens, kill everyone, and start all over the copy: the writer last."""
    past.copy()
    past.wait_until_old()
    past.end_the_others()
    with Watch(deployment) as watch:
        deployment.revoke(past.revoked)
        kill_all(deployment)
        changed_at = past.restore()
        start_instances(deployment)
        with callers_of(past) as callers:
            wait_without_writer(callers, time.monotonic())
            deployment.writer.start().wait_ready()
            callers.wait_for(ENDED, never=ALIVE)
            wait_until(watch.complete.is_set, "a new incarnation")
    assert_unavailable_then_ended(callers.answers, changed_at, watch.incomplete_until)
    assert_works(deployment)


def beat_kept_ms(deployment: Deployment) -> int:
    """When the beat was reached that the record store was last told, by the server's clock."""
    with contextlib.closing(sqlite3.connect(deployment.records, timeout=30)) as connection:
        rows = connection.execute("SELECT last_id FROM stream_marks WHERE stream = ?", (BEAT.decode(),)).fetchall()
    return max(_milliseconds(last_id) for (last_id,) in rows)


def _milliseconds(mark: str) -> int:
    return int(mark.partition("-")[0])


def beats_noted(deployment: Deployment) -> int:
    """How far the beat had come when the record store was last told."""
    with contextlib.closing(sqlite3.connect(deployment.records, timeout=30)) as connection:
        query = "SELECT max(entries_added) FROM stream_marks WHERE stream = ?"
        noted: int | None = connection.execute(query, (BEAT.decode(),)).fetchone()[0]
    return noted or 0


def wait_without_writer(callers: Callers, since: float) -> None:
    """A while in which nobody can start a new incarnation: all that is asked is unavailable."""
    callers.wait_for([UNAVAILABLE])
    wait_until(lambda: time.monotonic() - since > 1.5, "a while without a writer")
    assert {asked.outcome for asked in callers.since(since)} == {UNAVAILABLE}


def kill_all(deployment: Deployment) -> None:
    """Nobody is left who noted anything, but for the record store."""
    for process in (deployment.writer, *deployment.instances):
        process.kill()


def start_instances(deployment: Deployment) -> None:
    """Start them, and return when they answer."""
    for instance in deployment.instances:
        instance.start()
    for instance in deployment.instances:
        wait_until(partial(answers, instance), "the instance answers")


def answers(instance: ServiceProcess) -> bool:
    """Whether it takes requests."""
    try:
        return ask(instance.port, "GET", "/health").status == 200
    except ConnectionError:
        return False


# Its own files


@pytest.mark.long
def test_processes_and_redis_that_start_again_with_their_own_files_keep_all_tokens(deployment: Deployment, tmp_path: Path) -> None:
    past = Past(deployment, tmp_path)
    deployment.revoke(past.revoked)
    past.end_the_others()
    before = incarnations(deployment)
    kill_all(deployment)
    deployment.redis.kill()
    deployment.redis.start()
    start_instances(deployment)
    with callers_of(past) as callers:
        wait_without_writer(callers, time.monotonic())
        deployment.writer.start().wait_ready()
        callers.wait_for([*ALIVE, *ENDED])
    told = {asked.question.split(",")[0]: asked.outcome for asked in callers.answers}
    assert told == {
        "live": "200",
        "revoked": "401",
        "revoked by introspection": "inactive",
        "used": "401",
        "of the client that left": "401",
        "for the client that left": "401",
    }
    assert incarnations(deployment) == before


def rewritten(client: Any) -> bool:
    """Whether no rewrite of the files is going on."""
    return not client.info("persistence")["aof_rewrite_in_progress"]


@pytest.mark.parametrize("rounds", [5, pytest.param(40, marks=[pytest.mark.long, pytest.mark.timeout(300)])])
def test_a_killed_redis_with_its_own_files_raises_no_alarm(deployment: Deployment, tmp_path: Path, rounds: int) -> None:
    past = Past(deployment, tmp_path)
    deployment.revoke(past.revoked)
    past.end_the_others()
    before = incarnations(deployment)
    expected = {"live": ("200",), "revoked by introspection": ("inactive",)}
    questions = {name: question._replace(good=expected.get(name.split(",")[0], ("401",))) for name, question in past.questions().items()}
    callers = Callers(questions)
    callers.add_owners(deployment)
    with callers:
        callers.wait_back()
        for number in range(rounds):
            if number % 2:
                with deployment.redis_client() as client:
                    client.bgrewriteaof()
                    if number % 4 == 1:
                        wait_until(partial(rewritten, client), "the files are rewritten")
            deployment.redis.kill()
            deployment.redis.start()
            started_at = time.monotonic()
            callers.wait_back()
            assert time.monotonic() - started_at < BACK_SECONDS
    assert incarnations(deployment) == before
    assert_kept(deployment, callers.ledger)
