"""`authsvc secrets` against a real cluster: what is missing is made, what is there stays, whoever else is at it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from authsvc.commands.cluster import Cluster
from authsvc.commands.secrets import ATTEMPTS, make_missing
from authsvc.errors import OperatorError
from authsvc.settings import key_problem
from servers import service_environ, wait_until
from service.command_line import CommandLine

pytestmark = [pytest.mark.cluster, pytest.mark.skipif("KUBECONFIG" not in os.environ, reason="KUBECONFIG names no cluster")]

AT_ONCE = 5
ENTRIES = ["token-key", "redis-password", "third.entry", "fourth_entry"]
MERGE = "application/merge-patch+json"


class Trial:
    """A namespace of the tests' own, and accounts in it that may do this or that."""

    def __init__(self, api: client.ApiClient, folder: Path) -> None:
        self.core = client.CoreV1Api(api)
        self._rights = client.RbacAuthorizationV1Api(api)
        self._folder = folder
        self.name = f"secrets-{token_hex(4)}"
        self.core.create_namespace({"metadata": {"name": self.name}})

    def secret(self, name: str) -> Any:
        return self.core.read_namespaced_secret(name, self.name)

    def values(self, name: str) -> dict[str, str]:
        return {entry: b64decode(value).decode() for entry, value in self.secret(name).data.items()}

    def account(self, *verbs: str) -> str:
        """A KUBECONFIG of a service account that has these rights on Secrets of the namespace, which its context names."""
        name = "-".join(verbs) or "nothing"
        meta = {"name": f"{name}-{token_hex(2)}"}
        self.core.create_namespaced_service_account(self.name, {"metadata": meta})
        if verbs:
            self._rights.create_namespaced_role(
                self.name, {"metadata": meta, "rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": list(verbs)}]}
            )
            self._rights.create_namespaced_role_binding(
                self.name,
                {
                    "metadata": meta,
                    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": meta["name"]},
                    "subjects": [{"kind": "ServiceAccount", "name": meta["name"], "namespace": self.name}],
                },
            )
        answer = self.core.create_namespaced_service_account_token(meta["name"], self.name, {"spec": {"expirationSeconds": 3600}})
        file = self._folder / f"{meta['name']}.yaml"
        known = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
        current = next(each for each in known["contexts"] if each["name"] == known["current-context"])
        current["context"].update({"user": "account", "namespace": self.name})
        known["users"] = [{"name": "account", "user": {"token": answer.status.token}}]
        file.write_text(yaml.safe_dump(known))
        with config.new_client_from_config(str(file)) as api:
            asked = [{"namespace": self.name, "verb": verb, "resource": "secrets"} for verb in verbs]
            review = client.AuthorizationV1Api(api).create_self_subject_access_review
            # A right holds a moment after it was granted.
            wait_until(lambda: all(review({"spec": {"resourceAttributes": each}}).status.allowed for each in asked), "the rights hold")
        return str(file)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    configuration = client.Configuration()
    config.load_kube_config(client_configuration=configuration)
    with client.ApiClient(configuration) as api:
        trial = Trial(api, tmp_path_factory.mktemp("accounts"))
        yield trial
        trial.core.delete_namespace(trial.name)


@pytest.fixture(scope="module")
def account(trial: Trial) -> str:
    """One with the rights that the command needs, and no more."""
    return trial.account("get", "create", "patch")


@pytest.fixture(scope="module")
def command(account: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    command = CommandLine(tmp_path_factory.mktemp("commands"), {"KUBECONFIG": account})
    yield command
    command.close()


def test_a_secret_that_is_not_there_is_made_with_its_labels(trial: Trial, command: CommandLine) -> None:
    printed = command.good("secrets", "fresh", *ENTRIES, "--label", "app.kubernetes.io/name=auth", "--label", "empty=")
    assert printed == "".join(f"{entry}: made\n" for entry in ENTRIES)
    secret, values = trial.secret("fresh"), trial.values("fresh")
    assert secret.type == "Opaque"
    assert secret.metadata.labels == {"app.kubernetes.io/name": "auth", "empty": ""}
    assert list(values) == sorted(ENTRIES)
    assert len(set(values.values())) == len(ENTRIES)
    assert all(len(value) == 43 and key_problem(value) is None for value in values.values())
    assert not any(value in printed for value in values.values())


def test_what_is_there_stays_and_what_is_missing_is_added(trial: Trial, command: CommandLine) -> None:
    held = {"metadata": {"name": "held", "labels": {"own": "label"}}, "stringData": {"token-key": "mine", "other": "", "more": "x"}}
    trial.core.create_namespaced_secret(trial.name, held)
    done = command.json("secrets", "held", "token-key", "redis-password", "other", "redis-password", "--label", "own=other")
    states = {"token-key": "was there", "redis-password": "made", "other": "was there"}
    assert done == {"secret": "held", "namespace": trial.name, "entries": states}
    values = trial.values("held")
    assert len(values.pop("redis-password")) == 43
    assert values == {"token-key": "mine", "other": "", "more": "x"}
    assert trial.secret("held").metadata.labels == {"own": "label"}


def test_a_secret_without_any_entry_is_filled(trial: Trial, command: CommandLine) -> None:
    trial.core.create_namespaced_secret(trial.name, {"metadata": {"name": "empty"}})
    assert command.good("secrets", "empty", "token-key") == "token-key: made\n"
    assert list(trial.values("empty")) == ["token-key"]


def test_a_second_run_changes_nothing_and_only_looks(trial: Trial, command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    command.good("secrets", "twice", *ENTRIES)
    before = trial.secret("twice")
    monkeypatch.setitem(command.environ, "KUBECONFIG", trial.account("get"))
    assert command.good("secrets", "twice", *ENTRIES) == "".join(f"{entry}: was there\n" for entry in ENTRIES)
    assert trial.secret("twice").metadata.resource_version == before.metadata.resource_version


@pytest.mark.parametrize("there", [True, False])
def test_of_some_that_run_at_once_one_makes_each_entry(trial: Trial, account: str, there: bool) -> None:
    name = f"raced-{there}".lower()
    if there:
        trial.core.create_namespaced_secret(trial.name, {"metadata": {"name": name}, "stringData": {"first": "kept"}})
    words = [sys.executable, "-m", "authsvc", "secrets", name, *ENTRIES, "--json"]
    environ = {**service_environ(), "KUBECONFIG": account}
    runs = [subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(AT_ONCE)]
    ended = [(run.communicate(timeout=60), run.returncode) for run in runs]
    assert [(err, code) for (_, err), code in ended] == [("", 0)] * AT_ONCE
    states = [json.loads(out)["entries"] for (out, _), _ in ended]
    for entry in ENTRIES:
        assert sorted(state[entry] for state in states) == ["made"] + ["was there"] * (AT_ONCE - 1)
    assert trial.values(name).keys() == {*ENTRIES, *(["first"] if there else [])}


class Overtaken(client.CoreV1Api):
    """An API of which somebody makes use after each of our looks, `times` times."""

    def __init__(self, api: client.ApiClient, overtake: Callable[[int], object], times: int) -> None:
        super().__init__(api)
        self._overtake = overtake
        self._left = times

    def read_namespaced_secret(self, *arguments: Any, **options: Any) -> Any:
        try:
            return super().read_namespaced_secret(*arguments, **options)
        finally:
            if self._left:
                self._left -= 1
                self._overtake(self._left)


def test_who_is_overtaken_looks_again_and_keeps_what_others_made(trial: Trial) -> None:
    def overtake(left: int) -> None:
        if left:
            trial.core.create_namespaced_secret(trial.name, {"metadata": {"name": "overtaken"}, "stringData": {"token-key": "theirs"}})
        else:
            change = {"stringData": {"redis-password": "theirs"}}
            trial.core.patch_namespaced_secret("overtaken", trial.name, change, _content_type=MERGE)

    cluster = Cluster(Overtaken(trial.core.api_client, overtake, times=2), trial.name)
    assert make_missing(cluster, "overtaken", ["token-key", "redis-password", "own"], {}) == ["own"]
    values = trial.values("overtaken")
    assert values.keys() == {"token-key", "redis-password", "own"}
    assert values["token-key"] == values["redis-password"] == "theirs"


def test_who_is_overtaken_again_and_again_gives_up(trial: Trial) -> None:
    trial.core.create_namespaced_secret(trial.name, {"metadata": {"name": "busy"}})

    def overtake(left: int) -> None:
        trial.core.patch_namespaced_secret("busy", trial.name, {"metadata": {"labels": {"left": str(left)}}}, _content_type=MERGE)

    cluster = Cluster(Overtaken(trial.core.api_client, overtake, times=ATTEMPTS), trial.name)
    with pytest.raises(OperatorError, match=r"^Secret busy is being changed by others all the time: nothing was made, try again\.$"):
        make_missing(cluster, "busy", ["token-key"], {})
    assert trial.secret("busy").data is None


@pytest.mark.parametrize(("verbs", "missing"), [((), "get"), (("get",), "create"), (("get", "create"), "patch")])
def test_a_right_that_is_missing_is_named(
    trial: Trial, command: CommandLine, monkeypatch: pytest.MonkeyPatch, verbs: tuple[str, ...], missing: str
) -> None:
    name = "forbidden" if missing == "patch" else "nothing-there"
    if missing == "patch":
        trial.core.create_namespaced_secret(trial.name, {"metadata": {"name": name}})
    monkeypatch.setitem(command.environ, "KUBECONFIG", trial.account(*verbs))
    sentence = command.refused("secrets", name, "token-key")
    assert sentence.startswith("The cluster forbids it: ")
    assert f'cannot {missing} resource "secrets"' in sentence
    assert f'in the namespace "{trial.name}"; a Role must grant that right.' in sentence


def test_the_namespace_is_that_of_the_context_or_is_asked_for(
    trial: Trial, command: CommandLine, monkeypatch: pytest.MonkeyPatch, account: str, tmp_path: Path
) -> None:
    nowhere = yaml.safe_load(Path(account).read_text())
    for each in nowhere["contexts"]:
        each["context"].pop("namespace", None)
    file = tmp_path / "nowhere.yaml"
    file.write_text(yaml.safe_dump(nowhere))
    monkeypatch.setitem(command.environ, "KUBECONFIG", str(file))
    assert command.refused("secrets", "asked", "token-key").startswith("There is no namespace: ")
    assert command.good("secrets", "asked", "token-key", "--namespace", trial.name) == "token-key: made\n"
    assert list(trial.values("asked")) == ["token-key"]


def test_what_the_cluster_refuses_is_one_sentence(command: CommandLine) -> None:
    assert command.refused("secrets", "Bad_name", "token-key").startswith('The cluster refuses: Secret "Bad_name" is invalid')
    assert "a valid label must be" in command.refused("secrets", "labelled", "token-key", "--label", "q=-/")
