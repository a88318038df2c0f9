"""What wrk reaches where Locust is the limit: the plain endpoints, with tokens prepared as Locust's are."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from bench.requests import request, write
from bench.wrk import run_wrk
from outcome.clients import Credentials
from outcome.results import Figures
from traffic.observer import Observer
from traffic.tokens import basic, prepare

CONNECTIONS = 64
TOKENS = 1000
ROWS = ("health, wrk", "token, wrk", "ott, wrk", "validate, wrk", "introspect, wrk")
LEFT_OUT = "what wrk reaches (it is not on PATH: install your system's package wrk)"


def is_at_hand() -> bool:
    """Whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def requests_of(url: str, credentials: Credentials) -> Mapping[str, list[bytes]]:
    """By row."""
    client = basic(credentials.client_id, credentials.client_secret)
    tokens = prepare(url, credentials, TOKENS, bad_share=0).good
    return {
        "health, wrk": [request("GET", "/health")],
        "token, wrk": [request("POST", "/token", authorization=client, grant_type="client_credentials")],
        "ott, wrk": [request("POST", "/ott", authorization=client, grant_type="client_credentials")],
        "validate, wrk": [request("POST", "/validate", token=token) for token in tokens],
        "introspect, wrk": [request("POST", "/introspect", authorization=client, token=token) for token in tokens],
    }


def reach(url: str, requests: list[bytes], seconds: int, folder: Path, observer: Observer | None) -> Figures:
    """One repeat. wrk sees statuses only, so what it counts as right is what has 200."""
    file = write(requests, folder / "requests")
    if observer is not None:
        observer.look()
    seen = run_wrk(url, file, seconds, CONNECTIONS)
    cores = observer.look().cpu_cores if observer is not None else {}
    wrong = seen.refused + seen.lost
    return Figures(
        rate=round((seen.requests - seen.refused) / seen.seconds, 1),
        p99_ms=seen.p99_ms,
        wrong_share=wrong / max(seen.requests + seen.lost, 1),
        cpu_cores=cores,
    )
