"""`scripts/bench`: its command line."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import backlog, balanced, cluster, compare, cpu, floor, footprint, memory, observed, overload, profiled, records, release, worker
from bench.processes import BenchError
from localstack.servers import find_redis
from outcome.command import run_command

WIDTH = 140
"""Of the tables; a narrower terminal breaks their lines, which is easier to read than names cut short."""

LOADED_SECONDS = 600
"""Of the load under which a worker's memory is watched."""
TOKENS = 1_000_000
"""Stored in Redis, to see what one costs."""

Seconds = Annotated[int, typer.Option(min=1, help="Length of one round of one subject.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds, alternating between the subjects.")]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result to this file, too.")]

app = typer.Typer(add_completion=False)
console = Console()
console.width = max(console.width, WIDTH)


@app.callback(invoke_without_command=True)
def of_release(
    context: typer.Context,
    seconds: Seconds = 4,
    rounds: Rounds = 5,
    quick: Annotated[
        bool, typer.Option("--quick", help="One round of a second of nearly each, in two minutes: a look, no figure.")
    ] = False,
    json_file: Json = None,
) -> None:
    """All that a release is judged by, in some 25 minutes: cpu, balanced, worker, memory and records, and what is to be reached of each."""
    if context.invoked_subcommand is None:
        _needs("wrk", "taskset")
        lengths = release.QUICK if quick else release.Lengths(seconds, rounds, LOADED_SECONDS, TOKENS)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            release.measure(lengths, Path(folder), console, keep=lambda result: _keep(result, json_file))


@app.command("cpu")
def of_cpu(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """CPU per request of every endpoint, beside a canned answer, an empty app and plain FastAPI routes."""
    _measure(lambda folder: cpu.bench(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("floor")
def of_floor(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """A validate beside the least that it could cost in Python: a canned answer, and one that asks Redis and does nothing else."""
    _measure(lambda folder: floor.measure_floor(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("balanced")
def of_balanced(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """What nginx and four instances change, and how long answers take at a constant rate."""
    _measure(lambda folder: balanced.measure_balanced(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("overload")
def of_overload(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """A worker that is asked for more than it can do."""
    _measure(lambda folder: overload.measure(seconds, rounds, folder, console), json_file, "taskset")


@app.command("memory")
def of_memory(tokens: Annotated[int, typer.Option(min=1, help="Tokens to store.")] = TOKENS, json_file: Json = None) -> None:
    """Bytes of Redis memory that a live token costs."""
    _needs("taskset")
    _keep(memory.measure(tokens, console), json_file)


@app.command("bytes")
def of_bytes(json_file: Json = None) -> None:
    """What a request sends over each wire and appends to Redis' file; for scripts/size."""
    _measure(lambda folder: footprint.measure(folder, console), json_file, "taskset")


@app.command("records")
def of_records(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """Rows a second of the record stores, beside their drivers alone."""
    _measure(lambda folder: asyncio.run(records.measure(seconds, rounds, folder, console)), json_file)


@app.command("backlog")
def of_backlog(
    entries: Annotated[int, typer.Option(min=1, help="Entries that wait when the writer starts.")] = 1_000_000, json_file: Json = None
) -> None:
    """How long a writer takes for a backlog, in how much memory, while tokens go on being made."""
    _measure(lambda folder: backlog.measure(entries, folder, console), json_file, "taskset")


@app.command("worker")
def of_worker(
    seconds: Annotated[int, typer.Option(min=1, help="Length of the load.")] = LOADED_SECONDS, rounds: Rounds = 5, json_file: Json = None
) -> None:
    """How soon an instance is ready, and whether a worker's memory stays as it is under load."""
    _measure(lambda folder: worker.watch(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("profile")
def of_profile(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """What an instance pays while a profile of it is taken."""
    _measure(lambda folder: profiled.measure_profiles(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("observed")
def of_observed(seconds: Seconds = 4, rounds: Rounds = 5, json_file: Json = None) -> None:
    """What an instance pays for its metrics and for an access log."""
    _measure(lambda folder: observed.measure_observed(seconds, rounds, folder, console), json_file, "wrk", "taskset")


@app.command("cluster")
def of_cluster(
    seconds: Seconds = 4,
    rounds: Rounds = 5,
    connections: Annotated[int, typer.Option(min=1, help="How many ask at once.")] = 256,
    json_file: Json = None,
) -> None:
    """CPU per request over a single Redis, and over Redis Clusters of 1, 2 and 4 masters."""
    _measure(lambda folder: cluster.measure_cluster(seconds, rounds, connections, folder, console), json_file, "wrk", "taskset")


@app.command("compare")
def of_two(
    before: Annotated[Path, typer.Argument(help="The earlier result of --json.")],
    after: Annotated[Path, typer.Argument(help="The later one.")],
) -> None:
    """Which rows of two results moved beyond noise; fails where one is worse by more than a fifth."""
    compare.compare(before, after, console)


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            package = "util-linux" if program == "taskset" else program
            raise BenchError(f"{program} is needed and not on PATH: install your system's package {package} (apt-get install {package}).")
    if (os.cpu_count() or 1) < 2:
        raise BenchError("Two cores are needed: one for the service, one for Redis and the load.")


def _measure(measure: Callable[[Path], dict[str, object]], json_file: Path | None, *programs: str) -> None:
    """In a folder of its own, where the programs are there that it needs."""
    if programs:
        _needs(*programs)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        _keep(measure(Path(folder)), json_file)


def _keep(result: dict[str, object], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(result | {"environment": _environment()}, indent=2) + "\n")


def _environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "redis": find_redis().version,
    }


def main() -> None:
    """Run it."""
    run_command(app, "scripts/bench", BenchError)


if __name__ == "__main__":
    main()
