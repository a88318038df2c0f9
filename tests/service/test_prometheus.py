"""A real Prometheus over four instances and the writer: sums are what the load did, every picture has data, alerts fire and end."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import psutil
import pytest

from generate import dashboard
from localstack import Stack, StackState
from prometheus_server import NEEDS_PROMETHEUS, PrometheusServer
from servers import free_stack_port, wait_until

pytestmark = [NEEDS_PROMETHEUS, pytest.mark.timeout(400)]

QUICKER = 20
"""`for: 2m` is six seconds."""
BACKLOG_LIMIT = 300
INSTANCES = 4
SLOW_SECONDS = 60.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Of its own: parts of it are stopped."""
    env = {"AUTH_DRAIN_SECONDS": "0.2", "AUTH_BACKLOG_LIMIT": str(BACKLOG_LIMIT), "AUTH_WRITER_BATCH_SECONDS": "0.2"}
    found = Stack(tmp_path_factory.mktemp("watched"), port=free_stack_port(INSTANCES), instances=INSTANCES, env=env)
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="module")
def state(stack: Stack) -> StackState:
    found = stack.state()
    assert found is not None
    return found


@pytest.fixture(scope="module")
def prometheus(state: StackState, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    targets = [url.removeprefix("http://") for url in state["management"]]
    server = PrometheusServer(tmp_path_factory.mktemp("prometheus") / "server", targets, QUICKER).start()
    yield server
    server.stop()


@pytest.fixture
def client(state: StackState) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=state["base_url"], auth=(state["client_id"], state["client_secret"])) as found:
        yield found


def issue(client: httpx.Client, target: str = "/token") -> httpx.Response:
    return client.post(target, data={"grant_type": "client_credentials"})


def load(client: httpx.Client) -> Counter[tuple[str, str]]:
    """Ask everything; answers by endpoint and status."""
    asked: Counter[tuple[str, str]] = Counter()

    def ask(method: str, path: str, data: dict[str, str] | None = None) -> httpx.Response:
        answer = client.request(method, path, data=data)
        asked[path.strip("/"), str(answer.status_code)] += 1
        return answer

    grant = {"grant_type": "client_credentials"}
    for _ in range(5):
        token, one_time = (ask("POST", path, grant).json()["access_token"] for path in ("/token", "/ott"))
        for text in (token, one_time, one_time, "garbage"):
            ask("POST", "/validate", {"token": text})
        ask("POST", "/introspect", {"token": token})
        ask("POST", "/revoke", {"token": token})
        ask("GET", "/health")
        ask("POST", "/token", {"grant_type": "password"})
    return asked


def counted(prometheus: PrometheusServer) -> Counter[tuple[str, str]]:
    found = prometheus.query('sum by (endpoint, status) (http_requests_total{endpoint!="other"}) > 0')
    return Counter({(labels["endpoint"], labels["status"]): int(value) for labels, value in found})


def wait_scraped(prometheus: PrometheusServer) -> None:
    wait_until(lambda: prometheus.value("sum(up)") == INSTANCES + 1, "all are scraped")


def test_what_prometheus_adds_up_is_what_was_answered(prometheus: PrometheusServer, client: httpx.Client) -> None:
    wait_scraped(prometheus)
    before = counted(prometheus)
    asked = load(client)
    wait_until(lambda: counted(prometheus) == before + asked, "every answer is counted, once")


def test_a_worker_that_is_replaced_starts_from_zero_and_no_counter_goes_back_otherwise(
    prometheus: PrometheusServer, client: httpx.Client, state: StackState
) -> None:
    load(client)
    [worker] = psutil.Process(state["pids"]["instances"][0]).children()
    os.kill(state["pids"]["instances"][0], signal.SIGHUP)
    wait_until(lambda: not worker.is_running(), "the worker is replaced")
    asked = load(client)
    busy = "sum by (instance) (http_requests_total) > 0"
    wait_until(lambda: len(prometheus.query(busy)) == INSTANCES, "the new one answered and was scraped")
    back = {labels["instance"] for labels, value in prometheus.query("sum by (instance) (resets(http_requests_total[1h])) > 0")}
    assert back <= {state["management"][0].removeprefix("http://")}
    grown = prometheus.query('sum by (endpoint) (increase(http_requests_total{endpoint="introspect"}[1h]))')
    assert grown[0][1] >= asked["introspect", "200"]


def test_every_picture_has_data(prometheus: PrometheusServer, client: httpx.Client) -> None:
    load(client)
    for query in dashboard.queries():
        if dashboard.is_elsewhere(query):
            continue
        asked = query.replace("$job", "auth-service").replace("$__rate_interval", "1m")
        wait_until(lambda asked=asked: prometheus.query(asked), f"there is data for {asked}", SLOW_SECONDS)


def test_nothing_is_alerted_while_all_is_well(prometheus: PrometheusServer, client: httpx.Client) -> None:
    wait_scraped(prometheus)
    assert load(client)
    assert prometheus.value("auth_service:errors:ratio_rate5m") == 0
    assert not prometheus.firing()


# Alerts


def wait_firing(prometheus: PrometheusServer, *names: str) -> None:
    wait_until(lambda: set(names) <= prometheus.firing(), f"{', '.join(names)} fire", SLOW_SECONDS)


def wait_over(prometheus: PrometheusServer, *names: str) -> None:
    """That the error budget burns is told for as long as its windows see it."""
    wait_until(lambda: prometheus.firing().isdisjoint(names), f"{', '.join(names)} are over", SLOW_SECONDS)


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_redis_that_says_nothing(prometheus: PrometheusServer, state: StackState, client: httpx.Client) -> None:
    with stopped(state["pids"]["redis"]):
        wait_until(lambda: issue(client).status_code == 503, "the service refuses")
        wait_firing(prometheus, "AuthServiceRedisOutOfReach")
    wait_until(lambda: issue(client).status_code == 200, "tokens are made again")
    wait_over(prometheus, "AuthServiceRedisOutOfReach")


def test_a_writer_that_stands_still_and_the_backlog_it_leaves(
    prometheus: PrometheusServer, state: StackState, client: httpx.Client
) -> None:
    waiting = ("AuthServiceWriterStopped", "AuthServiceBacklogOld", "AuthServiceBacklogFills")
    with stopped(state["pids"]["writer"]):
        for _ in range(BACKLOG_LIMIT):
            issue(client)

        def shed() -> bool:
            return issue(client).status_code == 429

        wait_until(shed, "the backlog is full")
        wait_firing(prometheus, *waiting)

        def told() -> bool:
            # The share of the last quarter of a minute counts, so it must go on.
            return shed() and {"AuthServiceShedsLoad", "AuthServiceErrorBudgetBurnsFast"} <= prometheus.firing()

        wait_until(told, "shed load is told", SLOW_SECONDS)
    wait_until(lambda: issue(client).status_code == 200, "tokens are made again")
    wait_over(prometheus, "AuthServiceShedsLoad", *waiting)


def test_instances_that_are_gone(prometheus: PrometheusServer, state: StackState) -> None:
    gone = ("AuthServiceDown", "AuthServiceNotScraped")
    with ExitStack() as standing:
        for master in state["pids"]["instances"]:
            workers = psutil.Process(master).children()
            # The master first: it would replace a worker that stands still.
            for pid in (master, *(worker.pid for worker in workers)):
                standing.enter_context(stopped(pid))
        wait_firing(prometheus, *gone)
    wait_over(prometheus, *gone)
