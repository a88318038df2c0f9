"""`scripts/bench`: measures validate and token on one instance pinned to one core, beside two references."""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from authsvc.credentials import new_secret, secret_digest
from authsvc.live.connect import connect_redis
from authsvc.live.mirror import Mirror
from authsvc.model import Client, Secret
from authsvc.settings import read_settings
from bench import memory
from bench.processes import LOAD_CORE, SERVICE_CORE, BenchError, Process, free_port
from localstack.servers import find_redis

CONNECTIONS = 64
TOKENS = 2000
KEY = "bench-4Jq7ZxW2mV9sT1yLr8Kc3pNd6f"
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
    requests, microseconds, errors, p99_us = (int(word) for word in line.split()[1:])
    if errors or not requests:
        raise BenchError(f"{subject.name}: {errors} of {requests} answers were wrong.")
    return Sample(used / requests * 1e6, requests / microseconds * 1e6, p99_us / 1000)


async def _prepare() -> str:
    """Mirror one client, and return its secret."""
    redis, secret = connect_redis(read_settings()), new_secret()
    client = Client("bench", ("read", "write"), (Secret(secret_digest(secret.encode()), 0),), epoch=1, revision=1)
    try:
        await Mirror(redis).build([client], 1, "bench")
        return secret
    finally:
        await redis.aclose()


def _tokens(url: str, authorization: str) -> list[str]:
    import httpx

    with httpx.Client(base_url=url, headers={"Authorization": authorization}) as client:
        return [client.post("/token", data={"grant_type": "client_credentials"}).json()["access_token"] for _ in range(TOKENS)]


def bench(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, list[Sample]]:
    """Run every subject `rounds` times, in turn; {name: samples}."""
    ports = {name: free_port() for name in ("redis", "canned", "empty", "plain", "service", "management")}
    redis_url = f"redis://127.0.0.1:{ports['redis']}/0"
    os.environ |= {"AUTH_REDIS_URL": redis_url, "AUTH_TOKEN_KEY": KEY, "AUTH_DRAIN_SECONDS": "0"}
    os.environ |= {"AUTH_PORT": str(ports["service"]), "AUTH_MANAGEMENT_PORT": str(ports["management"])}
    persistence = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
    processes: list[Process] = []

    def start(core: int, name: str, *command: str, **environ: str) -> Process:
        process = Process(command, core, folder / f"{name}.log", environ)
        processes.append(process)
        return process

    try:
        console.print("Starting Redis, the service and the references ...")
        listen = ["--bind", "127.0.0.1", "--port", str(ports["redis"]), "--dir", str(folder)]
        start(LOAD_CORE, "redis", str(find_redis().path), *listen, *persistence)
        secret = asyncio.run(_prepare_when_up())
        authorization = "Basic " + base64.b64encode(f"bench:{secret}".encode()).decode()
        python = sys.executable
        canned = start(SERVICE_CORE, "canned", python, "-m", "bench.canned", str(ports["canned"]))
        uvicorn = [python, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
        no_lifespan = ["--lifespan", "off", "--port", str(ports["empty"])]
        empty = start(SERVICE_CORE, "empty", *uvicorn, *no_lifespan, "bench.empty:app")
        plain_environ = {"BENCH_REDIS_URL": f"{redis_url[:-1]}1", "BENCH_KEY": KEY, "BENCH_SECRET": secret}
        plain = start(SERVICE_CORE, "plain", *uvicorn, "--port", str(ports["plain"]), "bench.plain:app", **plain_environ)
        service = start(SERVICE_CORE, "service", python, "-m", "authsvc", "serve")
        urls = {name: f"http://127.0.0.1:{ports[name]}" for name in ports}
        canned.wait_for(urls["canned"])
        empty.wait_for(urls["empty"])
        plain.wait_for(f"{urls['plain']}/nothing")
        service.wait_for(f"{urls['management']}/ready")
        issue = folder / "issue.txt"
        issue.write_text("grant_type=client_credentials\n")
        check = {}
        for name in ("plain", "service"):
            check[name] = folder / f"{name}-tokens.txt"
            check[name].write_text("".join(f"token={token}\n" for token in _tokens(urls[name], authorization)))
        subjects = [
            Subject("canned", urls["canned"], "/validate", "-", check["service"], canned),
            Subject("empty app", urls["empty"], "/validate", "-", check["service"], empty),
            Subject("validate", urls["service"], "/validate", "-", check["service"], service),
            Subject("plain validate", urls["plain"], "/validate", "-", check["plain"], plain),
            Subject("token", urls["service"], "/token", authorization, issue, service),
            Subject("plain token", urls["plain"], "/token", authorization, issue, plain),
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
    finally:
        for process in reversed(processes):
            process.stop()


async def _prepare_when_up() -> str:
    from redis.exceptions import RedisError

    for _ in range(200):
        try:
            return await _prepare()
        except RedisError:
            await asyncio.sleep(0.05)
    raise BenchError("Redis did not start.")


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
    environment = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "redis": find_redis().version,
    }
    return {"environment": environment, "connections": CONNECTIONS, "rows": rows}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("cpu", "memory"), default="cpu", help="per request (default), or bytes per token")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens to store for `memory` (default 200000)")
    parser.add_argument("--seconds", type=int, default=4, help="length of one round of one subject (default 4)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, alternating between the subjects (default 5)")
    parser.add_argument("--json", type=Path, help="write the result to this file, too")
    options = parser.parse_args()
    console = Console()
    error_console = Console(stderr=True)
    try:
        if options.what == "memory":
            memory.measure(options.tokens, console)
            return
        for program in ("wrk", "taskset"):
            if shutil.which(program) is None:
                raise BenchError(f"{program} is needed and not on PATH: install your system's package of that name (apt-get install wrk).")
        if (os.cpu_count() or 1) < 2:
            raise BenchError("Two cores are needed: one for the service, one for Redis and the load.")
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            result = report(bench(options.seconds, options.rounds, Path(folder), console), console)
        if options.json:
            options.json.write_text(json.dumps(result, indent=2) + "\n")
    except BenchError as error:
        error_console.print(str(error), style="red")
        sys.exit(1)


if __name__ == "__main__":
    main()
