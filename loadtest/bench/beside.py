"""Subjects beside the first of them: CPU of a request over that of the first, round by round, as a table and as data."""

from __future__ import annotations

import statistics

from rich.console import Console
from rich.table import Table

from bench.cpu import Subject


def report_beside_first(subjects: list[Subject], first: str, console: Console) -> dict[str, object]:
    """Print the table and return it; `first` is what the first is called in the heading."""
    table = Table("what", "CPU µs", "requests/s", f"of {first}", "spread", box=None, header_style="bold")
    rows: list[dict[str, object]] = []
    for subject in subjects:
        ratios, rate = subject.over(subjects[0]), statistics.median(sample.rate for sample in subject.samples)
        ratio, low, high = statistics.median(ratios), min(ratios), max(ratios)
        row = {"what": subject.name, "cpu_microseconds": subject.cpu_microseconds(), "rate": rate, "of_first": ratio}
        rows.append(row | {"of_first_spread": [low, high]})
        table.add_row(subject.name, f"{subject.cpu_microseconds():.1f}", f"{rate:,.0f}", f"{ratio:.2f}", f"{low:.2f}-{high:.2f}")
    console.print(table)
    return {"rows": rows}
