"""What held a run's rate, and what more instances gave."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from outcome.run import GENERATOR_LIMIT, Run
from outcome.thresholds import ANSWERED

BUSY = 0.85
"""A component that uses this much of what it may is what holds the rate."""
MACHINE = "machine_cores"
"""Entry of a run's environment: the cores that service and generator share, where they do."""


class Verdict(NamedTuple):
    """Who was the limit."""

    limit: str
    """`generator`, `machine`, a component's name, or `none`."""
    sentence: str


def bottleneck(run: Run) -> Verdict:
    """The first of generator, component and machine that had nothing left."""
    share, name = max(((share, name) for name, share in run.generator.cpu_shares.items()), default=(0.0, ""))
    if share > GENERATOR_LIMIT:
        return Verdict("generator", f"The generator was the limit ({name} used {share:.0%} of its core): rates are floors, times its own.")
    busy = [(part.cpu_cores / part.limit_cores, name) for name, part in run.components.items() if part.limit_cores]
    used, component = max(busy, default=(0.0, ""))
    if used >= BUSY:
        return Verdict(component, f"{component} was the limit: it used {used:.0%} of the CPU that it may.")
    cores = run.environment.get(MACHINE)
    together = sum(part.cpu_cores for part in run.components.values()) + sum(run.generator.cpu_shares.values())
    if isinstance(cores, int | float) and together >= BUSY * cores:
        return Verdict("machine", f"The machine was the limit: service and generator together used {together:.1f} of its {cores:g} cores.")
    if not busy:
        return Verdict("none", "What the service used was not seen, so nothing is said about its limit.")
    return Verdict("none", f"Nothing was at its limit: the busiest, {component}, used {used:.0%} of the CPU that it may.")


def efficiency(run: Run, single: Run) -> float | None:
    """Rate of n instances over n times that of one, or of fewer; None where instances are not known or the plans differ."""
    many, few = run.environment.get("instances"), single.environment.get("instances")
    if not isinstance(many, int) or not isinstance(few, int) or many <= few or run.plan != single.plan or not single.total_rate:
        return None
    return (run.total_rate / many) / (single.total_rate / few)


class Knee(NamedTuple):
    """Where a rising load became too much."""

    rate: float
    """Requests a second, the last that were offered before."""
    floor_ms: float
    """The p99 while there was little to do."""


KNEE_TIMES, KNEE_MS, KNEE_SECONDS = 5.0, 5.0, 3
"""The knee is where for so many seconds on end the p99 is so many times its floor and so much above it, or less than
ANSWERED of what is offered is answered."""


def knee(run: Run) -> Knee | None:
    """Of an open arrival that rises; None for another, and where the load never became too much."""
    if not run.plan.is_rising:
        return None
    points = [point for point in run.points if point.at_seconds > run.plan.warm_up_seconds and point.p99_ms is not None]
    first = [point.p99_ms for point in points[: max(KNEE_SECONDS, len(points) // 4)] if point.p99_ms is not None]
    if not first:
        return None
    floor = statistics.median(first)
    beyond, last = 0, points[0].offered or 0.0
    for point in points:
        is_slow = (point.p99_ms or 0.0) > max(floor * KNEE_TIMES, floor + KNEE_MS)
        is_short = sum(point.requests.values()) < ANSWERED * (point.offered or 0.0)
        beyond = beyond + 1 if is_slow or is_short else 0
        if beyond == KNEE_SECONDS:
            return Knee(last, floor)
        if not beyond:
            last = point.offered or last
    return None
