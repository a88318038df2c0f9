"""`scripts/bench compare A B`: which rows moved further than the rounds of each differ, and which fell by a fifth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from bench.processes import BenchError
from outcome.noise import FALL, overlap


def compare(before: Path, after: Path, console: Console) -> None:
    """Print the rows side by side; BenchError if one fell by more than a fifth beyond noise, or is missing."""
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
    console.print(table)
    if fallen:
        raise BenchError(f"Missing, or more than a fifth below: {', '.join(fallen)}.")


def _result(file: Path) -> dict[str, Any]:
    try:
        result = json.loads(file.read_text())
        _rows(result)
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
