"""The listener that supervisord tells of every process it has started: it keeps `stack.json` true."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import BinaryIO

from localstack.errors import StackError
from localstack.layout import Layout
from localstack.statefile import refresh_pids
from localstack.supervision import Supervisor


def watch(run_dir: Path) -> None:
    """Speak supervisord's event protocol on stdin and stdout until supervisord is gone."""
    layout = Layout(run_dir)
    supervisor = Supervisor(layout.control_socket)
    try:
        # What happened while no listener ran was told to nobody.
        refresh_pids(layout.state_file, supervisor.pids)
        _listen(layout, supervisor, sys.stdin.buffer, sys.stdout.buffer)
    except (StackError, OSError):
        # supervisord is stopping; if not, it starts the listener again.
        return


def _listen(layout: Layout, supervisor: Supervisor, events: BinaryIO, answers: BinaryIO) -> None:
    while True:
        _say(answers, b"READY\n")
        header = events.readline()
        if not header:
            return
        fields = dict(field.split(b":", 1) for field in header.split())
        events.read(int(fields[b"len"]))
        refresh_pids(layout.state_file, supervisor.pids)
        _say(answers, b"RESULT 2\nOK")


def _say(answers: BinaryIO, text: bytes) -> None:
    answers.write(text)
    answers.flush()
