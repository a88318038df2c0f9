"""`scripts/bench overload`: what a worker still does when more is asked of it than it can do, and how soon it is well again."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import uvloop
from rich.console import Console
from rich.table import Table

from bench.bed import bed
from bench.callers import Answers, call
from bench.processes import LOAD_CORE
from bench.requests import request

LADDER = (4, 8, 16, 32, 64)
"""Connections, each asking again as soon as it has its answer; those that reach 95 % of the best rate saturate the worker."""
CROWDS = (200, 1000, 3000)


@dataclass
class Load:
    """One way of asking, and what came of it in each round."""

    name: str
    connections: int
    polite: bool
    rounds: list[Answers]

    def rate(self) -> float:
        """Good answers a second, the median of the rounds."""
        return median(answers.rate() for answers in self.rounds)


def measure(seconds: float, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Find the connections that saturate a worker, then ask with more; prints the table and returns it."""
    os.sched_setaffinity(0, {LOAD_CORE})
    most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    with bed(folder) as made:
        console.print("Starting Redis and the service ...")
        made.start_all()
        validate = request("POST", "/validate", token=made.tokens(1)[0])

        def ask(connections: int, *, polite: bool = False) -> Answers:
            return uvloop.run(call(made.port, validate, connections, seconds, polite=polite))

        ladder = {connections: median(ask(connections).rate() for _ in range(rounds)) for connections in LADDER}
        peak = max(ladder.values())
        saturating = next(connections for connections, rate in ladder.items() if rate >= 0.95 * peak)
        loads = [
            Load("saturated", saturating, False, []),
            Load("three times the connections", 3 * saturating, False, []),
            *(Load("a crowd that asks again at once", crowd, False, []) for crowd in CROWDS),
            Load("a crowd that waits as it is told", CROWDS[-1], True, []),
            Load("saturated, right after", saturating, False, []),
        ]
        for _ in range(rounds):
            for load in loads:
                load.rounds.append(ask(load.connections, polite=load.polite))
    return _report(loads, console)


def _report(loads: list[Load], console: Console) -> dict[str, object]:
    table = Table("what", "connections", "good/s", "of saturated", "spread", "p50 ms", "p99 ms", "429/s", box=None, header_style="bold")
    rows: list[dict[str, object]] = []
    for load in loads:
        ratios = [answers.rate() / alone.rate() for answers, alone in zip(load.rounds, loads[0].rounds, strict=True)]
        p50, p99 = (median(answers.percentile_ms(share) for answers in load.rounds) for share in (0.5, 0.99))
        refused = median(answers.rate(429) for answers in load.rounds)
        lost = sum(answers.lost for answers in load.rounds)
        row = {"what": load.name, "connections": load.connections, "rate": load.rate(), "of_saturated": median(ratios)}
        rows.append(row | {"spread": [min(ratios), max(ratios)], "p50_ms": p50, "p99_ms": p99, "refused_rate": refused, "lost": lost})
        table.add_row(
            load.name,
            str(load.connections),
            f"{load.rate():,.0f}",
            f"{median(ratios):.2f}",
            f"{min(ratios):.2f}-{max(ratios):.2f}",
            f"{p50:.0f}",
            f"{p99:.0f}",
            f"{refused:,.0f}",
        )
    console.print(table)
    return {"rows": rows}
