"""The report of a run for people: one HTML page that needs no other file, no host and no script."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from outcome import words
from outcome.chart import percentile_chart, time_chart
from outcome.findings import findings
from outcome.run import Run
from outcome.series import time_charts
from outcome.thresholds import Thresholds

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def page(run: Run, thresholds: Thresholds | None = None, before: Run | None = None, single: Run | None = None) -> str:
    """Write the page; `before` is an earlier run of the same plan and place, `single` one of the same plan with fewer instances."""
    found = findings(run, thresholds, before, single)
    # The charts escape what they are given.
    charts = [Markup(time_chart(chart)) for chart in time_charts(run)]
    return _TEMPLATES.get_template("page.html").render(
        style=Markup(STYLE),
        run=run,
        found=found,
        words=words,
        started=run.started.astimezone(UTC),
        charts=charts,
        percentiles=Markup(percentile_chart(found.rows)),
        has_components=bool(run.components),
    )
