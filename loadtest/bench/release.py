"""`scripts/bench`: all that a release is judged by, part by part, and the table of what is to be reached."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Column, Table

from bench import balanced, cpu, memory, records, worker
from bench.reach import reached


class Lengths(NamedTuple):
    """How long it all takes."""

    seconds: int
    """Of a round of one subject."""
    rounds: int
    loaded_seconds: int
    """Of the load under which a worker's memory is watched."""
    tokens: int
    """Stored in Redis, to see what one costs."""


QUICK = Lengths(1, 1, 20, 100_000)


def measure(lengths: Lengths, folder: Path, console: Console, keep: Callable[[dict[str, object]], None]) -> None:
    """Measure every part, print its table and then that of what is to be reached; `keep` is given what there is after each part."""
    seconds, rounds, loaded_seconds, tokens = lengths
    parts: dict[str, Callable[[Path], dict[str, object]]] = {
        "cpu": lambda place: cpu.bench(seconds, rounds, place, console),
        "balanced": lambda place: balanced.measure_balanced(seconds, rounds, place, console),
        "worker": lambda place: worker.watch(loaded_seconds, rounds, place, console),
        "memory": lambda place: memory.measure(tokens, console),
        "records": lambda place: asyncio.run(records.measure(seconds, rounds, place, console)),
    }
    result: dict[str, object] = {}
    for name, part in parts.items():
        console.rule(name)
        place = folder / name
        place.mkdir()
        found = part(place)
        result |= found if name == "cpu" else {name: found}
        keep(result)
    console.rule("to be reached")
    print_reached(result, console)


def print_reached(result: dict[str, object], console: Console) -> None:
    """The table: a row for each figure."""
    table = Table(*(Column(name, no_wrap=True) for name in ("figure", "measured", "to reach", "met")), box=None, header_style="bold")
    for row in reached(result):
        table.add_row(*row.cells(), style=None if row.is_met else "yellow")
    console.print(table)
