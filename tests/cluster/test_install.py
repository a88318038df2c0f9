"""helm install in a real cluster: with no values at all it works, and what is done to it under load costs no request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from secrets import token_hex
from typing import Any

import pytest
from release import Release

from localstack.layout import ROOT
from servers import wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster"),
]

FIXED = {
    "autoscaling": {"enabled": False},
    "replicas": 4,
    # A small node has room for an old and a new pod at once.
    "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"cpu": "1", "memory": "384Mi"}},
}
QUICK = {"dnsTtlSeconds": 5, "autoscaling": {"enabled": False}}
"""The DNS of a test cluster keeps nothing for longer: pods roll sooner. How many balancers there are is counted on."""
METRICS = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9090/metrics').read().decode())"


@pytest.fixture(scope="module")
def client(release: Release) -> tuple[str, str]:
    """Made in the writer's pod, as NOTES.txt says."""
    name = f"load-{token_hex(3)}"
    return name, release.add_client(name)


def assert_none_failed(result: dict[str, Any], least: int = 200) -> None:
    assert result["failures"] == [], result
    assert sum(result["counts"].values()) > least, result


def test_with_no_values_it_gets_ready_and_passes_its_trial(release: Release) -> None:
    notes = release.helm("install")
    assert f"kubectl -n {release.name} exec statefulset/auth-auth-service-writer -- authsvc client add" in notes
    assert release.ready("auth") == 4
    assert release.ready("nginx") == 2
    log = release.trial()
    assert log.count("use it again") == 2, log
    findings = json.loads(release.execute("writer", "authsvc", "check", "--json"))
    assert {finding["part"] for finding in findings if finding["state"] != "ok"} <= {"disk"}, findings


def test_an_upgrade_that_changes_nothing_rolls_no_pod(release: Release) -> None:
    before = {name for component in ("auth", "nginx", "redis", "writer") for name in release.names(component)}
    release.helm("upgrade")
    assert before == {name for component in ("auth", "nginx", "redis", "writer") for name in release.names(component)}


def test_rolling_restarts_under_load(release: Release, client: tuple[str, str]) -> None:
    release.helm("upgrade", auth=FIXED, nginx=QUICK)
    with release.load(*client) as result:
        for component in ("auth", "nginx"):
            release.kubectl("rollout", "restart", f"deployment/auth-auth-service-{component}")
            release.rolled("deployment", component)
    assert_none_failed(result)


def test_top_shows_the_release_under_load(release: Release, client: tuple[str, str]) -> None:
    paths = os.pathsep.join(str(ROOT / folder) for folder in ("scripts", "service"))
    command = [sys.executable, "-m", "view", "-n", release.name, "--once", "--interval-seconds", "5"]
    with release.load(*client) as result:
        wait_until(lambda: _answered_in_all(release) > 0, "it has begun", 60)
        done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert_none_failed(result)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "Redis up, auth 4/4, nginx 2/2, redis 1/1, writer 1/1, 5xx 0 %, 429 0 %" in " ".join(done.stdout.splitlines())
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    assert float(rows["token"][0].replace(",", "")) > 0
    for name in release.names("auth"):
        assert (float(rows[name][0].replace(",", "")) > 0, rows[name][3:]) == (True, ["up"])
    [writer] = release.names("writer")
    assert rows[writer][3:] == ["up"]


def test_pods_that_are_deleted_under_load(release: Release, client: tuple[str, str]) -> None:
    with release.load(*client) as result:
        for component, number in (("auth", 4), ("nginx", 2)):
            release.kubectl("delete", "pod", release.names(component)[0], "--wait=false")
            wait_until(lambda c=component, n=number: release.ready(c) == n == len(release.pods(c)), "its successor is ready", 120)
            release.rolled("deployment", component)
    assert_none_failed(result)


def test_scaling_from_four_to_eight_to_two_under_load(release: Release, client: tuple[str, str]) -> None:
    old = set(release.names("auth"))
    with release.load(*client) as result:
        release.kubectl("scale", "deployment/auth-auth-service-auth", "--replicas=8")
        release.wait_ready("auth", 8)
        for name in set(release.names("auth")) - old:
            wait_until(lambda pod=name: _answered(release, pod) > 0, f"{name} is used", 30)
        release.kubectl("scale", "deployment/auth-auth-service-auth", "--replicas=2")
        release.rolled("deployment", "auth")
        assert release.ready("auth") == 2
    assert_none_failed(result)


def _answered(release: Release, pod: str) -> float:
    """Requests to /token that a pod has answered."""
    page = release.kubectl("exec", pod, "-c", "auth", "--", "python", "-c", METRICS)
    lines = (line for line in page.splitlines() if line.startswith('http_requests_total{endpoint="token",status="200"}'))
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@pytest.mark.parametrize("component", ["auth", "nginx"])
def test_a_budget_lets_one_pod_go_at_a_time(release: Release, client: tuple[str, str], component: str) -> None:
    release.wait_ready(component, 2)
    first, second = release.names(component)
    with release.load(*client) as result:
        _evict(release, first)
        with pytest.raises(AssertionError, match="disruption budget"):
            _evict(release, second)
        release.rolled("deployment", component)
        release.wait_ready(component, 2)
    assert_none_failed(result, 50)


def _evict(release: Release, pod: str) -> None:
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": release.name}}
    path = f"/api/v1/namespaces/{release.name}/pods/{pod}/eviction"
    release.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


def test_redis_that_is_killed_comes_back_with_every_token(release: Release, client: tuple[str, str]) -> None:
    tokens = [_issue(release, *client) for _ in range(3)]
    with release.load(*client) as result:
        wait_until(lambda: _answered_in_all(release) > 200, "tokens are issued", 60)
        release.kubectl("delete", "pod", "auth-auth-service-redis-0", "--grace-period=0", "--force")
        wait_until(lambda: release.ready("redis") == 1, "Redis is back", 120)
        wait_until(lambda: all("'active': True" in _ask(release, "/validate", token=token) for token in tokens), "the tokens live", 60)
    # The load's end asks for every token that it was given, those of the time before the kill among them.
    ended = [failure for failure in result["failures"] if " 401 instead of 200" in failure]
    assert ended == [], result
    assert all(" 503 instead of " in failure or "timed out" in failure for failure in result["failures"]), result


def _answered_in_all(release: Release) -> float:
    return sum(_answered(release, pod) for pod in release.names("auth"))


def test_a_writer_that_is_killed_loses_nothing(release: Release, client: tuple[str, str]) -> None:
    with release.load(*client) as result:
        release.kubectl("delete", "pod", "auth-auth-service-writer-0", "--grace-period=0", "--force")
        wait_until(lambda: release.ready("writer") == 1, "the writer is back", 180)
    assert_none_failed(result, 50)
    wait_until(lambda: release.backlog() == 0, "the backlog is written", 120)
    # Each turn of the load makes three tokens.
    issued = result["counts"]["/token"] + result["counts"]["/ott"]
    written = release.execute("writer", "authsvc", "token", "export", "--client", client[0]).count("\n")
    assert written >= issued


ASK = """
import sys, json, urllib.request, urllib.parse, urllib.error, base64
url, basic, fields = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
request = urllib.request.Request(url, urllib.parse.urlencode(fields).encode())
if basic: request.add_header("Authorization", "Basic " + base64.b64encode(basic.encode()).decode())
try: print(json.load(urllib.request.urlopen(request, timeout=10)))
except urllib.error.HTTPError as error: print(error.code, error.read().decode())
except OSError as error: print(error)
"""


def _ask(release: Release, path: str, basic: str = "", **fields: str) -> str:
    return release.execute("auth", "python", "-c", ASK, release.url + path, basic, json.dumps(fields))


def _issue(release: Release, client: str, secret: str) -> str:
    said = _ask(release, "/token", f"{client}:{secret}", grant_type="client_credentials")
    assert "access_token" in said, said
    return said.split("'access_token': '")[1].split("'")[0]


@pytest.mark.long
def test_keys_rotate_in_three_steps_under_load_and_roll_back(release: Release, client: tuple[str, str]) -> None:
    auth = FIXED | {"replicas": 2}
    old = _issue(release, *client)
    accept_new = {"issuingEntry": "token-key", "acceptedEntry": "token-key-2"}
    issue_new = {"issuingEntry": "token-key-2", "acceptedEntry": "token-key"}

    def use(keys: dict[str, str]) -> None:
        release.helm("upgrade", auth=auth, nginx=QUICK, secrets={"tokenKeys": keys})
        release.rolled("deployment", "auth")

    with release.load(*client) as result:
        use(accept_new)
        use(issue_new)
        assert "'active': True" in _ask(release, "/validate", token=old)
        release.rollback()
        release.rolled("deployment", "auth")
        use(issue_new)
    assert_none_failed(result)
    with release.load(*client) as result:
        use({"issuingEntry": "token-key-2", "acceptedEntry": ""})
    assert_none_failed(result)
    assert "invalid_token" in _ask(release, "/validate", token=old), "a token of the key that was dropped"


def test_the_password_of_redis_is_changed_by_naming_another_entry(release: Release, client: tuple[str, str]) -> None:
    token = _issue(release, *client)
    [secret] = [each for each in release.get("secrets") if each["metadata"]["name"] == "auth-auth-service-secrets"]
    # Whichever issues now: the rotation above is a long test.
    issuing = "token-key-2" if "token-key-2" in secret["data"] else "token-key"
    keys = {"tokenKeys": {"issuingEntry": issuing, "acceptedEntry": ""}, "redisPasswordEntry": "redis-password-2"}
    release.helm("upgrade", auth=FIXED | {"replicas": 2}, nginx=QUICK, secrets=keys)
    release.rolled("deployment", "auth")
    assert "'active': True" in _ask(release, "/validate", token=token)


def test_uninstall_leaves_the_volumes_and_the_secret(release: Release) -> None:
    release.uninstall()
    kinds = "pods,services,deployments,statefulsets,jobs,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
    of_kubernetes = ["ConfigMap/kube-root-ca.crt", "ServiceAccount/default"]
    wait_until(lambda: sorted(_names(release.get(kinds))) == of_kubernetes, "all is gone", 120)
    assert [secret["metadata"]["name"] for secret in release.get("secrets")] == ["auth-auth-service-secrets"]
    assert len(release.get("persistentvolumeclaims")) == 2


def _names(things: list[dict[str, Any]]) -> list[str]:
    return [f"{thing['kind']}/{thing['metadata']['name']}" for thing in things]
