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
        good = figures(1000 * seconds + INSTANCES * IDLE_CORES, 1000 * requests)
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


def predicted_cores(costs: dict[str, int], turns: dict[str, int], rate: float, instances: int) -> float:
    """As the rule reckons what is answered, and what idles."""
    microseconds, requests = 0, 0
    for endpoint, number in turns.items():
        others = objectives.BESIDE[endpoint]
        microseconds += number * (costs[endpoint] + sum(costs[other] * each for other, each in others.items()))
        requests += number * (1 + sum(others.values()))
    return rate * microseconds / requests / 1e6 + instances * costs[objectives.IDLE] / 1e6


@pytest.mark.parametrize(
    ("row", "turns"),
    # The mixed load is not among those that the costs were made from. An alert asks for a fifth.
    [("mix, open", MIX), (objectives.LIGHT, {"validate": 1}), *((f"{endpoint}, closed", {endpoint: 1}) for endpoint in objectives.BESIDE)],
)
def test_the_costs_explain_the_rows_of_the_baseline(row: str, turns: dict[str, int]) -> None:
    kept = baseline.baseline(objectives.BASELINE)
    costs = objectives.cpu_microseconds(kept)
    rate, cores = kept.median(row, "rate"), kept.median_cores(row, "auth")
    assert rate is not None
    assert cores is not None
    assert predicted_cores(costs, turns, rate, int(kept.environment["instances"])) == pytest.approx(cores, rel=0.1)
