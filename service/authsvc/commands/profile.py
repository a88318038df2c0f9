"""`authsvc profile`: where the CPU time of a living process goes, or what memory stays taken, as a flame graph or stacks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from authsvc.commands import flame
from authsvc.commands.management_port import ManagementPort, Url
from authsvc.errors import OperatorError
from authsvc.profiling import MOST_SECONDS, Kind, read, written

GRACE_SECONDS = 30
UNITS: dict[Kind, str] = {"cpu": "us of CPU", "memory": "bytes"}
SHOWN = 12


def profile(
    seconds: Annotated[int, typer.Option(min=1, max=MOST_SECONDS, help="How long to watch.")] = 10,
    kind: Annotated[
        Kind,
        typer.Option(
            help="CPU time of the event loop's thread, or memory taken meanwhile and still held; for memory each request costs some nine "
            "times as much."
        ),
    ] = "cpu",
    url: Url = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write a flame graph (.svg), or collapsed stacks (any other name; - for standard output), instead of the list."),
    ] = None,
) -> None:
    """Profile a worker that goes on working. It needs AUTH_MANAGEMENT_SECRET, here and there."""
    port = ManagementPort(url)
    with Console(stderr=True).status(f"Watching for {seconds} s"):
        answer = port.ask("GET", "/profile", {"kind": kind, "seconds": seconds}, seconds + GRACE_SECONDS)
    try:
        stacks = read(answer.decode())
    except ValueError as error:
        raise OperatorError(f"{port.address} answers what is no profile: is it a management address?") from error
    if not stacks:
        raise OperatorError(f"Nothing was seen in {seconds} s: the process used no {'CPU' if kind == 'cpu' else 'more memory'}.")
    if output is None:
        _list(stacks, UNITS[kind])
        return
    if str(output) == "-":
        typer.echo(written(stacks), nl=False)
        return
    text = flame.draw(stacks, f"{port.address}, {seconds} s", UNITS[kind]) if output.suffix == ".svg" else written(stacks)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(f"Written: {output}")


def _list(stacks: Counter[str], unit: str) -> None:
    """The frames with most of their own: what was at the end of a stack."""
    own: Counter[str] = Counter()
    for stack, amount in stacks.items():
        own[stack.rpartition(";")[2]] += amount
    total = own.total()
    typer.echo(f"{total:,} {unit} in all; at the end of a stack:")
    for name, amount in own.most_common(SHOWN):
        typer.echo(f"{amount / total:6.1%}  {name}")
