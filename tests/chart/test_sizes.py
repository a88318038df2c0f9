"""The chart takes the values of every preset and of any size: its own sums agree with those of scripts/size."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rendering import CHART, refused, render, rendered_text

from autoscaling.__main__ import read_load, read_manifests
from autoscaling.simulation import judge, simulate
from outcome import baseline
from sizing.costs import ROWS, Cost, cores_in_use, costs
from sizing.demand import Demand
from sizing.footprint import kept_footprint
from sizing.presets import BASELINE, PRESETS
from sizing.size import size

ORACLE = {"url": "oracle://a@db:1521/X"}
COSTS = dict.fromkeys(ROWS, Cost(auth=50, nginx=20, redis=10))


def preset(name: str) -> dict[str, Any]:
    """Its values, and what whoever installs it must name."""
    values: dict[str, Any] = yaml.safe_load((CHART / "sizes" / f"{name}.yaml").read_text())
    return values | {"oracle": values["oracle"] | ORACLE} if "oracle" in values else values


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_renders(name: str) -> None:
    values = preset(name)
    scalers = [each["spec"] for each in render(values) if each["kind"] == "HorizontalPodAutoscaler"]
    for scaler, component in zip(scalers, ("auth", "nginx"), strict=True):
        bounds = values[component]["autoscaling"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (bounds["minReplicas"], bounds["maxReplicas"])


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_whether_one_redis_is_enough_and_the_chart_takes_what_it_says_otherwise(name: str) -> None:
    """What stands in the comment."""
    text = (CHART / "sizes" / f"{name}.yaml").read_text()
    said = re.search(r"redis\.external\.cluster: true and redis\.external\.memory: (\w+),", text)
    assert ("Run a Redis Cluster of " in text) == (said is not None) == (name in ("4x", "10x"))
    if said is not None:
        values = preset(name)
        values["redis"]["external"] = {"url": "redis://auth@cluster:6379", "cluster": True, "memory": said[1]}
        assert not [each for each in render(values) if each["kind"] == "StatefulSet"]


@pytest.mark.parametrize("component", ["auth", "nginx"])
@pytest.mark.parametrize("name", PRESETS)
def test_the_autoscaler_of_a_preset_follows_its_demand_and_stays_below_its_most_pods(name: str, component: str) -> None:
    """From nothing to the demand within two minutes."""
    autoscaler, pods = read_manifests(rendered_text(preset(name)), component)
    cores = cores_in_use(PRESETS[name].rates(), costs(baseline.baseline(BASELINE)))[component]
    moments = simulate(autoscaler, pods, read_load(f"0:0,60:{cores}"), 1200)
    taken = judge(moments).seconds_to_capacity
    assert taken is not None
    assert taken <= 120
    assert moments[-1].replicas < autoscaler.most, "AuthServiceAutoscalerAtMaximum would fire"


@pytest.mark.parametrize("name", [name for name, demand in PRESETS.items() if demand.store == "oracle"])
def test_a_preset_for_oracle_is_refused_without_its_url_and_has_its_writers_with_it(name: str) -> None:
    values: dict[str, Any] = yaml.safe_load((CHART / "sizes" / f"{name}.yaml").read_text())
    assert refused(values).startswith("oracle.existingSecret needs oracle.url: the database.")
    writer = next(each for each in render(preset(name)) if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-writer"))
    assert writer["spec"]["replicas"] == values["writer"]["replicas"] > 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 50_000),
    st.integers(0, 50_000),
    st.integers(0, 20_000),
    st.integers(0, 50_000),
    st.integers(60, 86_400),
    st.integers(0, 120),
)
def test_any_size_renders(validate: int, token: int, ott: int, revoke: int, ttl: int, outage: int) -> None:
    demand = Demand(validate_=validate, token=token, ott=ott, revoke=revoke, ttl_seconds=ttl, outage_minutes=outage)
    values = size(demand, COSTS, kept_footprint()).values
    assert render(values | {"oracle": values["oracle"] | ORACLE})
