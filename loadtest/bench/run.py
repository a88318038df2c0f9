"""`scripts/bench`: its command line."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from bench import backlog, compare, cpu, memory, overload, records
from bench.processes import BenchError
from localstack.servers import find_redis

WIDTH = 120
"""Of the tables; a narrower terminal breaks their lines, which is easier to read than names cut short."""


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
        choices=("cpu", "overload", "memory", "records", "backlog", "compare"),
        default="cpu",
        help="CPU per request (default), a worker that is asked too much, bytes per token, rows/s of the record stores, "
        "a backlog that is written, or two results of `cpu` side by side",
    )
    parser.add_argument("files", nargs="*", type=Path, help="for `compare`: the files of --json, the earlier one first")
    parser.add_argument("--quick", action="store_true", help="one round of one second of each: a look, no figure")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens to store for `memory` (default 200000)")
    parser.add_argument("--entries", type=int, default=1_000_000, help="entries of the `backlog` (default 1000000)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one round of one subject (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, alternating between the subjects (default 5)")
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    options = parser.parse_args()
    if len(options.files) != (2 if options.what == "compare" else 0):
        parser.error("compare takes two files, and nothing else takes any.")
    if options.quick:
        options.seconds = options.rounds = 1
    # Ended from outside, it ends what it started.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    console = Console()
    console.width = max(console.width, WIDTH)
    error_console = Console(stderr=True)
    try:
        if options.what == "compare":
            before, after = options.files
            compare.compare(before, after, console)
            return
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
                result = cpu.bench(options.seconds, options.rounds, Path(folder), console) | {"environment": _environment()}
        _keep(result, options.json)
    except BenchError as error:
        error_console.print(str(error), style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
