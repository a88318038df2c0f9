"""The end of a command: one sentence and exit code 1, or what it made put away when it is told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from localstack.layout import ROOT

COMMAND = """
import time, typer
from outcome.command import run_command
from outcome.run import RunError
app = typer.Typer()

@app.command()
def work(fails: bool = False) -> None:
    if fails:
        raise RunError("It cannot be.")
    try:
        print("made", flush=True)
        time.sleep(60)
    finally:
        print("put away", flush=True)

run_command(app, "work")
"""


def command(*words: str) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT / "loadtest")}
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_command_that_is_told_to_end_puts_away_what_it_made() -> None:
    with command() as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "made\n"
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=20)
        assert (out, err, running.returncode) == ("put away\n", "", 128 + signal.SIGTERM)


def test_what_keeps_it_from_going_on_is_one_sentence() -> None:
    with command("--fails") as running:
        assert (*running.communicate(timeout=20), running.returncode) == ("", "It cannot be.\n", 1)
