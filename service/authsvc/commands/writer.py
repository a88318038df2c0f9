"""`authsvc writer ...`: what the writers have before them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from authsvc.commands.session import Session, in_session
from authsvc.errors import OperatorError
from authsvc.live.backlog import Backlog
from authsvc.live.forms import Malformed
from authsvc.live.survey import take_survey

POISON_SHOWN = 20

app = typer.Typer(help="The writers and their backlog.", no_args_is_help=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the backlog, its age, the incarnation and the entries set aside."""

    async def work(session: Session) -> dict[str, Any]:
        async with session.pipeline() as pipeline:
            try:
                survey = await take_survey(pipeline.call)
            except Malformed as error:
                raise OperatorError(f"Redis holds something that cannot be read: {error}.") from error
        try:
            poison = await Backlog(session.redis, "status").poison(POISON_SHOWN)
        except (RedisError, OSError, TimeoutError) as error:
            raise OperatorError(f"Redis is out of reach: {str(error).rstrip('.')}.") from error
        return {
            "backlog_entries": survey.backlog_entries,
            "backlog_age_seconds": survey.backlog_age_seconds,
            "version": str(survey.version) if survey.version else None,
            "poison_entries": survey.poison_entries,
            "poison": poison,
        }

    members = in_session(work)
    if as_json:
        typer.echo(json.dumps(members))
        return
    typer.echo(f"backlog:   {members['backlog_entries']} entries, the oldest {members['backlog_age_seconds']:.1f} s old")
    typer.echo(f"mirror:    {members['version'] or 'none: instances answer 503'}")
    typer.echo(f"poison:    {members['poison_entries']} entries set aside")
    for entry in members["poison"]:
        typer.echo(f"  {entry['entry']}  {entry['reason']}")
