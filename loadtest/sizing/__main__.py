"""`scripts/size`: its command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from outcome import baseline
from outcome.command import run_command
from outcome.run import RunError
from sizing.costs import costs
from sizing.presets import BASELINE, values_file
from sizing.size import Demand, size

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
console.width = max(console.width, 120)
GUIDE = (
    ("an instance", "4+ cores, 2 GB, 10 GB SSD, 1 Gb/s"),
    ("requests/s a core", "20,000"),
    ("memory of 100,000 tokens", "100 MB"),
)
"""What the original guide says, for reference: nothing here follows from it."""
Rate = Annotated[float, typer.Option(min=0, help="Requests a second at the busiest time.")]


@app.command()
def size_command(
    validate: Rate = 0,
    token: Rate = 0,
    ott: Rate = 0,
    revoke: Rate = 0,
    introspect: Rate = 0,
    health: Rate = 0,
    ttl: Annotated[int, typer.Option(min=1, help="Life of an access token in seconds.")] = 3600,
    headroom: Annotated[float, typer.Option(min=0, max=10, help="CPU beyond what is used: 0.5 is half as much again.")] = 0.5,
    outage_minutes: Annotated[int, typer.Option(min=0, help="How long the record store may be away.")] = 30,
    connections: Annotated[int, typer.Option(min=0, help="Connections of clients at once.")] = 2000,
    store: Annotated[Literal["embedded", "oracle"], typer.Option(help="The record store.")] = "oracle",
    measured: Annotated[str, typer.Option("--baseline", help="Baseline with the cost of a request (loadtest/baselines).")] = BASELINE,
    output: Annotated[Path | None, typer.Option(help="Write the values to this file, for helm install -f.")] = None,
) -> None:
    """What a release needs for these requests, each number with its formula, and its values."""
    demand = Demand(
        validate_=validate, token=token, ott=ott, revoke=revoke, introspect=introspect, health=health,
        ttl_seconds=ttl, headroom=headroom, outage_minutes=outage_minutes, connections=connections, store=store,
    )  # fmt: skip
    if not any(demand.rates().values()):
        raise RunError("Nothing is asked for: name rates, for example --validate 30000 --token 15000.")
    if measured not in baseline.names():
        raise RunError(f"There is no baseline {measured}; there are: {', '.join(baseline.names())}.")
    found = size(demand, costs(baseline.baseline(measured)))
    table = Table("what", "needed", "because", box=None, header_style="bold")
    for line in found.lines:
        table.add_row(line.what, line.value, line.formula)
    console.print(table)
    console.print(f"First to give out: {found.bottleneck}", highlight=False)
    console.print(f"Costs of a request: baseline {measured}, measured on {_place(measured)}.", highlight=False)
    console.print("The original guide, for reference: " + "; ".join(f"{what}: {said}" for what, said in GUIDE) + ".", highlight=False)
    if output is not None:
        output.write_text(values_file(demand, measured), encoding="utf-8")
        console.print(f"Values: {output}", highlight=False)


def _place(name: str) -> str:
    environment = baseline.baseline(name).environment
    return f"{environment['machine']}, {environment['machine_cores']} cores"


def main() -> None:
    """Run it."""
    run_command(app, "scripts/size")


if __name__ == "__main__":
    main()
