"""Redis stopped, gone, silent, locked, loading, full or emptied under the service: no answer wrong, none late, nothing answered lost."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from authsvc.credentials import jti
from authsvc.live.forms import decode_token
from authsvc.live.keys import token_key
from authsvc.model import Tombstone
from authsvc.settings import Settings
from servers import ServiceProcess, TcpProxy, run_json, running, wait_until
from service.callers import (
    BACK_SECONDS,
    ENOUGH,
    KNOWN_WITHOUT_REDIS,
    UNAVAILABLE,
    Asked,
    Callers,
    Fate,
    Question,
    Watch,
    assert_kept,
    assert_no_verdict_before,
    questions_of,
)
from service.deployment import Deployment, form, name_of, send
from service.one_instance import assert_refused, bearer
from service.wire import ask, request

GRACE_SECONDS = float(Settings.model_fields["ready_grace_seconds"].default)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Shared by tests that give Redis back as it was."""
    shared = Deployment(tmp_path_factory.mktemp("deployment"))
    with running(shared):
        yield shared.start()


# Out of reach, in every way

Trouble = Callable[[Deployment], AbstractContextManager[None]]


def stopped(deployment: Deployment) -> AbstractContextManager[None]:
    """The process stands still."""
    return deployment.redis.standing_still()


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
    callers.add_owners(deployment)
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
    callers.add_owners(deployment, of_each_kind=2)
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
    with ballast.open("wb") as file:

        def taken() -> bool:
            """Others write meanwhile, so that there may be less room than there was."""
            usage = os.statvfs(volume)
            try:
                os.posix_fallocate(file.fileno(), 0, usage.f_bavail * usage.f_frsize - free_bytes)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return False
            return True

        wait_until(taken, "the rest of the volume is taken")
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
    callers.add_owners(deployment)
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
    callers.add_owners(deployment)
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


# Killed without a sync for each answer


EVERYSEC_SECONDS = 2.0
"""With `appendfsync everysec` Redis may answer so long before it writes."""


def test_everysec_keeps_what_was_answered_two_seconds_before_the_kill(tmp_path: Path) -> None:
    with running(deployment := Deployment(tmp_path, "--appendfsync", "everysec")):
        deployment.start()
        answered = answered_for(deployment, EVERYSEC_SECONDS + 1)
        deployment.redis.kill()
        killed_at = time.monotonic()
        deployment.redis.start()
        early = {token: revoked for token, (at, revoked) in answered.items() if killed_at - at > EVERYSEC_SECONDS}
        assert len(early) > ENOUGH
        assert kept_by_redis(deployment, early) == early
        [instance] = deployment.instances
        wait_until(lambda: send(instance.port, deployment.issuing("/token")).status == 200, "the service is back", BACK_SECONDS)
        assert deployment.validate_all([token for token, revoked in early.items() if revoked]) == {401}
        # What came later may be lost, and then every token is ended.
        assert len(deployment.validate_all([token for token, revoked in early.items() if not revoked])) == 1


def answered_for(deployment: Deployment, seconds: float) -> dict[str, tuple[float, bool]]:
    """Tokens that were issued in these seconds, every second one revoked at once; when that was answered, and whether it is revoked."""
    answered: dict[str, tuple[float, bool]] = {}
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        token, revoked = deployment.issue(), len(answered) % 2 == 1
        if revoked:
            deployment.revoke(token)
        answered[token] = (time.monotonic(), revoked)
    return answered


def kept_by_redis(deployment: Deployment, tokens: Collection[str]) -> dict[str, bool]:
    """Of these tokens those that Redis holds, and whether as revoked."""
    with deployment.redis_client() as client:
        values = client.mget([token_key(name_of(token)) for token in tokens])
    return {token: isinstance(decode_token(value), Tombstone) for token, value in zip(tokens, values, strict=True) if value}


# Emptied


LOST = {
    "validate live": ("401",),
    "validate live for a scope that it lacks": ("401",),
    "introspect live": ("inactive",),
    "introspect unused": ("inactive",),
}
"""Questions about tokens that were alive before Redis was lost, and what they get afterwards."""


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
