"""The files of a run: everything as JSON, each second as CSV, the page for people, the summary for a pull request."""

from __future__ import annotations

import csv
import io

from outcome.page import page
from outcome.run import Run
from outcome.summary import summary
from outcome.thresholds import Thresholds


def files_of(run: Run, thresholds: Thresholds | None = None, before: Run | None = None, single: Run | None = None) -> dict[str, str]:
    """Name and content of each; `before` and `single` are what it is compared with: `outcome.findings`."""
    return {
        "run.json": run.model_dump_json(),
        "points.csv": points_csv(run),
        "report.html": page(run, thresholds, before, single),
        "summary.md": summary(run, thresholds, before, single),
    }


def points_csv(run: Run) -> str:
    """A line a second; a column of requests for each endpoint."""
    names, parts = sorted(run.endpoints), sorted({name for point in run.points for name in point.cpu_cores})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ["at_seconds", "users", "offered", "wrong", "p50_ms", "p99_ms", "replicas"]
    writer.writerow([*head, *(f"{name} requests" for name in names), *(f"{part} cores" for part in parts)])
    for point in run.points:
        known = [point.at_seconds, point.users, point.offered, point.wrong, point.p50_ms, point.p99_ms, point.replicas]
        writer.writerow([*known, *(point.requests.get(name, 0) for name in names), *(point.cpu_cores.get(part) for part in parts)])
    return text.getvalue()
