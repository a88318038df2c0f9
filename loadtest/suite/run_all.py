"""`loadtest/run_all_tests`: every plan of a size, repeated in turn; its results in a folder, and if wished as the baseline."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from bench.processes import BenchError
from localstack.errors import StackError
from localstack.layout import ROOT
from outcome import baseline
from outcome.command import give_up, run_command
from outcome.plan import plan_fault
from outcome.results import Results
from outcome.run import RunError
from outcome.thresholds import read_thresholds
from suite.sizes import SIZES, Size, SizeName
from suite.suite import Suite
from suite.target import Target, elsewhere, local_stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
console.width = max(console.width, 110)


@app.command()
def run_all(
    size: Annotated[SizeName, typer.Option(help="light: some six minutes; heavy: more than an hour.")] = "light",
    only: Annotated[list[str], typer.Option("--only", help="Run only plans whose name has this in it: --only validate.")] = [],  # noqa: B006 - typer's form
    repeats: Annotated[int | None, typer.Option(min=1, help="Instead of the size's own.")] = None,
    seconds: Annotated[int | None, typer.Option(min=3, help="Length of a run instead of the size's own, warm-up included.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Locust processes, each with a core to itself.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder for the results; by default a new one under .run/load.")] = None,
    keep_as: Annotated[str | None, typer.Option("--baseline", help="Keep the results as the baseline of this name, too.")] = None,
    thresholds: Annotated[Path | None, typer.Option(help="TOML file of gates (loadtest/profiles, or gates.toml of a baseline).")] = None,
    run_dir: Annotated[Path, typer.Option(envvar="STACK_RUN_DIR", help="Folder of the local stack.")] = ROOT / ".run",
    url: Annotated[str | None, typer.Option(help="Another service than the local stack, with --clients.")] = None,
    clients: Annotated[Path | None, typer.Option(help="JSON file with the credentials of its two clients.")] = None,
    environment: Annotated[list[str], typer.Option("--environment", help="NAME=VALUE that tells this service from others.")] = [],  # noqa: B006 - typer's form
) -> None:
    """Measure every endpoint: closed loops for capacity, a constant rate for latency, wrk for ceilings. Only right answers count."""
    if (url is None) != (clients is None):
        raise RunError("--url and --clients go together.")
    if keep_as is not None:
        baseline.check_name(keep_as)
        if only or seconds is not None or (repeats or SIZES[size].repeats) < SIZES[size].repeats:
            raise RunError("A baseline is of a whole suite: leave --only, --seconds and fewer --repeats out.")
    folder = output or run_dir / "load" / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    with tempfile.TemporaryDirectory(prefix="load-") as work, _target(url, clients, environment, run_dir, Path(work)) as target:
        gates = read_thresholds(thresholds) if thresholds is not None else None
        folder.mkdir(parents=True, exist_ok=True)
        suite = Suite(target, size, _size(size, repeats, seconds), workers, gates, folder, Path(work))
        results = suite.measure(only, console)
    _show(results)
    console.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    if faults := [*results.faults(), *suite.missed]:
        raise RunError("\n".join(faults))
    if keep_as is not None:
        console.print(f"Baseline: {baseline.keep(results, keep_as)}", highlight=False, soft_wrap=True)


def _size(name: SizeName, repeats: int | None, seconds: int | None) -> Size:
    size = SIZES[name]
    return size._replace(repeats=repeats or size.repeats, seconds=seconds or size.seconds)


def _target(url: str | None, clients: Path | None, environment: list[str], run_dir: Path, work: Path) -> AbstractContextManager[Target]:
    if url is not None and clients is not None:
        return nullcontext(elsewhere(url, clients, environment))
    return local_stack(run_dir.absolute(), work)


def _show(results: Results) -> None:
    columns = ("plan", "right answers/s", "p50 ms", "p99 ms", "wrong", "cores of auth", "")
    table = Table(*(Column(name, no_wrap=True, justify="left" if name in ("plan", "") else "right") for name in columns), box=None)
    for name, repeats in results.rows.items():
        note = "generator at its limit: a floor" if any(each.is_generator_limit for each in repeats) else ""
        times = ("" if each is None else f"{each:.2f}" for each in (results.median(name, "p50_ms"), results.median(name, "p99_ms")))
        used = results.median_cores(name, "auth")
        cores = "" if used is None else f"{used:.2f}"
        table.add_row(name, f"{results.median(name, 'rate'):,.0f}", *times, f"{max(each.wrong_share for each in repeats):.2%}", cores, note)
    console.print(table)
    for each in results.left_out:
        console.print(f"Not measured: {each}.", highlight=False)


def main() -> None:
    """Run it; what keeps it from going on is one sentence."""
    os.environ.setdefault("COLUMNS", str(console.width))
    try:
        run_command(app, "loadtest/run_all_tests", StackError, BenchError)
    except ValidationError as error:
        give_up(plan_fault(error))
    except OSError as error:
        if error.filename is None and error.errno != errno.ENOSPC:
            raise
        where = error.filename or "the disk of the results' folder"
        give_up(f"{error.strerror}: {where}.")


if __name__ == "__main__":
    main()
