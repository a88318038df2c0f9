"""`scripts/size`: its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Column, Table

from outcome import baseline
from outcome.command import run_command
from outcome.run import RunError, write_text
from sizing.costs import costs, read_costs
from sizing.demand import Demand
from sizing.footprint import Footprint, kept_footprint
from sizing.presets import BASELINE, values_file
from sizing.size import size

WIDTH = 100
"""A narrower terminal breaks the lines, which is easier to read than words cut short."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
console.width = max(console.width, WIDTH)
Rate = Annotated[float, typer.Option(min=0, help="Requests a second at the busiest time.")]


@app.command()
def size_command(
    validate: Annotated[float, typer.Option(min=0, help="Requests a second at the busiest time, uses of one-time tokens aside.")] = 0,
    token: Rate = 0,
    ott: Annotated[float, typer.Option(min=0, help="One-time tokens a second at the busiest time, each with its use.")] = 0,
    revoke: Rate = 0,
    introspect: Rate = 0,
    health: Rate = 0,
    ttl: Annotated[int, typer.Option(min=1, help="Life of an access token in seconds.")] = 3600,
    headroom: Annotated[float, typer.Option(min=0, max=10, help="CPU beyond what is used: 0.5 is half as much again.")] = 0.5,
    outage_minutes: Annotated[int, typer.Option(min=0, help="How long the record store may be away.")] = 30,
    connections: Annotated[int, typer.Option(min=0, help="Connections of clients at once.")] = 2000,
    store: Annotated[Literal["embedded", "oracle"], typer.Option(help="The record store.")] = "oracle",
    link_gbits: Annotated[float, typer.Option(min=0.001, help="Network of the node that Redis is on.")] = 10,
    sync_ms: Annotated[
        float | None, typer.Option(min=0.001, help="99 % of your disk's syncs take no longer (authsvc check); else as measured.")
    ] = None,
    disk_mb: Annotated[float | None, typer.Option(min=0.001, help="MB/s that your disk takes in one stream; else as measured.")] = None,
    measured: Annotated[str, typer.Option("--baseline", help="Baseline with the cost of a request (loadtest/baselines).")] = BASELINE,
    found_costs: Annotated[
        Path | None, typer.Option("--costs", help="Costs of a request instead, as scripts/scale-test found them in your cluster.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write the values to this file, for helm install -f.")] = None,
) -> None:
    """What a release needs for these requests, each number with its formula, and its values."""
    demand = Demand(
        validate_=validate, token=token, ott=ott, revoke=revoke, introspect=introspect, health=health,
        ttl_seconds=ttl, headroom=headroom, outage_minutes=outage_minutes, connections=connections, store=store,
        link_gbits=link_gbits, sync_ms=sync_ms, disk_mb_per_second=disk_mb,
    )  # fmt: skip
    if not any(demand.rates().values()):
        raise RunError("Nothing is asked for: name rates, for example --validate 30000 --token 15000.")
    if measured not in baseline.names():
        raise RunError(f"There is no baseline {measured}; there are: {', '.join(baseline.names())}.")
    footprint = kept_footprint()
    source = f"the baseline {measured}" if found_costs is None else f"the costs in {found_costs}"
    each = costs(baseline.baseline(measured)) if found_costs is None else read_costs(found_costs)
    found = size(demand, each, footprint)
    table = Table(Column("what", no_wrap=True), Column("needed", no_wrap=True), Column("the guide", no_wrap=True), "because")
    table.box, table.header_style = None, "bold"
    for line in found.lines:
        table.add_row(line.what, line.value, line.guide, line.formula)
    console.print(table)
    console.print(f"First to give out: {found.bottleneck}", highlight=False)
    for sentence in found.advice:
        console.print(sentence, highlight=False)
    place = f", measured on {_place(measured)}" if found_costs is None else ""
    console.print(f"Costs of a request: {source}{place}.", highlight=False)
    console.print(f"Bytes of a request, and the disk unless you say: {footprint.command}, {_where(footprint)}.", highlight=False)
    console.print("The guide is the original one, for reference: no number follows from it.", highlight=False)
    if output is not None:
        write_text(output, values_file(demand, found, source))
        console.print(f"Values: {output}", highlight=False)


def _place(name: str) -> str:
    environment = baseline.baseline(name).environment
    return f"{environment['machine']}, {environment['machine_cores']} cores"


def _where(footprint: Footprint) -> str:
    environment = footprint.environment
    return f"{environment['machine']}, {environment['cores']} cores, {environment['redis']}"


def main() -> None:
    """Run it."""
    run_command(app, "scripts/size")


if __name__ == "__main__":
    main()
