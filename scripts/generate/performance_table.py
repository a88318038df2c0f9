"""The table of docs/performance.md, written from docs/performance.json: what `scripts/bench --json` gave."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, RESULT = DOCS / "performance.md", DOCS / "performance.json"
BEGIN, END = "<!-- table: written by scripts/generate-docs from performance.json -->\n", "<!-- end of table -->\n"


def render() -> str:
    """The page as it must stand in docs/performance.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + _table(json.loads(RESULT.read_text(encoding="utf-8"))) + END + rest.partition(END)[2]


def _table(result: dict[str, Any]) -> str:
    # A result of before there was a compiled reference has none.
    compiled = result.get("compiled")
    rows = [
        "| what | CPU µs a request | requests/s | p99 ms | canned / this (to reach) | empty app / this | plain / this |",
        "|---|---|---|---|---|---|---|",
    ]
    if compiled is not None:
        rows = [f"{rows[0]} compiled / this |", f"{rows[1]}---|"]
    for row in result["rows"]:
        low, high = row["cpu_spread"]
        plain = f"{row['plain_over_this']:.1f}" if row["plain_over_this"] else ""
        reach = f" ({row['reach']:.2f})" if row["reach"] else ""
        rows.append(
            f"| {row['what']} | {row['cpu_microseconds']:.1f} ({low:.1f}-{high:.1f}) | {row['rate']:,.0f} | {row['p99_ms']:.1f} "
            f"| {row['canned_over_this']:.2f}{reach} | {row['empty_over_this']:.2f} | {plain} |"
            + (f" {row['compiled_over_this']:.2f} |" if compiled is not None else "")
        )
    environment = result["environment"]
    where = f"Python {environment['python']}, {environment['machine']}, {environment['cores']} cores, {environment['redis']}"
    spread = "In brackets the fastest and the slowest round." + (f" Compiled: {compiled}." if compiled is not None else "")
    return "\n".join(rows) + f"\n\n{result['connections']} connections, {where}. {spread}\n"


def main() -> None:
    """Write the page."""
    PAGE.write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
