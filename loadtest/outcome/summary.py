"""The report of a run for a pull request: a few lines of Markdown."""

from __future__ import annotations

import re

from outcome import words
from outcome.findings import Findings, Row, findings
from outcome.run import Run
from outcome.thresholds import Thresholds

_MARKS = re.compile(r"[\\`*_\[\]<>#|~&@]")


def summary(run: Run, thresholds: Thresholds | None = None, before: Run | None = None, single: Run | None = None) -> str:
    """Write it; `before` is an earlier run of the same plan and place, `single` one of the same plan with fewer instances."""
    found = findings(run, thresholds, before, single)
    blocks = [
        [f"### {_plain(run.name)}"],
        [f"**{_plain(found.verdict)}**{_gates(found)}"],
        [_plain(found.knee)] if found.knee else [],
        [_plain(found.scaling)] if found.scaling else [],
        [f"> {_plain(warning)}  " for warning in found.warnings],
        [f"- missed: {_plain(gate.what)}, found {_plain(gate.found)}, limit {_plain(gate.limit)}" for gate in found.missed],
        _table(found),
        [_plain(found.comparison)] if found.comparison else [],
        [_plain(words.plan(run.plan))],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _gates(found: Findings) -> str:
    if not found.gates:
        return ""
    held = len(found.gates) - len(found.missed)
    return f" All {held} gates were held." if not found.missed else f" {held} of {len(found.gates)} gates were held."


def _table(found: Findings) -> list[str]:
    if not found.rows:
        return []
    change = ["change"] if found.is_compared else []
    heads = ["right answers/s", *change, "p50 ms", "p99 ms", *change, "wrong"]
    return [
        f"| endpoint | {' | '.join(heads)} |",
        f"|---|{'---:|' * len(heads)}",
        *(f"| {' | '.join(_cells(row, found.is_compared))} |" for row in found.rows),
    ]


def _cells(row: Row, is_compared: bool) -> list[str]:
    rate, p99 = ([words.change(ratio)] if is_compared else [] for ratio in (row.rate_ratio, row.p99_ratio))
    return [
        _plain(row.name),
        words.rate(row.rate),
        *rate,
        words.milliseconds(row.p50),
        words.milliseconds(row.p99),
        *p99,
        words.count(row.wrong),
    ]


def _plain(text: str) -> str:
    """Names come from elsewhere: nothing in them is Markdown, HTML or the end of a line."""
    return _MARKS.sub(lambda mark: "\\" + mark[0], " ".join(text.split()))
