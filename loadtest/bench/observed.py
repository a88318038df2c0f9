"""`scripts/bench observed`: what an instance pays to be seen from outside, beside itself without: metrics, and the access log."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from bench.bed import bed
from bench.beside import report_beside_first
from bench.cpu import TOKENS, Subject, measure_in_turn
from bench.processes import SERVICE_CORE, free_port
from bench.requests import request

SERVE = ("authsvc", "serve")
OBSERVED: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (
    ("without metrics", ("bench.uncounted",), {}),
    ("as it is", SERVE, {}),
    ("a line for one in a hundred", SERVE, {"AUTH_ACCESS_LOG": "true"}),
    ("a line for each", SERVE, {"AUTH_ACCESS_LOG": "true", "AUTH_ACCESS_LOG_SUCCESS_SHARE": "1"}),
)


def measure_observed(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Validates; prints and returns CPU per request and the ratio of rounds."""
    with bed(folder) as made:
        console.print("Starting Redis and the instances ...")
        made.start_redis()
        made.build_mirror()
        subjects = []
        requests: list[bytes] = []
        for number, (name, module, environ) in enumerate(OBSERVED):
            port, management_port = free_port(), free_port()
            ports = {"AUTH_PORT": str(port), "AUTH_MANAGEMENT_PORT": str(management_port)}
            instance = made.start(SERVICE_CORE, f"observed-{number}", sys.executable, "-m", *module, **environ, **ports)
            instance.wait_for(f"http://127.0.0.1:{management_port}/ready")
            url = f"http://127.0.0.1:{port}"
            if not requests:
                requests += [request("POST", "/validate", token=token) for token in made.tokens(TOKENS, url)]
            subjects.append(Subject(f"validate, {name}", url, instance, requests.copy))
        measure_in_turn(subjects, seconds, rounds, folder, console)
    return report_beside_first(subjects, "the first", console)
