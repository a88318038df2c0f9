"""`scripts/bench cluster`: CPU per request of one instance, and of each Redis, over a single Redis and clusters of 1, 2 and 4 masters."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import redis
from rich.console import Console
from rich.table import Column, Table

from bench.bed import START_SECONDS, Bed
from bench.cpu import ENDPOINTS, Endpoint, Sample, Subject, Together, measure_in_turn
from bench.processes import LOAD_CORE, BenchError, Process, free_port

MASTERS = (1, 2, 4)
SLOTS = 16384
TOKENS = 500
"""Different tokens, asked for in turn."""
ASKED = ("validate", "token", "introspect")


class ClusterBed(Bed):
    """A bed over so many masters of a Redis Cluster; 0 is a single Redis."""

    def __init__(self, folder: Path, masters: int) -> None:
        folder.mkdir()
        super().__init__(folder)
        self._masters = masters
        self.redises: list[Process] = []

    def start_redis(self) -> None:
        """Start the masters, give each an equal share of the slots, and have them meet."""
        os.environ["AUTH_REDIS_MODE"] = "cluster" if self._masters else "single"
        if not self._masters:
            super().start_redis()
            self.redises = self.processes[-1:]
            return
        self.name_redis()
        ports = [self.redis_port, *(free_port() for _ in range(self._masters - 1))]
        buses = [free_port() for _ in ports]
        for number, (port, bus) in enumerate(zip(ports, buses, strict=True)):
            (self.folder / f"master-{number}").mkdir()
            options = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--dir", str(self.folder / f"master-{number}")]
            self.redises.append(self.start(LOAD_CORE, f"master-{number}", *self.redis_command(port), *options))
            self.redises[-1].wait_for_port(port)
        for number, port in enumerate(ports):
            with redis.Redis(port=port) as client:
                bounds = [place * SLOTS // len(ports) for place in (number, number + 1)]
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[0], bounds[1] - 1)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        with redis.Redis(port=ports[0]) as client:
            for port, bus in zip(ports[1:], buses[1:], strict=True):
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus)
        deadline = time.monotonic() + START_SECONDS
        while not all(_is_whole(port, len(ports)) for port in ports):
            if time.monotonic() > deadline:
                raise BenchError("The masters do not know each other.")
            time.sleep(0.05)


class Row(NamedTuple):
    """One endpoint over one kind of Redis."""

    endpoint: str
    masters: int
    subject: Subject


def measure_cluster(seconds: int, rounds: int, connections: int, folder: Path, console: Console) -> dict[str, object]:
    """Measure each endpoint over each kind of Redis, in turn, asked by so many connections; print the table and return it."""
    with ExitStack() as stack:
        console.print("Starting a single Redis, clusters of 1, 2 and 4 masters, and an instance over each ...")
        rows = [row for masters in (0, *MASTERS) for row in stack.enter_context(_over(folder, masters))]
        rows.sort(key=lambda row: ASKED.index(row.endpoint))
        for row in rows:
            row.subject.connections = connections
        measure_in_turn([row.subject for row in rows], seconds, rounds, folder, console)
        return _report(rows, connections, console)


@contextmanager
def _over(folder: Path, masters: int) -> Iterator[list[Row]]:
    """An instance over so many masters, and what is asked of it."""
    bed = ClusterBed(folder / f"masters-{masters}", masters)
    try:
        service = bed.start_all()
        tokens = bed.tokens(TOKENS)
        endpoints = [endpoint for endpoint in ENDPOINTS if endpoint.name in ASKED]
        yield [Row(endpoint.name, masters, _subject(bed, service, endpoint, tokens)) for endpoint in endpoints]
    finally:
        bed.stop()


def _subject(bed: ClusterBed, service: Process, endpoint: Endpoint, tokens: list[str]) -> Subject:
    requests = list(dict.fromkeys(endpoint.request(bed.authorization, token) for token in tokens))
    return Subject(endpoint.name, bed.url, service, lambda: requests, beside=Together(*bed.redises))


def _is_whole(port: int, masters: int) -> bool:
    with redis.Redis(port=port) as client:
        facts = client.execute_command("CLUSTER", "INFO")
        known = client.execute_command("CLUSTER", "SLOTS")
    return b"cluster_state:ok" in facts and len(known) == masters


def _report(rows: list[Row], connections: int, console: Console) -> dict[str, object]:
    """Print the table; return it for the JSON file."""
    columns = ("what", "Redis", "instance µs", "spread", "over single", "all Redis µs", "a master µs", "requests/s", "p99 ms")
    table = Table(*(Column(name, no_wrap=True) for name in columns), box=None, header_style="bold")
    single = {row.endpoint: row.subject for row in rows if row.masters == 0}
    found: list[dict[str, object]] = []
    for row in rows:
        samples: list[Sample] = row.subject.samples
        cpu = [sample.cpu_microseconds for sample in samples]
        own, over = row.subject.cpu_microseconds(), statistics.median(row.subject.over(single[row.endpoint]))
        theirs = statistics.median(sample.beside_microseconds for sample in samples)
        rate, p99_ms = (statistics.median(getattr(sample, name) for sample in samples) for name in ("rate", "p99_ms"))
        kind = f"{row.masters} masters" if row.masters else "single"
        each = theirs / max(1, row.masters)
        found.append({"what": row.endpoint, "redis": kind, "cpu_microseconds": own, "cpu_spread": [min(cpu), max(cpu)]})
        found[-1] |= {"over_single": over, "redis_microseconds": theirs, "of_a_master": each, "rate": rate, "p99_ms": p99_ms}
        figures = (f"{own:.1f}", f"{min(cpu):.1f}-{max(cpu):.1f}", f"{over:.2f}", f"{theirs:.1f}", f"{each:.1f}")
        table.add_row(row.endpoint, kind, *figures, f"{rate:,.0f}", f"{p99_ms:.1f}")
    console.print(table)
    console.print(f"{connections} connections; all masters and the load share one core, so the rate is no measure of what a cluster can do")
    return {"connections": connections, "rows": found}
