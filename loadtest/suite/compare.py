"""`loadtest/compare_performance A B`: fails where B is worse than A by more than noise explains."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from outcome import baseline
from outcome.command import run_command
from outcome.comparison import Change, compare
from outcome.results import Results, read_results

WORSE, UNSURE = 1, 3
"""Exit codes beside 0; 2 is for wrong usage."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()


@app.command()
def compare_performance(
    before: Annotated[str, typer.Argument(help="Folder or file of the earlier results, or the name of a baseline.")],
    after: Annotated[str, typer.Argument(help="The later ones.")],
) -> None:
    """Fail where the later results are worse.

    Exit code 0: no worse. 1: a rate fell by more than a fifth, a p99 or wrong answers grew, or a plan is missing.
    3: the repeats differ too much to say.
    """
    changes = compare(_results(before), _results(after))
    table = Table(*(Column(name, no_wrap=True) for name in ("plan", "figure")), box=None)
    for name in ("before", "after", "ratio"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("", no_wrap=True)
    for change in changes:
        if change.figure != "wrong" or change.is_too_much:
            style = "red" if change.is_too_much else "yellow" if change.word == "unsure" else ""
            table.add_row(change.row, change.figure, *_shown(change), change.word, style=style)
    console.print(table)
    if worse := [f"{change.row} ({change.figure})" for change in changes if change.is_too_much]:
        console.print(f"Worse: {'; '.join(worse)}.", style="red", soft_wrap=True, highlight=False)
        raise typer.Exit(WORSE)
    if unsure := [f"{change.row} ({change.figure})" for change in changes if change.word == "unsure"]:
        console.print(f"Not decided: {'; '.join(unsure)} differ too much among repeats. Run longer.", soft_wrap=True, highlight=False)
        raise typer.Exit(UNSURE)
    console.print("No worse than before.")


def _results(named: str) -> Results:
    path = Path(named)
    return read_results(path) if path.exists() or named not in baseline.names() else baseline.baseline(named)


def _shown(change: Change) -> tuple[str, str, str]:
    values = (change.before, change.after)
    form = {"rate": "{:,.0f}/s", "p99": "{:.2f} ms", "wrong": "{:.3%}"}[change.figure]
    before, after = ("" if value is None else form.format(value) for value in values)
    return before, after, "" if change.ratio is None else f"{change.ratio:.2f}"


def main() -> None:
    """Run it."""
    run_command(app, "loadtest/compare_performance")


if __name__ == "__main__":
    main()
