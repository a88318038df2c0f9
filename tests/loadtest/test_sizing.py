"""Sizing: each number follows from the demand and the baseline's costs, and the chart takes what comes out."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from localstack.layout import ROOT
from outcome import baseline
from outcome.results import Figures, Results
from outcome.run import RunError
from sizing.costs import COMPONENTS, ROWS, Cost, costs
from sizing.presets import BASELINE, written
from sizing.size import Demand, Sizing, size

COSTS = dict.fromkeys(ROWS, Cost(auth=50, nginx=20, redis=10))
RATE = st.floats(0, 100_000)


def value(found: Sizing, what: str) -> str:
    return next(line.value for line in found.lines if line.what == what)


def test_cores_pods_and_balancers_follow_from_the_costs() -> None:
    found = size(Demand(validate_=40_000, token=20_000, headroom=0.5), COSTS)
    assert value(found, "auth: cores in use") == "3.00"
    assert value(found, "auth: pods of one core") == "5"
    assert found.values["auth"]["replicas"] == 5
    assert found.values["auth"]["autoscaling"] == {"enabled": True, "minReplicas": 2, "maxReplicas": 8}
    assert value(found, "nginx: cores in use") == "1.20"
    assert found.values["nginx"]["replicas"] == 2
    assert value(found, "redis: one is enough") == "yes"


def test_memory_is_that_of_live_tokens_and_of_an_outage() -> None:
    found = size(Demand(token=1000, ttl_seconds=3600, outage_minutes=30), COSTS)
    assert value(found, "redis: live tokens") == "3,600,000"
    assert value(found, "redis: events of an outage") == "1,800,000"
    # 3.6 million x 200 + 1.8 million x 256 bytes = 1126 MiB, in steps of 128
    assert value(found, "redis: maxmemory") == "1152 MiB"
    assert found.values["redis"]["resources"]["limits"]["memory"] == "2304Mi"
    assert found.values["redis"]["persistence"]["size"] == "4Gi"


def test_one_redis_is_not_enough_for_more_than_its_thread_can_do() -> None:
    found = size(Demand(token=80_000, headroom=0.5), COSTS)
    assert value(found, "redis: one is enough") == "no: 1.20 cores for its one thread"
    assert "the writers" in found.bottleneck or "Redis's one thread, at 0.8 times this demand" in found.bottleneck


def test_writers_and_sessions_follow_from_events() -> None:
    found = size(Demand(token=10_000, ott=5_000, revoke=10_000, headroom=0), COSTS)
    # An issue, an issue and a use, a revocation.
    assert value(found, "writer: pods") == "2"
    assert found.values["writer"] == {"profile": "throughput", "replicas": 2}
    assert found.values["oracle"]["sessionLimit"] == 22
    assert value(found, "record store: rows a day") == "1,296,000,000"
    assert size(Demand(token=10, store="embedded"), COSTS).values["writer"]["persistence"] == {"size": "10Gi"}


@given(RATE, RATE, RATE, RATE, st.floats(1, 3))
def test_more_demand_never_needs_less(validate: float, token: float, ott: float, revoke: float, factor: float) -> None:
    one = size(Demand(validate_=validate, token=token, ott=ott, revoke=revoke), COSTS).values
    more = size(Demand(validate_=validate * factor, token=token * factor, ott=ott * factor, revoke=revoke * factor), COSTS).values
    for path in (("auth", "replicas"), ("nginx", "replicas"), ("writer", "replicas"), ("capacity", "tokensPerSecond")):
        assert at(more, path) >= at(one, path)
    assert mebibytes(more) >= mebibytes(one)


def at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


def mebibytes(values: dict[str, Any]) -> int:
    return int(values["redis"]["resources"]["limits"]["memory"].removesuffix("Mi"))


def test_a_cost_is_cores_over_the_rate_in_the_middle_of_the_repeats() -> None:
    repeats = [Figures(rate=10_000, cpu_cores={"auth": cores, "nginx": 0.2, "redis": 0.1}) for cores in (0.4, 0.5, 0.9)]
    rows = dict.fromkeys(ROWS.values(), repeats)
    found = costs(Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={}, rows=rows))
    assert found["validate"] == pytest.approx(Cost(auth=50, nginx=20, redis=10))


def test_a_baseline_without_a_row_is_one_sentence() -> None:
    with pytest.raises(RunError, match=r"The baseline has no row 'validate, wrk' with the CPU of auth, nginx, redis"):
        costs(Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={}, rows={}))


def test_the_kept_baseline_has_every_cost() -> None:
    assert all(getattr(cost, name) > 0 for cost in costs(baseline.baseline(BASELINE)).values() for name in COMPONENTS)


@pytest.mark.parametrize("file", written(), ids=lambda file: file.stem)
def test_a_preset_is_as_it_would_be_written(file: Path) -> None:
    assert file.read_text(encoding="utf-8") == written()[file], "run scripts/generate-docs"


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sizing", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "loadtest")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


def test_the_command_prints_sums_and_writes_values(tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    done = typed(
        "--validate", "30000", "--token", "15000", "--ott", "5000", "--revoke", "30000", "--headroom", "0.5", "--output", str(file)
    )
    assert done.returncode == 0, done.stderr
    assert "First to give out: " in done.stdout
    assert f"baseline {BASELINE}" in done.stdout
    assert yaml.safe_load(file.read_text())["capacity"]["tokensPerSecond"] == 20_000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [((), "Nothing is asked for: name rates"), (("--token", "1", "--baseline", "nowhere"), "There is no baseline nowhere; there are: ")],
)
def test_what_cannot_be_sized_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = typed(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
