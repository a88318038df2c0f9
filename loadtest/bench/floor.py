"""`scripts/bench floor`: a validate beside the least that it could cost: a canned answer, and one that asks Redis and does nothing else."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from rich.console import Console

from authsvc.model import Kind
from bench.bed import bed
from bench.beside import report_beside_first
from bench.cpu import TOKENS, Subject, measure_in_turn
from bench.processes import SERVICE_CORE, free_port
from bench.requests import request, service_tokens


def measure_floor(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Prints and returns CPU per request, and the ratio to the canned answer in alternating rounds."""
    with bed(folder) as made:
        console.print("Starting Redis, the service and the references ...")
        service = made.start_all()
        ports = free_port(), free_port()
        canned = made.start(SERVICE_CORE, "canned", sys.executable, "-m", "bench.canned", str(ports[0]))
        bare = made.start(SERVICE_CORE, "bare", sys.executable, "-m", "bench.bare", str(ports[1]), str(made.redis_port))
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        canned.wait_for(urls[0])
        bare.wait_for(urls[1])
        validates = [request("POST", "/validate", token=token) for token in service_tokens(made.redis_port, Kind.ACCESS, TOKENS)]
        subjects = [
            Subject(name, url, process, partial(list, validates))
            for name, url, process in (
                ("canned", urls[0], canned),
                ("a validate and nothing around it", urls[1], bare),
                ("validate", made.url, service),
            )
        ]
        measure_in_turn(subjects, seconds, rounds, folder, console)
    return report_beside_first(subjects, "canned", console)
