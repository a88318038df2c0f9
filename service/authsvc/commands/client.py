"""`authsvc client ...`: clients are added, changed, shown, exported and imported."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from authsvc.clients import Change, Clients
from authsvc.commands.export import export_text, read_export
from authsvc.commands.records import Since, cell, print_whole, time_text
from authsvc.commands.session import with_clients
from authsvc.errors import OperatorError
from authsvc.model import DEFAULT_ACCESS_TTL_SECONDS, DEFAULT_ONE_TIME_TTL_SECONDS, Client, ClientChange, DeletedClient

app = typer.Typer(help="Clients: who may get tokens.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="ID", help="The client's id: 1 to 64 characters of A-Z a-z 0-9 . _ -")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def add(
    client_id: Id,
    scope: Annotated[list[str] | None, typer.Option("--scope", help="A scope of the client; repeat for more.")] = None,
    access_ttl_seconds: Annotated[int, typer.Option(help="Life of its access tokens.")] = DEFAULT_ACCESS_TTL_SECONDS,
    one_time_ttl_seconds: Annotated[int, typer.Option(help="Life of its one-time tokens.")] = DEFAULT_ONE_TIME_TTL_SECONDS,
    as_json: Json = False,
) -> None:
    """Add a client and print its secret, once."""
    scopes = [part for text in scope or [] for part in text.split()]
    _change(lambda clients: clients.add(client_id, scopes, access_ttl_seconds, one_time_ttl_seconds), f"Client {client_id} added.", as_json)


@app.command()
def rotate(client_id: Id, as_json: Json = False) -> None:
    """Add a second live secret and print it; the older one stays good until `retire`."""
    _change(lambda clients: clients.rotate(client_id), f"Client {client_id} has a second secret.", as_json)


@app.command()
def retire(client_id: Id, as_json: Json = False) -> None:
    """End the older of two live secrets."""
    _change(lambda clients: clients.retire(client_id), f"The older secret of client {client_id} is ended.", as_json)


@app.command()
def disable(client_id: Id, as_json: Json = False) -> None:
    """Refuse the client and all its tokens until `enable`."""
    _change(lambda clients: clients.disable(client_id), f"Client {client_id} is disabled.", as_json)


@app.command()
def enable(client_id: Id, as_json: Json = False) -> None:
    """Accept the client again; its unexpired tokens come back unless `revoke-tokens` ran."""
    _change(lambda clients: clients.enable(client_id), f"Client {client_id} is enabled.", as_json)


@app.command("revoke-tokens")
def revoke_tokens(client_id: Id, as_json: Json = False) -> None:
    """End all the client's tokens."""
    _change(lambda clients: clients.revoke_tokens(client_id), f"All tokens of client {client_id} are ended.", as_json)


@app.command()
def delete(client_id: Id, as_json: Json = False) -> None:
    """Delete the client and end its tokens."""
    _change(lambda clients: clients.delete(client_id), f"Client {client_id} is deleted.", as_json)


@app.command()
def show(client_id: Id, as_json: Json = False) -> None:
    """Show one client."""
    client = with_clients(lambda clients: clients.show(client_id))
    if as_json:
        typer.echo(json.dumps(_described(client)))
    else:
        _print_table([client])


@app.command("list")
def list_clients(as_json: Json = False) -> None:
    """List all clients."""
    clients = with_clients(Clients.list)
    if as_json:
        typer.echo(json.dumps([_described(client) for client in clients]))
    else:
        _print_table(clients)


@app.command()
def changes(
    client_id: Annotated[str | None, typer.Argument(metavar="ID", help="Whose changes; without it all clients'.")] = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """Show what was done to clients: when, by whom and in which request, deleted ones and plain SQL included."""

    async def read(clients: Clients) -> list[ClientChange]:
        return [change async for page in clients.changes(client_id, since or 0) for change in page]

    found = with_clients(read, as_it_is=True)
    if as_json:
        typer.echo(json.dumps([_change_described(change) for change in found]))
    elif found:
        _print_changes(found)
    else:
        typer.echo("No changes.")


@app.command()
def export(as_json: Json = False) -> None:
    """Print all clients as JSON, with the digests of their secrets, for `import`. Always JSON."""
    clients = with_clients(Clients.list)
    typer.echo(export_text(clients))


@app.command("import")
def import_clients(
    file: Annotated[Path, typer.Argument(help="A file that `export` printed, or - for standard input.")],
    as_json: Json = False,
) -> None:
    """Add or replace clients from an export: status and secrets are kept, their older tokens end."""
    clients = read_export(file)
    progress = track(clients, description="Importing", console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    changes = with_clients(lambda stored: stored.bring_in(progress))
    typer.echo(json.dumps({"imported": len(changes)}) if as_json else f"{len(changes)} clients imported.")
    for change in changes:
        if change.problem is not None:
            raise OperatorError(change.problem)


def _change(change: Callable[[Clients], Coroutine[Any, Any, Change]], sentence: str, as_json: bool) -> None:
    # A change may have to wait for a writer; on a terminal that is seen.
    with Console(stderr=True).status("Waiting until it holds on every instance ..."):
        result = with_clients(change)
    if as_json:
        members = _described(result.client) if isinstance(result.client, Client) else {"client_id": result.client.id, "deleted": True}
        if result.secret is not None:
            members = {"client_id": members.pop("client_id"), "client_secret": result.secret, **members}
        typer.echo(json.dumps({**members, "in_force": result.in_force}))
    else:
        typer.echo(sentence)
        if result.secret is not None:
            typer.echo(f"client_id:     {result.client.id}\nclient_secret: {result.secret}\nThe secret is shown this once.")
    if result.problem is not None:
        raise OperatorError(result.problem)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _described(client: Client | DeletedClient) -> dict[str, Any]:
    assert isinstance(client, Client), "a deleted client has no description"
    return {
        "client_id": client.id,
        "scopes": list(client.scopes),
        "enabled": client.enabled,
        "secrets": [{"created": _time(secret.created_ms)} for secret in client.secrets],
        "access_ttl_seconds": client.access_ttl_seconds,
        "one_time_ttl_seconds": client.one_time_ttl_seconds,
        "epoch": client.epoch,
        "revision": client.revision,
    }


def _change_described(change: ClientChange) -> dict[str, Any]:
    return {
        "revision": change.revision,
        "client_id": change.client_id,
        "changed": time_text(change.changed_ms),
        "change": change.change,
        "changed_by": change.changed_by,
        "request_id": change.request_id,
        "scopes": None if change.scopes is None else change.scopes.split(),
        "enabled": None if change.enabled is None else bool(change.enabled),
        "secrets": change.secrets,
        "access_ttl_seconds": change.access_ttl_seconds,
        "one_time_ttl_seconds": change.one_time_ttl_seconds,
        "epoch": change.epoch,
    }


def _print_changes(found: list[ClientChange]) -> None:
    table = Table("time", "client", "change", "by", "request", "state", "secrets", "scopes", box=None, header_style="bold")
    for change in found:
        state = "deleted" if change.enabled is None else "enabled" if change.enabled else "disabled"
        secrets = "" if change.secrets is None else str(change.secrets)
        words = (time_text(change.changed_ms), change.client_id, change.change, change.changed_by, change.request_id or "")
        table.add_row(*map(cell, (*words, state, secrets, change.scopes or "")))
    print_whole(table)


def _print_table(clients: list[Client]) -> None:
    table = Table(box=None, header_style="bold")
    for heading in ("client", "scopes", "state", "secrets", "access TTL", "one-time TTL"):
        table.add_column(heading, overflow="fold")
    for client in clients:
        made = ", ".join(_time(secret.created_ms) for secret in client.secrets)
        state = "enabled" if client.enabled else "disabled"
        table.add_row(
            client.id, cell(" ".join(client.scopes)), state, made, f"{client.access_ttl_seconds} s", f"{client.one_time_ttl_seconds} s"
        )
    print_whole(table)
