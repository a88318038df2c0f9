"""`scripts/bench compare A B`: which rows of two results moved further than the rounds of each differ, and which are worse by a fifth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from bench.processes import BenchError
from bench.reach import reached_by_parts
from outcome.noise import FALL, overlap


def compare(before: Path, after: Path, console: Console) -> None:
    """Print the rows side by side; BenchError if one is worse by more than a fifth beyond noise, or is missing."""
    then, now = _result(before), _result(after)
    if then["environment"] != now["environment"]:
        console.print(f"The environments differ, so the figures may: {then['environment']}, {now['environment']}.", style="yellow")
    rows, later = _rows(then), _rows(now)
    table = Table(*(Column(name, no_wrap=True) for name in ("what", "before", "after", "ratio", "")), box=None, header_style="bold")
    fallen = [name for name in rows if name not in later]
    for name, row in rows.items():
        if name not in later:
            table.add_row(name, f"{row['canned_over_this']:.3f}", "", "", "missing")
            continue
        ratio = later[name]["canned_over_this"] / row["canned_over_this"]
        moved = not overlap(row["canned_spread"], later[name]["canned_spread"])
        if moved and ratio < FALL:
            fallen.append(name)
        word = ("fell" if ratio < 1 else "rose") if moved else "within noise"
        table.add_row(name, f"{row['canned_over_this']:.3f}", f"{later[name]['canned_over_this']:.3f}", f"{ratio:.2f}", word)
    fallen += _compare_parts(then, now, table)
    console.print(table)
    if fallen:
        raise BenchError(f"Missing, or more than a fifth worse: {', '.join(fallen)}.")


def _compare_parts(then: dict[str, Any], now: dict[str, Any], table: Table) -> list[str]:
    """What is not beside the canned answer, by what is to be reached of it; returns what is worse by more than a fifth, or missing."""
    fallen = []
    later = {row.figure: row for row in reached_by_parts(now)}
    for before in reached_by_parts(then):
        after = later.get(before.figure)
        if after is None:
            fallen.append(before.figure)
            table.add_row(before.figure, f"{before.measured:,.2f}", "", "", "missing")
            continue
        ratio = after.measured / before.measured
        better = 1 / ratio if before.most else ratio
        if before.spread is None or after.spread is None:
            # Measured once: less than a fifth is no news.
            moved = not FALL <= better <= 1 / FALL
        else:
            moved = not overlap(before.spread, after.spread)
        if moved and better < FALL:
            fallen.append(before.figure)
        word = ("worse" if better < 1 else "better") if moved else "within noise"
        table.add_row(before.figure, f"{before.measured:,.2f}", f"{after.measured:,.2f}", f"{ratio:.2f}", word)
    return fallen


def _result(file: Path) -> dict[str, Any]:
    try:
        result = json.loads(file.read_text())
        _rows(result)
        reached_by_parts(result)
        return {"environment": None} | dict(result)
    except OSError as error:
        raise BenchError(f"{file} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError, KeyError) as error:
        raise BenchError(f"{file} is no result of `scripts/bench --json`.") from error


def _rows(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name, those that are measured beside the canned answer."""
    rows = {row["what"]: row for row in result["rows"] if row["what"] != "canned"}
    for row in rows.values():
        _ = row["canned_over_this"] > 0, overlap(row["canned_spread"], row["canned_spread"])
    return rows
