"""Records of tokens as commands tell them: members, times, and page upon page of the record store."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from authsvc.credentials import jti
from authsvc.model import Kind, TokenRecord
from authsvc.records.contract import RecordStore

PAGE = 1000
"""Records that are read at once."""
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def milliseconds_of(text: str) -> int:
    """The Unix milliseconds of a moment in words: so long ago, or a date with or without a time. Without a zone it is UTC."""
    span = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if span:
        return int((time.time() - int(span[1]) * _UNIT_SECONDS[span[2]]) * 1000)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("say how long ago (90s, 15m, 24h, 7d), or 2026-09-21, or 2026-09-21T14:13:20+02:00.") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


Since = Annotated[
    int | None,
    typer.Option(parser=milliseconds_of, metavar="WHEN", help="Then or later: 15m or 7d ago, or a time: 2026-09-21T14:13:20Z."),
]


def time_text(milliseconds: int) -> str:
    """A time as all commands that show tokens print it."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")


def cell(text: str) -> Text:
    """A cell of a table that shows the text as it is: no markup, and nothing that moves a terminal's cursor."""
    return Text(re.sub(r"[\x00-\x1f\x7f-\x9f]", "\N{REPLACEMENT CHARACTER}", text))


def kind_name(letter: str) -> str:
    """The kind of a token in a word."""
    return Kind(letter).name.lower()


def described(record: TokenRecord) -> dict[str, Any]:
    """All that a record holds, as JSON has it."""
    times = {"used": record.used_ms, "revoked": record.revoked_ms, "voided": record.voided_ms}
    return {
        "jti": jti(record.name),
        "client_id": record.client_id,
        "kind": kind_name(record.kind),
        "scope": record.scope,
        "issued": time_text(record.issued_ms),
        "expires": time_text(record.expires_ms),
        **{event: None if at_ms is None else time_text(at_ms) for event, at_ms in times.items()},
        **requests_of(record),
        "epoch": record.epoch,
        "incarnation": record.incarnation,
    }


def requests_of(record: TokenRecord | None) -> dict[str, str | None]:
    """By which request each event came, and who revoked; None where that is not known."""
    members = ("issued_request_id", "used_request_id", "revoked_request_id", "revoked_by")
    return {member: getattr(record, member, None) for member in members}


async def pages(store: RecordStore, client_id: str | None, issued_since_ms: int) -> AsyncIterator[list[TokenRecord]]:
    """The records of one client, or of all, page by page; each page is a call of its own, so that none takes long."""
    last = None
    while page := await store.search_records(client_id, issued_since_ms, last, PAGE):
        yield page
        last = page[-1]


def print_whole(table: Table) -> None:
    """A table in which nothing is cut short: a pipe has no width, so there each row is one line."""
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


def print_table(records: Iterable[TokenRecord]) -> None:
    """One line a record."""
    table = Table("jti", "kind", "scope", "issued", "expires", "ended", box=None, header_style="bold")
    for members in map(described, records):
        ended = ", ".join(f"{event} {members[event]}" for event in ("used", "revoked", "voided") if members[event])
        table.add_row(*(cell(members[name]) for name in ("jti", "kind", "scope", "issued", "expires")), ended)
    print_whole(table)
