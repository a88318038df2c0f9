"""What was answered outlives what is killed: a ledger of answers is compared with Redis and the record store afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil
import pytest
import redis

from authsvc.commands.export import export_text
from authsvc.credentials import TokenKeys
from authsvc.live.forms import encode_event, encode_token
from authsvc.live.keys import GROUP, STREAMS, shard
from authsvc.live.tokens import LiveTokens, stored
from authsvc.model import Event, Kind, TokenValue
from contract.live_parts import answer, connected
from localstack import Stack
from localstack.leftovers import alive
from localstack.statefile import Pids
from localstack.supervision import Supervisor
from localstack.web import is_healthy, is_ready
from servers import ServiceProcess, free_stack_port, running, wait_until
from service.ledger import Ledger, Load, ask_about_everything, discrepancies, live_state, record_state
from service.one_instance import client_of
from service.wire import ask

INSTANCES = 2
CLIENTS = 60
READY_SECONDS = 60.0
WRITER = {"writer_batch_seconds": 0.2, "writer_call_timeout_seconds": 0.5, "mirror_interval_seconds": 0.5}
"""A writer that is quick to write, and to take what another left."""
PROC = Path("/proc")
PAGE = 500


class Fire:
    """A stack whose parts are killed, and which is whole again before the next test; each ledger is of a client of its own."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.layout = stack.layout
        self.doors = [*self.layout.instance_ports, self.layout.port]
        self.records = self.layout.data_dir / "records.db"
        self.key = self.layout.token_key_file.read_text().strip()
        clients = [client_of(f"load-{number}", "read", "write", one_time_ttl_seconds=3600) for number in range(CLIENTS)]
        self._client_ids = iter([client.id for client in clients])
        file = self.layout.run_dir / "clients.json"
        file.write_text(export_text(clients))
        self.authsvc("client", "import", str(file))

    def authsvc(self, *words: str) -> str:
        """What a command prints that succeeds."""
        done = self.stack.authsvc(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def load(self, ledger: Ledger | None = None, callers: int = 6, pause_seconds: float = 0.005) -> Load:
        """A load that goes on with a ledger, or begins one with a client that nobody used before."""
        return Load(ledger or Ledger(next(self._client_ids), self.key), self.doors, callers, pause_seconds)

    @property
    def pids(self) -> Pids:
        """What runs now."""
        return Supervisor(self.layout.control_socket).pids()

    def kill(self, victim: str) -> None:
        """Kill -9, and return when everything is there again."""
        killed = VICTIMS[victim](self.pids)
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(alive, killed)), f"{victim} is dead")
        self.wait_whole()

    def wait_whole(self) -> None:
        """Wait until every part is ready."""
        wait_until(lambda: all(map(is_ready, self.layout.management_urls)), "instances and writer are ready", READY_SECONDS)
        wait_until(lambda: is_healthy(self.layout.base_url), "nginx answers", READY_SECONDS)

    @contextlib.contextmanager
    def without_writer(self) -> Iterator[None]:
        """The writer is stopped, and started again, as an operator would do it."""
        configuration = str(self.layout.run_dir / "supervisord.conf")
        command = [sys.executable, "-m", "supervisor.supervisorctl", "-c", configuration]
        subprocess.run([*command, "stop", "writer"], check=True, capture_output=True, timeout=60)
        try:
            yield
        finally:
            subprocess.run([*command, "start", "writer"], check=True, capture_output=True, timeout=60)

    def redis(self) -> redis.Redis:
        return redis.Redis(port=self.layout.redis_port)

    def waiting(self) -> int:
        """Entries that are not written yet."""
        with self.redis() as client:
            return sum(client.xlen(stream) for stream in STREAMS)

    def pending(self, pid: int | None = None) -> int:
        """Entries that were read and not acknowledged, by one writer process or by all."""
        with self.redis() as client:
            holders = [holder for stream in STREAMS for holder in client.xpending(stream, GROUP)["consumers"]]
        return sum(holder["pending"] for holder in holders if pid is None or b"-%d-" % pid in holder["name"])

    def rows(self, ledger: Ledger) -> int:
        """Rows that the record store has of this ledger's client."""
        return len(record_state(self.records, ledger.client_id))

    def assert_kept(self, ledger: Ledger, unasked: Iterable[tuple[str, Kind]] = ()) -> None:
        """Ask about every token of the ledger again, drain the backlog, and compare the stores with the answers and the unasked tokens."""
        self.wait_whole()
        ask_about_everything(ledger, self.doors)
        for text, kind in unasked:
            ledger.issued(text, kind)
        wait_until(lambda: self.waiting() == 0 and self.pending() == 0, "the backlog is drained", READY_SECONDS)
        found = discrepancies(ledger, live_state(self.layout.redis_port, ledger.client_id), record_state(self.records, ledger.client_id))
        assert not found, f"{len(found)} of {len(ledger.tokens)}: {found[:5]}"

    @contextlib.contextmanager
    def locked(self) -> Iterator[sqlite3.Connection]:
        """Nobody else can write to the record store; whoever is about to waits."""
        with contextlib.closing(sqlite3.connect(self.records, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
            finally:
                connection.rollback()


def _with_children(pid: int) -> list[int]:
    """Workers first: a master would start them again."""
    return [*(child.pid for child in psutil.Process(pid).children()), pid]


def _everything(pids: Pids) -> list[int]:
    return [*_with_children(pids["nginx"]), *pids["instances"], pids["writer"], pids["redis"]]


VICTIMS: dict[str, Callable[[Pids], list[int]]] = {
    "master": lambda pids: [pids["instances"][0]],
    "worker": lambda pids: _with_children(pids["instances"][1])[:-1],
    "writer": lambda pids: [pids["writer"]],
    "redis": lambda pids: [pids["redis"]],
    "nginx": lambda pids: _with_children(pids["nginx"]),
    "everything": _everything,
}


@pytest.fixture(scope="module")
def fire(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fire]:
    """Two instances, nginx, Redis and a quick writer."""
    env = {"AUTH_DRAIN_SECONDS": "0.2", **{f"AUTH_{name.upper()}": str(value) for name, value in WRITER.items()}}
    stack = Stack(tmp_path_factory.mktemp("fire"), port=free_stack_port(INSTANCES), instances=INSTANCES, env=env)
    try:
        stack.start()
        yield Fire(stack)
    finally:
        stack.stop()


@pytest.mark.parametrize("victim", VICTIMS)
def test_what_was_answered_outlives_a_kill_of(fire: Fire, victim: str) -> None:
    with fire.load() as load:
        load.go_on()
        fire.kill(victim)
        load.go_on()
    assert bool(load.ledger.lost) == (victim != "writer"), "only the writer may be killed without anybody noticing"
    fire.assert_kept(load.ledger)


# A writer killed before, in and after a commit


def test_a_writer_killed_before_its_commit_leaves_its_entries_to_the_next(fire: Fire) -> None:
    with fire.locked():
        ledger, writer = _batch_at_hand(fire)
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda: not alive(writer), "the writer is dead")
        assert fire.rows(ledger) == 0
        left = fire.pending(writer)
        with fire.load(ledger) as load:
            load.go_on()
        # The next one has read how some of the tokens end, and will claim how they began.
        wait_until(lambda: fire.pending() == fire.waiting() > left == fire.pending(writer), "the next writer has read the rest")
    fire.assert_kept(ledger)


@pytest.mark.skipif(not PROC.is_dir(), reason="asks /proc whether every thread of a process is stopped")
def test_a_writer_killed_in_its_commit_leaves_each_row_once(fire: Fire) -> None:
    for _ in range(10):
        with fire.locked() as store:
            ledger, writer = _batch_at_hand(fire)
            log_bytes = _write_ahead_log(fire).stat().st_size
            store.rollback()
            in_commit = _stop_in_commit(fire, writer, ledger, log_bytes)
        if in_commit:
            os.kill(writer, signal.SIGKILL)
            fire.assert_kept(ledger)
            return
        os.kill(writer, signal.SIGCONT)
        fire.assert_kept(ledger)
    pytest.fail("the writer could not be stopped in a commit")


def test_a_writer_killed_after_its_commit_and_before_it_acknowledged_writes_nothing_twice(fire: Fire) -> None:
    with contextlib.ExitStack() as refused, fire.redis() as client:
        with fire.locked():
            ledger, writer = _batch_at_hand(fire)
            entries = fire.waiting()
            # Redis does all but acknowledge. A pause of all writes would hold off the reads that may come before the commit, too.
            client.execute_command("ACL", "SETUSER", "default", "-xack", "-xdel")
            refused.callback(client.execute_command, "ACL", "SETUSER", "default", "+xack", "+xdel")
        wait_until(lambda: fire.rows(ledger) > 0, "a batch is committed")
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda: not alive(writer), "the writer is dead")
        assert fire.pending(writer) == fire.waiting() == entries
    fire.assert_kept(ledger)


def _batch_at_hand(fire: Fire) -> tuple[Ledger, int]:
    """A load that is over, and the writer that has read all its entries; to be called while the record store is locked."""
    with fire.load() as load:
        load.go_on()
    writer = fire.pids["writer"]
    wait_until(lambda: fire.pending(writer) == fire.waiting() > 0, "the writer has read everything")
    return load.ledger, writer


def _write_ahead_log(fire: Fire) -> Path:
    return fire.records.with_name(f"{fire.records.name}-wal")


def _stop_in_commit(fire: Fire, writer: int, ledger: Ledger, log_bytes: int) -> bool:
    """Stop the writer as soon as rows of the ledger's client are in the log; whether their commit was not over."""
    path, mine = _write_ahead_log(fire), ledger.client_id.encode()
    deadline = time.monotonic() + 20
    seen_bytes = log_bytes
    while time.monotonic() < deadline:
        if path.stat().st_size == seen_bytes:
            continue
        os.kill(writer, signal.SIGSTOP)
        wait_until(lambda: _is_stopped(writer), "the writer is stopped")
        with path.open("rb") as log:
            log.seek(log_bytes)
            if mine in log.read():
                return fire.rows(ledger) == 0
        seen_bytes = path.stat().st_size
        os.kill(writer, signal.SIGCONT)
    raise AssertionError("the batch was not written")


def _is_stopped(pid: int) -> bool:
    """Whether every thread stands still; one within a call of the system stops at its end."""
    states = [file.read_text().rpartition(") ")[2][0] for file in PROC.glob(f"{pid}/task/*/stat")]
    return set(states) == {"T"}


# Several writers, and a backlog


def test_two_writers_share_the_work_and_one_takes_over_what_the_other_left(fire: Fire, tmp_path: Path) -> None:
    first = fire.pids["writer"]
    second = ServiceProcess(tmp_path, "write", redis_url=fire.layout.redis_url, records_url=fire.layout.records_url, **WRITER)
    with running(second.start()), fire.load() as load:
        second.wait_ready()
        ports = (fire.layout.writer_management_port, second.management_port)
        before = [_rows_written(port) for port in ports]
        wait_until(lambda: all(_rows_written(port) > rows + 20 for port, rows in zip(ports, before, strict=True)), "both have written")
        with fire.locked():
            wait_until(lambda: fire.pending(first) > 20 and fire.pending(second.process.pid) > 20, "both have a batch at hand")
            second.kill()
            left = fire.pending(second.process.pid)
        assert left > 20
        load.go_on()
    fire.assert_kept(load.ledger)
    assert fire.pids["writer"] == first


def _rows_written(port: int) -> float:
    lines = ask(port, "GET", "/metrics").body.decode().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("record_writer_rows_total ")))


def test_an_hour_of_entries_piles_up_behind_a_stopped_writer_and_is_drained(fire: Fire) -> None:
    """In the short form an hour at a token every 2.4 s."""
    _pile_up_and_drain(fire, tokens=1500)


def _pile_up_and_drain(fire: Fire, tokens: int, ask_each: int = 1) -> None:
    """All that piled up is compared in the end, and every `ask_each`th of it is asked about before."""
    with fire.load() as load:
        load.go_on()
        with fire.without_writer():
            rows = fire.rows(load.ledger)
            stored_tokens = asyncio.run(_store_tokens(fire, load.ledger.client_id, tokens))
            for text, kind in stored_tokens[::ask_each]:
                load.ledger.issued(text, kind)
            del stored_tokens[::ask_each]
            load.go_on()
            assert fire.rows(load.ledger) == rows
            status = json.loads(fire.authsvc("writer", "status", "--json"))
            assert status["backlog_entries"] > tokens
            assert status["backlog_age_seconds"] > 0
        load.go_on()
    fire.assert_kept(load.ledger, stored_tokens)


async def _store_tokens(fire: Fire, client_id: str, count: int) -> list[tuple[str, Kind]]:
    """Store tokens as an instance does, without the requests; returns them."""
    keys = TokenKeys(fire.key.encode())
    sample = next(state for state in live_state(fire.layout.redis_port, client_id).values() if isinstance(state, TokenValue))
    async with connected(fire.layout.redis_port) as pipeline:
        live = LiveTokens(pipeline)

        async def store(kind: Kind) -> tuple[str, Kind]:
            text, name = keys.new(kind)
            assert stored(await answer(live.store(name, sample._replace(kind=kind.value), sample.issued_seconds * 1000))) is None
            return text.decode(), kind

        tokens = []
        for _ in range(0, count, PAGE):
            tokens += await asyncio.gather(*(store(kind) for kind in itertools.islice(itertools.cycle(Kind), PAGE)))
    return tokens


def test_poison_is_set_aside_and_shown_while_what_stands_beside_it_is_written(fire: Fire) -> None:
    with fire.load() as load, fire.redis() as client:
        load.go_on()
        unreadable = [client.xadd(stream, {"e": b"neither form nor number"}).decode() for stream in STREAMS[:3]]
        refused = [client.xadd(STREAMS[shard(name)], {"e": _too_long_a_client(name)}).decode() for name in map(_twenty, range(3))]
        load.go_on()
        wait_until(lambda: not _still_there(client, unreadable + refused), "the poison is out of the streams")
    shown = fire.authsvc("writer", "status").splitlines()
    assert all(any(entry in line and "form" in line for line in shown) for entry in unreadable)
    assert all(any(entry in line and "refuses this row" in line for line in shown) for entry in refused)
    fire.assert_kept(load.ledger)


def _twenty(number: int) -> bytes:
    return number.to_bytes(20, "little")


def _too_long_a_client(name: bytes) -> bytes:
    """An entry of a known form whose row no store takes."""
    value = TokenValue("a", 1, "c" * 65, 1, "read", 1_790_000_000, 3600)
    return encode_event(Event.ISSUED, name, 1_790_000_000_000, encode_token(value))


def _still_there(client: redis.Redis, entries: list[str]) -> bool:
    return any(client.xrange(stream, entry, entry) for stream in STREAMS for entry in entries)


# The same with more of everything


@pytest.mark.long
@pytest.mark.timeout(900)
def test_whatever_is_killed_in_any_order_again_and_again(fire: Fire) -> None:
    chance = random.Random(5)
    with fire.load(callers=10) as load:
        for victim in chance.choices(list(VICTIMS), k=40):
            load.go_on(3)
            # The moment is what is random here: nothing is waited for.
            time.sleep(chance.uniform(0, 0.3))
            fire.kill(victim)
        load.go_on()
    fire.assert_kept(load.ledger)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_writer_killed_at_random_moments_is_noticed_by_nobody(fire: Fire) -> None:
    chance = random.Random(6)
    with fire.load(callers=10) as load:
        for _ in range(30):
            load.go_on(3)
            time.sleep(chance.uniform(0, 0.4))
            fire.kill("writer")
    assert not load.ledger.lost, load.ledger.lost_because.most_common(5)
    fire.assert_kept(load.ledger)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_whole_hour_of_entries_is_drained(fire: Fire) -> None:
    """An hour at 50 tokens a second."""
    _pile_up_and_drain(fire, tokens=3600 * 50, ask_each=9)
