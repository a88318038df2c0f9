"""The tables of docs/performance.md, written from docs/performance.json: what `scripts/bench --json` gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.reach import reached

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, RESULT = DOCS / "performance.md", DOCS / "performance.json"
BEGIN, END = "<!-- tables: written by scripts/generate-docs from performance.json -->\n", "<!-- end of tables -->\n"


def render() -> str:
    """The page as it must stand in docs/performance.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    return before + BEGIN + _reached(result) + "\n" + _of_cpu(result) + END + rest.partition(END)[2]


def _reached(result: dict[str, Any]) -> str:
    rows = ["| figure | measured | to reach | reached |", "|---|---|---|---|"]
    rows += [f"| {' | '.join(row.cells())} |" for row in reached(result)]
    return "\n".join(rows) + "\n"


def _of_cpu(result: dict[str, Any]) -> str:
    rows = [
        "| what | CPU µs a request | requests/s | p99 ms | canned / this | empty app / this | plain / this | compiled / this |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        low, high = row["cpu_spread"]
        plain = f"{row['plain_over_this']:.1f}" if row["plain_over_this"] else ""
        rows.append(
            f"| {row['what']} | {row['cpu_microseconds']:.1f} ({low:.1f}-{high:.1f}) | {row['rate']:,.0f} | {row['p99_ms']:.1f} "
            f"| {row['canned_over_this']:.2f} | {row['empty_over_this']:.2f} | {plain} | {row['compiled_over_this']:.2f} |"
        )
    environment = result["environment"]
    where = f"Python {environment['python']}, {environment['machine']}, {environment['cores']} cores, {environment['redis']}"
    spread = f"In brackets the fastest and the slowest round. Compiled: {result['compiled']}."
    return "\n".join(rows) + f"\n\n{result['connections']} connections, {where}. {spread}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
