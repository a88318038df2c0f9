"""What held a run's rate, and what more instances gave."""

from __future__ import annotations

from typing import NamedTuple

from outcome.run import GENERATOR_LIMIT, Run

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
