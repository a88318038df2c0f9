"""`loadtest/run_all_tests`: every plan of a size, repeated in turn; its results in a folder, and if wished as the baseline."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from bench.processes import BenchError
from localstack.errors import StackError
from localstack.layout import ROOT
from outcome import baseline
from outcome.files import files_of
from outcome.plan import Plan
from outcome.results import Figures, Results, figures_of, write_results
from outcome.run import RunError
from suite import ceiling
from suite.launch import run_plan
from suite.sizes import SIZES, Size, SizeName
from suite.target import Target, elsewhere, local_stack

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()
console.width = max(console.width, 110)


@app.command()
def run_all(
    size: Annotated[SizeName, typer.Option(help="light: some four minutes; heavy: more than an hour.")] = "light",
    only: Annotated[list[str], typer.Option("--only", help="Run only plans whose name has this in it: --only validate.")] = [],  # noqa: B006 - typer's form
    repeats: Annotated[int | None, typer.Option(min=1, help="Instead of the size's own.")] = None,
    seconds: Annotated[int | None, typer.Option(min=3, help="Length of a run instead of the size's own, warm-up included.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Locust processes, each with a core to itself.")] = 1,
    output: Annotated[Path | None, typer.Option(help="Folder for the results; by default a new one under .run/load.")] = None,
    keep_as: Annotated[str | None, typer.Option("--baseline", help="Keep the results as the baseline of this name, too.")] = None,
    run_dir: Annotated[Path, typer.Option(envvar="STACK_RUN_DIR", help="Folder of the local stack.")] = ROOT / ".run",
    url: Annotated[str | None, typer.Option(help="Another service than the local stack, with --clients.")] = None,
    clients: Annotated[Path | None, typer.Option(help="JSON file with the credentials of its two clients.")] = None,
    environment: Annotated[list[str], typer.Option("--environment", help="NAME=VALUE that tells this service from others.")] = [],  # noqa: B006 - typer's form
) -> None:
    """Measure every endpoint: closed loops for capacity, a constant rate for latency, wrk for ceilings. Only right answers count."""
    if (url is None) != (clients is None):
        raise RunError("--url and --clients go together.")
    folder = output or run_dir / "load" / f"{datetime.now(UTC):%Y-%m-%d-%H%M%S}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="load-") as work, _target(url, clients, environment, run_dir, Path(work)) as target:
        results = _measure(target, size, _size(size, repeats, seconds), only, workers, folder, Path(work))
    write_results(results, folder)
    _show(results)
    console.print(f"Results: {folder}", highlight=False, soft_wrap=True)
    if faults := results.faults():
        raise RunError(" ".join(faults))
    if keep_as is not None:
        console.print(f"Baseline: {baseline.keep(results, keep_as)}", highlight=False, soft_wrap=True)


def _size(name: SizeName, repeats: int | None, seconds: int | None) -> Size:
    size = SIZES[name]
    return size._replace(repeats=repeats or size.repeats, seconds=seconds or size.seconds)


def _target(url: str | None, clients: Path | None, environment: list[str], run_dir: Path, work: Path) -> AbstractContextManager[Target]:
    if url is not None and clients is not None:
        return nullcontext(elsewhere(url, clients, environment))
    return local_stack(run_dir.absolute(), work)


def _measure(target: Target, size: SizeName, chosen: Size, only: list[str], workers: int, folder: Path, work: Path) -> Results:
    rows: dict[str, Callable[[int], Figures]] = {
        name: partial(_run, target, plan, workers, folder / _slug(name), work) for name, plan in chosen.plans().items()
    }
    results = Results(size=size, started=datetime.now(UTC), environment=target.environment, version=target.version, rows={})
    if ceiling.is_at_hand():
        for name, requests in ceiling.requests_of(target.url, target.credentials()).items():
            rows[name] = partial(_reach, target, requests, chosen.seconds, work)
    else:
        results.left_out.append(ceiling.LEFT_OUT)
    wanted = {name: measure for name, measure in rows.items() if not only or any(word in name for word in only)}
    if not wanted:
        raise RunError(f"No plan has {' or '.join(only)} in its name; there are: {'; '.join(rows)}.")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=chosen.repeats * len(wanted))
        # Repeats are the outer loop: what the machine does meanwhile meets all plans alike.
        for repeat in range(1, chosen.repeats + 1):
            for name, measure in wanted.items():
                progress.update(task, description=f"Measuring {name}")
                results.rows.setdefault(name, []).append(measure(repeat))
                progress.advance(task)
    return results


def _run(target: Target, plan: Plan, workers: int, prefix: Path, work: Path, repeat: int) -> Figures:
    run = run_plan(plan, work, workers=workers, name=prefix.name, **target.around())
    for file, text in files_of(run, None).items():
        prefix.with_name(f"{prefix.name}-{repeat}-{file}").write_text(text, encoding="utf-8")
    return figures_of(run)


def _reach(target: Target, requests: list[bytes], seconds: int, work: Path, repeat: int) -> Figures:
    return ceiling.reach(target.url, requests, seconds, work, target.observer())


def _show(results: Results) -> None:
    columns = ("plan", "right answers/s", "p50 ms", "p99 ms", "wrong", "cores of auth", "")
    table = Table(*(Column(name, no_wrap=True, justify="left" if name in ("plan", "") else "right") for name in columns), box=None)
    for name, repeats in results.rows.items():
        middle = sorted(repeats, key=lambda each: each.rate)[len(repeats) // 2]
        note = "generator at its limit: a floor" if any(each.is_generator_limit for each in repeats) else ""
        times = ("" if each is None else f"{each:.2f}" for each in (middle.p50_ms, middle.p99_ms))
        cores = f"{middle.cpu_cores['auth']:.2f}" if "auth" in middle.cpu_cores else ""
        table.add_row(name, f"{results.median_rate(name):,.0f}", *times, f"{max(each.wrong_share for each in repeats):.2%}", cores, note)
    console.print(table)
    for each in results.left_out:
        console.print(f"Not measured: {each}.", highlight=False)


def _slug(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def main() -> None:
    """Run it; what keeps it from going on is one sentence."""
    os.environ.setdefault("COLUMNS", str(console.width))
    try:
        app(prog_name="loadtest/run_all_tests")
    except (RunError, StackError, BenchError) as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
