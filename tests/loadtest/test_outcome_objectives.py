"""What a request costs, from a baseline's results: the sums, which results cannot tell, and that they explain a mixed load."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import yaml

from outcome import baseline, objectives
from outcome.results import Figures, Results

COSTS = {"health": 50, "token": 200, "validate": 100, "introspect": 120, "ott": 400, "revoke": 250}
IDLE_CORES = 0.02
INSTANCES = 4
MIX = {"validate": 14, "token": 3, "introspect": 1, "ott": 1, "revoke": 1}
"""Turns of twenty (loadtest/README.md)."""


def turn_of(endpoint: str) -> tuple[float, int]:
    """CPU seconds and requests of one turn of an endpoint's plan."""
    others = objectives.BESIDE[endpoint]
    return (COSTS[endpoint] + sum(COSTS[other] * number for other, number in others.items())) / 1e6, 1 + sum(others.values())


def figures(cores: float, rate: float) -> Figures:
    return Figures(rate=rate, cpu_cores={"auth": cores, "nginx": 1.0})


def synthetic(**environment: str | int) -> Results:
    """Of a service whose requests cost exactly COSTS; of three repeats one was disturbed."""
    rows = {}
    for endpoint in objectives.BESIDE:
        seconds, requests = turn_of(endpoint)
        good = figures(1000 * seconds, 1000 * requests)
        rows[f"{endpoint}, closed"] = [good, figures(3000 * seconds, 1000 * requests), good]
    rows[objectives.LIGHT] = [figures(INSTANCES * IDLE_CORES + 300 * COSTS["validate"] / 1e6, 300)]
    return Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={"instances": INSTANCES} | environment, rows=rows)


def without(row: str) -> Results:
    results = synthetic()
    return results.model_copy(update={"rows": {name: repeats for name, repeats in results.rows.items() if name != row}})


def unseen(row: str) -> Results:
    """One repeat of the row did not see the CPU of the instances."""
    results = synthetic()
    first, *others = results.rows[row]
    return results.model_copy(update={"rows": results.rows | {row: [first.model_copy(update={"cpu_cores": {}}), *others]}})


def test_each_endpoint_has_its_own_cost_and_an_idle_instance_too() -> None:
    assert objectives.cpu_microseconds(synthetic()) == COSTS | {objectives.IDLE: round(IDLE_CORES * 1e6)}


@pytest.mark.parametrize(
    "results",
    [without("ott, closed"), without(objectives.LIGHT), unseen("token, closed"), unseen(objectives.LIGHT), synthetic(instances="some")],
    ids=["a plan is missing", "no light load", "CPU not seen", "CPU of the light load not seen", "number of instances not known"],
)
def test_results_that_cannot_tell_have_no_values(results: Results) -> None:
    assert baseline.MONITORING in baseline.derived(synthetic(), "here")
    assert not objectives.can_tell(results)
    assert baseline.MONITORING not in baseline.derived(results, "here")


def test_values_and_rules_have_the_same_costs() -> None:
    values = yaml.safe_load(objectives.values_file(synthetic(), "here"))["monitoring"]["baselineCpuMicroseconds"]
    [group] = yaml.safe_load(objectives.rules_file(synthetic(), "here"))["groups"]
    ruled = {
        rule["labels"].get("endpoint", objectives.IDLE): float(rule["expr"].removeprefix("vector(").removesuffix(")"))
        for rule in group["rules"]
        if ":baseline_cpu_" in rule["record"]
    }
    assert {name: seconds * 1e6 for name, seconds in ruled.items()} == pytest.approx(values)


def test_the_file_of_the_chart_is_generated() -> None:
    kept = baseline.baseline(objectives.BASELINE)
    assert objectives.FILE.read_text() == objectives.rules_file(kept, objectives.BASELINE), "run scripts/generate-docs"


def test_the_costs_explain_a_mixed_load_that_they_were_not_made_from() -> None:
    kept = baseline.baseline(objectives.BASELINE)
    costs = objectives.cpu_microseconds(kept)
    microseconds, requests = 0, 0
    for endpoint, turns in MIX.items():
        others = objectives.BESIDE[endpoint]
        microseconds += turns * (costs[endpoint] + sum(costs[other] * number for other, number in others.items()))
        requests += turns * (1 + sum(others.values()))
    rate, cores = kept.median("mix, open", "rate"), kept.median_cores("mix, open", "auth")
    assert rate is not None
    assert cores is not None
    predicted = rate * microseconds / requests / 1e6 + int(kept.environment["instances"]) * costs[objectives.IDLE] / 1e6
    # An alert asks for a fifth.
    assert predicted == pytest.approx(cores, rel=0.1)
