"""`scripts/top -n NAMESPACE` before an API server that knows as much of Kubernetes as it asks for; the real one is in tests/cluster."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from localstack import StackState
from servers import wait_until
from service.test_top import environ, on_a_terminal

PORT = 9090


def pod(
    name: str, component: str, *, ready: bool = True, phase: str = "Running", waiting: str = "", leaving: bool = False
) -> dict[str, Any]:
    """A pod as the API server lists it, as far as it is read."""
    state = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    container = {"name": component, "ports": [{"name": "http", "containerPort": 8080}, {"name": "management", "containerPort": PORT}]}
    return {
        "metadata": {"name": name, "labels": {"app.kubernetes.io/component": component}}
        | ({"deletionTimestamp": "now"} if leaving else {}),
        "spec": {"containers": [container]},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": str(ready)}],
            "containerStatuses": [{"state": state}],
        },
    }


class ApiServer(ThreadingHTTPServer):
    """Lists the pods of the release `auth`, and lets through to the addresses of those that have one."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Api)
        self.pods: list[dict[str, Any]] = []
        self.addresses: dict[str, str] = {}
        self.forbids_proxy = False
        self.closing = threading.Event()


class Api(BaseHTTPRequestHandler):
    """One request to it. A pod with the address `` takes the connection and never answers."""

    server: ApiServer

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        pods, _, path = target.path.removeprefix("/api/v1/namespaces/here/pods").partition("/proxy/")
        if not pods:
            asked = parse_qs(target.query)["labelSelector"][0]
            self._answer(
                200, json.dumps({"items": self.server.pods if asked.startswith("app.kubernetes.io/instance=auth,") else []}).encode()
            )
        elif self.server.forbids_proxy:
            self._answer(403, json.dumps({"message": 'User "me" cannot get resource "pods/proxy".'}).encode())
        else:
            self._proxy(unquote(pods).removeprefix("/"), path)

    def _proxy(self, pod_and_port: str, path: str) -> None:
        name, _, port = pod_and_port.partition(":")
        assert (int(port), path) == (PORT, "metrics")
        address = self.server.addresses.get(name)
        if address is None:
            self._answer(503, b'{"message": "error trying to reach service"}')
        elif not address:
            self.server.closing.wait(60)
        else:
            with urllib.request.urlopen(f"{address}/metrics", timeout=30) as answer:
                self._answer(200, answer.read())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(HTTPStatus(status))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.closing.set()
        server.shutdown()
        serving.join()


@pytest.fixture
def kubeconfig(api: ApiServer, tmp_path: Path) -> Path:
    """Its context names the namespace `here`."""
    named = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "me", "namespace": "here"}}],
        "clusters": [{"name": "it", "cluster": {"server": f"http://127.0.0.1:{api.server_address[1]}"}}],
        "users": [{"name": "me", "user": {"token": "mine"}}],
    }
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps(named))
    return file


def top(kubeconfig: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "view", *words, "--once", "--interval-seconds", "0.5"]
    return subprocess.run(command, env=environ(KUBECONFIG=str(kubeconfig)), capture_output=True, text=True, timeout=60)


def refused(kubeconfig: Path, *words: str) -> str:
    done = top(kubeconfig, *words)
    assert (done.returncode, done.stdout) == (1, ""), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr.rstrip("\n")


def test_pods_that_answer_and_pods_that_do_not(api: ApiServer, kubeconfig: Path, stack_state: StackState) -> None:
    first, second, *_, writer = stack_state["management"]
    api.pods = [
        pod("auth-1", "auth"),
        pod("auth-2", "auth", ready=False),
        pod("auth-3", "auth", leaving=True),
        pod("auth-4", "auth", ready=False, phase="Pending", waiting="ImagePullBackOff"),
        pod("auth-5", "auth", ready=False, waiting="CrashLoopBackOff"),
        pod("auth-6", "auth"),
        pod("nginx-1", "nginx"),
        pod("writer-0", "writer"),
        pod("migration-1", "migration", ready=False, phase="Succeeded"),
    ]
    api.addresses = {"auth-1": first, "auth-2": second, "auth-3": first, "auth-6": "", "writer-0": writer}
    done = top(kubeconfig, "-n", "here")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("release auth, namespace here; rates and times of the last ")
    assert lines[1].startswith("NOT WELL: auth 2/5, 3 silent")
    assert "Redis up, nginx 1/1, writer 1/1, 5xx 0 %, 429 0 %" in done.stdout.replace("\n", " ")
    rows = {line.split()[0]: line.split()[1:] for line in lines if line.startswith(("auth-", "writer-"))}
    silent = ["-"] * 4
    assert {name: rows[name] for name in ("auth-4", "auth-5", "auth-6")} == {
        "auth-4": [*silent, "ImagePullBackOff"],
        "auth-5": [*silent, "CrashLoopBackOff"],
        "auth-6": [*silent, "no", "answer"],
    }
    assert {name: row[3:] for name, row in rows.items() if name not in ("auth-4", "auth-5", "auth-6")} == {
        "auth-1": ["up"],
        "auth-2": ["up", "not", "ready"],
        "auth-3": ["up", "leaving"],
        "writer-0": ["up"],
    }
    assert list(rows)[:3] == ["auth-4", "auth-5", "auth-6"]


def test_a_cluster_that_is_away_for_a_while(api: ApiServer, kubeconfig: Path, stack_state: StackState) -> None:
    api.pods, api.addresses = [pod("auth-1", "auth")], {"auth-1": stack_state["management"][0]}
    with on_a_terminal("-n", "here", KUBECONFIG=str(kubeconfig)) as (_, written):
        wait_until(lambda: b"rates and times of the last" in b"".join(written), "it is shown", 60)
        api.pods = []
        wait_until(lambda: b"There is no release auth" in b"".join(written), "it is told that there is none", 60)
        seen = len(written)
        api.pods = [pod("auth-1", "auth")]
        wait_until(lambda: b"rates and times of the last" in b"".join(written[seen:]), "it is shown again", 60)


def test_there_is_no_such_release(api: ApiServer, kubeconfig: Path) -> None:
    assert refused(kubeconfig, "--release", "other") == "There is no release other of auth-service in the namespace here."
    api.pods = [pod("nginx-1", "nginx")]
    assert refused(kubeconfig, "--release", "auth") == "There is no release auth of auth-service in the namespace here."


def test_pods_may_not_be_asked(api: ApiServer, kubeconfig: Path) -> None:
    api.pods, api.forbids_proxy = [pod("auth-1", "auth"), pod("writer-0", "writer")], True
    said = 'The cluster forbids it: User "me" cannot get resource "pods/proxy"; a Role must grant that right.'
    assert refused(kubeconfig, "-n", "here") == said


def test_there_is_no_cluster(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing", "-n", "here").startswith("There is no cluster: ")
