"""`scripts/bench worker`: how soon an instance is ready, and whether a worker's memory stays as it is under load."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress

from authsvc.model import Kind
from bench.bed import bed
from bench.cpu import CONNECTIONS, ENDPOINTS, Subject, measure
from bench.processes import SERVICE_CORE, free_port
from bench.requests import service_tokens

TURN_SECONDS = 5
TOKENS = 2000


def watch(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Start an instance `rounds` times, then load one for that long; prints both figures and returns them."""
    with bed(folder) as made:
        console.print("Starting Redis and the service ...")
        service = made.start_all()
        starts = []
        for number in range(rounds):
            ports = {"AUTH_PORT": str(free_port()), "AUTH_MANAGEMENT_PORT": str(free_port())}
            began = time.monotonic()
            another = made.start(SERVICE_CORE, f"start-{number}", sys.executable, "-m", "authsvc", "serve", **ports)
            another.wait_for(f"http://127.0.0.1:{ports['AUTH_MANAGEMENT_PORT']}/ready")
            starts.append(time.monotonic() - began)
            another.stop()
        client, tokens = made.authorization, service_tokens(made.redis_port, Kind.ACCESS, TOKENS)
        mix = [
            Subject(endpoint.name, made.url, service, partial(list, [endpoint.request(client, token) for token in tokens]))
            for endpoint in ENDPOINTS
            if not endpoint.once
        ]
        memory: list[float] = []
        turns = max(4, seconds // TURN_SECONDS)
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Loading", total=turns)
            for turn in range(turns):
                measure(mix[turn % len(mix)], TURN_SECONDS, folder)
                memory.append(service.memory_bytes() / 2**20)
                progress.advance(task)
    growth = memory[-1] - memory[turns // 2]
    console.print(
        f"ready after {median(starts):.2f} s ({min(starts):.2f}-{max(starts):.2f} in {rounds} starts), Python and imports included"
    )
    console.print(
        f"a worker has {memory[-1]:.1f} MiB after {turns * TURN_SECONDS} s of {CONNECTIONS} connections: {growth:+.1f} in the second half"
    )
    row = {"what": "worker", "start_seconds": median(starts), "start_spread": [min(starts), max(starts)]}
    return {"rows": [row | {"memory_mib": memory[-1], "second_half_mib": growth, "seconds": turns * TURN_SECONDS}]}
