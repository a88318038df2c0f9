"""`authsvc`: the one command of the image and its subcommands."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
from typing import Annotated

import typer
from rich.console import Console

from authsvc import __version__, logs
from authsvc.commands import client, log, profile, secrets, token, trial, writer
from authsvc.errors import OperatorError
from authsvc.settings import Settings, read_settings

app = typer.Typer(
    name="authsvc",
    help="A stateless OAuth-style token service. Settings are AUTH_* environment variables; docs/settings.md lists them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(client.app, name="client")
app.add_typer(token.app, name="token")
app.add_typer(writer.app, name="writer")

app.command("profile")(profile.profile)
app.command("log")(log.log)
app.command("secrets")(secrets.secrets)
app.command("trial")(trial.trial)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"authsvc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    """Options before the subcommand."""


@app.command()
def serve() -> None:
    """Serve the HTTP endpoints: the public port and the management port."""
    from authsvc.commands.serve import serve as run_server

    run_server(_configured())


@app.command()
def write() -> None:
    """Drain token events into the record store, and keep the client mirror in Redis complete."""
    from authsvc.commands.write import write as run_writer

    asyncio.run(run_writer(_configured()))


@app.command()
def migrate(
    sql: Annotated[bool, typer.Option("--sql", help="Print the DDL instead of running it.")] = False,
    since: Annotated[
        str | None, typer.Option("--from", metavar="VERSION", help="With --sql: only what brings it up from this version.")
    ] = None,
) -> None:
    """Bring the record store's schema up to date; safe to repeat."""
    from authsvc.records import migrate as migrations
    from authsvc.records.connect import pool_of

    if since is not None and not sql:
        raise typer.BadParameter("is for --sql alone: a database says by itself which version it has.", param_hint="--from")
    settings = _configured()
    if sql:
        typer.echo(migrations.sql(settings.records_url, since))
    else:
        migrations.upgrade(settings.records_url, pool_of(settings))
        typer.echo("The schema is up to date.")


@app.command()
def check(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Try Redis, the record store, keys and clocks, and say a sentence of each; exit 1 if something is wrong."""
    from authsvc.commands.check import check as run_check

    asyncio.run(run_check(read_settings(), as_json))


def _configured() -> Settings:
    settings = read_settings()
    logs.configure(settings.log_level)
    return settings


def run() -> None:
    """Run a command; an OperatorError is one sentence on standard error and exit code 1. A crash in compiled code tells where."""
    faulthandler.enable()
    try:
        app(prog_name="authsvc")
    except OperatorError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(1)
