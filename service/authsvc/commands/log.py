"""`authsvc log`: another log level for a living process, for a while."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from authsvc.commands.management_port import ManagementPort, Url
from authsvc.errors import OperatorError
from authsvc.logs import MOST_LEVEL_SECONDS
from authsvc.settings import LevelName

TIMEOUT_SECONDS = 10.0


def log(
    level: Annotated[LevelName, typer.Argument(help="The lowest level that is logged; at debug there is a line for each request, too.")],
    seconds: Annotated[int, typer.Option(min=1, max=MOST_LEVEL_SECONDS, help="How long; then its own level is in force again.")] = 300,
    url: Url = None,
) -> None:
    """Change what a process logs, while it works. It needs AUTH_MANAGEMENT_SECRET, here and there."""
    port = ManagementPort(url)
    try:
        answer = json.loads(port.ask("PUT", "/log", {"level": level, "seconds": seconds}, TIMEOUT_SECONDS))
        taken = answer["level"], answer["seconds"]
    except (ValueError, KeyError, TypeError) as error:
        raise OperatorError(f"{port.address} did not take the level: is it a management address?") from error
    if taken != (level, seconds):
        raise OperatorError(f"{port.address} answers for another level: is it a management address?")
    typer.echo(f"{port.address} logs from level {level} for {seconds} s.")
