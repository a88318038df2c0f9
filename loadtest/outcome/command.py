"""The end of a command: what kept it from going on is one sentence on stderr, and exit code 1."""

from __future__ import annotations

import signal
import sys
from typing import NoReturn

import typer
from rich.console import Console

from outcome.run import RunError


def run_command(app: typer.Typer, name: str, *others: type[Exception]) -> None:
    """Run a command line; RunError, and the other families of errors that are told, end it with their message."""
    told: tuple[type[Exception], ...] = (RunError, *others)
    # Ended from outside, it puts away what it made.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        app(prog_name=name)
    except told as error:
        give_up(str(error))


def give_up(sentence: str) -> NoReturn:
    """Tell why, and end."""
    Console(stderr=True).print(sentence, style="red", highlight=False, soft_wrap=True)
    sys.exit(1)
