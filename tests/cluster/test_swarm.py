"""Runs of load in a real cluster: kept after their pods are gone, going on without a worker, ending clearly without a leader."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from release import SMALL_RELEASE, Release
from tools import HELM, path_of

from authsvc import __version__
from localstack.layout import ROOT
from outcome.run import read_run
from servers import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]
IMAGE = os.environ.get("TEST_LOAD_IMAGE", f"docker.io/library/auth-service-load:{__version__}")
SMALL = ["--workers", "2", "--worker-cpu", "200m", "--users", "8", "--rate", "60", "--warm-up-seconds", "3", "--image", IMAGE]
RUN_SECONDS = 180.0
"""A run may take this long from its start to its last word, whatever else the node does."""


@pytest.fixture(scope="module")
def auth(release: Release) -> Release:
    release.helm("install", **SMALL_RELEASE)
    return release


HEEDS_CTRL_C = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
"""Whoever runs the tests in the background may have it ignored, and a child inherits that."""


def environment() -> dict[str, str]:
    """With the helm of the tests."""
    paths = [str(ROOT / part) for part in ("loadtest", "scripts", "service")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PATH": f"{path_of(HELM).parent}{os.pathsep}{os.environ['PATH']}"}


def swarm(auth: Release, *words: str) -> subprocess.CompletedProcess[str]:
    """`scripts/swarm`."""
    command = [sys.executable, "-m", "swarm", *words, "--namespace", auth.name]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)


def objects_of(auth: Release, name: str) -> set[str]:
    """Kinds of what is left of a run."""
    kinds = "pods,jobs,services,configmaps,secrets,serviceaccounts,roles,rolebindings,networkpolicies"
    return {each["kind"] for each in auth.get(kinds, "-l", f"app.kubernetes.io/name=loadtest,app.kubernetes.io/instance=loadtest-{name}")}


def clients(auth: Release) -> set[str]:
    found: list[dict[str, Any]] = json.loads(auth.execute("writer", "authsvc", "client", "list", "--json"))
    return {each["client_id"] for each in found}


def pods(auth: Release, name: str, component: str) -> list[str]:
    found = auth.get("pods", "-l", f"app.kubernetes.io/instance=loadtest-{name},app.kubernetes.io/component={component}")
    return [pod["metadata"]["name"] for pod in found if pod["status"]["phase"] == "Running"]


def wait_phase(auth: Release, name: str, *phases: str) -> None:
    """Until it is in one of them."""

    def listed() -> list[str]:
        lines = (line.split() for line in swarm(auth, "status").stdout.splitlines())
        return next((words[1:2] for words in lines if words[:1] == [name]), [])

    try:
        wait_until(lambda: set(listed()) & set(phases), f"the run {name} is {' or '.join(phases)}", RUN_SECONDS)
    except AssertionError as error:
        leader = auth.kubectl("logs", f"job/loadtest-{name}-leader", "--tail=30", "--ignore-errors")
        raise AssertionError(f"{error}, but {listed()}:\n{swarm(auth, 'status', name).stdout}\n{leader}") from error


def test_a_run_is_shown_and_its_results_stay_when_its_pods_are_gone(auth: Release, tmp_path: Path) -> None:
    done = swarm(auth, "start", "whole", "--seconds", "12", *SMALL)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "workers 2, second" in done.stdout
    assert "auth pods ready 2" in done.stdout
    assert objects_of(auth, "whole") == {"ConfigMap"}
    assert clients(auth) & {"loadtest-whole", "loadtest-whole-brief"} == set()
    assert swarm(auth, "collect", "whole", "--to", str(tmp_path)).returncode == 0
    assert {file.name for file in tmp_path.iterdir()} == {"run.json", "points.csv", "report.html", "summary.md"}
    run = read_run(tmp_path / "run.json")
    assert (run.end, run.wrong_count, run.generator.most) == ("complete", 0, 2)
    assert run.environment["instances"] == 2
    # None is counted twice, and none of either worker is left out: one alone would make half of it.
    assert 0.7 * 60 * run.seconds - 10 < run.requests < 60 * run.seconds + 10
    assert {"validate", "validate refused", "validate used", "validate revoked"} <= set(run.endpoints)
    again = swarm(auth, "start", "whole", *SMALL)
    assert (again.returncode, again.stdout) == (1, "")
    assert "There is a run whole already" in again.stderr
    assert swarm(auth, "stop", "whole", "--forget").returncode == 0
    assert objects_of(auth, "whole") == set()


def test_a_run_goes_on_without_a_worker_and_ends_clearly_without_its_leader(auth: Release, tmp_path: Path) -> None:
    def begin(name: str) -> None:
        done = swarm(auth, "start", name, "--seconds", "60", "--detach", *SMALL)
        assert done.returncode == 0, done.stderr
        wait_phase(auth, name, "running")

    begin("maimed")
    victim = pods(auth, "maimed", "worker")[0]
    kill(auth, victim)
    begin("headless")
    kill(auth, *pods(auth, "headless", "leader"))
    wait_phase(auth, "headless", "lost")
    ended = swarm(auth, "status", "headless")
    assert "its leader went away before the end" in ended.stdout
    wait_until(lambda: pods(auth, "headless", "worker") == [], "its workers have ended by themselves", RUN_SECONDS)
    # Where the node stands still as the run ends, what is on its way counts as wrong and a gate is missed: it has gone on all the same.
    wait_phase(auth, "maimed", "complete", "missed")
    for name in ("maimed", "headless"):
        assert swarm(auth, "collect", name, "--to", str(tmp_path / name)).returncode == 0
        assert swarm(auth, "stop", name).returncode == 0
        assert objects_of(auth, name) == {"ConfigMap"}
    maimed, headless = (read_run(tmp_path / name / "run.json") for name in ("maimed", "headless"))
    assert maimed.end == "complete"
    # A worker is known by its host's name: the pod's, without what Kubernetes appends to a Job's index.
    lost = next(each for each in maimed.generator.lost if each.name.startswith(victim.rpartition("-")[0]))
    assert f"The generator {lost.name} was lost at second" in (tmp_path / "maimed" / "report.html").read_text()
    assert sum(sum(point.requests.values()) for point in maimed.points if point.at_seconds > lost.at_seconds + 10) > 0
    assert headless.end == "interrupted"
    assert clients(auth) & {"loadtest-maimed", "loadtest-headless"} == set()


def test_a_missed_threshold_fails_the_job(auth: Release, tmp_path: Path) -> None:
    gates = tmp_path / "gates.toml"
    gates.write_text("[endpoints.health]\np99_ms_at_most = 0.001\n")
    done = swarm(auth, "start", "gated", "--endpoint", "health", "--seconds", "8", "--thresholds", str(gates), "--detach", *SMALL)
    assert done.returncode == 0, done.stderr
    wait_phase(auth, "gated", "missed")
    [job] = auth.get("jobs", "-l", "app.kubernetes.io/instance=loadtest-gated,app.kubernetes.io/component=leader")
    assert ("Failed", "True") in {(each["type"], each["status"]) for each in job["status"]["conditions"]}
    ended = swarm(auth, "status", "gated")
    assert ended.returncode == 1
    assert "missed: health: p99" in ended.stdout
    assert swarm(auth, "stop", "gated", "--forget").returncode == 0


def test_a_run_of_the_services_own_name_touches_no_other_release_and_a_wrong_image_is_told(auth: Release) -> None:
    done = swarm(auth, "start", "auth", *SMALL[:-1], "docker.io/library/nowhere:1")
    assert done.returncode == 1
    assert "The run auth gave nothing: its pods do not start: " in done.stderr
    assert "docker.io/library/nowhere:1" in done.stderr
    assert auth.ready("auth") == 2
    assert objects_of(auth, "auth") == set()
    assert clients(auth) & {"loadtest-auth", "loadtest-auth-brief"} == set()


def test_of_two_that_start_a_run_of_one_name_the_second_is_refused_and_the_first_goes_on(auth: Release) -> None:
    words = [sys.executable, "-m", "swarm", "start", "twin", "--seconds", "20", "--detach", *SMALL, "--namespace", auth.name]
    both = [subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    assert "There is a run twin already" in "".join(said for _, said in answers)
    wait_phase(auth, "twin", "complete")
    assert swarm(auth, "stop", "twin", "--forget").returncode == 0
    assert clients(auth) & {"loadtest-twin", "loadtest-twin-brief"} == set()


def test_ctrl_c_leaves_nothing_but_the_results(auth: Release, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "swarm", "start", "cut", "--seconds", "60", *SMALL, "--namespace", auth.name]
    with subprocess.Popen(words, env=environment(), stdout=subprocess.PIPE, text=True, preexec_fn=HEEDS_CTRL_C) as process:
        assert process.stdout is not None
        assert any("second 9" in line or "second 1" in line.partition(" of ")[0][-12:] for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(120) == 130
    assert "The run was cut off and its pods and clients are gone" in rest
    assert objects_of(auth, "cut") == {"ConfigMap"}
    assert clients(auth) & {"loadtest-cut", "loadtest-cut-brief"} == set()
    assert swarm(auth, "collect", "cut", "--to", str(tmp_path)).returncode == 0
    assert read_run(tmp_path / "run.json").end == "interrupted"
    assert "The run was interrupted" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("start", "x", "--release", "nobody"), "There is no release nobody of auth-service in the namespace"),
        (("status", "nobody"), "There is no run nobody in the namespace"),
        (("collect", "nobody"), "The run nobody has kept nothing"),
        (("stop", "nobody"), "There is no run nobody in the namespace"),
        (("start", "x", "--seconds", "5"), "The plan cannot be: a warm-up of 5 s leaves nothing of 5 s to count."),
        (("start", "x", "--thresholds", "/nowhere.toml"), "/nowhere.toml cannot be read: No such file or directory."),
    ],
)
def test_what_is_not_there_is_one_sentence(auth: Release, words: tuple[str, ...], sentence: str) -> None:
    done = swarm(auth, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def kill(auth: Release, *names: str) -> None:
    auth.kubectl("delete", "pod", *names, "--grace-period=0", "--force")
