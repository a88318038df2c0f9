"""Fixtures that every kind of test may use, and which tests may run at the same time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from servers import RedisServer

SHARED = {"oracle": re.compile("oracle", re.IGNORECASE), "cluster": re.compile("^tests/cluster/")}
"""Servers of which there is one for all tests (Oracle, which some of them make fail, and the cluster): the marker, and what names have."""


class Scheduling(LoadFileScheduling):  # type: ignore[misc]
    """Tests of a file run one after the other, but for those over a server that they share, which do so with their like from all files."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for name, named in SHARED.items() if named.search(nodeid)), nodeid.split("::", 1)[0])


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling:
    """For `scripts/test`. xdist's own groups (`loadgroup`) do nothing under pytest 9.2."""
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The scheduler knows tests by their names alone."""
    for item in items:
        for name, named in SHARED.items():
            assert item.get_closest_marker(name) is None or named.search(item.nodeid), f"{item.nodeid} must have {name} in its name"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, persistent as in production."""
    server = RedisServer(tmp_path / "redis").start()
    yield server
    server.kill()
