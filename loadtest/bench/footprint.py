"""`scripts/bench bytes`: what a request sends over each wire and appends to Redis' file, and how long the disk takes to keep it."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import quantiles
from typing import Any

import redis
import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.backlog import choose_store, command, new_client, waiting, writer
from bench.balanced import TOKENS, Stack, stack
from bench.bed import Bed, bed
from bench.constant import ask_at
from bench.processes import BenchError
from bench.requests import request

RATE, SECONDS, CONNECTIONS = 400, 4, 16
IDLE_SECONDS = 5
SYNCS, SYNCED_BYTES = 500, 1024
SEQUENTIAL_BYTES = 64 * 2**20
NUMBERS = ("request_length", "bytes_sent", "upstream_bytes_sent", "upstream_bytes_received")
WIRES = ("client_in", "client_out", "auth_in", "auth_out")
"""What nginx counts of a request: read from the client and sent to it, sent to the instance and read from it."""


def measure(folder: Path, console: Console) -> dict[str, object]:
    """Ask each endpoint through nginx with the writer running, print the bytes of a request and return them."""
    with bed(folder) as made:
        made.start_redis()
        choose_store(folder)
        console.print("Starting Redis, the writer, an instance and nginx ...")
        command("migrate")
        with writer(made), redis.Redis(port=made.redis_port) as client:
            made.secret = new_client()
            balanced = stack(made, folder / "one", 1, _count_bytes)
            log = balanced.layout.nginx_dir / "bytes.log"
            idle = _idle(client)
            work = _work(made, balanced)
            rows = [_measured(name, work[name](), balanced, client, log, idle) for name in track(work, "Asking", console=console)]
    found: dict[str, object] = {"command": shlex.join(("scripts/bench", *sys.argv[1:])), "rows": rows, "disk": _disk(folder)}
    _print(found, console)
    return found


def _count_bytes(folder: Path) -> None:
    """A log of the numbers beside the shared files."""
    numbers = " ".join(f"${name}" for name in NUMBERS)
    (folder / "http.conf").write_text(f"log_format bytes '$status {numbers}';\n")
    listen = (folder / "listen.conf").read_text().splitlines()
    kept = [line for line in listen if not line.startswith("access_log")]
    (folder / "listen.conf").write_text("\n".join([*kept, f"access_log {folder / 'bytes.log'} bytes;"]) + "\n")


def _work(made: Bed, balanced: Stack) -> dict[str, Callable[[], list[bytes]]]:
    """The requests of each endpoint, each with an id of its own, made when they are needed: a one-time token lives for two minutes."""
    number = RATE * (SECONDS + 1) + CONNECTIONS
    client, url = {"authorization": made.authorization}, balanced.layout.base_url

    def issues(path: str) -> list[bytes]:
        return [request("POST", path, id_number=index, grant_type="client_credentials", **client) for index in range(number)]

    def of_tokens(path: str, count: int, issued_by: str = "/token", **more: str) -> list[bytes]:
        tokens = made.tokens(count, url, issued_by)
        return [request("POST", path, id_number=index, token=token, **more) for index, token in enumerate(tokens)]

    return {
        "validate": lambda: of_tokens("/validate", TOKENS // 10),
        "token": lambda: issues("/token"),
        "ott": lambda: issues("/ott"),
        # What ends a token needs one for each request.
        "use": lambda: of_tokens("/validate", number, "/ott"),
        "revoke": lambda: of_tokens("/revoke", number, **client),
        "introspect": lambda: of_tokens("/introspect", TOKENS // 10, **client),
        "health": lambda: [request("GET", "/health", id_number=0)],
    }


def _state(client: redis.Redis) -> dict[str, float]:
    """Bytes that Redis has read, sent and appended so far."""
    told: Any = client.info()
    names = {"redis_in": "total_net_input_bytes", "redis_out": "total_net_output_bytes", "appended": "aof_current_size"}
    return {name: float(told[of]) for name, of in names.items()} | {"at": time.monotonic()}


def _settled(client: redis.Redis) -> dict[str, float]:
    """The same when the writer has written all and taken it out of the streams."""
    deadline = time.monotonic() + 60
    while waiting(client):
        if time.monotonic() > deadline:
            raise BenchError("The writer does not come to an end.")
        time.sleep(0.05)
    return _state(client)


def _idle(client: redis.Redis) -> dict[str, float]:
    """Bytes a second while nobody asks."""
    before = _settled(client)
    time.sleep(IDLE_SECONDS)
    after = _state(client)
    return {name: (after[name] - before[name]) / (after["at"] - before["at"]) for name in after if name != "at"}


def _measured(
    name: str, requests: list[bytes], balanced: Stack, client: redis.Redis, log: Path, idle: dict[str, float]
) -> dict[str, object]:
    before = _settled(client)
    seen = len(log.read_text().splitlines())
    timed = uvloop.run(ask_at(RATE, balanced.layout.port, requests, CONNECTIONS, SECONDS))
    after = _settled(client)
    if timed.wrong:
        raise BenchError(f"{timed.wrong} answers to {name} were wrong.")
    lines = [line.split() for line in log.read_text().splitlines()[seen:]]
    answered = [[int(number) for number in line[1:]] for line in lines if line[0] == "200"]
    count, seconds = len(answered), after["at"] - before["at"]
    sums = (sum(column) for column in zip(*answered, strict=True))
    totals: dict[str, float] = dict(zip(WIRES, sums, strict=True))
    totals |= {each: after[each] - before[each] - idle[each] * seconds for each in idle}
    return {"endpoint": name, "requests": count} | {each: round(max(0.0, total / count), 1) for each, total in totals.items()}


def _disk(folder: Path) -> dict[str, float]:
    """Milliseconds of a sync of a small append, as Redis makes one before it answers, and MB a second of a long one."""
    times = []
    descriptor = os.open(folder / "synced", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for _ in range(SYNCS):
            os.write(descriptor, b"x" * SYNCED_BYTES)
            began = time.monotonic()
            os.fdatasync(descriptor)
            times.append((time.monotonic() - began) * 1000)
        block, began = os.urandom(2**20), time.monotonic()
        for _ in range(SEQUENTIAL_BYTES // len(block)):
            os.write(descriptor, block)
        os.fdatasync(descriptor)
        seconds = time.monotonic() - began
    finally:
        os.close(descriptor)
    cut = quantiles(times, n=100)
    return {"sync_p50_ms": round(cut[49], 3), "sync_p99_ms": round(cut[98], 3), "mb_per_second": round(SEQUENTIAL_BYTES / seconds / 1e6, 1)}


def _print(found: dict[str, Any], console: Console) -> None:
    columns = ("endpoint", "requests", *WIRES, "redis_in", "redis_out", "appended")
    table = Table(*columns, box=None, header_style="bold")
    for row in found["rows"]:
        table.add_row(*(str(row[name]) for name in columns))
    console.print(table)
    disk = found["disk"]
    console.print(
        f"a sync of the disk takes {disk['sync_p50_ms']:.2f} ms, of a hundred one {disk['sync_p99_ms']:.2f}; "
        f"{disk['mb_per_second']:.0f} MB/s in one stream"
    )
