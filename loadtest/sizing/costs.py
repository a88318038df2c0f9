"""What a request costs each component: cores in use over right answers a second, from a baseline's rows of wrk or from a scale test."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import RootModel, ValidationError

from outcome.results import Results
from outcome.run import RunError

ROWS = {
    "validate": ("validate, wrk",),
    "token": ("token, wrk",),
    "ott": ("ott, wrk", "token, wrk"),
    "revoke": ("token, wrk",),
    "introspect": ("introspect, wrk",),
    "health": ("health, wrk",),
}
"""The rows that stand for each endpoint, together. A one-time token costs its issue and its use. A use and a revoke are a script and an
event in Redis, as an issue is, which stands for them: no baseline has them alone."""
COMPONENTS = ("auth", "nginx", "redis")


class Cost(NamedTuple):
    """CPU microseconds of one request."""

    auth: float
    nginx: float
    redis: float


def costs(baseline: Results) -> dict[str, Cost]:
    """By endpoint; RunError where the baseline lacks a row, or was measured where the components' CPU could not be seen."""
    return {endpoint: Cost(*map(sum, zip(*(_cost(baseline, row) for row in rows), strict=True))) for endpoint, rows in ROWS.items()}


def _cost(baseline: Results, row: str) -> Cost:
    repeats = baseline.rows.get(row, [])
    if not repeats or any(name not in each.cpu_cores for each in repeats for name in COMPONENTS):
        raise RunError(f"The baseline has no row {row!r} with the CPU of {', '.join(COMPONENTS)}: measure it where wrk is on PATH.")
    return Cost(*(statistics.median(each.cpu_cores[name] / each.rate * 1e6 for each in repeats) for name in COMPONENTS))


class _Kept(RootModel[dict[str, dict[str, float]]]):
    """By endpoint and component."""


def costs_text(found: Mapping[str, Cost]) -> str:
    """Costs as `read_costs` takes them."""
    rounded = {endpoint: {name: round(us, 2) for name, us in cost._asdict().items()} for endpoint, cost in found.items()}
    return json.dumps(rounded, indent=2) + "\n"


def read_costs(file: Path) -> dict[str, Cost]:
    """The costs that a scale test wrote; RunError where the file is something else."""
    try:
        kept = _Kept.model_validate_json(file.read_text(encoding="utf-8")).root
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise RunError(f"{file} holds no costs of a scale test.") from error
    if kept.keys() != ROWS.keys() or any(each.keys() != set(COMPONENTS) or min(each.values()) < 0 for each in kept.values()):
        raise RunError(f"{file} must say for {', '.join(ROWS)} what a request costs {', '.join(COMPONENTS)} in microseconds.")
    return {endpoint: Cost(**each) for endpoint, each in kept.items()}


def cores_in_use(rates: Mapping[str, float], costs: Mapping[str, Cost]) -> dict[str, float]:
    """Of each component, for requests a second of each endpoint."""
    return {name: sum(rate * getattr(costs[endpoint], name) / 1e6 for endpoint, rate in rates.items() if rate) for name in COMPONENTS}
