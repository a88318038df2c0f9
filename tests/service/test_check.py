"""`authsvc check` against real servers that are well, missing, or set up so that a promise would not hold."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from authsvc.admission import backlog_limit
from authsvc.live.keys import BEAT, POISON, STREAMS, VOUCHED
from servers import TOKEN_KEY, RedisCluster, RedisServer, ServiceProcess, free_port, running, service_environ
from service.command_line import CommandLine

PARTS = ["keys", "records", "address", "redis", "persistence", "disk", "memory", "clock", "mirror", "backlog"]


class Deployment:
    """A Redis, a writer over an embedded store, an instance that is its own address, and the command."""

    def __init__(self, server: RedisServer, writer: ServiceProcess, instance: ServiceProcess, folder: Path) -> None:
        self.server = server
        self.writer = writer
        self.records = folder / "records.db"
        self.client = redis.Redis(port=server.port)
        self.command = CommandLine(folder, writer.environ | {"AUTH_ISSUER": instance.url})

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
        instance = ServiceProcess(folder / "instance", "serve", redis_url=server.url)
        with running(writer.start().wait_ready()), running(instance.start().wait_ready()):
            found = Deployment(server, writer, instance, folder)
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


def test_the_address_of_clients_is_tried(deployment: Deployment) -> None:
    """No answer is worth a look, and no failure: not every place is let out to it."""
    state, sentence = deployment.finding("address", issuer=f"http://127.0.0.1:{free_port()}/auth")
    assert (state, "/auth/health does not answer from here" in sentence) == ("warning", True)
    state, sentence = deployment.finding("address", issuer=deployment.writer.management_url)
    assert (state, "/health answers 404" in sentence) == ("warning", True)
    state, sentence = deployment.finding("address", issuer=f"http://127.0.0.1:{deployment.server.port}")
    assert (state, "/health does not answer from here" in sentence) == ("warning", True)


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
        ("maxmemory", "1mb", "memory", "failure", "no token can be made"),
        ("maxmemory", "1mb", "disk", "failure", "A write is refused"),
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


def test_memory_that_is_nearly_full(deployment: Deployment) -> None:
    used = int(deployment.client.info("memory")["used_memory"])
    deployment.client.config_set("maxmemory", used * 10 // 9)
    try:
        findings = deployment.findings()
    finally:
        deployment.client.config_set("maxmemory", "512mb")
    assert (findings["memory"]["state"], findings["disk"]["state"] == "failure") == ("warning", False), findings["memory"]
    assert "raise `maxmemory`" in findings["memory"]["sentence"]


def test_a_redis_that_nobody_has_judged_keeps_its_beat(deployment: Deployment, redis_server: RedisServer) -> None:
    with contextlib.closing(redis.Redis(port=redis_server.port)) as client:
        client.set(BEAT, "1790000000000-7")
        assert deployment.findings(redis_url=redis_server.url)["disk"]["state"] != "failure"
        assert (list(client.scan_iter()), client.get(BEAT)) == ([BEAT], b"1790000000000-7")
        assert client.info("commandstats")["cmdstat_set"]["calls"] > 10, "the disk was timed by real writes"


def test_a_password_that_the_server_does_not_ask_for(deployment: Deployment) -> None:
    findings = deployment.findings(redis_password="needless")
    assert (findings["redis"]["state"], findings["mirror"]["state"]) == ("ok", "ok"), "both ways to Redis are greeted alike"


def test_a_servers_question_ends_with_one_mark(deployment: Deployment) -> None:
    def refuse_all(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                with listener.accept()[0] as client:
                    while commands := client.recv(65536):
                        client.sendall(b"-ERR Are you sure your configuration is correct?\r\n" * commands.count(b"*"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=refuse_all, args=(listener,), daemon=True).start()
        state, sentence = deployment.finding("redis", redis_url=f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        listener.shutdown(socket.SHUT_RDWR)
    assert state == "failure"
    assert sentence.endswith("Are you sure your configuration is correct? AUTH_REDIS_URL must lead to the shared store.")


def test_a_server_that_does_not_tell(deployment: Deployment) -> None:
    deployment.client.execute_command("ACL", "SETUSER", "hosted", "on", ">password", "~*", "&*", "+@all", "-config")
    url = f"redis://hosted:password@127.0.0.1:{deployment.server.port}/0"
    state, sentence = deployment.finding("persistence", redis_url=url)
    assert (state, "does not tell" in sentence) == ("warning", True), sentence


def test_an_instance_needs_no_record_store(deployment: Deployment, tmp_path: Path) -> None:
    environ = {name: value for name, value in deployment.command.environ.items() if name != "AUTH_RECORDS_URL"}
    words = [sys.executable, "-m", "authsvc", "check", "--json"]
    done = subprocess.run(words, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    [records] = [finding for finding in json.loads(done.stdout) if finding["part"] == "records"]
    assert records["state"] == "warning"
    assert records["sentence"].endswith("It is the writer's: ask there, or set AUTH_RECORDS_URL.")


def test_a_redis_that_is_not_there(deployment: Deployment) -> None:
    findings = deployment.findings(redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert list(findings) == ["keys", "records", "address", "redis"], "what needs it is not tried"
    assert findings["redis"]["state"] == "failure"
    done = deployment.command.run("check", redis_url=f"redis://127.0.0.1:{free_port()}/0")
    assert done.returncode == 1
    assert done.stderr == "Not well: redis.\n"


def test_a_cluster_and_a_mode_that_do_not_fit(deployment: Deployment, tmp_path: Path) -> None:
    assert deployment.finding("redis", redis_mode="cluster") == (
        "failure",
        "The server is no node of a Redis Cluster: set AUTH_REDIS_MODE=single. AUTH_REDIS_URL must lead to the shared store.",
    )
    cluster = RedisCluster(tmp_path / "cluster", 2)
    with running(cluster):
        cluster.start()
        home, other = cluster.masters
        state, sentence = deployment.finding("redis", redis_url=home.url)
        assert (state, "is a node of a Redis Cluster: set AUTH_REDIS_MODE=cluster." in sentence) == ("warning", True), sentence
        state, sentence = deployment.finding("redis", redis_url=other.url)
        assert (state, "set AUTH_REDIS_MODE=cluster." in sentence) == ("failure", True), sentence
        assert deployment.finding("redis", redis_url=home.url, redis_mode="cluster")[0] == "ok"
        with cluster.ask(other) as client:
            client.config_set("cluster-require-full-coverage", "yes")
        state, sentence = deployment.finding("redis", redis_url=home.url, redis_mode="cluster")
        assert (state, "set `cluster-require-full-coverage no`" in sentence) == ("warning", True), sentence


def test_a_wrong_password(deployment: Deployment) -> None:
    deployment.client.execute_command("ACL", "SETUSER", "guarded", "on", ">password", "~*", "&*", "+@all")
    url = f"redis://guarded@127.0.0.1:{deployment.server.port}/0"
    assert deployment.finding("redis", redis_url=url, redis_password="password")[0] == "ok"
    state, sentence = deployment.finding("redis", redis_url=url, redis_password="wrong")
    assert state == "failure"
    assert "wrong" not in sentence


def test_a_record_store_that_cannot_be_opened(deployment: Deployment) -> None:
    findings = deployment.findings(records_url="sqlite:////proc/nowhere/records.db")
    assert findings["records"]["state"] == "failure"
    assert findings["mirror"]["state"] == "ok", "the other parts are tried all the same"


@pytest.mark.parametrize("path", ["no-folder/records.db", "records-mistyped.db", "empty.db", "other.db", "text"])
def test_where_there_is_no_record_store_none_is_made(deployment: Deployment, tmp_path: Path, path: str) -> None:
    (tmp_path / "empty.db").touch()
    (tmp_path / "text").write_text("not a database, though long enough to be taken for the header of one " * 10)
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE others (word TEXT)")
    before = contents(tmp_path)
    state, sentence = deployment.finding("records", records_url=f"sqlite:///{tmp_path / path}")
    assert (state, str(tmp_path / path) in sentence) == ("failure", True)
    assert sentence.endswith(" Correct AUTH_RECORDS_URL, or run `authsvc migrate`."), sentence
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("version", "state", "words"), [("0000", "failure", "run `authsvc migrate`"), ("9999", "warning", "upgrade this one")]
)
def test_a_schema_of_another_release_is_told_and_left_alone(
    deployment: Deployment, tmp_path: Path, version: str, state: str, words: str
) -> None:
    path = tmp_path / "records.db"
    deployment.command.good("migrate", records_url=f"sqlite:///{path}")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (version,))
        before = list(connection.iterdump())
    found, sentence = deployment.finding("records", records_url=f"sqlite:///{path}")
    assert (found, words in sentence, version in sentence) == (state, True, True), sentence
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def contents(folder: Path) -> dict[str, bytes | None]:
    """All that is below a folder: files with what they hold."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def test_a_record_store_that_is_locked(deployment: Deployment) -> None:
    with contextlib.closing(sqlite3.connect(deployment.records, timeout=30, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        state, sentence = deployment.finding("records", writer_call_timeout_seconds="0.3")
        connection.execute("ROLLBACK")
    assert (state, "read but not written" in sentence, "locked" in sentence) == ("failure", True, True), sentence
    assert deployment.finding("records")[0] == "ok"


def test_a_record_store_that_is_read_only(deployment: Deployment, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    deployment.command.good("migrate", records_url=f"sqlite:///{path}")
    lock = 'mount --bind "$0" "$0"; mount -o remount,bind,ro "$0"; exec "$@"'
    apart = ["unshare", "--mount", "--map-root-user", "sh", "-ec", lock, str(path)]
    try:
        subprocess.run([*apart, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file cannot be mounted read-only here: {error}")
    environ = {**service_environ(), **deployment.command.environ, "AUTH_RECORDS_URL": f"sqlite:///{path}"}
    command = [*apart, sys.executable, "-m", "authsvc", "check", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    [records] = [finding for finding in json.loads(done.stdout) if finding["part"] == "records"]
    assert (records["state"], "read but not written" in records["sentence"]) == ("failure", True), records
    assert done.returncode == 1


def test_a_key_that_is_missing(deployment: Deployment) -> None:
    done = deployment.command.run("check", "--json", without="AUTH_TOKEN_KEY")
    assert done.returncode == 1
    assert json.loads(done.stdout)[0] | {"sentence": ""} == {"part": "keys", "state": "failure", "sentence": ""}


def test_keys_are_told_apart_by_fingerprints_that_tell_nothing_else(deployment: Deployment) -> None:
    another = "Zz9-another-key-that-is-long-enough-0"
    here, there, both = (
        deployment.finding("keys", **keys)[1]
        for keys in ({}, {"token_key": another}, {"token_key": another, "token_key_accepted": TOKEN_KEY})
    )
    [issuing], [other] = (re.findall(r"\b[0-9a-f]{8}\b", sentence) for sentence in (here, there))
    assert issuing != other
    assert re.findall(r"\b[0-9a-f]{8}\b", both) == [other, issuing]
    assert "one more is accepted" in both
    assert not any(key in here + there + both for key in (TOKEN_KEY, another))


def test_a_mirror_of_another_store(deployment: Deployment, tmp_path: Path) -> None:
    deployment.command.good("migrate", records_url=f"sqlite:///{tmp_path / 'other.db'}")
    state, sentence = deployment.finding("mirror", records_url=f"sqlite:///{tmp_path / 'other.db'}")
    assert (state, "another record store" in sentence) == ("failure", True), sentence


def test_entries_that_were_set_aside(deployment: Deployment) -> None:
    deployment.client.xadd(POISON[3], {"e": "x", "entry": "1-1", "reason": "of this test"})
    try:
        state, sentence = deployment.finding("backlog")
    finally:
        deployment.client.delete(POISON[3])
    assert (state, "authsvc writer status" in sentence) == ("warning", True), sentence


def test_a_backlog_at_which_no_token_is_made(deployment: Deployment) -> None:
    limit = backlog_limit(None, 4 << 20)
    with deployment.client.pipeline() as pipe:
        for _ in range(limit):
            # Of a form that no writer of this release takes away.
            pipe.xadd(STREAMS[3], {"e": "2"})
        ids = pipe.execute()
    try:
        assert deployment.finding("backlog")[0] == "ok", "there is memory for many more"
        for settings, state in (({"backlog_limit": str(limit)}, "failure"), ({"backlog_limit": str(limit + 1)}, "ok")):
            assert deployment.finding("backlog", **settings)[0] == state
        deployment.client.config_set("maxmemory", 4 << 20)
        state, sentence = deployment.finding("backlog")
        assert (state, f"from {limit} on no token is made" in sentence) == ("failure", True), sentence
        deployment.client.config_set("maxmemory", (4 << 20) + 1024)
        assert deployment.finding("backlog")[0] == "ok"
    finally:
        deployment.client.config_set("maxmemory", "512mb")
        deployment.client.xack(STREAMS[3], "writers", *ids)
        deployment.client.xdel(STREAMS[3], *ids)


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
