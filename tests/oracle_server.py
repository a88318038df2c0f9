"""A stand-in for Oracle of a test's own, which keeps its data when it is killed: for tests in which the database itself dies."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest

from contract.record_stores import ORACLE_FAULTS, ORACLE_VARIABLES
from servers import free_port

COMMAND = "TEST_ORACLE_COMMAND"
NEEDS_COMMAND = pytest.mark.skipif(not os.environ.get(COMMAND), reason=f"no stand-in for Oracle that may be killed: {COMMAND} is not set")


class OracleServer:
    """Started by the command in TEST_ORACLE_COMMAND, as often as it has died."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._control_port = free_port(), free_port()

    @property
    def variables(self) -> dict[str, str]:
        """What leads tests to it."""
        address, user, password = ORACLE_VARIABLES
        dsn = f"127.0.0.1:{self._port}/TEST"
        return {address: dsn, user: "app", password: "app-of-the-test", ORACLE_FAULTS: f"http://127.0.0.1:{self._control_port}"}

    def start(self) -> OracleServer:
        user = "app:app-of-the-test"
        self._command("up", "--control-port", str(self._control_port), "--data", str(self._folder), "--user", user, "--service", "TEST")
        return self

    def stop(self) -> None:
        self._command("down")

    def is_dead(self) -> bool:
        """Whether nobody listens any more."""
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) != 0

    def _command(self, what: str, *options: str) -> None:
        command = [os.environ[COMMAND], what, "--port", str(self._port), *options]
        subprocess.run(command, check=True, capture_output=True, timeout=90)
