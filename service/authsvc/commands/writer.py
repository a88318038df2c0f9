"""`authsvc writer ...`: what the writers have before them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from redis.exceptions import RedisError

from authsvc.commands.session import Session, in_session
from authsvc.errors import OperatorError
from authsvc.live.backlog import Backlog
from authsvc.live.mirror import Mirror

POISON_SHOWN = 20

app = typer.Typer(help="The writers and their backlog.", no_args_is_help=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the backlog, its age, the incarnation and the entries set aside."""

    async def work(session: Session) -> dict[str, Any]:
        backlog = Backlog(session.redis, "status")
        try:
            depth = await backlog.depth()
            home = (await Mirror(session.redis).versions())[0]
            poison = await backlog.poison(POISON_SHOWN)
        except (RedisError, OSError, TimeoutError) as error:
            raise OperatorError(f"Redis is out of reach: {str(error).rstrip('.')}.") from error
        return {
            "backlog_entries": depth.entries,
            "backlog_age_seconds": depth.age_seconds,
            "version": str(home) if home else None,
            "poison_entries": depth.poison,
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
