"""The server under a contract test: a single Redis, and where the module says so a Redis Cluster too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from servers import RedisCluster, RedisServer

OVER = {"single": 0, "cluster": 2}
"""Masters of the cluster; none is a single Redis."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A module with `OVER_EVERY_KIND` runs over each kind, but for the tests that are marked `single`."""
    wanted = getattr(metafunc.module, "OVER_EVERY_KIND", False) and not metafunc.definition.get_closest_marker("single")
    if wanted and "redis_server" in metafunc.fixturenames:
        metafunc.parametrize("redis_server", OVER, indirect=True)


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], RedisCluster]]:
    """Clusters of two masters that hold nothing, each for one test.

    The next one forms while a test runs: for two seconds after its start a master takes nothing.
    """

    def form() -> RedisCluster:
        return RedisCluster(tmp_path_factory.mktemp("cluster"), OVER["cluster"]).start()

    with ThreadPoolExecutor(1) as former:
        waiting = [former.submit(form)]

        def take() -> RedisCluster:
            taken = waiting.pop().result()
            waiting.append(former.submit(form))
            return taken

        yield take
        waiting.pop().result().kill()


@pytest.fixture
def cluster(clusters: Callable[[], RedisCluster]) -> Iterator[RedisCluster]:
    """Two masters that hold nothing."""
    cluster = clusters()
    yield cluster
    cluster.kill()


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer | RedisCluster]:
    """A Redis of the test's own, persistent as in production."""
    kind = getattr(request, "param", "single")
    server = request.getfixturevalue("clusters")() if kind == "cluster" else RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()
