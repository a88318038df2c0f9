"""The local stack as a fixture: four instances behind nginx, one writer, one Redis, shared by all tests that only use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from localstack import Stack, StackState
from servers import assert_tells_no_secret, free_stack_port

INSTANCES = 4


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack. Whoever kills a part of it waits until it is ready again; whoever stops it makes a stack of his own."""
    shared = Stack(
        tmp_path_factory.mktemp("stack"), port=free_stack_port(INSTANCES), instances=INSTANCES, env={"AUTH_DRAIN_SECONDS": "0.2"}
    )
    shared.start()
    yield shared
    shared.stop()
    for log_file in shared.layout.log_dir.iterdir():
        assert_tells_no_secret(log_file)


@pytest.fixture
def stack_state(stack: Stack) -> StackState:
    """What runs where at this moment."""
    state = stack.state()
    assert state is not None, "the shared stack is down"
    return state
