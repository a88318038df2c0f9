"""`authsvc check` against real servers that are well, missing, or set up so that a promise would not hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from authsvc.live.keys import BEAT, POISON, VOUCHED
from servers import RedisServer, ServiceProcess, free_port, running
from service.command_line import CommandLine

PARTS = ["keys", "records", "redis", "persistence", "disk", "memory", "clock", "mirror", "backlog"]


class Deployment:
    """A Redis, a writer over an embedded store, and the command."""

    def __init__(self, server: RedisServer, writer: ServiceProcess, folder: Path) -> None:
        self.server = server
        self.writer = writer
        self.client = redis.Redis(port=server.port)
        self.command = CommandLine(folder, writer.environ)

    def findings(self, **settings: str) -> dict[str, dict[str, str]]:
        """What `--json` prints, by part; the exit code says whether any is a failure."""
        done = self.command.run("check", "--json", **settings)
        found: list[dict[str, Any]] = json.loads(done.stdout)
        assert done.returncode == int(any(finding["state"] == "failure" for finding in found)), done
        for finding in found:
            assert finding["sentence"].endswith("."), finding
        return {finding["part"]: finding for finding in found}

    def finding(self, part: str, **settings: str) -> tuple[str, str]:
        found = self.findings(**settings)[part]
        return found["state"], found["sentence"]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    folder = tmp_path_factory.mktemp("check")
    server = RedisServer(folder / "redis", "--maxmemory", "512mb").start()
    with running(server):
        writer = ServiceProcess(folder / "writer", "write", redis_url=server.url, records_url=f"sqlite:///{folder / 'records.db'}")
        with running(writer.start().wait_ready()):
            found = Deployment(server, writer, folder)
            yield found
            found.command.close()
            found.client.close()


def test_all_is_well(deployment: Deployment) -> None:
    findings = deployment.findings()
    assert list(findings) == PARTS
    # How long the disk takes is the machine's affair.
    assert {finding["state"] for part, finding in findings.items() if part != "disk"} == {"ok"}
    lines = [line.split() for line in deployment.command.good("check").splitlines()]
    assert [part for _, part, *_ in lines] == PARTS
    assert {state for state, part, *_ in lines if part != "disk"} == {"ok"}


def test_nothing_is_left_behind(deployment: Deployment) -> None:
    before = set(deployment.client.keys())
    deployment.findings()
    assert set(deployment.client.keys()) == before
    assert BEAT in before


@pytest.mark.parametrize(
    ("name", "value", "part", "state", "words"),
    [
        ("maxmemory-policy", "allkeys-lru", "memory", "failure", "set `noeviction`"),
        ("maxmemory", "0", "memory", "warning", "set `maxmemory`"),
        ("maxmemory", "1mb", "memory", "warning", "raise `maxmemory`"),
        ("appendfsync", "everysec", "persistence", "warning", "up to two seconds"),
        ("appendfsync", "no", "persistence", "warning", "set `always`"),
        ("appendonly", "no", "persistence", "failure", "set `appendonly yes`"),
    ],
)
def test_a_server_that_would_break_a_promise(deployment: Deployment, name: str, value: str, part: str, state: str, words: str) -> None:
    before = deployment.client.config_get(name)[name]
    deployment.client.config_set(name, value)
    try:
        found, sentence = deployment.finding(part)
    finally:
        deployment.client.config_set(name, before)
    assert (found, words in sentence) == (state, True), sentence


def test_a_server_that_does_not_tell(deployment: Deployment) -> None:
    deployment.client.execute_command("ACL", "SETUSER", "hosted", "on", ">password", "~*", "&*", "+@all", "-config")
    url = f"redis://hosted:password@127.0.0.1:{deployment.server.port}/0"
    state, sentence = deployment.finding("persistence", redis_url=url)
    assert (state, "does not tell" in sentence) == ("warning", True), sentence


def test_a_redis_that_is_not_there(deployment: Deployment) -> None:
    findings = deployment.findings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert list(findings) == ["keys", "records", "redis"], "what needs it is not tried"
    assert findings["redis"]["state"] == "failure"
    done = deployment.command.run("check", redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert done.stderr == "Not well: redis.\n"


def test_a_wrong_password(deployment: Deployment) -> None:
    state, sentence = deployment.finding("redis", redis_password="wrong")
    assert state == "failure"
    assert "wrong" not in sentence


def test_a_record_store_that_cannot_be_opened(deployment: Deployment) -> None:
    findings = deployment.findings(records_url="sqlite:////proc/nowhere/records.db")
    assert findings["records"]["state"] == "failure"
    assert findings["mirror"]["state"] == "ok", "the other parts are tried all the same"


def test_a_key_that_is_missing(deployment: Deployment) -> None:
    done = deployment.command.run("check", "--json", without="AUTH_TOKEN_KEY")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0] | {"sentence": ""} == {"part": "keys", "state": "failure", "sentence": ""}


def test_a_second_key_is_told(deployment: Deployment) -> None:
    assert "one more is accepted" in deployment.finding("keys", token_key_accepted="Zz9-another-key-that-is-long-enough-0")[1]


def test_a_mirror_of_another_store(deployment: Deployment, tmp_path: Path) -> None:
    state, sentence = deployment.finding("mirror", records_url=f"sqlite:///{tmp_path / 'other.db'}")
    assert (state, "another record store" in sentence) == ("failure", True), sentence


def test_entries_that_were_set_aside(deployment: Deployment) -> None:
    deployment.client.xadd(POISON[3], {"e": "x", "entry": "1-1", "reason": "of this test"})
    try:
        state, sentence = deployment.finding("backlog")
    finally:
        deployment.client.delete(POISON[3])
    assert (state, "authsvc writer status" in sentence) == ("warning", True), sentence


def test_without_a_writer(deployment: Deployment) -> None:
    deployment.writer.stop()
    try:
        deployment.client.set(VOUCHED, "an earlier process")
        assert deployment.finding("mirror")[0] == "warning"
        deployment.client.flushall()
        state, sentence = deployment.finding("mirror")
        assert (state, "start a writer" in sentence) == ("failure", True), sentence
    finally:
        deployment.writer.start().wait_ready()
    assert deployment.finding("mirror")[0] == "ok"
