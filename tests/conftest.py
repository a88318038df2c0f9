"""Fixtures that every kind of test may use, and which tests may run at the same time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from servers import RedisServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file run one after the other; so do all over Oracle, one server that some of them make fail, and all in the cluster."""
    for item in items:
        shared = next((name for name in ("oracle", "cluster") if item.get_closest_marker(name)), None)
        item.add_marker(pytest.mark.xdist_group(shared or str(item.path)))


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, persistent as in production."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()
