"""`scripts/top` over a real stack: what it shows of a known load, of processes that are silent, and how it ends."""

from __future__ import annotations

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localstack import Stack, StackState
from localstack.layout import ROOT
from servers import service_environ, wait_until
from service.deployment import form
from service.one_instance import GRANT, basic, bearer
from service.wire import Connection, request
from view import local
from view.samples import INSTANCE, Process


def command(run_dir: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "view", "--run-dir", str(run_dir), *words]


def environ(**more: str) -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "service"))
    return {**service_environ(), "PYTHONPATH": paths, "COLUMNS": "80", **more}


def shown(stack: Stack, *words: str) -> str:
    """What it prints where there is no terminal."""
    done = subprocess.run(command(stack.layout.run_dir, *words), env=environ(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def cells(text: str, first: str) -> list[str]:
    """The row that begins so, without its first cell."""
    [row] = re.findall(rf"^{first} (.*)$", text, re.MULTILINE)
    return str(row).split()


def test_a_known_load_is_what_it_shows(stack: Stack, stack_state: StackState) -> None:
    """Between its looks a token is asked for again and again, and what is no token is validated twice as often."""
    asked, ending = threading.Event(), threading.Event()
    issuing = form("/token", GRANT, basic(stack_state["client_id"], stack_state["client_secret"]))
    checking = request("GET", "/validate", [bearer("none")])

    def ask() -> None:
        with Connection(urlsplit(stack_state["instances"][0]).port or 0) as connection:
            while not ending.is_set():
                for data, status in ((issuing, 200), (checking, 401), (checking, 401)):
                    connection.send(data)
                    answer = connection.answer()
                    assert answer is not None
                    assert answer.status == status
                asked.set()

    load = threading.Thread(target=ask)
    load.start()
    try:
        assert asked.wait(30)
        text = shown(stack, "--once", "--interval-seconds", "2")
    finally:
        ending.set()
        load.join()
    assert "Redis up, auth 4/4, writer 1/1, 5xx 0 %, 429 0 %" in text
    tokens, checks = cells(text, "token"), cells(text, "validate")
    rate = float(tokens[0].replace(",", ""))
    assert rate > 0
    assert float(checks[0].replace(",", "")) == pytest.approx(2 * rate, rel=0.2)
    assert (tokens[3:], checks[3], checks[4:]) == (["0.0"] * 3, checks[0], ["0.0"] * 2)
    assert 0 < float(tokens[1]) <= float(tokens[2])
    assert cells(text, "ott") == ["0.0", "-", "-", "0.0", "0.0", "0.0"]
    first, second = cells(text, "instance 1"), cells(text, "instance 2")
    assert float(first[0].replace(",", "")) == pytest.approx(3 * rate, rel=0.2)
    assert (first[3], second[0], second[3]) == ("up", "0.0", "up")
    assert cells(text, "writer")[:2] == ["-", "-"]
    assert int(cells(text, "live tokens")[0].replace(",", "")) > 0
    assert cells(text, "DB connections")[:2] == ["1", "open,"]


def test_nothing_runs(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path), env=environ(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"The stack in {tmp_path} is not up: start it with scripts/up, or name a release with -n.\n"


def test_wrong_usage() -> None:
    done = subprocess.run(command(ROOT, "--interval-seconds", "0"), env=environ(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")


@contextmanager
def on_a_terminal(*words: str, **settings: str) -> Iterator[tuple[subprocess.Popen[bytes], list[bytes]]]:
    """The process, and what it has written to its terminal so far; killed at the end if it has not ended by itself."""
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "view", "--interval-seconds", "0.2", *words]
    top = subprocess.Popen(command, env=environ(TERM="xterm", LINES="40", **settings), stdin=its, stdout=its, stderr=its)
    os.close(its)
    written: list[bytes] = []

    def read() -> None:
        while True:
            try:
                written.append(os.read(ours, 65536))
            except OSError:
                # Its end is closed.
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield top, written
    finally:
        top.kill()
        top.wait()
        reader.join()
        os.close(ours)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_looks_again_and_again_and_ends_quietly(stack: Stack, stack_state: StackState, number: int) -> None:
    with on_a_terminal("--run-dir", str(stack.layout.run_dir)) as (top, written):
        wait_until(lambda: b"".join(written).count(b"rates and times of") >= 3, "three looks", 30)
        assert b"no rates yet" in b"".join(written)
        os.kill(top.pid, number)
        assert top.wait(30) == 0
        cursor_back = b"\x1b[?25h"
        wait_until(lambda: b"".join(written).rstrip().endswith(cursor_back), "the cursor is back")
    assert b"Traceback" not in b"".join(written)
    assert b"Aborted" not in b"".join(written)


def test_a_silent_process_is_told_and_others_are_asked(stack_state: StackState) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = f"http://127.0.0.1:{listening.getsockname()[1]}"
        assert local.process_at("a", INSTANCE, silent) == Process("a", INSTANCE, None, "no answer")
    # Nobody listens there any more.
    assert local.process_at("a", INSTANCE, silent) == Process("a", INSTANCE, None, "no answer")
    assert local.process_at("a", INSTANCE, stack_state["base_url"]) == Process("a", INSTANCE, None, "no answer")
    found = local.process_at("b", INSTANCE, stack_state["management"][0])
    assert found.page is not None
    assert found.state == ""
