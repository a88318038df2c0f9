"""The command line as a person types it, against a real Redis, one real writer and one real instance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import pwd
import re
import socket
import sqlite3
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import redis
import typer.main

from authsvc import __version__
from authsvc.commands.main import app
from authsvc.commands.records import PAGE
from authsvc.credentials import TokenKeys, jti
from authsvc.live.connect import connect_redis
from authsvc.live.keys import STREAMS, shard, token_key
from authsvc.live.mirror import Mirror
from authsvc.model import Kind, TokenRecord
from authsvc.settings import read_settings
from contract.record_stores import DATABASES
from servers import TOKEN_KEY, RedisServer, ServiceProcess, run_command, running, service_environ, wait_until
from service.command_line import CommandLine
from service.one_instance import GRANT, OneInstance, basic, bearer
from service.wire import Answer

COMMANDS = {
    "serve", "write", "migrate", "check", "profile", "log", "secrets", "trial",
    "writer status", "token show", "token revoke", "token search", "token export",
    *(f"client {name}" for name in (
        "add", "rotate", "retire", "disable", "enable", "revoke-tokens", "delete", "show", "list", "changes", "export", "import",
    )),
}  # fmt: skip
NOT_IN_FORCE = "The change is stored but not yet in force on every instance; the writer will finish it."
NO_REDIS = "redis://127.0.0.1:1/0"
UNKNOWN_JTI = "A" * 27
FIRST_MS = 1_790_000_000_000
"""2026-09-21T14:13:20Z."""
ENDS: dict[str, Any] = {"revoked_ms": FIRST_MS + 4000, "voided_ms": FIRST_MS + 4001, "revoked_request_id": "request", "revoked_by": "alice"}


class Service:
    """What the commands are typed against, and how a client of the service sees what they did."""

    def __init__(self, command: CommandLine, instance: OneInstance, early: dict[str, subprocess.CompletedProcess[str]]) -> None:
        self.command = command
        self.instance = instance
        self.early = early

    def add(self, client_id: str, *words: str) -> str:
        """Add a client and return its secret."""
        secret: str = self.command.json("client", "add", client_id, "--scope", "read", "--scope", "write", *words)["client_secret"]
        return secret

    def issue(self, client_id: str, secret: str, target: str = "/token") -> Answer:
        return self.instance.post(target, GRANT, basic(client_id, secret))

    def token(self, client_id: str, secret: str, target: str = "/token") -> str:
        answer = self.issue(client_id, secret, target)
        assert answer.status == 200, answer
        token: str = answer.json["access_token"]
        return token

    def accepts(self, client_id: str, secret: str) -> bool:
        """Whether the instance takes this secret now."""
        status = self.issue(client_id, secret).status
        assert status in (200, 401)
        return status == 200

    def jti(self, token: str) -> str:
        name: str = self.instance.ask("GET", "/validate", bearer(token)).json["jti"]
        return name

    def written(self, token: str) -> dict[str, Any]:
        """What `token show` tells once the writer has written the token."""
        shown: dict[str, Any] = wait_until(
            lambda: next((found for found in [self.command.json("token", "show", token)] if found["record"] == "written"), None),
            "it is written",
        )
        return shown


class Place:
    """Where the commands are typed: a Redis, an instance, and no writer yet."""

    def __init__(self, folder: Path) -> None:
        self.redis = RedisServer(folder / "redis")
        shared = {"redis_url": self.redis.url, "records_url": f"sqlite:///{folder / 'records.db'}"}
        self.serve = ServiceProcess(folder, "serve", **shared)
        self.writer = ServiceProcess(folder, "write", **shared, writer_batch_seconds=0.1, mirror_interval_seconds=0.2)
        own = ("AUTH_PORT", "AUTH_MANAGEMENT_PORT")
        self.environ = {name: value for name, value in self.writer.environ.items() if name not in own}
        self.command = CommandLine(folder, self.environ)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """All but the writer runs."""
    place = Place(tmp_path_factory.mktemp("commands"))
    with running(place.redis.start(), place.serve.start()):
        yield place
        place.command.close()


@pytest.fixture(scope="module", autouse=True)
def early(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, subprocess.Popen[str]]]:
    """Additions that cannot come into force, because there is no writer. They give up while other tests run."""
    processes = start_without_writer(place.environ, tmp_path_factory.mktemp("early"))
    with contextlib.ExitStack() as stack:
        for process in processes.values():
            stack.enter_context(process)
            stack.callback(process.kill)
        yield processes


@pytest.fixture(scope="module")
def service(place: Place, early: dict[str, subprocess.Popen[str]]) -> Iterator[Service]:
    """All that runs, once the early commands have given up and the writer has started."""
    finished = {name: finish(process) for name, process in early.items()}
    with running(place.writer.start()):
        place.serve.wait_ready()
        place.writer.wait_ready()
        yield Service(place.command, OneInstance(place.redis, place.serve), finished)


def start_without_writer(environ: dict[str, str], folder: Path) -> dict[str, subprocess.Popen[str]]:
    """All at once, for each waits its whole time."""
    no_redis = {"AUTH_REDIS_URL": NO_REDIS, "AUTH_RECORDS_URL": f"sqlite:///{folder / 'other.db'}"}
    return {
        "json": start(environ, "client", "add", "early-json", "--scope", "read", "--json"),
        "text": start(environ, "client", "add", "early-text", "--scope", "read"),
        "no redis": start({**environ, **no_redis}, "client", "add", "early-no-redis", "--scope", "read", "--json"),
    }


def start(environ: dict[str, str], *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "authsvc", *words]
    return subprocess.Popen(command, env={**service_environ(), **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def command(place: Place) -> CommandLine:
    return place.command


# Help, version and wrong usage


def paths() -> dict[str, Any]:
    """Every command there is, by the words that call it."""
    found = {}
    for name, top in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        inner = getattr(top, "commands", {})
        found |= {f"{name} {below}": command for below, command in inner.items()} or {name: top}
    return found


def test_the_commands_are_those_of_the_contract() -> None:
    assert paths().keys() == COMMANDS


@pytest.mark.parametrize("path", sorted(COMMANDS))
def test_help_says_what_a_command_does_and_what_each_option_is(command: CommandLine, path: str) -> None:
    text = " ".join(command.good(*path.split(), "--help").split())
    described = paths()[path]
    sentence = " ".join(described.help.split())
    assert sentence in text
    assert sentence.endswith((".", "`"))
    for parameter in described.params:
        assert parameter.help, f"{parameter.name} is not explained"
        assert parameter.name in ("client_id", "token", "file", "name", "entries", "urls") or parameter.opts[0] in text


def test_help_of_groups_lists_what_is_in_them(command: CommandLine) -> None:
    text = command.good("--help")
    assert all(f" {path.split()[0]} " in text for path in COMMANDS)
    for group in ("client", "token", "writer"):
        text = command.good(group, "--help")
        assert all(f" {path.split()[1]} " in text for path in COMMANDS if path.startswith(f"{group} "))


def test_the_version_is_printed_by_a_real_start(command: CommandLine) -> None:
    done = run_command({}, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"authsvc {__version__}\n", "")
    assert command.good("--version") == done.stdout


@pytest.mark.parametrize(
    "line",
    [
        "", "client", "nothing", "client nothing", "client add", "client rotate a b", "client list extra", "client add a --scope",
        "client add a --scope r --access-ttl-seconds soon", "client list --yaml", "token show", "token show a b", "migrate --dry",
        "migrate --from 0001",
        "client import", "writer status now", "serve --port 1", "token search", "token search --client",
        "token search --client a --limit 0", "token search --client a --since yesterday", "token export --since 5", "token export a",
        "secrets", "secrets name", "secrets name no/entry", "secrets name entry --label key", "secrets name entry --label =value",
    ],
)  # fmt: skip
def test_wrong_usage_exits_2_and_says_what_is_wrong(command: CommandLine, line: str) -> None:
    done = command.run(*line.split())
    assert done.returncode == 2
    if line in ("", "client"):
        assert "Usage: authsvc" in done.stdout, "no words at all are a question"
    else:
        assert done.stdout == ""
        assert "Error" in done.stderr


# The schema


def test_migrate_may_be_repeated(command: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "new" / "records.db"
    for _ in range(2):
        assert command.good("migrate", records_url=f"sqlite:///{path}") == "The schema is up to date.\n"
    assert "clients" in tables(path)


def test_migrate_sql_prints_what_makes_the_schema_and_touches_nothing(command: CommandLine, tmp_path: Path) -> None:
    path = tmp_path / "records.db"
    statements = command.good("migrate", "--sql", records_url=f"sqlite:///{path}")
    assert not path.exists()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(statements)
    command.good("migrate", records_url=f"sqlite:///{tmp_path / 'migrated.db'}")
    assert tables(path) == tables(tmp_path / "migrated.db")
    command.good("client", "list", records_url=f"sqlite:///{path}")


def tables(path: Path) -> set[str]:
    """Everything in a database by its name."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}


# What is wrong is said in one sentence


@pytest.mark.parametrize("line", [f"token show {UNKNOWN_JTI}", f"token revoke {UNKNOWN_JTI}", "writer status"])
def test_redis_out_of_reach(command: CommandLine, line: str) -> None:
    sentence = command.refused(*line.split(), redis_url=NO_REDIS)
    assert "Redis is out of reach" in sentence
    assert not sentence.endswith("..")


def test_redis_without_a_mirror(place: Place, command: CommandLine) -> None:
    empty = place.redis.url.removesuffix("/0") + "/6"
    assert "client directory" in command.refused("token", "revoke", UNKNOWN_JTI, redis_url=empty)


@pytest.mark.parametrize("line", ["client list", "migrate", "write"])
def test_a_record_store_that_is_none(command: CommandLine, tmp_path: Path, line: str) -> None:
    text = tmp_path / "text"
    text.write_text("not a database, though long enough to be taken for the header of one " * 10)
    for path in (text, tmp_path, text / "below" / "records.db"):
        sentence = command.refused(*line.split(), records_url=f"sqlite:///{path}")
        assert sentence.startswith(f"The record store {path} cannot be used: ")
    assert text.read_text().startswith("not a database")


@pytest.mark.parametrize("line", ["client list", "migrate", "write"])
def test_thick_mode_without_oracles_client_libraries(command: CommandLine, line: str) -> None:
    if find_library("clntsh"):
        pytest.skip("Oracle's client libraries are on this machine")
    sentence = command.refused(*line.split(), records_url="oracle://app@127.0.0.1:1/S", oracle_thick_mode="true")
    assert sentence.startswith("AUTH_ORACLE_THICK_MODE is set, but Oracle's client libraries cannot be loaded: install Oracle Instant ")
    assert "libclntsh" in sentence
    assert "http" not in sentence


@pytest.mark.parametrize("line", ["serve", "token show at_" + "A" * 43])
def test_a_missing_key(command: CommandLine, line: str) -> None:
    sentence = "AUTH_TOKEN_KEY (or AUTH_TOKEN_KEY_FILE) is not set: every instance needs the same key."
    assert command.refused(*line.split(), without="AUTH_TOKEN_KEY") == sentence


@pytest.mark.parametrize("content", [None, "{[", "a: b", "\x00"])
def test_a_cluster_that_cannot_be_found(command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    file = tmp_path / "kubeconfig"
    if content is not None:
        file.write_text(content)
    monkeypatch.setitem(command.environ, "KUBECONFIG", str(file))
    sentence = command.refused("secrets", "name", "entry")
    assert sentence.startswith("There is no cluster: run in a pod with its service account's token, or set KUBECONFIG (")


def test_a_cluster_that_does_not_answer(command: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}]}
    contexts = [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "n"}}]
    file = tmp_path / "kubeconfig"
    file.write_text(json.dumps({**entry, "contexts": contexts, "current-context": "x"}))
    monkeypatch.setitem(command.environ, "KUBECONFIG", str(file))
    sentence = command.refused("secrets", "name", "entry")
    assert sentence.startswith("The cluster at https://127.0.0.1:1 does not answer: ")
    assert "Connection refused" in sentence


@pytest.mark.parametrize("line", ["serve", "write", "migrate", "client list", f"token show {UNKNOWN_JTI}", "writer status"])
def test_an_unknown_setting(command: CommandLine, line: str) -> None:
    assert command.refused(*line.split(), lifetime="5") == "AUTH_LIFETIME is not a setting of this service: see docs/settings.md."


def test_a_management_port_in_use(place: Place, command: CommandLine) -> None:
    sentence = f"The management port 127.0.0.1:{place.redis.port} cannot be opened: Address already in use"
    assert command.refused("write", management_port=str(place.redis.port)).startswith(sentence)


def test_a_bad_setting(command: CommandLine) -> None:
    assert command.refused("client", "list", writer_profile="hasty").startswith("AUTH_WRITER_PROFILE: ")
    sentence = "AUTH_REDIS_URL: must look like redis://HOST:PORT/DB or rediss://HOST:PORT/DB."
    assert command.refused("client", "list", redis_url="http://127.0.0.1") == sentence


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["a b", "--scope", "r"], "A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (["", "--scope", "r"], "A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (["x" * 65, "--scope", "r"], "A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (["n\nl", "--scope", "r"], "A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -"),
        (["refused"], "A client needs at least one scope: --scope NAME."),
        (["refused", "--scope", " "], "A client needs at least one scope: --scope NAME."),
        (["refused", "--scope", 'a"b'], "'a\"b' is no scope: 1 to 64 printable ASCII characters without space, quote and backslash."),
        (["refused", "--scope", "é"], "'é' is no scope: 1 to 64 printable ASCII characters without space, quote and backslash."),
        (["refused", "--scope", " ".join(f"s{number}" for number in range(33))], "A client has at most 32 scopes."),
        (["refused", "--scope", "r", "--access-ttl-seconds", "0"], "A lifetime is 1 to 2592000 seconds."),
        (["refused", "--scope", "r", "--one-time-ttl-seconds", "2592001"], "A lifetime is 1 to 2592000 seconds."),
    ],
)
def test_what_no_client_may_be_is_refused_in_one_sentence(command: CommandLine, words: list[str], sentence: str) -> None:
    assert command.refused("client", "add", *words) == sentence


@pytest.mark.parametrize("verb", ["rotate", "retire", "disable", "enable", "revoke-tokens", "delete", "show"])
def test_a_client_that_is_not_there_is_named(command: CommandLine, verb: str) -> None:
    assert command.refused("client", verb, "nobody") == "There is no client nobody."


def exported_client(**changes: Any) -> dict[str, Any]:
    return {
        "client_id": "imported",
        "scopes": ["read"],
        "enabled": True,
        "secrets": [{"sha256": b64encode(b"d" * 32).decode(), "created_ms": 1}],
        "access_ttl_seconds": 60,
        "one_time_ttl_seconds": 60,
        **changes,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "[]",
        "{}",
        '{"clients": 5}',
        '{"clients": [5]}',
        "[" * 100_000,
        *(
            json.dumps({"clients": [exported_client(), exported_client(**changes)]})
            for changes in (
                {"client_id": 5},
                {"client_id": "a b"},
                {"client_id": "\ud800"},
                {"scopes": "read"},
                {"scopes": [7]},
                {"scopes": []},
                {"scopes": ["a b"]},
                {"enabled": "no"},
                {"secrets": []},
                {"secrets": [{"sha256": "AAAA", "created_ms": 1}]},
                {"secrets": [{"sha256": "not base64!", "created_ms": 1}]},
                {"secrets": [{"sha256": b64encode(b"d" * 32).decode(), "created_ms": 2**70}]},
                {"secrets": [{"sha256": b64encode(b"d" * 32).decode()}]},
                {"access_ttl_seconds": 1e999},
                {"access_ttl_seconds": 0},
                {"a_newer_release": "wrote this"},
            )
        ),
    ],
)
def test_what_is_no_export_is_refused_in_one_sentence(command: CommandLine, text: str) -> None:
    sentence = command.refused("client", "import", "-", stdin=text)
    assert sentence.startswith("- ")
    assert len(sentence) < 300


def test_nothing_that_was_refused_is_stored(command: CommandLine) -> None:
    assert not {"refused", "imported", "a b", "", "x" * 65} & {client["client_id"] for client in command.json("client", "list")}


def test_a_file_that_cannot_be_read_is_named(command: CommandLine, tmp_path: Path) -> None:
    missing = tmp_path / "missing.json"
    assert command.refused("client", "import", str(missing)) == f"{missing} cannot be read: No such file or directory."
    assert command.refused("client", "import", str(tmp_path)) == f"{tmp_path} cannot be read: Is a directory."
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe\x00")
    assert command.refused("client", "import", str(binary)).startswith(f"{binary} is not an export of clients: ")


@pytest.mark.parametrize("word", ["", "x", "-", "--nothing", "A" * 26 + "B", "A" * 26 + "=", "at_" + "A" * 43, "é" * 46, "A" * 5000])
def test_what_is_no_token_is_refused_in_one_sentence(command: CommandLine, word: str) -> None:
    sentence = "This is neither a JTI (27 characters) nor a token of this service (46 characters)."
    assert command.refused("token", "show", word) == sentence
    assert command.refused("token", "revoke", word) == sentence


# Stored, but not in force


@pytest.mark.parametrize("name", ["json", "text"])
def test_a_change_that_is_not_yet_in_force_is_printed_with_its_secret_and_finished_by_the_writer(service: Service, name: str) -> None:
    done = service.early[name]
    assert (done.returncode, done.stderr) == (1, f"{NOT_IN_FORCE}\n")
    if name == "json":
        members = json.loads(done.stdout)
        assert members["in_force"] is False
        secret = members["client_secret"]
    else:
        secret = shown_secret(done.stdout)
    wait_until(lambda: service.accepts(f"early-{name}", secret), "the writer has finished it")


def test_a_change_without_redis_is_stored_and_printed_all_the_same(service: Service) -> None:
    done = service.early["no redis"]
    assert (done.returncode, done.stderr) == (1, f"{NOT_IN_FORCE}\n")
    assert json.loads(done.stdout)["client_secret"]


def shown_secret(text: str) -> str:
    found = re.findall(r"^client_secret: ([A-Za-z0-9_-]{43})$", text, re.MULTILINE)
    assert len(found) == 1, text
    return str(found[0])


# Clients


def test_add_prints_the_secret_once_and_it_works_at_once(service: Service, command: CommandLine) -> None:
    added = command.json("client", "add", "first", "--scope", "read", "--scope", "write read", "--access-ttl-seconds", "77")
    assert list(added)[:2] == ["client_id", "client_secret"]
    secret = added.pop("client_secret")
    created = added["secrets"][0]["created"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", created)
    assert added == {
        "client_id": "first",
        "scopes": ["read", "write"],
        "enabled": True,
        "secrets": [{"created": created}],
        "access_ttl_seconds": 77,
        "one_time_ttl_seconds": 120,
        "epoch": added["revision"],
        "revision": added["revision"],
        "in_force": True,
    }
    answer = service.issue("first", secret)
    assert (answer.status, answer.json["expires_in"], answer.json["scope"]) == (200, 77, "read write")
    shown = [command.good("client", *words) for words in (["show", "first"], ["show", "first", "--json"], ["list"], ["export"])]
    assert not any(secret in text for text in shown)


def test_add_without_json_tells_a_person_the_same(service: Service, command: CommandLine) -> None:
    text = command.good("client", "add", "person", "--scope", "read", "--one-time-ttl-seconds", "9")
    assert text.startswith("Client person added.\nclient_id:     person\n")
    assert text.endswith("The secret is shown this once.\n")
    answer = service.issue("person", shown_secret(text), "/ott")
    assert (answer.status, answer.json["expires_in"]) == (200, 9)


def test_add_of_a_client_that_is_there_changes_nothing(service: Service, command: CommandLine) -> None:
    secret = service.add("twice")
    before = command.json("client", "show", "twice")
    assert command.refused("client", "add", "twice", "--scope", "other") == "Client twice exists already."
    assert command.json("client", "show", "twice") == before
    assert service.accepts("twice", secret)


def test_two_secrets_live_side_by_side_from_rotate_to_retire(service: Service, command: CommandLine) -> None:
    old = service.add("turned")
    assert command.refused("client", "retire", "turned") == "Client turned has one live secret: rotate first."
    rotated = command.json("client", "rotate", "turned")
    new = rotated["client_secret"]
    assert len(rotated["secrets"]) == 2
    assert new != old
    assert service.accepts("turned", old)
    assert service.accepts("turned", new)
    refusal = command.refused("client", "rotate", "turned")
    assert refusal == "Client turned has two live secrets: retire the older one first."
    token = service.token("turned", old)
    assert command.good("client", "retire", "turned") == "The older secret of client turned is ended.\n"
    assert not service.accepts("turned", old)
    assert service.accepts("turned", new)
    assert service.instance.valid(token), "a secret's end is no end of tokens"
    text = command.good("client", "rotate", "turned")
    assert text.startswith("Client turned has a second secret.\n")
    newest = shown_secret(text)
    retired = command.json("client", "retire", "turned")
    assert "client_secret" not in retired
    assert len(retired["secrets"]) == 1
    assert (service.accepts("turned", new), service.accepts("turned", newest)) == (False, True)


def test_disable_holds_until_enable_and_revoke_tokens_for_good(service: Service, command: CommandLine) -> None:
    secret = service.add("held")
    token = service.token("held", secret)
    assert command.good("client", "disable", "held") == "Client held is disabled.\n"
    assert not service.instance.valid(token)
    assert not service.accepts("held", secret)
    assert command.json("client", "show", "held")["enabled"] is False
    assert command.good("client", "enable", "held") == "Client held is enabled.\n"
    assert service.instance.valid(token), "unexpired tokens come back"
    assert command.good("client", "revoke-tokens", "held") == "All tokens of client held are ended.\n"
    assert not service.instance.valid(token)
    later = service.token("held", secret)
    assert service.instance.valid(later)
    assert command.json("client", "disable", "held")["enabled"] is False
    assert command.json("client", "revoke-tokens", "held")["in_force"] is True
    assert command.json("client", "enable", "held")["enabled"] is True
    assert not service.instance.valid(later), "revoke-tokens ran in between"
    assert service.accepts("held", secret)


def test_a_deleted_client_that_is_added_again_is_another_one(service: Service, command: CommandLine) -> None:
    secret = service.add("again")
    token = service.token("again", secret)
    assert command.good("client", "delete", "again") == "Client again is deleted.\n"
    assert not service.instance.valid(token)
    assert not service.accepts("again", secret)
    assert command.refused("client", "show", "again") == "There is no client again."
    renewed = service.add("again")
    assert not service.instance.valid(token), "adding revives no token"
    assert (service.accepts("again", secret), service.accepts("again", renewed)) == (False, True)
    assert command.json("client", "delete", "again") == {"client_id": "again", "deleted": True, "in_force": True}


def test_changes_tell_what_was_done_when_by_whom_and_in_which_request(service: Service, command: CommandLine) -> None:
    began_ms = int(time.time() * 1000)
    service.add("audited")
    for verb in ("rotate", "retire", "disable", "enable", "revoke-tokens"):
        command.json("client", verb, "audited", operator="somebody of ours")
    command.json("client", "delete", "audited")
    changes = command.json("client", "changes", "audited")
    assert [change["change"] for change in changes] == ["add", "rotate", "retire", "disable", "enable", "revoke-tokens", "delete"]
    assert [(change["secrets"], change["enabled"]) for change in changes] == [
        *((1, True), (2, True), (1, True), (1, False), (1, True), (1, True), (None, None)),
    ]
    by_default = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"
    assert [change["changed_by"] for change in changes] == [by_default, *["somebody of ours"] * 5, by_default]
    assert len({change["request_id"] for change in changes}) == len(changes)
    assert changes[4]["epoch"] == changes[0]["epoch"] != changes[5]["epoch"]
    times = [datetime.fromisoformat(change["changed"]).timestamp() * 1000 for change in changes]
    assert began_ms - 1000 <= times[0] <= times[-1] <= time.time() * 1000 + 1000
    everyone = command.json("client", "changes", "--since", "1h")
    assert [change for change in everyone if change["client_id"] == "audited"] == changes
    lines = command.good("client", "changes", "audited").splitlines()
    assert len(lines) == 1 + len(changes)
    for line, change in zip(lines[1:], changes, strict=True):
        assert all(str(change[name]) in line for name in ("changed", "change", "changed_by", "request_id"))
    assert command.good("client", "changes", "nobody-ever") == "No changes.\n"


def test_what_others_have_written_is_shown_as_it_is(service: Service, command: CommandLine) -> None:
    """Neither markup nor what moves a cursor has any effect: who changed a client cannot hide it."""
    secret = service.command.json("client", "add", "bracketed", "--scope", "[red]x", operator="[bold]anna [/x] \x1b[2K")["client_secret"]
    assert secret
    assert "[bold]anna [/x] \N{REPLACEMENT CHARACTER}[2K" in command.good("client", "changes", "bracketed")
    assert "[red]x" in command.good("client", "list")
    service.issue("bracketed", secret)
    assert wait_until(lambda: "[red]x" in command.good("token", "search", "--client", "bracketed"), "it is written")


def test_show_and_list_cut_nothing_short_in_a_pipe(service: Service, command: CommandLine) -> None:
    long_id, scopes = "L" * 64, [f"scope-{number}-{'x' * 50}" for number in range(20)]
    command.good("client", "add", long_id, "--scope", " ".join(scopes))
    service.add("a-second-one")
    command.good("client", "disable", "a-second-one")
    listed = command.json("client", "list")
    names = [client["client_id"] for client in listed]
    assert names == sorted(names)
    assert command.json("client", "show", long_id) in listed
    heading, *lines = command.good("client", "list").splitlines()
    assert [line.split()[0] for line in lines] == names
    assert "client" in heading
    [shown] = command.good("client", "show", long_id).splitlines()[1:]
    assert shown.split()[:21] == [long_id, *scopes]
    assert " enabled " in shown
    assert " disabled " in command.good("client", "show", "a-second-one")


# Export and import


def test_an_import_keeps_status_and_secrets_and_ends_older_tokens(service: Service, command: CommandLine, tmp_path: Path) -> None:
    old, off = service.add("moved"), service.add("moved-off")
    new = command.json("client", "rotate", "moved")["client_secret"]
    token = service.token("moved", new)
    command.good("client", "disable", "moved-off")
    exported = command.good("client", "export")
    assert json.loads(exported) == json.loads(command.good("client", "export", "--json"))
    file = tmp_path / "clients.json"
    file.write_text(exported)
    command.good("client", "delete", "moved-off")
    command.good("client", "retire", "moved")
    command.good("client", "enable", "early-text")
    count = len(json.loads(exported)["clients"])
    assert command.good("client", "import", str(file)) == f"{count} clients imported.\n"
    assert not service.instance.valid(token), "older tokens end"
    assert service.accepts("moved", old), "the retired secret was in the export"
    assert service.accepts("moved", new)
    assert not service.accepts("moved-off", off)
    command.good("client", "enable", "moved-off")
    assert service.accepts("moved-off", off)


@pytest.mark.parametrize("kind", DATABASES)
def test_an_export_piped_into_another_store_makes_it_the_same(service: Service, command: CommandLine, tmp_path: Path, kind: Any) -> None:
    other = kind(tmp_path)
    piped = f"piped-{kind.__name__}"
    service.add(piped)
    command.good("client", "rotate", piped)
    command.good("client", "disable", piped)
    exported = command.good("client", "export")
    clients = json.loads(exported)["clients"]
    assert [(len(client["secrets"]), client["enabled"]) for client in clients if client["client_id"] == piped] == [(2, False)]
    elsewhere = {"records_url": other.url, "redis_url": service.instance.redis.url.removesuffix("/0") + "/5"}
    asyncio.run(empty_mirror(other, elsewhere["redis_url"]))
    assert command.json("client", "import", "-", stdin=exported, **elsewhere) == {"imported": len(clients)}
    assert command.good("client", "export", **elsewhere) == exported
    first = {client["client_id"]: client for client in command.json("client", "list", **elsewhere)}
    numbers = [client["revision"] for client in first.values()]
    assert [client["epoch"] for client in first.values()] == numbers, "a client that is added draws both at once"
    assert len(set(numbers)) == len(clients)
    assert command.good("client", "import", "-", stdin=exported, **elsewhere) == f"{len(clients)} clients imported.\n"
    assert command.good("client", "export", **elsewhere) == exported
    for client in command.json("client", "list", **elsewhere):
        assert min(client["epoch"], client["revision"]) > max(numbers), "what is replaced draws them anew"


async def empty_mirror(database: Any, redis_url: str) -> None:
    """What a writer makes first of an empty record store."""
    redis = connect_redis(read_settings({"AUTH_REDIS_URL": redis_url}))
    try:
        await redis.flushdb()
        async with database.opened() as store:
            assert await Mirror(redis).build([], 1, await store.identity()) is not None
    finally:
        await redis.aclose()


# Single tokens

NO_REQUESTS = dict.fromkeys(("issued_request_id", "used_request_id", "revoked_request_id", "revoked_by"))


def test_a_token_is_shown_by_itself_and_by_its_jti(service: Service, command: CommandLine) -> None:
    token = service.token("shown", service.add("shown"))
    name = service.jti(token)
    by_token = service.written(token)
    assert by_token == command.json("token", "show", name)
    assert by_token["live"] == "stored"
    assert {key: by_token[key] for key in ("jti", "client_id", "kind", "scope")} == {
        "jti": name, "client_id": "shown", "kind": "access", "scope": "read write",
    }  # fmt: skip
    assert [by_token[key] for key in ("used", "revoked", "voided")] == [None, None, None]
    assert by_token["issued"] < by_token["expires"]
    lines = dict(re.split(r":\s+", line, maxsplit=1) for line in command.good("token", "show", token).splitlines())
    assert lines == {key: {None: "-", True: "yes"}.get(value, value) for key, value in by_token.items()}
    assert (by_token["valid"], by_token["reason"], by_token["record"]) == (True, None, "written")


def test_a_token_is_said_to_be_valid_exactly_while_it_is(service: Service, command: CommandLine) -> None:
    secret = service.add("judged")
    token, later = service.token("judged", secret), service.token("judged", secret)
    assert_shown_as_it_is(service, token, None)
    command.good("client", "disable", "judged")
    assert_shown_as_it_is(service, token, "its client is disabled")
    command.good("client", "enable", "judged")
    assert_shown_as_it_is(service, token, None)
    command.good("client", "revoke-tokens", "judged")
    assert_shown_as_it_is(service, token, "all tokens of its client were ended since (revoke-tokens,")
    command.good("client", "disable", "judged")
    assert_shown_as_it_is(service, token, "all tokens of its client were ended since (revoke-tokens,")
    command.good("client", "delete", "judged")
    assert_shown_as_it_is(service, later, "its client is gone")
    assert command.json("token", "show", later)["live"] == "stored"


def test_a_token_of_an_older_incarnation_is_said_to_be_of_one(service: Service, command: CommandLine) -> None:
    service.add("older")
    epoch = command.json("client", "show", "older")["epoch"]
    token, name = TokenKeys(TOKEN_KEY.encode()).new(Kind.ACCESS)
    service.instance.on_redis(lambda redis: redis.set(token_key(name), f"1a 0 older {epoch} 1790000000 60 read", ex=60))
    assert_shown_as_it_is(service, token.decode(), "it is of an older incarnation")
    service.instance.on_redis(lambda redis: redis.delete(token_key(name)))


def assert_shown_as_it_is(service: Service, token: str, reason: str | None) -> None:
    """`token show` says whether the token is valid, and the instance agrees."""
    shown = service.command.json("token", "show", token)
    assert shown["valid"] == service.instance.valid(token) == (reason is None)
    assert (shown["reason"] or "").startswith(reason or "")
    assert (shown["reason"] is None) == (reason is None)
    lines = service.command.good("token", "show", token).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[1:3]] == ["yes" if reason is None else "no", shown["reason"] or "-"]


def test_a_token_is_shown_and_revoked_while_the_record_store_is_out_of_reach(
    service: Service, command: CommandLine, tmp_path: Path
) -> None:
    lost = f"sqlite:///{tmp_path / 'nowhere' / 'records.db'}"
    token = service.token("leaked", service.add("leaked"))
    shown = command.json("token", "show", token, records_url=lost)
    assert (shown["record"], shown["client_id"], shown["valid"]) == ("out of reach", "leaked", True)
    assert command.json("token", "revoke", token, records_url=lost)["revoked"] is True
    assert not service.instance.valid(token)
    shown = command.json("token", "show", token, records_url=lost)
    assert (shown["record"], shown["client_id"], shown["valid"], shown["reason"]) == ("out of reach", "leaked", False, "it was revoked")
    assert shown["revoked"] is not None
    assert command.json("token", "show", UNKNOWN_JTI, records_url=lost)["reason"] == "it is unknown to Redis or has expired"
    assert command.json("writer", "status", records_url=lost)["poison"] == []
    assert not list(tmp_path.iterdir()), "a mistyped address makes nothing"


def test_a_token_is_shown_while_redis_has_no_mirror(service: Service, command: CommandLine) -> None:
    empty, name = service.instance.redis.url.removesuffix("/0") + "/6", bytes(20)
    other = redis.Redis.from_url(empty)
    other.set(token_key(name), "1a 1 orders 1 1790000000 60 read", ex=60)
    shown = command.json("token", "show", jti(name), redis_url=empty)
    assert (shown["valid"], shown["reason"].startswith("instances answer 503: ")) == (False, True)
    other.delete(token_key(name))
    other.close()


def test_a_token_that_only_redis_knows_is_shown(service: Service, command: CommandLine) -> None:
    name = b"\xfb\xef\xbe" + bytes(17)
    service.instance.on_redis(lambda redis: redis.set(token_key(name), "1a 1 orders 1 1790000000 60 read", ex=60))
    assert jti(name).startswith("----")
    assert command.json("token", "show", jti(name)) == {
        "jti": jti(name), "valid": False, "reason": "its client is gone", "live": "stored", "record": "not written yet",
        "client_id": "orders", "kind": "access", "scope": "read",
        "issued": "2026-09-21T14:13:20.000+00:00", "expires": "2026-09-21T14:14:20.000+00:00",
        "used": None, "revoked": None, "voided": None, **NO_REQUESTS,
    }  # fmt: skip
    service.instance.on_redis(lambda redis: redis.set(token_key(name), "2 of a newer release", ex=60))
    assert "cannot read" in command.refused("token", "show", jti(name))
    assert "cannot read" in command.refused("token", "revoke", jti(name))
    service.instance.on_redis(lambda redis: redis.delete(token_key(name)))
    assert shard(name) == 11


@pytest.mark.parametrize("by", ["token", "jti"])
def test_a_revoked_token_is_refused_when_the_command_returns(service: Service, command: CommandLine, by: str) -> None:
    token = service.token(f"revoking-{by}", service.add(f"revoking-{by}"))
    name = service.jti(token)
    word = token if by == "token" else name
    assert command.json("token", "revoke", word) == {"jti": name, "revoked": True, "found": "done"}
    assert not service.instance.valid(token)
    assert command.good("token", "revoke", word) == "The token was revoked before.\n"
    assert command.json("token", "revoke", word) == {"jti": name, "revoked": False, "found": "revoked"}
    at_once = command.json("token", "show", word)
    assert (at_once["client_id"], at_once["reason"], at_once["revoked"] is None) == (f"revoking-{by}", "it was revoked", False)
    shown = service.written(word)
    assert (shown["live"], shown["valid"], shown["used"]) == ("revoked", False, None)


def test_a_one_time_token_is_shown_and_revoked_without_being_used(service: Service, command: CommandLine) -> None:
    secret = service.add("single")
    unused, used = service.token("single", secret, "/ott"), service.token("single", secret, "/ott")
    assert service.instance.valid(used)
    assert service.written(unused)["kind"] == "one_time"
    assert command.good("token", "revoke", unused) == "Token revoked.\n"
    assert not service.instance.valid(unused)
    assert command.good("token", "revoke", used) == "The token was used before.\n"
    shown = service.written(used)
    assert (shown["live"], shown["valid"], shown["reason"], shown["used"] is None) == ("used", False, "it was used", False)


def test_a_jti_may_begin_with_a_dash(service: Service, command: CommandLine) -> None:
    secret = service.add("dashing")
    # One in 64 does; 3000 in a row that do not are as likely as guessing a 68-bit number.
    names = ((token, service.jti(token)) for token in (service.token("dashing", secret) for _ in range(3000)))
    token, name = next(found for found in names if found[1].startswith("-"))
    assert command.json("token", "show", name)["jti"] == name
    assert command.good("token", "revoke", name) == "Token revoked.\n"
    assert not service.instance.valid(token)
    assert command.json("token", "revoke", name) == {"jti": name, "revoked": False, "found": "revoked"}


def test_tokens_that_nobody_knows(command: CommandLine) -> None:
    assert command.refused("token", "show", UNKNOWN_JTI) == "Neither Redis nor the record store knows this token."
    assert command.good("token", "revoke", UNKNOWN_JTI) == "Nothing to revoke: the token is unknown or has expired.\n"
    assert command.json("token", "revoke", UNKNOWN_JTI) == {"jti": UNKNOWN_JTI, "revoked": False, "found": "unknown"}


# Records


@pytest.fixture(scope="module", params=DATABASES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A record store with more of a client's tokens than a page holds, and a few of another's."""
    database = request.param(tmp_path_factory.mktemp("recorded"))
    asyncio.run(fill(database))
    return database


async def fill(database: Any) -> None:
    async with database.opened() as store:
        await store.write_records([record(number) for number in range(2 * PAGE + 500)])
        used = replace(record(3000, "few"), kind="o", used_ms=FIRST_MS + 3001, epoch=8, scope="")
        await store.write_records([replace(record(number, "burst"), issued_ms=FIRST_MS) for number in range(4000, 4003)])
        await store.write_records([used, replace(record(3001, "few"), **ENDS)])


def record(number: int, client_id: str = "many") -> TokenRecord:
    """Each is issued 1 ms after the one before; the names are in no order."""
    name = sha256(str(number).encode()).digest()[:20]
    return TokenRecord(name, "a", 3, client_id, 7, "read write", FIRST_MS + number, FIRST_MS + number + 60_000)


def test_a_search_tells_programs_all_that_a_record_holds(recorded: Any, command: CommandLine) -> None:
    found = command.json("token", "search", "--client", "few", records_url=recorded.url, redis_url=NO_REDIS)
    assert found == [
        {
            "jti": jti(record(3000).name), "client_id": "few", "kind": "one_time", "scope": "",
            "issued": "2026-09-21T14:13:23.000+00:00", "expires": "2026-09-21T14:14:23.000+00:00",
            "used": "2026-09-21T14:13:23.001+00:00", "revoked": None, "voided": None, "epoch": 8, "incarnation": 3, **NO_REQUESTS,
        },
        {
            "jti": jti(record(3001).name), "client_id": "few", "kind": "access", "scope": "read write",
            "issued": "2026-09-21T14:13:23.001+00:00", "expires": "2026-09-21T14:14:23.001+00:00",
            "used": None, "revoked": "2026-09-21T14:13:24.000+00:00", "voided": "2026-09-21T14:13:24.001+00:00",
            "epoch": 7, "incarnation": 3, **NO_REQUESTS | {"revoked_request_id": "request", "revoked_by": "alice"},
        },
    ]  # fmt: skip
    assert command.json("token", "search", "--client", "nobody", records_url=recorded.url) == []


def test_a_search_tells_people_in_lines(recorded: Any, command: CommandLine) -> None:
    heading, first, second = command.good("token", "search", "--client", "few", records_url=recorded.url).splitlines()
    assert heading.split() == ["jti", "kind", "scope", "issued", "expires", "ended"]
    assert first.split() == [
        jti(record(3000).name), "one_time", "2026-09-21T14:13:23.000+00:00", "2026-09-21T14:14:23.000+00:00",
        "used", "2026-09-21T14:13:23.001+00:00",
    ]  # fmt: skip
    assert second.rstrip().endswith("revoked 2026-09-21T14:13:24.000+00:00, voided 2026-09-21T14:13:24.001+00:00")
    assert command.good("token", "search", "--client", "nobody", records_url=recorded.url) == "No records.\n"


def test_a_search_of_tokens_of_one_second_does_not_lead_back_to_itself(recorded: Any, command: CommandLine) -> None:
    done = command.run("token", "search", "--client", "burst", "--limit", "2", records_url=recorded.url)
    assert (done.returncode, done.stderr) == (0, "There are more: raise --limit.\n")


def test_a_search_that_finds_more_than_its_limit_says_where_to_go_on(recorded: Any, command: CommandLine) -> None:
    words = ["token", "search", "--client", "many", "--json"]
    seen: list[str] = []
    since = "2026-09-21T14:13:20Z"
    while since:
        done = command.run(*words, "--limit", "900", "--since", since, records_url=recorded.url)
        assert done.returncode == 0
        seen += [found["jti"] for found in json.loads(done.stdout)]
        since, *_ = re.findall(r"^There are more: go on with --since (\S+), or raise --limit\.$", done.stderr, re.MULTILINE) or [""]
    assert seen == [jti(record(number).name) for number in range(2 * PAGE + 500)]
    assert len(json.loads(command.run(*words, records_url=recorded.url).stdout)) == 100
    assert len(command.json(*words[:-1], "--limit", "2500", records_url=recorded.url)) == 2500


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("2026-09-21T14:13:23.001Z", 1), ("2026-09-21T14:13:23", 2), ("2026-09-21T16:13:23.001+02:00", 1), ("2026-09-22", 0),
        ("20260921", 2), ("999999999d", 2), ("0001-01-01T00:00:00+23:59", 2), ("9999-12-31T23:59:59-23:59", 0),
    ],
)  # fmt: skip
def test_since_is_a_moment(recorded: Any, command: CommandLine, since: str, found: int) -> None:
    assert len(command.json("token", "search", "--client", "few", "--since", since, records_url=recorded.url)) == found


def test_since_is_a_span_before_now(service: Service, command: CommandLine) -> None:
    token = service.token("recent", service.add("recent"))
    service.written(token)
    for span, count in (("0s", 0), ("1d", 1), ("24h", 1), ("1440m", 1), ("86400s", 1)):
        assert len(command.json("token", "search", "--client", "recent", "--since", span)) == count


def test_what_is_found_is_what_show_tells(service: Service, command: CommandLine) -> None:
    token = service.token("found", service.add("found"))
    command.good("token", "revoke", token)
    shown = wait_until(
        lambda: next((found for found in command.json("token", "search", "--client", "found") if found["revoked"]), None), "it is written"
    )
    told = service.written(token)
    assert {name: told[name] for name in shown.keys() & told.keys()} == {name: shown[name] for name in shown.keys() & told.keys()}
    assert len(shown.keys() & told.keys()) == 13


def test_an_export_has_every_record_on_a_line_of_its_own(recorded: Any, command: CommandLine) -> None:
    everything = [json.loads(line) for line in command.good("token", "export", records_url=recorded.url, redis_url=NO_REDIS).splitlines()]
    assert len(everything) == 2 * PAGE + 505
    assert len({found["jti"] for found in everything}) == len(everything)
    many = [json.loads(line) for line in command.good("token", "export", "--client", "many", records_url=recorded.url).splitlines()]
    assert many == command.json("token", "search", "--client", "many", "--limit", "2500", records_url=recorded.url)
    few = [found for found in everything if found["client_id"] == "few"]
    assert sorted(few, key=itemgetter("issued")) == command.json("token", "search", "--client", "few", records_url=recorded.url)
    since = ["--since", "2026-09-21T14:13:22.400Z"]
    assert len(command.good("token", "export", *since, records_url=recorded.url).splitlines()) == 102
    assert command.good("token", "export", "--client", "nobody", "--json", records_url=recorded.url) == ""


def test_an_export_shows_its_progress_on_a_terminal_and_nowhere_else(recorded: Any, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    environ = {**service_environ(), "AUTH_RECORDS_URL": recorded.url, "AUTH_TOKEN_KEY": TOKEN_KEY, "TERM": "xterm"}
    with (tmp_path / "records.jsonl").open("w+b") as file:
        process = subprocess.Popen([sys.executable, "-m", "authsvc", "token", "export"], env=environ, stdout=file, stderr=end)
        os.close(end)
        seen = b""
        # Linux tells of a terminal that nobody writes to any more by an error.
        with contextlib.suppress(OSError):
            while part := os.read(terminal, 4096):
                seen += part
        os.close(terminal)
        assert process.wait() == 0
        file.seek(0)
        assert len([json.loads(line) for line in file]) == 2 * PAGE + 505
    assert b"2,505 records" in seen
    assert b"jti" not in seen


def test_an_export_may_be_cut_short_by_its_reader(recorded: Any) -> None:
    with start({"AUTH_RECORDS_URL": recorded.url, "AUTH_TOKEN_KEY": TOKEN_KEY}, "token", "export") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["jti"]
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


@pytest.mark.parametrize("line", ["token search --client a", "token export"])
def test_records_are_only_read(command: CommandLine, tmp_path: Path, line: str) -> None:
    missing = tmp_path / "nowhere" / "records.db"
    assert command.refused(*line.split(), records_url=f"sqlite:///{missing}") == f"There is no record store {missing}."
    assert not list(tmp_path.iterdir())


# The writer


def test_status_tells_programs_and_people_the_same(service: Service, command: CommandLine) -> None:
    status = wait_until(
        lambda: next((found for found in [command.json("writer", "status")] if found["backlog_entries"] == 0), None), "all is written"
    )
    version = status.pop("version")
    assert re.fullmatch(r"\d+-[0-9a-f]{8}:\d+", version)
    assert status == {
        "backlog_entries": 0, "backlog_age_seconds": 0.0, "newer_entries": 0, "writers": 1, "errors": [], "poison_entries": 0, "poison": [],
    }  # fmt: skip
    assert command.good("writer", "status").splitlines() == [
        "backlog:   0 entries, the oldest 0.0 s old",
        "newer:     0 of the oldest entries wait for a writer of a newer release",
        "writers:   1 asked for entries in the last 30 s",
        f"mirror:    {version}",
        "errors:    0 writers are kept from their work",
        "poison:    0 entries set aside",
    ]


def test_status_counts_what_waits_for_a_newer_release(command: CommandLine, redis_server: RedisServer) -> None:
    other = redis.Redis(port=redis_server.port)
    # The third is no entry at all.
    ours = b"1i" + bytes(20) + b"1 1a 1 c 1 1 1 read"
    for stream, payload in ((0, b"2"), (0, b"3 of a far release"), (7, b"x"), (15, b"2i"), (15, ours)):
        other.xadd(STREAMS[stream], {"e": payload})
    other.close()
    status = command.json("writer", "status", redis_url=redis_server.url)
    assert (status["backlog_entries"], status["newer_entries"], status["writers"]) == (5, 3, 0)
    assert "\nnewer:     3 of the oldest entries wait for" in command.good("writer", "status", redis_url=redis_server.url)


def test_status_of_an_empty_redis_says_what_instances_do(service: Service, command: CommandLine) -> None:
    empty = service.instance.redis.url.removesuffix("/0") + "/6"
    assert command.json("writer", "status", redis_url=empty)["version"] is None
    assert "mirror:    none: instances answer 503\n" in command.good("writer", "status", redis_url=empty)
