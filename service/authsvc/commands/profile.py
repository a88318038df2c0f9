"""`authsvc profile`: where the CPU time of a living process goes, or what memory stays taken, as a flame graph or stacks."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Annotated, Any
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, ProxyHandler, Request, build_opener

import typer
from rich.console import Console

from authsvc.commands import flame
from authsvc.errors import OperatorError
from authsvc.profiling import MOST_SECONDS, Kind, read, written
from authsvc.settings import read_settings

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
    url: Annotated[str | None, typer.Option(help="Management address of the process; by default of this machine's instance.")] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Write a flame graph (.svg), or collapsed stacks (any other name; - for standard output), instead of the list."),
    ] = None,
) -> None:
    """Profile a worker that goes on working. It needs AUTH_PROFILING_SECRET, here and there."""
    settings = read_settings()
    if settings.profiling_secret is None:
        raise OperatorError("AUTH_PROFILING_SECRET is not set: without it no process gives a profile.")
    address = (url or f"http://127.0.0.1:{settings.management_port}").rstrip("/")
    if not address.startswith(("http://", "https://")):
        raise OperatorError(f"{address} is no http:// or https:// address.")
    with Console(stderr=True).status(f"Watching for {seconds} s"):
        stacks = _ask(address, f"kind={kind}&seconds={seconds}", settings.profiling_secret.get_secret_value(), seconds)
    if not stacks:
        raise OperatorError(f"Nothing was seen in {seconds} s: the process used no {'CPU' if kind == 'cpu' else 'more memory'}.")
    if output is None:
        _list(stacks, UNITS[kind])
        return
    if str(output) == "-":
        typer.echo(written(stacks), nl=False)
        return
    text = flame.draw(stacks, f"{address}, {seconds} s", UNITS[kind]) if output.suffix == ".svg" else written(stacks)
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OperatorError(f"{output} cannot be written: {error.strerror}.") from error
    typer.echo(f"Written: {output}")


class _NoRedirect(HTTPRedirectHandler):
    """The secret goes to the address that was given, and nowhere else."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none."""


# Not through a proxy of the environment either.
_opener = build_opener(ProxyHandler({}), _NoRedirect)


def _ask(address: str, query: str, secret: str, seconds: int) -> Counter[str]:
    request = Request(f"{address}/profile?{query}", headers={"Authorization": f"Bearer {secret}"})  # noqa: S310 - http and https only
    try:
        with _opener.open(request, timeout=seconds + GRACE_SECONDS) as answer:
            return read(answer.read().decode())
    except HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            raise OperatorError(f"{address} gives no profiles: its AUTH_PROFILING_SECRET is another, or not set.") from error
        if error.code == HTTPStatus.TOO_MANY_REQUESTS:
            raise OperatorError(f"{address} is being profiled already: try again when that is over.") from error
        raise OperatorError(f"{address} answers {error.code} to a question for a profile: is it a management address?") from error
    except ValueError as error:
        raise OperatorError(f"{address} answers what is no profile: is it a management address?") from error
    except (OSError, HTTPException) as error:
        raise OperatorError(f"{address} cannot be asked: {error}.") from error


def _list(stacks: Counter[str], unit: str) -> None:
    """The frames with most of their own: what was at the end of a stack."""
    own: Counter[str] = Counter()
    for stack, amount in stacks.items():
        own[stack.rpartition(";")[2]] += amount
    total = own.total()
    typer.echo(f"{total:,} {unit} in all; at the end of a stack:")
    for name, amount in own.most_common(SHOWN):
        typer.echo(f"{amount / total:6.1%}  {name}")
