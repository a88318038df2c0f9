"""`scripts/bench cpu`: CPU per request of every endpoint on one instance pinned to one core, beside references in the same run."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import Progress
from rich.table import Column, Table

from authsvc.model import Kind
from bench.bed import KEY, Bed, bed
from bench.compiled import Compiled, start_compiled
from bench.processes import LOAD_CORE, SERVICE_CORE, BenchError, Process, free_port
from bench.requests import plain_tokens, request, service_tokens, write
from bench.wrk import run_wrk

CONNECTIONS = 64
TOKENS = 2000
"""Different tokens, asked for in turn."""
ONCE, ONCE_PLAIN = 45_000, 6000
"""Requests a second that are prepared where each is for a token of its own: more than are answered."""
REFUSED = "refused with 429"
"""The row of an instance that refuses all it is asked for."""
REACH_PLAIN = 6.0
"""The plain route's CPU over the endpoint's: what is aimed at."""


@dataclass(frozen=True)
class Endpoint:
    """One row: what is asked, with the client's credentials and a token."""

    name: str
    reach: float
    """The canned answer's CPU over this one's: what is aimed at."""
    request: Callable[[str, str], bytes]
    kind: Kind = Kind.ACCESS
    once: bool = False
    """Whether each request must be for a token of its own."""


ENDPOINTS = (
    Endpoint("validate", 0.65, lambda client, token: request("POST", "/validate", token=token)),
    Endpoint("validate, Bearer", 0.60, lambda client, token: request("POST", "/validate", authorization=f"Bearer {token}")),
    Endpoint("validate, GET Bearer", 0.60, lambda client, token: request("GET", "/validate", authorization=f"Bearer {token}")),
    Endpoint("token", 0.45, lambda client, token: request("POST", "/token", authorization=client, grant_type="client_credentials")),
    Endpoint("ott", 0.45, lambda client, token: request("POST", "/ott", authorization=client, grant_type="client_credentials")),
    Endpoint("introspect", 0.55, lambda client, token: request("POST", "/introspect", authorization=client, token=token)),
    Endpoint("revoke", 0.40, lambda client, token: request("POST", "/revoke", authorization=client, token=token), once=True),
    Endpoint("validate one-time", 0.40, lambda client, token: request("POST", "/validate", token=token), Kind.ONE_TIME, once=True),
    Endpoint("health", 0.80, lambda client, token: request("GET", "/health")),
)


@dataclass
class Sample:
    """One round of one subject."""

    cpu_microseconds: float
    rate: float
    p99_ms: float
    beside_microseconds: float = 0.0


class Measured(Protocol):
    """Who serves: a process, or several together."""

    def cpu_seconds(self) -> float:
        """CPU used so far."""


class Together:
    """Several processes as one that is measured."""

    def __init__(self, *processes: Process) -> None:
        self._processes = processes

    def cpu_seconds(self) -> float:
        """Of all."""
        return sum(process.cpu_seconds() for process in self._processes)


@dataclass
class Subject:
    """One thing that is measured: who serves it and what is asked."""

    name: str
    url: str
    process: Measured
    make_requests: Callable[[], list[bytes]]
    once: bool = False
    """Whether each request is good for one answer."""
    refused: bool = False
    """Whether every request is to be refused."""
    beside: Measured | None = None
    """Who has a part in it, and is measured by itself."""
    meanwhile: Callable[[], AbstractContextManager[object]] = nullcontext
    """What goes on while it is measured."""
    connections: int = CONNECTIONS
    samples: list[Sample] = field(default_factory=list)

    def cpu_microseconds(self) -> float:
        """The median of the rounds."""
        return statistics.median(sample.cpu_microseconds for sample in self.samples)

    def over(self, other: Subject) -> list[float]:
        """This one's CPU over another's, for each round: both were measured one after the other."""
        return [mine.cpu_microseconds / its.cpu_microseconds for mine, its in zip(self.samples, other.samples, strict=True)]


def measure(subject: Subject, seconds: int, folder: Path) -> Sample:
    """Load a subject; wrong answers end the bench, for a rate of refusals is no rate."""
    prepared = subject.make_requests()
    file = write(prepared, folder / "requests")
    measured = [subject.process, *filter(None, [subject.beside])]
    with subject.meanwhile():
        before = [each.cpu_seconds() for each in measured]
        seen = run_wrk(subject.url, file, seconds, subject.connections, once=subject.once, core=LOAD_CORE)
        used = [each.cpu_seconds() - then for each, then in zip(measured, before, strict=True)]
    if subject.once and seen.requests >= len(prepared) - subject.connections:
        raise BenchError(f"{subject.name}: {len(prepared)} requests did not last: it is faster than was thought possible.")
    wrong = seen.lost + (seen.requests - seen.refused if subject.refused else seen.refused)
    if wrong or not seen.requests:
        raise BenchError(f"{subject.name}: {wrong} of {seen.requests} answers were wrong.")
    cpu, *beside = (each / seen.requests * 1e6 for each in used)
    return Sample(cpu, seen.requests / seen.seconds, seen.p99_ms, *beside)


def measure_in_turn(subjects: list[Subject], seconds: int, rounds: int, folder: Path, console: Console) -> None:
    """Each subject once a round."""
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("Measuring", total=rounds * len(subjects))
        for _ in range(rounds):
            for subject in subjects:
                progress.update(task, description=f"Measuring {subject.name}")
                subject.samples.append(measure(subject, seconds, folder))
                progress.advance(task)


def bench(seconds: int, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Run every subject `rounds` times, in turn; print the table and return it."""
    with bed(folder) as made:
        console.print("Starting Redis, the service and the references ...")
        service, compiled = made.start_all(), start_compiled(made)
        subjects = _subjects(made, service, compiled, seconds)
        measure_in_turn(subjects, seconds, rounds, folder, console)
        return _report({subject.name: subject for subject in subjects}, compiled, console)


def _subjects(made: Bed, service: Process, compiled: Compiled, seconds: int) -> list[Subject]:
    """Everything, each beside its reference."""
    ports = {name: free_port() for name in ("canned", "empty", "plain", "full", "full management")}
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    canned = made.start(SERVICE_CORE, "canned", sys.executable, "-m", "bench.canned", str(ports["canned"]))
    uvicorn = [sys.executable, "-m", "uvicorn", "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    empty = made.start(SERVICE_CORE, "empty", *uvicorn, "--lifespan", "off", "--port", str(ports["empty"]), "bench.empty:app")
    environ = {"BENCH_REDIS_URL": f"redis://127.0.0.1:{made.redis_port}/1", "BENCH_KEY": KEY, "BENCH_SECRET": made.secret}
    plain = made.start(SERVICE_CORE, "plain", *uvicorn, "--port", str(ports["plain"]), "bench.plain:app", **environ)
    limited = {"AUTH_BACKLOG_LIMIT": "1", "AUTH_PORT": str(ports["full"]), "AUTH_MANAGEMENT_PORT": str(ports["full management"])}
    full = made.start(SERVICE_CORE, "full", sys.executable, "-m", "authsvc", "serve", **limited)
    full.wait_for(f"{urls['full management']}/ready")
    canned.wait_for(urls["canned"])
    empty.wait_for(urls["empty"])
    plain.wait_for(f"{urls['plain']}/health")
    made.tokens(1)  # the backlog that makes one instance refuse
    client = made.authorization
    validates = _requests(ENDPOINTS[0], client, partial(service_tokens, made.redis_port, Kind.ACCESS, TOKENS))
    issues = [request("POST", "/token", authorization=client, grant_type="client_credentials")]
    subjects = [
        Subject("canned", urls["canned"], canned, lambda: validates),
        Subject("empty app", urls["empty"], empty, lambda: validates),
        Subject(compiled.name, compiled.url, compiled.process, lambda: validates),
        Subject(REFUSED, urls["full"], full, lambda: issues, refused=True),
    ]
    for endpoint in ENDPOINTS:
        for prefix, url, process, store, once in (
            ("", made.url, service, service_tokens, ONCE),
            ("plain ", urls["plain"], plain, plain_tokens, ONCE_PLAIN),
        ):
            tokens = partial(store, made.redis_port, endpoint.kind, seconds * once if endpoint.once else TOKENS)
            make = partial(_requests, endpoint, client, tokens)
            subjects.append(Subject(prefix + endpoint.name, url, process, make, endpoint.once))
    return subjects


def _requests(endpoint: Endpoint, client: str, tokens: Callable[[], list[str]]) -> list[bytes]:
    """One for each token; one for all where no token is presented."""
    return list(dict.fromkeys(endpoint.request(client, token) for token in tokens()))


def _report(subjects: dict[str, Subject], compiled: Compiled, console: Console) -> dict[str, object]:
    """Print the table; return it for the JSON file. Ratios are of the medians, their spread that of the rounds."""
    canned, empty = subjects["canned"], subjects["empty app"]
    reach = {endpoint.name: endpoint.reach for endpoint in ENDPOINTS}
    columns = ("what", "CPU µs", "spread", "requests/s", "p99 ms", "canned/this", "spread", "reach", "empty/this", "plain/this", "compiled")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None, header_style="bold")
    rows: list[dict[str, object]] = []
    for name, subject in subjects.items():
        if name.startswith("plain "):
            continue
        cpu = [sample.cpu_microseconds for sample in subject.samples]
        of_canned, of_compiled = canned.over(subject), subjects[compiled.name].over(subject)
        plain = subjects.get(f"plain {name}")
        row = {
            "what": name,
            "cpu_microseconds": subject.cpu_microseconds(),
            "cpu_spread": [min(cpu), max(cpu)],
            "rate": statistics.median(sample.rate for sample in subject.samples),
            "p99_ms": statistics.median(sample.p99_ms for sample in subject.samples),
            "canned_over_this": canned.cpu_microseconds() / subject.cpu_microseconds(),
            "canned_spread": [min(of_canned), max(of_canned)],
            "reach": reach.get(name),
            "empty_over_this": empty.cpu_microseconds() / subject.cpu_microseconds(),
            "plain_over_this": plain.cpu_microseconds() / subject.cpu_microseconds() if plain else None,
            "compiled_over_this": subjects[compiled.name].cpu_microseconds() / subject.cpu_microseconds(),
            "compiled_spread": [min(of_compiled), max(of_compiled)],
        }
        rows.append(row)
        table.add_row(
            name,
            f"{row['cpu_microseconds']:.1f}",
            f"{min(cpu):.1f}-{max(cpu):.1f}",
            f"{row['rate']:,.0f}",
            f"{row['p99_ms']:.1f}",
            f"{row['canned_over_this']:.2f}",
            f"{min(of_canned):.2f}-{max(of_canned):.2f}",
            f"{reach[name]:.2f}" if name in reach else "",
            f"{row['empty_over_this']:.2f}",
            f"{row['plain_over_this']:.1f}" if plain else "",
            f"{row['compiled_over_this']:.2f}",
        )
    console.print(table)
    console.print(f"{CONNECTIONS} connections; plain/this is to reach {REACH_PLAIN:.0f}.")
    console.print(f"compiled: the CPU of {compiled.name} over this, to reach {compiled.reach} for validate.")
    return {"connections": CONNECTIONS, "compiled": compiled.name, "compiled_aim": compiled.reach, "rows": rows}
