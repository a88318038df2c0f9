"""`scripts/bench`: measures validate and token on one instance pinned to one core, beside two references."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bench import backlog, memory, overload, records
from bench.bed import KEY, bed
from bench.processes import LOAD_CORE, SERVICE_CORE, BenchError, Process, free_port
from localstack.servers import find_redis

CONNECTIONS = 64
TOKENS = 2000
SCRIPT = Path(__file__).parent / "load.lua"


@dataclass
class Subject:
    """One thing that is measured: who serves it and what is asked."""

    name: str
    url: str
    path: str
    authorization: str
    bodies: Path
    process: Process
    refused: bool = False
    """Whether every request is to be refused."""


@dataclass
class Sample:
    """One round of one subject."""

    cpu_microseconds: float
    rate: float
    p99_ms: float


def measure(subject: Subject, seconds: int) -> Sample:
    """Load a subject; wrong answers end the bench, for a rate of refusals is no rate."""
    before = subject.process.cpu_seconds()
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(SCRIPT), subject.url, "--"]
    done = subprocess.run([*command, subject.path, subject.authorization, str(subject.bodies)], capture_output=True, text=True, check=True)
    used = subject.process.cpu_seconds() - before
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise BenchError(f"wrk gave no result: {done.stderr[-300:]}")
    requests, microseconds, refused, lost, p99_us = (int(word) for word in line.split()[1:])
    wrong = lost + (requests - refused if subject.refused else refused)
    if wrong or not requests:
        raise BenchError(f"{subject.name}: {wrong} of {requests} answers were wrong.")
    return Sample(used / requests * 1e6, requests / microseconds * 1e6, p99_us / 1000)


def bench(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, list[Sample]]:
    """Run every subject `rounds` times, in turn; {name: samples}."""
    with bed(folder) as made:
        console.print("Starting Redis, the service and the references ...")
        service = made.start_all()
        ports = {name: free_port() for name in ("canned", "empty", "plain", "full", "full management")}
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        python = sys.executable
        canned = made.start(SERVICE_CORE, "canned", python, "-m", "bench.canned", str(ports["canned"]))
        uvicorn = [python, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        empty = made.start(SERVICE_CORE, "empty", *uvicorn, "--lifespan", "off", "--port", str(ports["empty"]), "bench.empty:app")
        environ = {"BENCH_REDIS_URL": f"redis://127.0.0.1:{made.redis_port}/1", "BENCH_KEY": KEY, "BENCH_SECRET": made.secret}
        plain = made.start(SERVICE_CORE, "plain", *uvicorn, "--port", str(ports["plain"]), "bench.plain:app", **environ)
        limited = {"AUTH_BACKLOG_LIMIT": "1", "AUTH_PORT": str(ports["full"]), "AUTH_MANAGEMENT_PORT": str(ports["full management"])}
        full = made.start(SERVICE_CORE, "full", python, "-m", "authsvc", "serve", **limited)
        full.wait_for(f"{urls['full management']}/ready")
        canned.wait_for(urls["canned"])
        empty.wait_for(urls["empty"])
        plain.wait_for(f"{urls['plain']}/nothing")
        issue = folder / "issue.txt"
        issue.write_text("grant_type=client_credentials\n")
        check = {}
        for name, url in (("plain", urls["plain"]), ("service", made.url)):
            check[name] = folder / f"{name}-tokens.txt"
            check[name].write_text("".join(f"token={token}\n" for token in made.tokens(TOKENS, url)))
        subjects = [
            Subject("canned", urls["canned"], "/validate", "-", check["service"], canned),
            Subject("empty app", urls["empty"], "/validate", "-", check["service"], empty),
            Subject("validate", made.url, "/validate", "-", check["service"], service),
            Subject("plain validate", urls["plain"], "/validate", "-", check["plain"], plain),
            Subject("refused with 429", urls["full"], "/token", made.authorization, issue, full, refused=True),
            Subject("token", made.url, "/token", made.authorization, issue, service),
            Subject("plain token", urls["plain"], "/token", made.authorization, issue, plain),
        ]
        samples: dict[str, list[Sample]] = {subject.name: [] for subject in subjects}
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Measuring", total=rounds * len(subjects))
            for _ in range(rounds):
                for subject in subjects:
                    progress.update(task, description=f"Measuring {subject.name}")
                    samples[subject.name].append(measure(subject, seconds))
                    progress.advance(task)
        return samples


def report(samples: dict[str, list[Sample]], console: Console) -> dict[str, object]:
    """Print the table; return it with the environment for the JSON file."""
    medians = {name: statistics.median(sample.cpu_microseconds for sample in rounds) for name, rounds in samples.items()}
    columns = ("what", "CPU µs/request", "spread", "requests/s", "p99 ms", "x canned", "x empty app", "plain / this")
    table = Table(*columns, box=None, header_style="bold")
    rows = []
    for name, rounds in samples.items():
        cpu = [sample.cpu_microseconds for sample in rounds]
        plain = medians.get(f"plain {name}")
        row = {
            "what": name,
            "cpu_microseconds": medians[name],
            "cpu_spread": [min(cpu), max(cpu)],
            "rate": statistics.median(sample.rate for sample in rounds),
            "p99_ms": statistics.median(sample.p99_ms for sample in rounds),
            "times_canned": medians[name] / medians["canned"],
            "times_empty": medians[name] / medians["empty app"],
            "plain_over_this": plain / medians[name] if plain else None,
        }
        rows.append(row)
        table.add_row(
            name,
            f"{row['cpu_microseconds']:.1f}",
            f"{min(cpu):.1f}-{max(cpu):.1f}",
            f"{row['rate']:,.0f}",
            f"{row['p99_ms']:.1f}",
            f"{row['times_canned']:.2f}",
            f"{row['times_empty']:.2f}",
            f"{row['plain_over_this']:.2f}" if plain else "",
        )
    console.print(table)
    return {"environment": _environment(), "connections": CONNECTIONS, "rows": rows}


def _environment() -> dict[str, object]:
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "redis": find_redis().version,
    }


def _keep(result: dict[str, object], file: Path | None) -> None:
    if file is not None:
        file.write_text(json.dumps(result, indent=2) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "what",
        nargs="?",
        choices=("cpu", "overload", "memory", "records", "backlog"),
        default="cpu",
        help="CPU per request (default), a worker that is asked too much, bytes per token, rows/s of the record stores, "
        "or a backlog that is written",
    )
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens to store for `memory` (default 200000)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the `backlog` (default 1000000)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one round of one subject (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, alternating between the subjects (default 5)")
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    options = parser.parse_args()
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console()
    error_console = Console(stderr=True)
    try:
        if options.what == "memory":
            memory.measure(options.tokens, console)
            return
        if options.what == "records":
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                rows = asyncio.run(records.measure(options.seconds, options.rounds, Path(folder), console))
            _keep(rows | {"environment": _environment()}, options.json)
            return
        if options.what == "backlog":
            with tempfile.TemporaryDirectory(prefix="bench-") as folder:
                rows = backlog.measure(options.entries, Path(folder), console)
            _keep(rows | {"environment": _environment()}, options.json)
            return
        for program in ("wrk", "taskset") if options.what == "cpu" else ("taskset",):
            if shutil.which(program) is None:
                raise BenchError(f"{program} is needed and not on PATH: install your system's package of that name (apt-get install wrk).")
        if (os.cpu_count() or 1) < 2:
            raise BenchError("Two cores are needed: one for the service, one for Redis and the load.")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            if options.what == "overload":
                result = overload.measure(options.seconds, options.rounds, Path(folder), console) | {"environment": _environment()}
            else:
                result = report(bench(options.seconds, options.rounds, Path(folder), console), console)
        _keep(result, options.json)
    except BenchError as error:
        error_console.print(str(error), style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
