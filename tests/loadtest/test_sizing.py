"""Sizing: each number follows from the demand and the baseline's costs, and the chart takes what comes out."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authsvc.credentials import new_secret
from bench.requests import request
from localstack.layout import ROOT
from outcome import baseline
from outcome.results import Figures, Results
from outcome.run import RunError
from sizing.costs import COMPONENTS, ROWS, Cost, cores_in_use, costs, costs_text, read_costs
from sizing.demand import Demand
from sizing.footprint import Footprint, kept_footprint
from sizing.presets import BASELINE, written
from sizing.size import Sizing
from sizing.size import size as sized
from traffic.expected import TOKEN_CHARACTERS

COSTS = dict.fromkeys(ROWS, Cost(auth=50, nginx=20, redis=10))
AUTHORIZATION = "Basic " + b64encode(f"bench:{new_secret()}".encode()).decode()
RATE = st.floats(0, 100_000)


ROWS_OF_BYTES = ("validate", "token", "ott", "use", "revoke", "introspect", "health")
WIRES = {"client_in": 100, "client_out": 200, "auth_in": 150, "auth_out": 180, "redis_in": 300, "redis_out": 200}
FOOTPRINT = Footprint.model_validate(
    {
        "command": "none",
        "environment": {},
        "disk": {"sync_p50_ms": 1, "sync_p99_ms": 2.5, "mb_per_second": 200},
        "rows": [
            {"endpoint": name, "requests": 1, "appended": 500 if name in ("token", "ott", "use", "revoke") else 0, **WIRES}
            for name in ROWS_OF_BYTES
        ],
    }
)


def size(demand: Demand, costs: dict[str, Cost]) -> Sizing:
    return sized(demand, costs, FOOTPRINT)


def value(found: Sizing, what: str) -> str:
    return next(line.value for line in found.lines if line.what == what)


def test_cores_pods_and_balancers_follow_from_the_costs() -> None:
    found = size(Demand(validate_=40_000, token=20_000, headroom=0.5), COSTS)
    assert value(found, "auth: cores in use") == "3.00"
    assert value(found, "auth: pods of one core") == "5"
    assert found.values["auth"]["replicas"] == 5
    assert found.values["auth"]["autoscaling"] == {"enabled": True, "minReplicas": 3, "maxReplicas": 8, "targetCpuUtilization": 80}
    # 3 cores / 5 pods / 0.8
    assert value(found, "auth: a pod requests") == "0.75 cores"
    assert found.values["auth"]["resources"]["requests"]["cpu"] == "750m"
    assert value(found, "nginx: cores in use") == "1.20"
    assert found.values["nginx"]["replicas"] == 2
    assert found.values["nginx"]["autoscaling"] == {"enabled": True, "minReplicas": 2, "maxReplicas": 3, "targetCpuUtilization": 80}
    assert value(found, "redis: one is enough") == "yes"


def test_memory_is_that_of_live_tokens_and_of_an_outage() -> None:
    found = size(Demand(token=1000, ttl_seconds=3600, outage_minutes=30), COSTS)
    assert value(found, "redis: live tokens") == "3,600,000"
    assert value(found, "redis: events of an outage") == "1,800,000"
    # 3.6 million x 200 + 1.8 million x 256 bytes = 1126 MiB, in steps of 128
    assert value(found, "redis: maxmemory") == "1,152 MiB"
    assert found.values["redis"]["resources"]["limits"]["memory"] == "2304Mi"
    assert found.values["redis"]["persistence"]["size"] == "4Gi"


def test_one_redis_is_not_enough_for_more_than_its_thread_can_do() -> None:
    found = size(Demand(token=80_000, headroom=0.5), COSTS)
    assert value(found, "redis: one is enough") == "no: 1.20 cores"
    assert "the writers" in found.bottleneck or "Redis's one thread, at 0.8 times this demand" in found.bottleneck
    assert value(found, "redis: masters of a cluster") == "2"
    assert found.advice[0] == "One Redis is not enough: 1.20 cores for its one thread."
    assert found.advice[1].startswith("Run a Redis Cluster of 2 masters, or more")
    memory = found.values["redis"]["resources"]["limits"]["memory"].removesuffix("Mi")
    assert f"redis.external.cluster: true and redis.external.memory: {int(memory) // 2}Mi" in found.advice[2]
    assert found.advice[3:] == ["Or less headroom: 0.25 at most fits one Redis."]


@pytest.mark.parametrize(
    ("token", "headroom", "masters"),
    [(100_000, 0, None), (110_000, 0, "2"), (200_000, 0.5, "4"), (300_000, 0.5, "8"), (1_600_000, 0, "16"), (1_700_000, 0, "more than 16")],
)
def test_a_cluster_has_as_many_masters_as_there_are_cores_to_carry(token: float, headroom: float, masters: str | None) -> None:
    found = size(Demand(token=token, headroom=headroom), COSTS)
    assert next((line.value for line in found.lines if line.what == "redis: masters of a cluster"), None) == masters
    assert (found.advice == []) == (masters is None)
    assert "less headroom" not in " ".join(found.advice).lower(), "without any it does not fit either"


def test_the_sum_of_a_one_time_token_tells_that_one_redis_is_not_enough() -> None:
    """By the issues alone it would be."""
    each = costs(baseline.baseline(BASELINE))
    issue = each["ott"].redis - each["token"].redis
    rate = 0.95e6 / issue
    assert value(size(Demand(ott=rate, headroom=0), each), "redis: one is enough").startswith("no: ")


def test_connections_are_held_by_the_fewest_balancers() -> None:
    found = size(Demand(health=1000, connections=40_000), COSTS)
    # 8,192 a pod of two workers.
    assert found.values["nginx"]["autoscaling"]["minReplicas"] == 5
    assert value(found, "nginx: connections") == "40,960"


def test_an_outage_is_bridged_as_long_as_it_was_asked_though_a_use_and_a_revocation_are_events_too() -> None:
    found = size(Demand(token=1000, ott=1000, revoke=2000, outage_minutes=30), COSTS)
    # 1000 + 2 x 1000 + 2000 events a second; by the tokens alone the chart would take 2000, and stop making any after 12 minutes.
    assert found.values["settings"] == {"AUTH_BACKLOG_LIMIT": 5000 * 1800}
    assert value(found, "redis: outage bridged") == "30 min"
    assert value(size(Demand(validate_=1), COSTS), "redis: outage bridged") == "any"


def test_network_is_the_bytes_of_each_wire_with_their_heads() -> None:
    found = size(Demand(validate_=10_000, token=5_000), COSTS)
    # 15,000 x (100 + 66) x 8, and (200 + 66); an nginx pod of two has both its sides.
    assert value(found, "network: clients, in and out") == "20, 32 Mb/s"
    assert value(found, "network: an nginx pod") == "25, 29 Mb/s"
    # 15,000 x 300 x 8 and x 200: many requests are one packet.
    assert value(found, "network: redis") == "36, 24 Mb/s"
    assert value(found, "network: an auth pod") == "25, 33 Mb/s"


def test_a_one_time_token_costs_its_issue_and_its_use() -> None:
    cores = {"validate, wrk": 0.1, "token, wrk": 0.4, "ott, wrk": 0.5, "introspect, wrk": 0.1, "health, wrk": 0.1}
    rows = {row: [Figures(rate=10_000, cpu_cores=dict.fromkeys(COMPONENTS, each))] for row, each in cores.items()}
    found = costs(Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={}, rows=rows))
    assert (found["ott"], found["revoke"]) == (pytest.approx(Cost(90, 90, 90)), pytest.approx(Cost(40, 40, 40)))


def test_the_use_of_a_one_time_token_is_on_every_wire() -> None:
    once, twice = size(Demand(ott=10_000), COSTS), size(Demand(validate_=10_000, ott=10_000), COSTS)
    # 2 x 10,000 x (100 + 66) x 8; 2 x 10,000 x 300 x 8
    assert value(once, "network: clients, in and out") == "27, 43 Mb/s"
    assert value(once, "network: redis") == "48, 32 Mb/s"
    assert value(twice, "network: redis") == "72, 48 Mb/s"


def test_a_use_of_a_one_time_token_appends_as_its_issue_does() -> None:
    found = size(Demand(validate_=9_000, token=1_000, ott=2_000, revoke=3_000), COSTS)
    # (1,000 + 2 x 2,000 + 3,000) x 500 bytes.
    assert value(found, "disk: appended by redis") == "4.0 MB/s"


def test_a_sync_that_is_under_way_and_the_own_one_are_part_of_the_tail() -> None:
    assert value(size(Demand(token=1), COSTS), "disk: part of the p99") == "5.0 ms"
    assert value(size(Demand(token=1, sync_ms=0.4), COSTS), "disk: part of the p99") == "0.8 ms"


@pytest.mark.parametrize(
    ("more", "first"),
    [
        ({"validate_": 100_000}, "Redis's one thread, at 0.7 times"),
        ({"token": 10_000, "store": "embedded"}, "the writers, at 1.0 times"),
        ({"token": 1000, "disk_mb_per_second": 0.5}, "the disk of Redis, at 0.7 times"),
        ({"validate_": 10_000, "link_gbits": 0.024}, "the network of Redis, at 0.7 times"),
    ],
)
def test_what_gives_out_first_is_the_fullest_of_all_that_there_is_one_of(more: dict[str, Any], first: str) -> None:
    assert size(Demand(**more), COSTS).bottleneck.startswith(first)


def test_the_guide_is_beside_the_numbers_and_in_none_of_them() -> None:
    found = size(Demand(validate_=30_000, token=10_000), COSTS)
    guide = {line.what: line.guide for line in found.lines if line.guide}
    assert guide["auth: cores in use"] == "2.00 in all"
    assert guide["redis: maxmemory"] == "34,332 MiB"
    assert guide["auth: pods of one core"] == "4+ cores, 2 GB"
    assert guide["disk: volume of redis"] == "10 GB"


def test_every_number_has_its_formula() -> None:
    for demand in (Demand(validate_=1, token=1, ott=1, revoke=1), Demand(health=1, store="embedded")):
        assert [line.what for line in size(demand, COSTS).lines if not line.formula or not line.value] == []


def test_the_kept_bytes_are_those_of_the_requests_that_the_bench_sends() -> None:
    """By their lengths: whoever changes a request or nginx's fields measures again."""
    footprint = kept_footprint()
    assert footprint.command == "scripts/bench bytes --json loadtest/sizing/bytes.json"
    assert [row.endpoint for row in footprint.rows] == list(ROWS_OF_BYTES)
    sent = {
        "validate": request("POST", "/validate", id_number=100, token="a" * TOKEN_CHARACTERS),
        "token": request("POST", "/token", id_number=1000, authorization=AUTHORIZATION, grant_type="client_credentials"),
        "health": request("GET", "/health", id_number=0),
    }
    for name, whole in sent.items():
        assert footprint.of(name).client_in == pytest.approx(len(whole), abs=1), name
    for row in footprint.rows:
        assert row.auth_in > row.client_in, "nginx adds the client's address and the scheme"
        assert row.requests > 1000
        assert (row.appended > 0) == (row.endpoint in ("token", "ott", "use", "revoke")), row.endpoint


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


@given(RATE, RATE, RATE, RATE, st.integers(0, 100_000), st.floats(0, 10))
def test_an_autoscaler_wants_the_pods_of_the_demand_and_has_more_to_give(
    validate: float, token: float, ott: float, revoke: float, connections: int, headroom: float
) -> None:
    demand = Demand(validate_=validate, token=token, ott=ott, revoke=revoke, connections=connections, headroom=headroom)
    in_use, found = cores_in_use(demand.rates(), COSTS), size(demand, COSTS)
    for component in ("auth", "nginx"):
        values, cores = found.values[component], in_use[component]
        bounds, resources = values["autoscaling"], values["resources"]
        request, limit = float(resources["requests"]["cpu"].removesuffix("m")) / 1000, float(resources["limits"]["cpu"])
        each = request * bounds["targetCpuUtilization"] / 100

        def wanted(cores: float, each: float = each) -> int:
            return math.ceil(cores / each - 1e-6)

        assert 1.25 * each <= limit + 1e-9, "a pod can show more than the target"
        assert bounds["minReplicas"] <= values["replicas"] < bounds["maxReplicas"]
        assert wanted(cores) <= values["replicas"]
        assert wanted(cores * (1 + headroom)) <= bounds["maxReplicas"]
        assert values["replicas"] * limit >= cores * (1 + headroom) - 1e-6
        if request > 0.1:
            assert wanted(cores) >= 0.85 * values["replicas"] - 1, "and not far more than it wants"


def at(values: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        values = values[key]
    return values


def mebibytes(values: dict[str, Any]) -> int:
    return int(values["redis"]["resources"]["limits"]["memory"].removesuffix("Mi"))


def test_a_cost_is_cores_over_the_rate_in_the_middle_of_the_repeats() -> None:
    repeats = [Figures(rate=10_000, cpu_cores={"auth": cores, "nginx": 0.2, "redis": 0.1}) for cores in (0.4, 0.5, 0.9)]
    rows = dict.fromkeys((row for rows in ROWS.values() for row in rows), repeats)
    found = costs(Results(size="light", started=datetime(2026, 1, 1, tzinfo=UTC), environment={}, rows=rows))
    assert found["validate"] == pytest.approx(Cost(auth=50, nginx=20, redis=10))
    assert found["ott"] == pytest.approx(Cost(auth=100, nginx=40, redis=20)), "two rows"


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
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "…" not in done.stdout, "a number is cut short"
    assert f"baseline {BASELINE}" in done.stdout
    assert yaml.safe_load(file.read_text())["capacity"]["tokensPerSecond"] == 20_000


def test_costs_of_ones_own_cluster_take_the_place_of_a_baselines(tmp_path: Path) -> None:
    file, values = tmp_path / "costs.json", tmp_path / "values.yaml"
    file.write_text(costs_text(dict.fromkeys(ROWS, Cost(200, 100, 50))))
    done = typed("--validate", "1000", "--headroom", "0", "--costs", str(file), "--output", str(values))
    assert done.returncode == 0, done.stderr
    assert "0.20" in done.stdout
    assert "Costs of a request: the costs in " in done.stdout
    assert f"from the costs in {file} for" in values.read_text()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "cannot be read: No such file or directory."),
        ("[]", "holds no costs of a scale test."),
        (
            '{"validate": {"auth": 1}}',
            "must say for validate, token, ott, revoke, introspect, health what a request costs auth, nginx, redis",
        ),
        (costs_text(dict.fromkeys(ROWS, Cost(1, 1, -1))), "must say for validate"),
    ],
)
def test_what_are_no_costs_is_one_sentence(tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "costs.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(RunError, match=re.escape(sentence)):
        read_costs(file)


def test_values_that_cannot_be_written_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "values.yaml"
    done = typed("--token", "1", "--output", str(file))
    assert (done.returncode, done.stderr) == (1, f"{file} cannot be written: No such file or directory.\n")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [((), "Nothing is asked for: name rates"), (("--token", "1", "--baseline", "nowhere"), "There is no baseline nowhere; there are: ")],
)
def test_what_cannot_be_sized_is_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    done = typed(*words)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
