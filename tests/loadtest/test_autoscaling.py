"""The simulated autoscaler decides as Kubernetes' own does, and the chart's grows in time, stays calm and shrinks gently."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from kubernetes.utils.quantity import parse_quantity

from autoscaling.__main__ import missing, page, read_load, read_manifests, read_per_core
from autoscaling.algorithm import Controller, PodSample, proposed_replicas
from autoscaling.manifest import Autoscaler, Direction, Metric, Policy, read_autoscaler
from autoscaling.recording import Controls, Look, changes, replay, unexplained
from autoscaling.simulation import Clocks, Moment, Pods, judge, simulate
from localstack.layout import ROOT
from outcome.run import RunError

PRODUCTION = ROOT / "k8s" / "oracle-production"
MANIFESTS = "\n---\n".join(file.read_text() for file in sorted(PRODUCTION.glob("*.yaml")))
CHART, PODS = read_manifests(MANIFESTS)
_DEFAULT = yaml.safe_load((ROOT / "charts" / "auth-service" / "values.yaml").read_text())["auth"]["resources"]
DEFAULT_PODS = Pods(float(parse_quantity(_DEFAULT["requests"]["cpu"])), float(parse_quantity(_DEFAULT["limits"]["cpu"])))
NO_LIMIT = Direction((Policy("Percent", 1000, 15),), "Max", 0, 0.1)


def cpu(
    target: float, *levels: float | None, ready: tuple[bool, ...] = (), requests: tuple[float, ...] = ()
) -> tuple[Metric, list[PodSample]]:
    """Levels in thousandths of a core."""
    pods = [
        PodSample(None if level is None else level / 1000, requests[number] if requests else 1.0, ready[number] if ready else True)
        for number, level in enumerate(levels)
    ]
    return Metric("cpu", "Utilization", target), pods


def requests(target: float, *levels: float) -> tuple[Metric, list[PodSample]]:
    """A metric of the pods."""
    return Metric("rps", "AverageValue", target), [PodSample(level) for level in levels]


# Figures of replica_calculator_test.go (Kubernetes 1.34): what the real controller must do.
KNOWN: dict[str, tuple[int, tuple[Metric, list[PodSample]], int]] = {
    "up": (3, cpu(30, 300, 500, 700), 5),
    "up, one is unready": (3, cpu(30, 300, 500, 700, ready=(False, True, True)), 4),
    "up, two are unready": (3, cpu(30, 400, 500, 700, ready=(True, False, False)), 3),
    "down": (5, cpu(50, 100, 300, 500, 250, 250), 3),
    "down, two are unready": (5, cpu(50, 100, 300, 500, 250, 250, ready=(True, True, True, False, False)), 2),
    "within tolerance": (3, cpu(100, 1010, 1030, 1020, requests=(0.9, 1.0, 1.1)), 3),
    "down, one has no sample": (5, cpu(50, 100, 300, 500, 250, None), 5),
    "up, one has no sample": (2, cpu(100, 1000, None), 2),
    "requests, up": (3, requests(15, 20, 10, 30), 4),
    "requests, down": (5, requests(20, 12, 12, 12, 12, 12), 3),
    "up, unready and without a sample": (4, cpu(50, 1000, None, 450, None, ready=(True, True, False, True)), 4),
}


@pytest.mark.parametrize("case", KNOWN)
def test_replicas_from_samples_are_those_of_the_real_controller(case: str) -> None:
    replicas, (metric, pods), wanted = KNOWN[case]
    assert proposed_replicas(metric, replicas, pods, autoscaler()) == wanted


def autoscaler(**given: Any) -> Autoscaler:
    return Autoscaler(1, 1000, (Metric("cpu", "Utilization", 50),), NO_LIMIT, NO_LIMIT)._replace(**given)


def busy(number: int, share: float = 1.0) -> dict[str, list[PodSample]]:
    return {"cpu": [PodSample(share) for _ in range(number)]}


def test_an_average_value_is_of_the_pods() -> None:
    assert proposed_replicas(*_of(3, requests(1000, 2000, 2000, 2000)), autoscaler()) == 6


def _of(replicas: int, case: tuple[Metric, list[PodSample]]) -> tuple[Metric, int, list[PodSample]]:
    return case[0], replicas, case[1]


def test_of_several_metrics_the_greatest_counts_and_one_that_is_missing_holds_what_is() -> None:
    two = autoscaler(metrics=(Metric("cpu", "Utilization", 50), Metric("rps", "AverageValue", 10)))
    assert Controller(two).decide(0, 4, busy(4, 0.25) | {"rps": [PodSample(30)] * 4}) == 12
    assert Controller(two).decide(0, 4, busy(4, 0.25)) == 4
    assert Controller(two).decide(0, 4, busy(4, 1.0)) == 8


@pytest.mark.parametrize(("select", "replicas"), [("Max", 14), ("Min", 12), ("Disabled", 10)])
def test_a_policy_limits_each_step(select: Any, replicas: int) -> None:
    up = Direction((Policy("Pods", 4, 15), Policy("Percent", 20, 15)), select, 0, 0.1)
    assert Controller(autoscaler(up=up)).decide(0, 10, busy(10)) == replicas


def test_what_was_changed_within_the_period_counts_against_it() -> None:
    controller = Controller(autoscaler(up=Direction((Policy("Pods", 4, 60),), "Max", 0, 0.1)))
    assert controller.decide(0, 4, busy(4)) == 8
    assert controller.decide(30, 8, busy(8)) == 8
    assert controller.decide(60, 8, busy(8)) == 12


def test_a_dip_within_the_stabilisation_is_no_reason_to_shrink() -> None:
    controller = Controller(autoscaler(down=NO_LIMIT._replace(stabilization_seconds=300)))
    assert controller.decide(0, 10, busy(10, 0.5)) == 10
    assert controller.decide(15, 10, busy(10, 0.1)) == 10
    assert controller.decide(299, 10, busy(10, 0.1)) == 10
    assert controller.decide(301, 10, busy(10, 0.1)) == 2


def test_what_is_there_at_the_first_look_stays_for_the_stabilisation() -> None:
    """As a controller that has just begun does; it may grow at once."""
    controller = Controller(autoscaler(down=NO_LIMIT._replace(stabilization_seconds=300)))
    assert [controller.decide(at, 12, busy(12, 0.1)) for at in (0, 15, 299)] == [12, 12, 12]
    assert controller.decide(301, 12, busy(12, 0.1)) == 3
    assert Controller(autoscaler()).decide(0, 4, busy(4)) == 8
    patient = Controller(autoscaler(up=NO_LIMIT._replace(stabilization_seconds=30)))
    assert [patient.decide(at, 4, busy(4)) for at in (0, 15, 31)] == [4, 4, 8]
    moments = simulate(CHART, PODS, read_load("0:0.1"), 1200, replicas=12)
    assert next(moment.at for moment in moments if moment.replicas < 12) > 300
    assert moments[-1].replicas < 12


@given(st.integers(1, 12), st.lists(st.one_of(st.none(), st.floats(0, 1.0)), min_size=1, max_size=12))
def test_no_decision_leaves_the_bounds(replicas: int, levels: list[float | None]) -> None:
    samples = {"cpu": [PodSample(level, 0.25) for level in levels]}
    assert CHART.least <= Controller(CHART).decide(0, replicas, samples) <= CHART.most


def test_the_chart_has_four_times_as_much_within_two_minutes() -> None:
    """With the default clocks of Kubernetes, and of DNS and nginx as the chart has them."""
    load = read_load(f"0:{4 * PODS.request_cores * 0.5},60:{PODS.limit_cores * 12 * 0.9}")
    found = judge(simulate(CHART, PODS, load, 600))
    assert found.seconds_to_capacity is not None
    assert 0 < found.seconds_to_capacity <= 120


def test_one_pod_becomes_four_within_ninety_seconds() -> None:
    """Where the request is a quarter of the limit, as by default: with the two alike no pod can show more than its whole request."""
    four = CHART._replace(least=1, most=4)
    found = judge(simulate(four, DEFAULT_PODS, read_load("0:0.1,60:3.5"), 600, replicas=1))
    assert found.seconds_to_capacity is not None
    assert 0 < found.seconds_to_capacity <= 90


@settings(deadline=None, max_examples=40)
@given(st.floats(0.1, 1.7), st.integers(0, 2**32), st.floats(0, 0.15))
def test_a_load_that_only_trembles_does_not_make_it_flap(cores: float, seed: int, noise: float) -> None:
    chance = random.Random(seed)
    moments = simulate(CHART, PODS, lambda now: cores * (1 + chance.uniform(-noise, noise)), 1800)
    assert judge(moments).turns <= 1


@given(st.integers(5, 1000))
def test_it_never_removes_more_than_a_quarter_in_a_minute(replicas: int) -> None:
    controller = Controller(CHART._replace(most=1000))
    now, number = 0.0, replicas
    fleet = {0.0: replicas}
    while number > CHART.least and now < 20_000:
        now += 15
        number = controller.decide(now, number, {"cpu": [PodSample(0.0, 0.25)] * number})
        fleet[now] = number
        assert number >= math.ceil(fleet.get(now - 60, replicas) * 0.75), (now, number)
    assert number == CHART.least


def test_a_spike_is_followed_up_and_down_once() -> None:
    moments = simulate(CHART, PODS, read_load("0:0.5,300:3,900:0.5"), 3600)
    assert judge(moments).turns == 1
    assert moments[-1].replicas == CHART.least


def test_each_shortage_is_judged_by_itself_and_two_peaks_are_no_flapping() -> None:
    one = judge(simulate(CHART, PODS, read_load("0:0.5,300:6,900:0.5"), 3600))
    two = judge(simulate(CHART, PODS, read_load("0:0.5,300:6,900:0.5,3900:6,4500:0.5"), 7200))
    assert one.seconds_to_capacity is not None
    assert 0 < one.seconds_to_capacity <= 120
    assert (two.seconds_to_capacity, two.short_seconds) == (one.seconds_to_capacity, 2 * one.short_seconds)
    assert (two.turns, two.flaps) == (3, 0)
    assert typed(str(PRODUCTION), "--load", "0:0.5,300:6,900:0.5,3900:6,4500:0.5", "--seconds", "7200").returncode == 0


def seen(pods: list[int], demand: list[float]) -> list[Moment]:
    """Ten minutes of each, with a core a pod; pods follow the load after a minute."""
    found = []
    for at in range(600 * len(demand)):
        number = pods[max(0, at - 60) // 600]
        found.append(Moment(at, demand[at // 600], number, number, float(number)))
    return found


def test_pods_that_come_back_without_more_load_are_flapping() -> None:
    assert judge(seen([4, 8, 4, 8], [3, 3, 3, 3]))[2:4] == (2, 1)
    assert judge(seen([4, 8, 4, 8], [3, 6, 3, 6]))[2:4] == (2, 0)
    assert judge(seen([8, 4, 8, 4, 8], [3, 3, 3, 3, 3]))[2:4] == (3, 2)
    assert judge(seen([4, 8, 7], [3, 6, 6]))[2:4] == (1, 0), "it had too many, once"


def test_a_shortage_that_comes_again_at_once_is_the_same_one() -> None:
    calm = [Moment(at, 1.0, 2, 2, 2.0) for at in range(600)]
    for at in (*range(100, 110), *range(140, 150), *range(400, 405)):
        calm[at] = calm[at]._replace(demand_cores=3.0)
    assert judge(calm)[:2] == (25, 50)
    assert judge(calm[:405])[:2] == (25, None)
    assert judge(calm[:100])[:2] == (0, 0)


RPS = Metric("auth_service_requests_per_second", "AverageValue", 4000)
WITH_RPS = CHART._replace(metrics=(RPS, *CHART.metrics))
SPIKE = "0:0.5,300:3,900:0.5"


def test_requests_ask_for_their_own_number_of_pods() -> None:
    """Ten thousand requests a core in use: 2.4 cores are 24,000, of which each pod is to have 4,000; by CPU alone four pods are enough."""
    load = read_load("0:0.5,300:2.4")
    known = PODS._replace(per_core={RPS.name: 10_000})
    assert simulate(CHART, PODS, load, 1200)[-1].replicas == 4
    assert simulate(WITH_RPS, known, load, 1200)[-1].replicas == 6
    assert simulate(WITH_RPS, known._replace(per_core={RPS.name: 100}), load, 1200)[-1].replicas == 4, "CPU asks for more"


def test_a_spike_of_requests_is_followed_up_and_down_once() -> None:
    moments = simulate(WITH_RPS, PODS._replace(per_core={RPS.name: 20_000}), read_load(SPIKE), 3600)
    assert max(moment.replicas for moment in moments) == 12
    assert (judge(moments).turns, moments[-1].replicas) == (1, CHART.least)


def test_without_the_adapter_it_grows_by_cpu_and_takes_nothing_away() -> None:
    moments = simulate(WITH_RPS, PODS, read_load(SPIKE), 3600)
    by_cpu = simulate(CHART, PODS, read_load(SPIKE), 3600)
    most = max(moment.replicas for moment in by_cpu)
    assert most > CHART.least
    assert moments[-1].replicas == max(moment.replicas for moment in moments) == most
    assert by_cpu[-1].replicas == CHART.least


def test_a_metric_of_the_pods_is_a_mean_over_its_window() -> None:
    """So it follows a step by and by, and is right when the window is over."""
    clocks = Clocks(start=10, found=20, window=60)
    load = read_load("0:0.4,60:3.2")
    moments = simulate(WITH_RPS._replace(metrics=(RPS,)), PODS._replace(per_core={RPS.name: 10_000}), load, 600, clocks=clocks)
    assert moments[60].replicas == 4
    grown = next(moment.at for moment in moments if moment.replicas > 4)
    assert 60 < grown <= 60 + 2 * clocks.window
    assert moments[-1].replicas == 8


def test_a_target_is_read_in_whatever_form_the_server_gives_it() -> None:
    manifest = yaml.safe_load(next(PRODUCTION.glob("horizontalpodautoscaler*")).read_text())
    for text, target in (("4k", 4000), ("4000", 4000), (4000, 4000), ("500m", 0.5)):
        pods = {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": text}}
        manifest["spec"]["metrics"] = [{"type": "Pods", "pods": pods}]
        assert read_autoscaler(manifest).metrics == (Metric("rps", "AverageValue", target),)


def test_nginx_has_as_much_as_the_most_pods_of_auth_need_in_time() -> None:
    """It takes about half of what auth does."""
    nginx, pods = read_manifests(MANIFESTS, "nginx")
    found = judge(simulate(nginx, pods, read_load(f"0:0.5,60:{PODS.limit_cores * CHART.most / 2}"), 600))
    assert found.seconds_to_capacity is not None
    assert found.seconds_to_capacity <= 120
    assert found.turns == 0


def test_pods_serve_when_they_are_ready_and_known() -> None:
    clocks = Clocks(start=10, found=20)
    moments = simulate(CHART, PODS, read_load("0:0.5,60:3"), 300, clocks=clocks)
    grown = next(moment.at for moment in moments if moment.replicas > 4)
    serving = next(moment.at for moment in moments if moment.serving > 4)
    assert serving - grown == 30


def test_what_a_real_controller_decided_is_decided_again() -> None:
    """Recorded by tests/cluster/test_autoscaling_live.py in Kubernetes 1.34, from one pod to four and back."""
    looks = [Look.model_validate(each) for each in json.loads(Path(__file__).with_name("recorded_autoscaler.json").read_text())]
    calm = Direction((Policy("Percent", 10, 15),), "Max", 20, 0.1)
    real = changes(looks)
    assert [change.replicas for change in real] == [3, 4, 3, 2, 1]
    controls = Controls(sync_seconds=5, cpu_initialization_seconds=15, initial_readiness_delay_seconds=5)
    simulated = replay(looks, CHART._replace(least=1, most=4, down=calm), controls)
    assert unexplained(real, simulated, within_seconds=controls.sync_seconds + 1) == []
    hasty = replay(looks, CHART._replace(least=1, most=4, down=calm._replace(stabilization_seconds=0)), controls)
    assert unexplained(real, hasty, within_seconds=controls.sync_seconds + 1) != [], "another behaviour is told from the real one"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("kind: Service\napiVersion: v1\n", "hold no HorizontalPodAutoscaler of auth: render them with auth.autoscaling.enabled"),
        ("a: [", "are no YAML"),
        (
            next(PRODUCTION.glob("horizontalpodautoscaler*-auth.yaml")).read_text(),
            "hold no Deployment auth-service-auth, which the autoscaler scales",
        ),
    ],
)
def test_manifests_that_lack_something_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(RunError, match=sentence):
        read_manifests(text)


def without(*parts: str) -> str:
    """The manifests, with Deployments that do not say these resources."""
    objects = [each for each in yaml.safe_load_all(MANIFESTS) if each]
    for each in objects:
        if each["kind"] == "Deployment":
            for part in parts:
                del each["spec"]["template"]["spec"]["containers"][0]["resources"][part]["cpu"]
    return yaml.safe_dump_all(objects)


def test_pods_without_a_limit_are_one_sentence_and_without_a_request_they_request_it() -> None:
    for parts in (("limits",), ("limits", "requests")):
        with pytest.raises(RunError, match="The Deployment auth-service-auth has no CPU limit, so what a pod can do is not known"):
            read_manifests(without(*parts))
    assert read_manifests(without("requests"))[1] == PODS._replace(request_cores=PODS.limit_cores)


def test_a_chart_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "nowhere" / "chart.html"
    done = typed(str(PRODUCTION), "--load", "0:0.5", "--seconds", "60", "--chart", str(file))
    assert (done.returncode, done.stderr) == (1, f"{file} cannot be written: No such file or directory.\n")


def typed(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "autoscaling", *words]
    paths = f"{ROOT / 'loadtest'}:{ROOT / 'scripts'}"
    return subprocess.run(command, env={"PYTHONPATH": paths}, capture_output=True, text=True, timeout=60)


def test_a_metric_that_is_not_simulated_is_refused() -> None:
    manifest = yaml.safe_load(next(PRODUCTION.glob("horizontalpodautoscaler*")).read_text())
    manifest["spec"]["metrics"] = [{"type": "External", "external": {"metric": {"name": "x"}, "target": {"type": "Value", "value": 1}}}]
    with pytest.raises(RunError, match="A metric of type External with this target is not simulated"):
        read_autoscaler(manifest)


def test_the_command_says_what_is_missing() -> None:
    assert missing(WITH_RPS, PODS) == [RPS.name]
    assert missing(WITH_RPS, PODS._replace(per_core=read_per_core([f"{RPS.name}=20000"]))) == []
    with pytest.raises(RunError, match="not of the form NAME=VALUE: rps"):
        read_per_core(["rps"])


@pytest.mark.parametrize("load", ["", "1:2", "0:x", "0=1"])
def test_a_load_that_is_none_is_one_sentence(load: str) -> None:
    with pytest.raises(RunError, match="The load"):
        read_load(load)


def test_the_command_prints_steps_and_verdict_and_draws_them(tmp_path: Path) -> None:
    done = typed(str(PRODUCTION), "--load", "0:0.5,60:3,600:0.5", "--chart", str(tmp_path / "chart.html"))
    assert done.returncode == 0, done.stderr
    assert "0 s  load 0.50 cores, 4 pods, 4 serving" in done.stdout
    assert "1 changes of direction" in done.stdout
    assert (tmp_path / "chart.html").read_text().count('role="img"') == 2
    assert "is missing" not in done.stdout
    assert page(simulate(CHART, PODS, read_load("0:1"), 60)).count('role="img"') == 2
