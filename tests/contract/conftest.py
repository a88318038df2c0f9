"""The server under a contract test: a single Redis, and where the module says so a Redis Cluster too."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[RedisCluster]:
    """Two masters that hold nothing."""
    cluster = RedisCluster(tmp_path / "cluster", 2).start()
    yield cluster
    cluster.kill()


@pytest.fixture
def redis_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer | RedisCluster]:
    """A Redis of the test's own, persistent as in production."""
    masters = OVER[getattr(request, "param", "single")]
    server = RedisCluster(tmp_path / "cluster", masters) if masters else RedisServer(tmp_path / "redis")
    server.start()
    yield server
    server.kill()
