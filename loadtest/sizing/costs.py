"""What a request costs each component, from a baseline's rows of wrk: cores in use over right answers a second."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import NamedTuple

from outcome.results import Results
from outcome.run import RunError

ROWS = {
    "validate": "validate, wrk",
    "token": "token, wrk",
    "ott": "ott, wrk",
    "revoke": "token, wrk",
    "introspect": "introspect, wrk",
    "health": "health, wrk",
}
"""The row that stands for each endpoint. A revoke is a script and an event in Redis, as an issue is; a plan that revokes issues as well."""
COMPONENTS = ("auth", "nginx", "redis")


class Cost(NamedTuple):
    """CPU microseconds of one request."""

    auth: float
    nginx: float
    redis: float


def costs(baseline: Results) -> dict[str, Cost]:
    """By endpoint; RunError where the baseline lacks a row, or was measured where the components' CPU could not be seen."""
    return {endpoint: _cost(baseline, row) for endpoint, row in ROWS.items()}


def _cost(baseline: Results, row: str) -> Cost:
    repeats = baseline.rows.get(row, [])
    if not repeats or any(name not in each.cpu_cores for each in repeats for name in COMPONENTS):
        raise RunError(f"The baseline has no row {row!r} with the CPU of {', '.join(COMPONENTS)}: measure it where wrk is on PATH.")
    return Cost(*(statistics.median(each.cpu_cores[name] / each.rate * 1e6 for each in repeats) for name in COMPONENTS))


def cores_in_use(rates: Mapping[str, float], costs: Mapping[str, Cost]) -> dict[str, float]:
    """Of each component, for requests a second of each endpoint."""
    return {name: sum(rate * getattr(costs[endpoint], name) / 1e6 for endpoint, rate in rates.items() if rate) for name in COMPONENTS}
