"""`authsvc token ...`: one token is shown or revoked, by its JTI or by itself."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from authsvc.commands.session import Session, in_session
from authsvc.credentials import TokenKeys, jti, name_of_jti
from authsvc.errors import OperatorError
from authsvc.live.directory import Directory
from authsvc.live.tokens import DONE, LiveTokens, decode
from authsvc.metrics import Counts
from authsvc.model import Event, Kind, TokenRecord, TokenValue, Tombstone
from authsvc.promise import settle
from authsvc.tokens import Tokens

app = typer.Typer(help="Single tokens.", no_args_is_help=True)

# A JTI may begin with a dash, so what looks like an unknown option is the argument.
_DASHES = {"ignore_unknown_options": True}

Token = Annotated[str, typer.Argument(metavar="JTI-OR-TOKEN", help="The token, or its JTI as /validate and /introspect tell it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command(context_settings=_DASHES)
def revoke(token: Token, as_json: Json = False) -> None:
    """End a token, whoever owns it."""

    async def work(session: Session) -> tuple[bytes, bytes]:
        name = _name(session, token)
        directory = Directory(session.redis)
        async with session.pipeline() as pipeline:
            live = LiveTokens(pipeline)
            try:
                call = live.ask_version()
                await call
                await directory.reach(call.version)
                return name, await settle(Tokens(TokenKeys(b"-" * 32), live, directory, Counts()).revoke_name(name))
            finally:
                await directory.close()

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
    """Show what Redis and the record store know of a token."""

    async def work(session: Session) -> tuple[bytes, TokenValue | Tombstone | None, TokenRecord | None]:
        name = _name(session, token)
        async with session.pipeline() as pipeline:
            live = decode(await LiveTokens(pipeline).read(name))
        return name, live, await session.store.read_record(name)

    name, live, record = in_session(work)
    if live is None and record is None:
        raise OperatorError("Neither Redis nor the record store knows this token.")
    members: dict[str, Any] = {"jti": jti(name), "live": _live_state(live)}
    if record is not None:
        members |= {
            "client_id": record.client_id,
            "kind": Kind(record.kind).name.lower(),
            "scope": record.scope,
            "issued": _time(record.issued_ms),
            "expires": _time(record.expires_ms),
            "used": _time(record.used_ms),
            "revoked": _time(record.revoked_ms),
            "voided": _time(record.voided_ms),
        }
    else:
        members["record"] = "not written yet"
    if as_json:
        typer.echo(json.dumps(members))
    else:
        for key, value in members.items():
            typer.echo(f"{key + ':':<11}{'-' if value is None else value}")


def _live_state(live: TokenValue | Tombstone | None) -> str:
    if live is None:
        return "unknown or expired"
    if isinstance(live, Tombstone):
        return "used" if live.reason == Event.USED else "revoked"
    return "stored"


def _time(milliseconds: int | None) -> str | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _name(session: Session, token: str) -> bytes:
    name = name_of_jti(token)
    if name is None:
        settings = session.settings
        name = TokenKeys(settings.issuing_key(), settings.accepted_keys()).name(token.encode("utf-8"))
    if name is None:
        raise OperatorError("This is neither a JTI (27 characters) nor a token of this service (46 characters).")
    return name
