"""The chart takes the values of every preset and of any size: its own sums agree with those of scripts/size."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rendering import CHART, render

from sizing.costs import ROWS, Cost
from sizing.demand import Demand
from sizing.footprint import kept_footprint
from sizing.size import size

ORACLE = {"url": "oracle://a@db:1521/X", "existingSecret": "oracle"}
COSTS = dict.fromkeys(ROWS, Cost(auth=50, nginx=20, redis=10))


@pytest.mark.parametrize("file", sorted((CHART / "sizes").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_preset_renders(file: Path) -> None:
    values = yaml.safe_load(file.read_text())
    scalers = [each["spec"] for each in render(values) if each["kind"] == "HorizontalPodAutoscaler"]
    for scaler, component in zip(scalers, ("auth", "nginx"), strict=True):
        bounds = values[component]["autoscaling"]
        assert (scaler["minReplicas"], scaler["maxReplicas"]) == (bounds["minReplicas"], bounds["maxReplicas"])


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
