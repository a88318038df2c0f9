"""`scripts/bench backlog`: how long a writer takes for a backlog, in how much memory, while tokens go on being made."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis
from rich.console import Console
from rich.progress import Progress, track

from authsvc.credentials import TokenKeys
from authsvc.live.forms import encode_event, encode_token
from authsvc.live.keys import POISON, STREAMS, shard
from authsvc.model import Event, Kind, TokenValue
from bench.bed import CLIENT_ID, EPOCH, INCARNATION, KEY, Bed, bed
from bench.callers import Answers, call
from bench.processes import SERVICE_CORE, BenchError, Process
from bench.records import ORACLE_VARIABLES
from bench.requests import SCOPE, TTL_SECONDS, request

PAGE = 5000
LONGEST_SECONDS = 1800.0


def measure(entries: int, folder: Path, console: Console) -> dict[str, object]:
    """Fill the streams while the writer is away, start it, and watch; prints what came of it and returns it."""
    with bed(folder) as made:
        made.start_redis()
        store = choose_store(folder)
        console.print(f"Starting Redis, the service and {store} ...")
        command("migrate")
        with writer(made):
            made.secret = new_client()
        made.start_service()
        with redis.Redis(port=made.redis_port) as client:
            _fill(client, entries, console)
            before = _acknowledged(client)
            began = time.monotonic()
            with writer(made) as process:
                answers = asyncio.run(_drain(made, client, console))
                seconds = time.monotonic() - began
                peak_mib = process.peak_memory_bytes() / 2**20
            written, poison = _acknowledged(client) - before, sum(client.xlen(stream) for stream in POISON)
    made_meanwhile = len(answers.seconds.get(200, ()))
    refused = sum(len(times) for status, times in answers.seconds.items() if status != 200) + answers.lost
    if written < entries + made_meanwhile or poison:
        raise BenchError(f"{written:,} of {entries + made_meanwhile:,} entries were written, {poison} set aside.")
    row: dict[str, object] = {"store": store, "entries": entries, "seconds": seconds, "entries_per_second": written / seconds}
    row |= {"writer_peak_mib": peak_mib, "made_meanwhile": made_meanwhile, "refused": refused, "p99_ms": answers.percentile_ms(0.99)}
    console.print(
        f"{store}: {entries:,} entries and {made_meanwhile:,} made meanwhile were written in {seconds:.0f} s: {written / seconds:,.0f}/s"
    )
    console.print(f"the writer took {peak_mib:.0f} MiB at most; {refused} requests failed, 99 % were answered in {row['p99_ms']:.0f} ms")
    return {"rows": [row]}


def choose_store(folder: Path) -> str:
    """Oracle where the environment names one, else SQLite; the commands and the writer learn of it by the environment."""
    if all(os.environ.get(name) for name in ORACLE_VARIABLES):
        dsn, user, password = (os.environ[name] for name in ORACLE_VARIABLES)
        os.environ["AUTH_RECORDS_URL"] = f"oracle://{user}:{password}@{dsn}"
        return "Oracle"
    os.environ["AUTH_RECORDS_URL"] = f"sqlite:///{folder / 'records.db'}"
    return "SQLite"


@contextmanager
def writer(made: Bed) -> Iterator[Process]:
    """A writer that is ready, on the service's core; it ends with the block."""
    process = made.start(SERVICE_CORE, "writer", sys.executable, "-m", "authsvc", "write", AUTH_MANAGEMENT_PORT=str(made.writer_port))
    try:
        process.wait_for(f"http://127.0.0.1:{made.writer_port}/ready")
        yield process
    finally:
        process.stop()


def new_client() -> str:
    """Add the bench's client and return its secret."""
    return str(json.loads(command("client", "add", "bench", "--scope", "read", "--scope", "write", "--json"))["client_secret"])


def command(*words: str) -> str:
    """What a command of the service prints; BenchError with what it complains of."""
    done = subprocess.run([sys.executable, "-m", "authsvc", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(done.stderr.strip())
    return done.stdout


def _fill(client: redis.Redis, entries: int, console: Console) -> None:
    """Append what issues of tokens append, without the tokens."""
    keys, now = TokenKeys(KEY.encode()), time.time()
    value = encode_token(TokenValue(Kind.ACCESS, INCARNATION, CLIENT_ID, EPOCH, SCOPE, int(now), TTL_SECONDS))
    for first in track(range(0, entries, PAGE), description="Filling", console=console, transient=True):
        pipe = client.pipeline(transaction=False)
        for _ in range(min(PAGE, entries - first)):
            _, name = keys.new(Kind.ACCESS)
            pipe.xadd(STREAMS[shard(name)], {b"e": encode_event(Event.ISSUED, name, int(now * 1000), value)})
        pipe.execute()


async def _drain(made: Bed, client: redis.Redis, console: Console) -> Answers:
    """Wait until nothing waits, while one connection makes a token after the other."""
    issue = request("POST", "/token", authorization=made.authorization, grant_type="client_credentials")
    before, total = _acknowledged(client), waiting(client)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Writing", total=total)
        ended = asyncio.Event()
        asking = asyncio.create_task(call(made.port, issue, 1, LONGEST_SECONDS, ended=ended))
        deadline = time.monotonic() + LONGEST_SECONDS
        # First come, first written: when so many are, what waits came meanwhile.
        while (written := await asyncio.to_thread(_acknowledged, client) - before) < total and time.monotonic() < deadline:
            progress.update(task, completed=written)
            await asyncio.sleep(0.2)
        ended.set()
        answers = await asking
        while await asyncio.to_thread(waiting, client) and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
    return answers


def waiting(client: redis.Redis) -> int:
    """Entries in the streams."""
    pipe = client.pipeline(transaction=False)
    for stream in STREAMS:
        pipe.xlen(stream)
    return sum(pipe.execute())


def _acknowledged(client: redis.Redis) -> int:
    """Entries that were taken out of the streams since the beginning."""
    streams = [client.xinfo_stream(stream) for stream in STREAMS if client.exists(stream)]
    return sum(stream["entries-added"] - stream["length"] for stream in streams)
