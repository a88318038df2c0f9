"""The generator tells the truth: against a server whose delays and wrong answers are known it reports them, each counted once."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from outcome.plan import Plan
from outcome.run import Run, RunError
from outcome.thresholds import Thresholds, judge
from servers import free_port
from suite.launch import run_plan

pytestmark = pytest.mark.alone

CREDENTIALS = dict.fromkeys(("client_id", "client_secret", "brief_client_id", "brief_client_secret"), "x")


class KnownServer:
    """Answers /health after `delays_ms` in turn; each `wrong_every`-th answer is wrong: by status, by content, or there is none.

    `pause`: so many seconds after the first request nothing is answered for so many seconds.
    """

    def __init__(self, delays_ms: tuple[float, ...] = (0.0,), wrong_every: int = 0, pause: tuple[float, float] = (0, 0)) -> None:
        self._delays_ms, self._wrong_every, self._pause = delays_ms, wrong_every, pause
        self.port = free_port()
        self.answers: Counter[str] = Counter()
        self._first: float | None = None
        self._asked = 0
        self._loop = asyncio.new_event_loop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def running(self) -> Iterator[KnownServer]:
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", self.port))
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(server.close)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /health "):
                await asyncio.sleep(self._delay_seconds())
                kind = self._kind()
                self.answers[kind] += 1
                if kind == "no answer":
                    break
                writer.write(ANSWERS[kind])
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the generator has ended
        finally:
            writer.close()

    def _delay_seconds(self) -> float:
        now = time.monotonic()
        self._first = self._first or now
        begins, seconds = self._pause
        paused = max(0.0, self._first + begins + seconds - now) if now >= self._first + begins else 0.0
        self._asked += 1
        return paused + self._delays_ms[self._asked % len(self._delays_ms)] / 1000

    def _kind(self) -> str:
        number = self.answers.total() + 1
        if not self._wrong_every or number % self._wrong_every:
            return "right"
        return KINDS[number // self._wrong_every % len(KINDS)]


def _answer(status: str, body: dict[str, str]) -> bytes:
    text = json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text


ANSWERS = {
    "right": _answer("200 OK", {"status": "ok"}),
    "503 temporarily_unavailable": _answer("503 Service Unavailable", {"error": "temporarily_unavailable"}),
    "200 with wrong content": _answer("200 OK", {"status": "fine"}),
}
KINDS = ("503 temporarily_unavailable", "200 with wrong content", "no answer")


LATE_SECONDS = 0.3


def ask(server: KnownServer, folder: Path, plan: Plan, workers: int = 1) -> Run:
    clients = folder / "clients.json"
    clients.write_text(json.dumps(CREDENTIALS))
    with server.running():
        return run_plan(plan, folder, workers=workers, url=server.url, clients_file=clients)


def assert_rate(run: Run) -> None:
    """As many answers as were due in the time that was counted, however long the machine made it.

    Two per cent, what is on its way, and what a busy machine has not sent yet.
    """
    due = run.plan.rate * run.seconds
    late = run.plan.rate * LATE_SECONDS
    assert run.endpoints["health"].requests == pytest.approx(due, abs=0.02 * due + run.plan.users + late), run.seconds


@pytest.mark.parametrize("workers", [1, 2])
def test_rate_times_and_wrong_answers_are_as_the_server_gave_them(tmp_path: Path, workers: int) -> None:
    server = KnownServer(delays_ms=(20, 20, 20, 20, 20, 20, 20, 20, 200, 200), wrong_every=7)
    plan = Plan(endpoint="health", users=14, rate=100, seconds=6, warm_up_seconds=0)
    run = ask(server, tmp_path, plan, workers)
    health = run.endpoints["health"]
    assert run.end == "complete"
    assert_rate(run)
    # What was on its way at the end is the server's to know alone.
    for kind in KINDS:
        assert 0 <= server.answers[kind] - health.wrong.get(kind, 0) <= plan.users, (kind, server.answers, health.wrong)
    assert 0 <= server.answers.total() - health.requests <= plan.users
    p50, p99 = health.percentile_ms(0.5), health.percentile_ms(0.99)
    assert p50 is not None
    assert p99 is not None
    assert 20 <= p50 < 200 <= p99
    assert sum(sum(point.requests.values()) for point in run.points) == health.requests
    assert {point.offered for point in run.points if 1 <= point.at_seconds <= plan.seconds} == {100}
    assert run.generator.most == workers
    assert len(run.generator.cpu_shares) == workers


def test_a_pause_is_felt_by_all_that_was_due_in_it(tmp_path: Path) -> None:
    plan = Plan(endpoint="health", users=10, rate=100, seconds=5, warm_up_seconds=0)
    p90 = ask(KnownServer(pause=(1.5, 2)), tmp_path, plan).endpoints["health"].percentile_ms(0.9)
    assert p90 is not None
    assert p90 > 1000, "two of five seconds were due in the pause, and a tenth of all waited more than a second of it"


def test_a_service_that_hangs_until_the_end_has_given_no_answers(tmp_path: Path) -> None:
    plan = Plan(endpoint="health", users=10, rate=100, seconds=6, warm_up_seconds=0)
    run = ask(KnownServer(pause=(2, 1000)), tmp_path, plan)
    # All but two seconds hang; what is younger than one when the run ends is on its way.
    assert run.endpoints["health"].wrong["no answer"] == pytest.approx(plan.rate * (run.seconds - 3), rel=0.25)
    assert not all(each.held for each in judge(run, Thresholds()))


def test_a_closed_loop_hides_a_pause_and_its_plan_says_so(tmp_path: Path) -> None:
    plan = Plan(endpoint="health", arrival="closed", users=4, seconds=5, warm_up_seconds=0)
    run = ask(KnownServer(pause=(1.5, 2), delays_ms=(5,)), tmp_path, plan)
    p90 = run.endpoints["health"].percentile_ms(0.9)
    assert p90 is not None
    assert p90 < 1000
    assert "a slow service is asked less" in plan.ceiling


def test_a_warm_up_is_not_counted(tmp_path: Path) -> None:
    plan = Plan(endpoint="health", users=10, rate=100, seconds=5, warm_up_seconds=3)
    run = ask(KnownServer(), tmp_path, plan)
    assert_rate(run)
    shown = sum(sum(point.requests.values()) for point in run.points)
    assert shown - run.endpoints["health"].requests == pytest.approx(300, rel=0.1)


def test_a_service_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "clients.json").write_text(json.dumps(CREDENTIALS))
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RunError, match=rf"Locust gave no result: {url} cannot be reached: .*Connection refused"):
        run_plan(Plan(endpoint="validate", seconds=3), tmp_path, url=url, clients_file=tmp_path / "clients.json")
