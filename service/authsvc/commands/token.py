"""`authsvc token ...`: one token is shown or revoked, by its JTI or by itself; the records of many are searched and exported."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from authsvc.commands.records import Since, described, kind_name, pages, print_table, requests_of, time_text
from authsvc.commands.session import Session, in_session, operator_of
from authsvc.credentials import TokenKeys, jti, name_of_jti
from authsvc.errors import OperatorError, Unavailable
from authsvc.http.request import new_request_id
from authsvc.live.directory import Directory
from authsvc.live.tokens import DONE, LiveTokens, decode
from authsvc.metrics import Counts
from authsvc.model import Event, TokenRecord, TokenValue, Tombstone
from authsvc.promise import settle
from authsvc.tokens import Tokens

app = typer.Typer(help="Single tokens.", no_args_is_help=True)

# A JTI may begin with a dash, so what looks like an unknown option is the argument.
_DASHES = {"ignore_unknown_options": True}

WRITTEN, NOT_WRITTEN, OUT_OF_REACH = "written", "not written yet", "out of reach"
"""How the record of a token stands."""

Token = Annotated[str, typer.Argument(metavar="JTI-OR-TOKEN", help="The token, or its JTI as /validate and /introspect tell it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class _Rules(NamedTuple):
    """What judges and ends tokens."""

    live: LiveTokens
    directory: Directory
    tokens: Tokens


@app.command(context_settings=_DASHES)
def revoke(token: Token, as_json: Json = False) -> None:
    """End a token, whoever owns it; the record store is not needed for it."""

    async def work(session: Session) -> tuple[bytes, bytes]:
        name = _name(session, token)
        async with _rules(session) as rules:
            call = rules.live.ask_version()
            await call
            await rules.directory.reach(call.version)
            return name, await settle(rules.tokens.revoke_name(name, new_request_id(), operator_of(session.settings)))

    name, outcome = in_session(work)
    found = outcome.decode("ascii")
    if as_json:
        typer.echo(json.dumps({"jti": jti(name), "revoked": outcome == DONE, "found": found}))
    elif outcome == DONE:
        typer.echo("Token revoked.")
    else:
        typer.echo({"unknown": "Nothing to revoke: the token is unknown or has expired."}.get(found, f"The token was {found} before."))


@app.command(context_settings=_DASHES)
def show(token: Token, as_json: Json = False) -> None:
    """Show what Redis and the record store know of a token, and whether it would validate now."""

    async def work(session: Session) -> dict[str, Any]:
        name = _name(session, token)
        async with _rules(session) as rules:
            call = rules.live.read(name)
            live = decode(await call)
            reason = await _why_refused(rules, live, call.version)
        record, state = await _recorded(session, name)
        if live is None and state == NOT_WRITTEN:
            raise OperatorError("Neither Redis nor the record store knows this token.")
        verdict = {"jti": jti(name), "valid": reason is None, "reason": reason, "live": _live_state(live), "record": state}
        return verdict | _known_of(live, record)

    members = in_session(work)
    if as_json:
        typer.echo(json.dumps(members))
        return
    for key, value in members.items():
        text = {None: "-", True: "yes", False: "no"}.get(value, value)
        typer.echo(f"{key + ':':<20}{text}")


@app.command()
def search(
    client: Annotated[str, typer.Option(metavar="ID", help="Whose tokens.")],
    since: Since = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Print no more than so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List the records of a client's tokens in the order of their issue. What the writer has yet to write is not there."""

    async def work(session: Session) -> list[TokenRecord]:
        async with session.store(as_it_is=True) as store:
            return await store.search_records(client, since or 0, None, limit + 1)

    found = in_session(work)
    if as_json:
        typer.echo(json.dumps([described(record) for record in found[:limit]]))
    elif found:
        print_table(found[:limit])
    else:
        typer.echo("No records.")
    if len(found) > limit:
        # Issued in the same second as the first, they would be found again.
        onward = f"go on with --since {time_text(found[limit].issued_ms)}, or " if found[limit].issued_ms > found[0].issued_ms else ""
        typer.echo(f"There are more: {onward}raise --limit.", err=True)


@app.command()
def export(
    client: Annotated[str | None, typer.Option(metavar="ID", help="Whose tokens; without it all, in the order of their JTIs.")] = None,
    since: Since = None,
    as_json: Json = False,
) -> None:
    """Print the records of tokens, each as a line of JSON. Always JSON."""

    async def work(session: Session) -> None:
        columns = (TextColumn("Exporting: {task.completed:,} records"), TimeElapsedColumn())
        hidden = sys.stdout.isatty() or not sys.stderr.isatty()
        async with session.store(as_it_is=True) as store:
            with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, disable=hidden) as progress:
                task = progress.add_task("", total=None)
                async for page in pages(store, client, since or 0):
                    sys.stdout.write("".join(f"{json.dumps(described(record))}\n" for record in page))
                    progress.advance(task, len(page))

    in_session(work)


@asynccontextmanager
async def _rules(session: Session) -> AsyncIterator[_Rules]:
    directory = Directory(session.redis)
    async with session.pipeline() as pipeline:
        live = LiveTokens(pipeline)
        try:
            # A token that is known by its name needs no key.
            yield _Rules(live, directory, Tokens(TokenKeys(b"-" * 32), live, directory, Counts()))
        finally:
            await directory.close()


async def _why_refused(rules: _Rules, live: TokenValue | Tombstone | None, seen: bytes | None) -> str | None:
    """Why the token would not validate now; None if it would."""
    if live is None:
        return "it is unknown to Redis or has expired"
    if isinstance(live, Tombstone):
        return f"it was {_live_state(live)}"
    try:
        await rules.directory.reach(seen)
        return rules.tokens.ended_because(live)
    except Unavailable as error:
        return f"instances answer 503: {error.description}"


async def _recorded(session: Session, name: bytes) -> tuple[TokenRecord | None, str]:
    """The record, if there is one that can be had, and how that stands."""
    try:
        async with session.store(as_it_is=True) as store:
            record = await store.read_record(name)
    except OperatorError:
        # A token is looked at in an outage of the database, too; `authsvc check` says what is wrong with it.
        return None, OUT_OF_REACH
    return record, WRITTEN if record is not None else NOT_WRITTEN


def _known_of(live: TokenValue | Tombstone | None, record: TokenRecord | None) -> dict[str, Any]:
    """What is known of a token; the record knows most, but Redis knows first."""
    known: dict[str, Any] = dict.fromkeys(("client_id", "kind", "scope", "issued", "expires", "used", "revoked", "voided"))
    known |= requests_of(record)
    if isinstance(live, TokenValue):
        known |= {"client_id": live.client_id, "kind": kind_name(live.kind), "scope": live.scope}
        issued_ms = live.issued_seconds * 1000
        known |= {"issued": time_text(issued_ms), "expires": time_text(issued_ms + live.ttl_seconds * 1000)}
    elif live is not None:
        known |= {"client_id": live.client_id, _live_state(live): time_text(live.at_ms)}
    if record is not None:
        known |= {"client_id": record.client_id, "kind": kind_name(record.kind), "scope": record.scope}
        known |= {"issued": time_text(record.issued_ms), "expires": time_text(record.expires_ms)}
        ends = {"used": record.used_ms, "revoked": record.revoked_ms, "voided": record.voided_ms}
        known |= {event: time_text(at_ms) for event, at_ms in ends.items() if at_ms is not None}
    return known


def _live_state(live: TokenValue | Tombstone | None) -> str:
    if live is None:
        return "unknown or expired"
    if isinstance(live, Tombstone):
        return "used" if live.reason == Event.USED else "revoked"
    return "stored"


def _name(session: Session, token: str) -> bytes:
    name = name_of_jti(token)
    if name is None:
        settings = session.settings
        name = TokenKeys(settings.issuing_key(), settings.accepted_keys()).name(token.encode("utf-8"))
    if name is None:
        raise OperatorError("This is neither a JTI (27 characters) nor a token of this service (46 characters).")
    return name
