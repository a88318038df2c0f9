"""The leader of a run as its workers find it: there in time, or not at all."""

from __future__ import annotations

import argparse
import socket
import time
from collections.abc import Sequence

ASK_SECONDS = 5.0
POLL_SECONDS = 1.0


class NoLeader(Exception):
    """Nobody leads where the command line says."""


def await_leader(command_line: Sequence[str], wait_seconds: float) -> None:
    """Return when somebody listens where Locust's `--master-host` and `--master-port` say; NoLeader after that time.

    A worker may be there before its leader. It may also be one that took another's place when the run was over.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--master-host", default="127.0.0.1")
    parser.add_argument("--master-port", type=int, default=5557)
    leader, _ = parser.parse_known_args(command_line)
    deadline = time.monotonic() + wait_seconds
    while True:
        try:
            socket.create_connection((leader.master_host, leader.master_port), ASK_SECONDS).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                where = f"{leader.master_host}:{leader.master_port}"
                raise NoLeader(f"There has been no leader at {where} for {wait_seconds:g} s, so there is no run: {error}.") from error
        time.sleep(POLL_SECONDS)
