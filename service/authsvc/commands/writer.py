"""`authsvc writer ...`: what the writers have before them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from authsvc.commands.records import time_text
from authsvc.commands.session import Session, in_session
from authsvc.errors import OperatorError, reason_of
from authsvc.live.backlog import Backlog
from authsvc.live.connect import RedisClient
from authsvc.live.forms import Malformed, UnknownForm, decode_event
from authsvc.live.keys import STREAMS
from authsvc.live.survey import take_survey
from authsvc.live.troubles import Troubles

POISON_SHOWN = 20
SEEN_MS = 30_000
"""A writer that lives asks every few seconds, unless its database keeps it: then it is among the errors."""
HEAD = 100
"""Entries looked at of each stream. What a newer release wrote stays while all else is written, so it comes to stand first."""

app = typer.Typer(help="The writers and their backlog.", no_args_is_help=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the backlog, its age, the writers, the incarnation, what keeps writers from their work, and the entries set aside."""

    async def work(session: Session) -> dict[str, Any]:
        async with session.pipeline() as pipeline:
            try:
                survey = await take_survey(pipeline.masters)
            except Malformed as error:
                raise OperatorError(f"Redis holds something that cannot be read: {error}.") from error
        try:
            writers = await Backlog(session.redis, "status").writers_seen(SEEN_MS)
            poison = await Backlog(session.redis, "status").poison(POISON_SHOWN)
            newer = await _newer_entries(session.redis)
            troubles = await Troubles(session.redis).all()
        except (RedisError, OSError, TimeoutError) as error:
            raise OperatorError(f"Redis is out of reach: {reason_of(error)}.") from error
        return {
            "backlog_entries": survey.backlog_entries,
            "backlog_age_seconds": survey.backlog_age_seconds,
            "newer_entries": newer,
            "writers": writers,
            "version": str(survey.version) if survey.version else None,
            "errors": [{"writer": writer, "at": time_text(at_ms), "error": sentence} for writer, at_ms, sentence in troubles],
            "poison_entries": survey.poison_entries,
            "poison": poison,
        }

    members = in_session(work)
    if as_json:
        typer.echo(json.dumps(members))
        return
    typer.echo(f"backlog:   {members['backlog_entries']} entries, the oldest {members['backlog_age_seconds']:.1f} s old")
    typer.echo(f"newer:     {members['newer_entries']} of the oldest entries wait for a writer of a newer release")
    typer.echo(f"writers:   {members['writers']} asked for entries in the last {SEEN_MS // 1000} s")
    typer.echo(f"mirror:    {members['version'] or 'none: instances answer 503'}")
    typer.echo(f"errors:    {len(members['errors'])} writers are kept from their work")
    for trouble in members["errors"]:
        typer.echo(f"  {trouble['at']}  {trouble['writer']}  {' '.join(trouble['error'].split())}")
    typer.echo(f"poison:    {members['poison_entries']} entries set aside")
    for entry in members["poison"]:
        typer.echo(f"  {entry['entry']}  {entry['reason']}")


async def _newer_entries(redis: RedisClient) -> int:
    """How many of the oldest entries only a newer release can read."""
    async with redis.pipeline(transaction=False) as pipe:
        for stream in STREAMS:
            pipe.xrange(stream, count=HEAD)
        heads = await pipe.execute()
    return sum(_is_newer(fields.get(b"e", b"")) for head in heads for _, fields in head)


def _is_newer(payload: bytes) -> bool:
    try:
        decode_event(payload)
    except UnknownForm:
        return True
    except Malformed:
        return False
    return False
