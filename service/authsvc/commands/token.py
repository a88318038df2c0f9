"""`authsvc token ...`: one token is shown or revoked, by its JTI or by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, NamedTuple

import typer

from authsvc.commands.session import Session, in_session
from authsvc.credentials import TokenKeys, jti, name_of_jti
from authsvc.errors import OperatorError, Unavailable
from authsvc.live.directory import Directory
from authsvc.live.tokens import DONE, LiveTokens, decode
from authsvc.metrics import Counts
from authsvc.model import Event, Kind, TokenRecord, TokenValue, Tombstone
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
            return name, await settle(rules.tokens.revoke_name(name))

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
        typer.echo(f"{key + ':':<11}{text}")


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
    if isinstance(live, TokenValue):
        known |= {"client_id": live.client_id, "kind": _kind(live.kind), "scope": live.scope}
        issued_ms = live.issued_seconds * 1000
        known |= {"issued": _time(issued_ms), "expires": _time(issued_ms + live.ttl_seconds * 1000)}
    elif live is not None:
        known |= {"client_id": live.client_id, _live_state(live): _time(live.at_ms)}
    if record is not None:
        known |= {"client_id": record.client_id, "kind": _kind(record.kind), "scope": record.scope}
        known |= {"issued": _time(record.issued_ms), "expires": _time(record.expires_ms)}
        ends = {"used": record.used_ms, "revoked": record.revoked_ms, "voided": record.voided_ms}
        known |= {event: _time(at_ms) for event, at_ms in ends.items() if at_ms is not None}
    return known


def _kind(letter: str) -> str:
    return Kind(letter).name.lower()


def _live_state(live: TokenValue | Tombstone | None) -> str:
    if live is None:
        return "unknown or expired"
    if isinstance(live, Tombstone):
        return "used" if live.reason == Event.USED else "revoked"
    return "stored"


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def _name(session: Session, token: str) -> bytes:
    name = name_of_jti(token)
    if name is None:
        settings = session.settings
        name = TokenKeys(settings.issuing_key(), settings.accepted_keys()).name(token.encode("utf-8"))
    if name is None:
        raise OperatorError("This is neither a JTI (27 characters) nor a token of this service (46 characters).")
    return name
