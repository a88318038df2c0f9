"""How a report writes a run's numbers and its plan: the same on the page and in the summary."""

from __future__ import annotations

from outcome.plan import Plan, ShapeName
from outcome.run import Run

UNKNOWN = "–"  # noqa: RUF001 - the dash that stands for no value
_SHAPES: dict[ShapeName, str] = {
    "constant": "at a constant load",
    "steps": "in four steps",
    "ramp": "on a ramp",
    "spike": "with a spike in its middle",
    "soak": "at a constant load, to see what changes with time",
}
_ENDS = {
    "complete": "It ended as planned.",
    "interrupted": "It was interrupted before its end.",
    "running": "It had not ended when this was written.",
}


def count(number: float) -> str:
    """Of requests."""
    return f"{number:,.0f}"


def rate(a_second: float) -> str:
    """A digit behind the point where it says something."""
    return f"{a_second:,.0f}" if a_second >= 100 else f"{a_second:.1f}"


def milliseconds(time: float | None) -> str:
    """Three digits that count: a histogram's buckets are two per cent wide."""
    if time is None:
        return UNKNOWN
    if time < 99.95:
        return f"{time:.2f}" if time < 9.995 else f"{time:.1f}"
    return f"{time:,.0f}"


def change(ratio: float | None) -> str:
    """Of now over before, as what was added or lost."""
    if ratio is None:
        return UNKNOWN
    text = f"{ratio - 1:+.1%}"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text.replace("-", "\N{MINUS SIGN}")


def plan(of: Plan) -> str:
    """What was asked and how, in two sentences."""
    asked = "A mix of all endpoints" if of.endpoint == "mix" else f"The endpoint {of.endpoint}"
    warm_up = f", of which the first {of.warm_up_seconds} s warm up and are not counted" if of.warm_up_seconds else ""
    return f"{asked} {_SHAPES[of.shape]} for {of.seconds:,} s{warm_up}. The plan {of.ceiling}."


def ending(run: Run) -> str:
    """How the run ended, and what of it was counted."""
    return f"{_ENDS[run.end]} {run.seconds:,.0f} s of it are counted."


def clock(seconds: float) -> str:
    """A time within a run: seconds, then minutes, then hours."""
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, hours = whole // 60, whole // 3600
    return f"{hours}:{minutes % 60:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
