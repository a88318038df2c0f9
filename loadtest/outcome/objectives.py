"""Objectives: the constants that the alert rules compare with, as rules of Prometheus; the cost of a request is a baseline's."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml

from outcome.results import Figures, Results

BASELINE = "two-cores"
"""The one that the chart comes with."""
FILE = Path(__file__).resolve().parents[2] / "charts" / "auth-service" / "monitoring" / "objectives.yaml"
ERROR_BUDGET = 0.001
"""Share of answers in 30 days that may be 5xx or 429."""
P99_SECONDS = 0.05
BESIDE = {
    "health": {},
    "token": {},
    "validate": {},
    "introspect": {},
    "ott": {"validate": 2},
    "revoke": {"token": 1, "validate": 1},
}
"""What a turn of each endpoint's plan asks beside the endpoint itself (loadtest/README.md)."""
IDLE = "idle"
"""Stands among the endpoints for an instance that is asked nothing: microseconds a second."""
LIGHT = "validate, open"
"""The row of few requests, most of whose CPU is that of idle instances."""
JOB = "auth-service"


def can_tell(results: Results) -> bool:
    """Whether these results tell what a request of each endpoint costs the instances."""
    rows = [results.rows.get(f"{endpoint}, closed", []) for endpoint in BESIDE]
    rows.append(results.rows.get(LIGHT, []))
    return str(results.environment.get("instances", "")).isdigit() and all(_tells(repeats) for repeats in rows)


def _tells(repeats: Sequence[Figures]) -> bool:
    return bool(repeats) and all("auth" in each.cpu_cores for each in repeats)


def cpu_microseconds(results: Results) -> dict[str, int]:
    """CPU of the instances for one request of each endpoint, and of one instance that is asked nothing. Only for results that can tell.

    Both follow from a line through two rows of validate: few requests, and a closed loop of few users. Under full load, when several
    requests are answered in one turn of the event loop, each costs less than this line says.
    """
    instances = int(str(results.environment["instances"]))
    light, closed = (_rate_and_cpu(results.rows[row]) for row in (LIGHT, "validate, closed"))
    slope = (closed[1] - light[1]) / (closed[0] - light[0])
    idle = max(0.0, light[1] - light[0] * slope)
    costs: dict[str, float] = {}
    for endpoint, others in BESIDE.items():
        rate, cpu = _rate_and_cpu(results.rows[f"{endpoint}, closed"])
        turn = (cpu - idle) / rate * (1 + sum(others.values()))
        costs[endpoint] = turn - sum(costs[other] * number for other, number in others.items())
    return {endpoint: round(cost) for endpoint, cost in costs.items()} | {IDLE: round(idle / instances)}


def _rate_and_cpu(repeats: Sequence[Figures]) -> tuple[float, float]:
    """Medians: requests a second, and microseconds of CPU a second."""
    return statistics.median(each.rate for each in repeats), statistics.median(each.cpu_cores["auth"] * 1e6 for each in repeats)


def rules_file(results: Results, name: str) -> str:
    """The file, with the baseline of this name."""

    def rule(series: str, value: float, **labels: str) -> dict[str, object]:
        return {"record": f"auth_service:{series}", "expr": f"vector({value:g})", "labels": {"job": JOB, **labels}}

    costs = cpu_microseconds(results)
    idle = costs.pop(IDLE)
    rules = [
        rule("error_budget:ratio", ERROR_BUDGET),
        rule("objective_latency_seconds:p99", P99_SECONDS),
        rule("baseline_cpu_cores:idle_instance", idle / 1e6),
        *(rule("baseline_cpu_seconds:request", microseconds / 1e6, endpoint=endpoint) for endpoint, microseconds in costs.items()),
    ]
    text = yaml.safe_dump({"groups": [{"name": "auth-service-objectives", "rules": rules}]}, sort_keys=False, width=140)
    return (
        "# What the rules of rules.yaml compare with: the error budget of 30 days, the objective of the p99, and the CPU that a\n"
        f"# request took in the baseline {name}. Written by scripts/generate-docs; change the numbers for a service of your own.\n{text}"
    )


def values_file(results: Results, name: str) -> str:
    """The same costs as values of the chart."""
    values = {"monitoring": {"baselineCpuMicroseconds": cpu_microseconds(results)}}
    return f"# For helm install -f: the alerts then compare with the baseline {name}.\n{yaml.safe_dump(values, sort_keys=False)}"
