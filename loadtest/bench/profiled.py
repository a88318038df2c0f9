"""`scripts/bench profile`: what an instance pays while a profile of it is taken, beside itself without one, in turn."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
from rich.console import Console

from bench.bed import Bed, bed
from bench.beside import report_beside_first
from bench.cpu import TOKENS, Subject, measure_in_turn
from bench.processes import BenchError
from bench.requests import request

SECRET = "bench-management-secret"
KINDS = ("", "cpu", "memory")


def measure_profiles(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Validates without a profile, and while one of each kind is taken; prints and returns CPU per request and the ratio of rounds."""
    os.environ["AUTH_MANAGEMENT_SECRET"] = SECRET
    with bed(folder) as made:
        console.print("Starting Redis and the service ...")
        service = made.start_all()
        requests = [request("POST", "/validate", token=token) for token in made.tokens(TOKENS)]
        subjects = [
            Subject(
                f"validate, {kind or 'no'} profile", made.url, service, lambda: requests, meanwhile=partial(_taken, made, kind, seconds)
            )
            for kind in KINDS
        ]
        measure_in_turn(subjects, seconds, rounds, folder, console)
    return report_beside_first(subjects, "without", console)


@contextmanager
def _taken(made: Bed, kind: str, seconds: int) -> Iterator[None]:
    """A profile of this kind, from before the block until after it; it outlasts the block by some seconds."""
    if not kind:
        yield
        return
    statuses: list[int] = []

    def take() -> None:
        with httpx.Client(base_url=f"http://127.0.0.1:{made.management_port}", timeout=60) as client:
            answer = client.get("/profile", params={"kind": kind, "seconds": seconds + 3}, headers={"Authorization": f"Bearer {SECRET}"})
            statuses.append(answer.status_code)

    taking = threading.Thread(target=take)
    taking.start()
    yield
    if not taking.is_alive():
        raise BenchError(f"The {kind} profile ended before the round did.")
    taking.join()
    if statuses != [200]:
        raise BenchError(f"The {kind} profile was answered {statuses}.")
