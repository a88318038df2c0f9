"""The scale test without a cluster: what is still to be measured, what a record says, and the page that follows from it."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localstack.layout import ROOT
from outcome.latency import bucket
from outcome.plan import EndpointName, Plan
from outcome.run import Endpoint, Generator, Point, Run, RunError
from scaling import page
from scaling.counters import Counts, component_of
from scaling.findings import Prediction, bottleneck, cells, costs_of_rows, predictions
from scaling.measure import steps_of, timeline
from scaling.plan import ENDPOINTS, Key, ScalePlan
from scaling.record import Record, Row, Step, open_record, read_record, write_record
from sizing.costs import Cost, read_costs

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
SHORT = ScalePlan(endpoints=("validate", "token"), rounds=2)
COSTS = {"auth": 40, "nginx": 20, "redis": 10, "generator": 200}
"""Microseconds of any request."""
ASKED: dict[EndpointName, dict[str, int]] = {
    "ott": {"ott": 1, "validate one-time": 1, "validate used": 1},
    "revoke": {"token": 1, "revoke": 1, "validate revoked": 1},
    "mix": {
        "validate": 12,
        "validate refused": 2,
        "token": 4,
        "introspect": 1,
        "ott": 1,
        "validate one-time": 1,
        "validate used": 1,
        "revoke": 1,
    },
}


def row(key: Key, rate: float, **changed: Any) -> Row:
    """Ten seconds at this rate, each request at the same costs."""
    asked = ASKED.get(key.endpoint, {key.endpoint: 1})
    limits = {"auth": 0.04 * key.pods, "nginx": 0.6, "redis": 0.6, "generator": 1.0}
    known: dict[str, Any] = {
        "round": key.round,
        "pods": key.pods,
        "endpoint": key.endpoint,
        "seconds": 10,
        "answers": {name: round(rate * 10 * part / sum(asked.values())) for name, part in asked.items()},
        "wrong": {},
        "p99_ms": 90.0,
        "cores": {name: cost * rate / 1e6 for name, cost in COSTS.items()},
        "limits": limits,
    }
    return Row(**known | changed)


def record(plan: ScalePlan = SHORT, at_four: float = 3840) -> Record:
    rates = {1: 1000.0, 2: 2000.0, 4: at_four}
    found = Record(plan=plan, started=STARTED, environment={"target": "cluster"}, idle={"auth": 0.002})
    # Round by round one per cent apart.
    found.rows = [row(key, rates[key.pods] * (1 + (key.round - 1) / 100)) for key in plan.in_order()]
    return found


def test_rounds_are_the_outer_loop_and_pods_the_middle_one() -> None:
    keys = list(SHORT.in_order())
    assert len(keys) == 12
    assert keys[:3] == [Key(1, 1, "validate"), Key(1, 1, "token"), Key(1, 2, "validate")]
    assert keys[6].round == 2


def test_each_pod_has_as_many_users() -> None:
    assert [SHORT.saturating(Key(1, pods, "token")).users for pods in SHORT.pods] == [32, 64, 128]


@pytest.mark.parametrize("pods", [(2, 4), (1, 4, 2), (1, 1)])
def test_what_cannot_be_compared_with_one_pod_is_refused(pods: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="the numbers of pods begin with 1 and rise"):
        ScalePlan(pods=pods)


@given(st.integers(0, 12))
def test_a_record_that_was_cut_off_lacks_exactly_what_was_not_measured(done: int) -> None:
    keys = list(SHORT.in_order())
    found = record()
    found.rows = found.rows[:done]
    assert found.missing() == keys[done:]
    assert found.faults() == ([] if done == 12 else [f"{12 - done} rows are missing."])


def test_it_is_gone_on_with_and_another_plan_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "record.json"
    assert open_record(file, SHORT, STARTED).rows == []
    half = record()
    half.rows = half.rows[:5]
    write_record(half, file)
    assert [each.name for each in file.parent.iterdir()] == ["record.json"]
    assert open_record(file, SHORT, STARTED) == half == read_record(file)
    with pytest.raises(RunError, match="is of another plan: give that plan's options to go on with it, or --fresh"):
        open_record(file, SHORT.model_copy(update={"users": 1}), STARTED)
    file.write_text(file.read_text()[:-40])
    with pytest.raises(RunError, match="is no record of a scale test"):
        open_record(file, SHORT, STARTED)


def test_efficiency_is_the_middle_rate_over_that_of_one_pod() -> None:
    found = cells(record())["validate"]
    assert found[4].efficiency == pytest.approx(0.96)
    assert found[1].efficiency == 1.0
    assert found[4].rate == pytest.approx((3859.2, 3840, 3878.4))
    assert found[4].cost_us == pytest.approx(COSTS)
    assert found[4].used == pytest.approx({"auth": 0.9648, "nginx": 0.1286, "redis": 0.0643, "generator": 0.7718}, rel=1e-3)
    assert {cell.bottleneck for cell in found.values()} == {"auth"}


def test_who_has_nothing_left_is_named() -> None:
    assert bottleneck({"auth": 0.93, "nginx": 0.97}) == "nginx"
    assert bottleneck({"auth": 0.89, "nginx": 0.5}) == "none of them"
    assert bottleneck({}) == "nothing seen"


def test_what_a_plan_asks_besides_is_taken_off_and_the_mix_is_predicted() -> None:
    found = record(ScalePlan(endpoints=ENDPOINTS, rounds=1))
    costs = costs_of_rows(found, 4)
    assert set(costs) == set(ENDPOINTS) - {"mix"}
    for endpoint, cost in costs.items():
        requests = 2 if endpoint == "ott" else 1  # issue and use; the second try is a validate
        assert cost == pytest.approx(Cost(40 * requests, 20 * requests, 10 * requests), rel=1e-2), endpoint
    assert [each.component for each in predictions(found, costs, 4)] == ["auth", "nginx", "redis"]
    for each in predictions(found, costs, 4):
        assert each.error == pytest.approx(0, abs=0.06)  # of 21 requests of the mix one is rounded off
    dear = {endpoint: cost._replace(auth=cost.auth * 2) for endpoint, cost in costs.items()}
    assert predictions(found, dear, 4)[0].error == pytest.approx(1, abs=0.1)
    found.rows = [each for each in found.rows if each.endpoint != "token"]
    assert costs_of_rows(found, 4) == {}


def test_what_a_mix_costs_more_with_fewer_pods_is_foretold_for_more() -> None:
    found = record(ScalePlan(endpoints=ENDPOINTS, rounds=1))
    alone = costs_of_rows(found, 4)
    for each in found.rows:
        if each.endpoint == "mix":
            each.cores |= {"auth": each.cores["auth"] * 1.5}
    dearer = costs_of_rows(found, 4)
    for endpoint, cost in dearer.items():
        assert cost == pytest.approx(alone[endpoint]._replace(auth=alone[endpoint].auth * 1.5), rel=1e-6), endpoint
    assert is_sized(predictions(found, dearer, 4))
    assert not is_sized(predictions(found, alone, 4))
    found.rows = [each for each in found.rows if each.endpoint != "mix" or each.pods == 4]
    assert not is_sized(predictions(found, costs_of_rows(found, 4), 4)), "nothing measured with fewer pods says so"


def test_costs_are_kept_for_the_sizing(tmp_path: Path) -> None:
    found = record(ScalePlan(endpoints=ENDPOINTS, rounds=1))
    file = tmp_path / "costs.json"
    file.write_text(page.files(found)[page.COSTS.name])
    kept = read_costs(file)
    for endpoint, cost in costs_of_rows(found, 4).items():
        assert kept[endpoint] == pytest.approx(cost, abs=0.01)
    assert page.COSTS.name not in page.files(record()), "some endpoints were not measured"


def kubelet(at: int, one: float, two: float) -> str:
    """A kubelet's page of metrics, the lines that matter and those that must not be taken for them."""

    def used(value: float, container: str, pod: str, namespace: str = "here", milliseconds: int = 0) -> str:
        labels = f'container="{container}",cpu="total",id="/kubepods/{pod}",image="",name="",namespace="{namespace}",pod="{pod}"'
        return f"container_cpu_usage_seconds_total{{{labels}}} {value} {at}{milliseconds:03}"

    return "\n".join(
        [
            "# HELP container_cpu_usage_seconds_total Cumulative cpu time consumed",
            "# TYPE container_cpu_usage_seconds_total counter",
            used(99, "", "auth-1"),
            used(one, "auth", "auth-1"),
            used(two, "auth", "auth-2", milliseconds=500),
            used(7, "auth", "auth-1", namespace="elsewhere"),
            f'container_cpu_cfs_periods_total{{container="auth",namespace="here",pod="auth-1"}} 5 {at}000',
        ]
    )


def test_cores_are_between_two_counts_of_every_pod() -> None:
    labels = {"app.kubernetes.io/name": "auth-service", "app.kubernetes.io/component": "auth"}
    counts = Counts("here")
    counts.note_pods({"metadata": {"name": f"auth-{number}", "labels": labels}} for number in (1, 2))
    for at, one, two in ((100, 10.0, 20.0), (110, 10.5, 20.25), (110, 10.5, 20.25), (120, 12.0, 21.0)):
        counts.read(kubelet(at, one, two))
    assert counts.cores(95, 111) == {"auth": pytest.approx(0.075)}
    assert counts.cores(105, 125) == {"auth": pytest.approx(0.225)}
    # Of one pod there is one count only.
    assert counts.cores(110, 120) == {}


def test_generators_are_told_from_the_service() -> None:
    assert component_of({"metadata": {"labels": {"app.kubernetes.io/name": "loadtest"}}}) == "generator"
    assert component_of({"metadata": {}}) == ""


def run(points: list[Point], seconds: int = 60) -> Run:
    endpoints = {"validate": Endpoint(requests=10, times={bucket(1.0): 10})}
    return Run(
        name="r", plan=Plan(seconds=seconds), started=STARTED, end="complete", points=points, endpoints=endpoints, generator=Generator()
    )


def test_a_step_has_what_was_asked_until_the_next_began() -> None:
    points = [Point(at_seconds=at, requests={"validate": 10}, wrong=int(at == 25), p99_ms=float(at)) for at in range(1, 61)]
    began = STARTED.timestamp()
    found = steps_of(run(points), [(1, 2, began + 10, began + 20), (2, 1, began + 30, began + 50)])
    assert found[0] == Step(before=1, after=2, seconds=10, requests=200, wrong=1, p99_ms=29)
    assert (found[1].requests, found[1].wrong, found[1].p99_ms) == (310, 0, 60)
    with pytest.raises(RunError, match="The load ended before the last step did"):
        steps_of(run(points), [(1, 2, began + 10, began + 61)])


def whole() -> Record:
    found = record(ScalePlan(endpoints=ENDPOINTS, rounds=2))
    found.steps = [Step(before=1, after=2, seconds=12, requests=900, wrong=0, p99_ms=20)]
    points = [
        Point(at_seconds=at, offered=100.0, requests={"mix": 100}, p99_ms=5, replicas=pods)
        for at, pods in ((1, None), (5, 1), (10, 1), (15, 4), (20, 4), (25, 3), (30, 2))
    ]
    found.autoscaled = timeline(points)
    return found


def test_the_page_says_what_was_reached_and_what_was_not() -> None:
    text = page.page(whole())
    assert "With 4 pods: validate 0.96 (to reach: 0.95, reached); token 0.96 (to reach: 0.90, reached)." in text
    assert "| validate | 1,005 (1,000-1,010) | 2,010 (2,000-2,020) | 3,859 (3,840-3,878) | 1.00 | 0.96 | 90.0, 90.0, 90.0 |" in text
    assert "| validate | 96% | 13% | 6% | 77% | auth |" in text
    assert "| validate | 40, 40 | 20, 20 | 10, 10 | 200, 200 |" in text
    assert "| 1 to 2 | 12 | 900 | 0 | 20.0 |" in text
    assert [line.split()[1:4:2] for line in text.splitlines() if line.endswith("| 5.00 |")] == [
        ["5", "1"],
        ["15", "4"],
        ["25", "3"],
        ["30", "2"],
    ]
    assert "to reach: 0.95, missed" in page.page(record(at_four=3700))


def test_plots_are_whole_files() -> None:
    found = page.files(whole())
    assert set(found) == {"scaling.md", "scaling.svg", "scaling-autoscaler.svg", "scaling-costs.json"}
    for name, text in found.items():
        if name.endswith(".svg"):
            assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
            assert text.count("<path") >= 3


def test_wrong_answers_are_faults() -> None:
    found = whole()
    found.rows[0] = row(found.rows[0].key, 1000, wrong={"no answer": 3})
    found.steps[0] = found.steps[0].model_copy(update={"wrong": 2})
    assert found.autoscaled is not None
    found.autoscaled.wrong[0] = 1
    assert whole().faults() == []
    assert found.faults() == [
        "validate, 1 pods: 3 wrong answers (no answer: 3).",
        "1 to 2 pods: 2 wrong answers.",
        "Under the autoscaler: 1 wrong answers.",
    ]


def test_what_was_not_reached_or_not_seen_is_a_fault() -> None:
    found = whole()
    cores = {name: used for name, used in found.rows[0].cores.items() if name not in ("redis", "auth")}
    found.rows[0] = found.rows[0].model_copy(update={"cores": cores})
    assert found.autoscaled is not None
    found.autoscaled.pods = [None if pods == 4 else pods for pods in found.autoscaled.pods]
    assert found.faults() == [
        "validate, 1 pods, round 1: the CPU of auth, redis was not seen.",
        "Under the autoscaler: never seen with so many pods: 4.",
    ]


def test_it_is_gone_on_with_in_the_same_place_only() -> None:
    found = record()
    found.environment = {}
    here = {"target": "cluster", "nodes": "1 of 2 cores, v1.34.0", "service": "0.1.0"}
    found.be_of(here)
    found.be_of(dict(here))
    assert found.environment == here
    with pytest.raises(RunError, match=r"another place \(nodes: 1 of 2 cores, v1.34.0, now 2 of 2 cores, v1.34.0\).*--fresh"):
        found.be_of(here | {"nodes": "2 of 2 cores, v1.34.0"})
    with pytest.raises(RunError, match=r"\(service: 0.1.0, now 0.2.0\)"):
        found.be_of(here | {"service": "0.2.0"})
    with pytest.raises(RunError, match=r"\(nodes: 1 of 2 cores, v1.34.0, now unknown\)"):
        found.be_of({"target": "cluster", "service": "0.1.0"})


def is_sized(found: list[Prediction]) -> bool:
    """Whether the sizing foretold what each component used."""
    return len(found) == 3 and all(abs(each.error) <= page.NEAR for each in found)


def test_a_record_without_a_mix_is_not_sized() -> None:
    found = whole()
    costs = costs_of_rows(found, 4)
    assert is_sized(predictions(found, costs, 4))
    assert not is_sized(predictions(found, {endpoint: cost._replace(redis=cost.redis * 2) for endpoint, cost in costs.items()}, 4))
    found.rows = [each for each in found.rows if each.endpoint != "mix"]
    assert not is_sized(predictions(found, costs, 4))


def test_the_page_says_under_which_limit_pods_come_and_go() -> None:
    _, _, coming = page.page(whole()).partition("## Pods that come and go")
    steps, _, autoscaled = coming.partition("## The autoscaler")
    for part in (steps, autoscaled):
        assert "may use 500 millicores here, not 40 as in the rows above" in part
    assert ScalePlan().start_millicores == 500


def test_a_request_is_said_to_cost_more_where_it_does() -> None:
    """The baseline's costs of the mix are some 50, 24 and 12 us."""
    found = whole()

    def said(**cost: float) -> str:
        for each in found.rows:
            each.cores |= {name: us * each.rate / 1e6 for name, us in cost.items()}
        return page.page(found)

    text = said(auth=200, nginx=200, redis=2)
    assert "costs more CPU than `scripts/size` says for auth, nginx." in text
    assert "costs less CPU than `scripts/size` says for redis." in text
    assert "costs more CPU" not in said(auth=5, nginx=5, redis=2)


def test_the_page_and_plots_in_docs_follow_from_the_record_beside_them() -> None:
    written = {file.name for file in (page.PAGE, page.PLOT, page.AUTOSCALER, page.COSTS) if file.exists()}
    if not page.RECORD.exists():
        assert written == set(), "a page without its record: run scripts/scale-test --publish"
        return
    kept = read_record(page.RECORD)
    assert kept.faults() == []
    assert is_sized(predictions(kept, read_costs(page.COSTS), kept.plan.pods[-1])), "what was measured is not what is sized"
    assert written == set(page.files(kept))
    for name, text in page.files(kept).items():
        assert (page.DOCS / name).read_text(encoding="utf-8") == text, "run scripts/generate-docs"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("--seconds", "8", "--namespace", "UP"), 2, "no name for a namespace"),
        (("--seconds", "nine"), 2, "--seconds"),
        (
            ("--seconds", "22"),
            1,
            "a row of 22 s is too short for two counts of the kubelet, ten seconds apart, after a warm-up of 3 s: give 23",
        ),
        (("--only", "nothing"), 1, "The plan cannot be: Input should be "),
        (("--folder", "{folder}"), 1, "record.json is no record of a scale test"),
    ],
)
def test_what_cannot_be_run_is_one_sentence(words: tuple[str, ...], code: int, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text("{}")
    done = typed(*(word.format(folder=tmp_path) for word in words))
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_whole_record_with_faults_is_begun_anew(tmp_path: Path) -> None:
    found = whole()
    found.plan = ScalePlan(rounds=2)
    found.rows[0] = row(found.rows[0].key, 1000, wrong={"no answer": 3})
    write_record(found, tmp_path / "record.json")
    done = typed("--rounds", "2", "--folder", str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == ["validate, 1 pods: 3 wrong answers (no answer: 3).", "--fresh begins anew."]


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("loadtest", "scripts", "service"))}
    command = [sys.executable, "-m", "scaling", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
