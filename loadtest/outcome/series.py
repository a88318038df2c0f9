"""What the charts of a run show, from its points: which values, under which name, and from which second on they count."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from outcome.run import Point, Run

MOST_POINTS = 720
"""A line; of longer runs several seconds make one point, so that the page of a day is no larger than that of ten minutes."""


@dataclass(frozen=True)
class Line:
    """One value over time; None where it is not known."""

    name: str
    values: list[float | None]
    is_dashed: bool = False


@dataclass(frozen=True)
class TimeChart:
    """Lines over the same seconds."""

    title: str
    unit: str
    at: list[float]
    lines: list[Line]
    until: float
    """The end of the time axis, in seconds."""
    shaded_until: float
    """The end of the warm-up."""
    has_steps: bool = False
    """Whether a value holds until the next, as a number of replicas does."""
    note: str = ""


def time_charts(run: Run) -> list[TimeChart]:
    """Rate, latency, and where they are known replicas and CPU."""
    if not run.points:
        return []
    until = float(max(run.plan.seconds, run.points[-1].at_seconds))
    width, parts = _parts(run.points, until)

    def chart(title: str, unit: str, at: list[float], lines: list[Line], has_steps: bool = False, note: str = "") -> TimeChart:
        long = f"Each point stands for {width} s: {note}." if width > 1 else ""
        return TimeChart(title, unit, at, lines, until, min(float(run.plan.warm_up_seconds), until), has_steps, long)

    at = [float(part[-1].at_seconds) for part in parts]
    offered = Line("offered", _each(parts, lambda point: point.offered, statistics.fmean), is_dashed=True)
    rate = [
        *([offered] if any(value is not None for value in offered.values) else []),
        Line("answered", _each(parts, lambda point: float(sum(point.requests.values())), statistics.fmean)),
        Line("wrong", _each(parts, lambda point: float(point.wrong), statistics.fmean)),
    ]
    latency = [
        Line("p50", _each(parts, lambda point: point.p50_ms, statistics.median)),
        Line("p99", _each(parts, lambda point: point.p99_ms, max)),
    ]
    charts = [
        chart("Rate", "requests/s", at, rate, note="the mean of its seconds"),
        chart("Latency", "ms", at, latency, note="the middle p50 and the longest p99 of its seconds"),
    ]
    # Looks at the service may be seconds apart; what lies between two is not unknown for that, so it is left out.
    looked = [part for part in parts if any(point.replicas is not None for point in part)]
    if looked:
        values = _each(looked, lambda point: point.replicas, lambda seen: seen[-1])
        replicas = [Line("replicas", values)]
        charts.append(chart("Replicas", "instances", _ends(looked), replicas, has_steps=True, note="the last of its seconds"))
    looked = [part for part in parts if any(point.cpu_cores for point in part)]
    if looked:
        names = sorted({name for part in looked for point in part for name in point.cpu_cores})
        cores = [Line(name, _each(looked, _cores_of(name), statistics.fmean)) for name in names]
        charts.append(chart("CPU in use", "cores", _ends(looked), cores, note="the mean of its seconds"))
    return charts


def _parts(points: Sequence[Point], until: float) -> tuple[int, list[list[Point]]]:
    width = max(1, math.ceil(until / MOST_POINTS))
    parts: defaultdict[int, list[Point]] = defaultdict(list)
    for point in points:
        # A point holds the second that ends at its time.
        parts[(point.at_seconds - 1) // width].append(point)
    return width, [parts[number] for number in sorted(parts)]


def _each(
    parts: Sequence[Sequence[Point]], of: Callable[[Point], float | None], together: Callable[[list[float]], float]
) -> list[float | None]:
    known = ([value for point in part if (value := of(point)) is not None] for part in parts)
    return [together(values) if values else None for values in known]


def _cores_of(name: str) -> Callable[[Point], float | None]:
    return lambda point: point.cpu_cores.get(name)


def _ends(parts: Sequence[Sequence[Point]]) -> list[float]:
    return [float(part[-1].at_seconds) for part in parts]
