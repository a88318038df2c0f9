"""What a runbook says can be pasted: objects and containers are in the rendered chart, commands parse, queries find series."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from alert_rules import ALERTS, INDEX, OTHERS, PAGES, RECORDED, metrics_of, ours
from manifests import all_pods
from prometheus import promtool
from rendering import CHART, render
from runbook_pages import ALL, commands, queries
from value_sets import API_VERSIONS, ORACLE

from authsvc.commands.main import app
from localstack.layout import ROOT

KINDS = {"hpa": "HorizontalPodAutoscaler", "pvc": "PersistentVolumeClaim"} | {
    kind.lower(): kind for kind in ("Deployment", "StatefulSet", "Service", "ConfigMap", "NetworkPolicy", "PodMonitor", "Pod", "Secret")
}
"""As kubectl writes them."""
SAID_BY_PROMETHEUS = {"scrape_duration_seconds"}
PATHS = re.compile(r"\b(?:docs|loadtest|charts|scripts|k8s)/[\w./-]*\w")


def named_objects(values: dict[str, Any]) -> dict[str, set[str]]:
    """`Kind/name` of all that a release has, with the containers of each; claims and pods of StatefulSets and the Job's Secret too."""
    objects = render(values, apis=API_VERSIONS)
    containers = {pods.name: {each.spec["name"] for each in pods.containers} for pods in all_pods(objects)}
    found = {f"{each['kind']}/{each['metadata']['name']}": set[str]() for each in objects} | containers
    for each in objects:
        name = each["metadata"]["name"]
        if each["kind"] == "StatefulSet":
            found[f"Pod/{name}-0"] = containers[f"StatefulSet/{name}"]
            found |= {
                f"PersistentVolumeClaim/{claim['metadata']['name']}-{name}-0": set() for claim in each["spec"]["volumeClaimTemplates"]
            }
    return found | {"Secret/auth-auth-service-secrets": set()}


@pytest.fixture(scope="module")
def there() -> dict[str, set[str]]:
    return named_objects({"monitoring": {"enabled": True}})


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_what_kubectl_is_asked_for_is_in_the_chart(page: Path, there: dict[str, set[str]]) -> None:
    asked = 0
    for words in commands(page):
        if words[0] != "kubectl":
            continue
        targets = [match for word in words if (match := re.fullmatch(r"([a-z]+)/([a-z0-9-]+)", word)) and match[1] in KINDS]
        for kind, name in (target.groups() for target in targets):
            assert f"{KINDS[kind]}/{name}" in there, words
            if "-c" in words:
                assert words[words.index("-c") + 1] in there[f"{KINDS[kind]}/{name}"], words
        asked += len(targets)
        if "-n" not in words:
            assert {"nodes", "node"} & set(words), f"{words} asks no namespace"
    assert asked


def test_the_writer_is_a_deployment_over_oracle() -> None:
    assert "Deployment/auth-auth-service-writer" in named_objects({"oracle": ORACLE})


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_selectors_find_pods(page: Path) -> None:
    labels = [pods.labels for pods in all_pods(render())]
    for words in commands(page):
        if words[0] != "kubectl" or "-l" not in words or "endpointslices" in words:
            continue
        wanted = dict(pair.split("=") for pair in words[words.index("-l") + 1].split(","))
        found = [each for each in labels if wanted.items() <= each.items()]
        assert found, words
        if "-c" in words:
            assert wanted["app.kubernetes.io/component"] == words[words.index("-c") + 1]


def test_commands_of_the_service_parse() -> None:
    tried = 0
    for page in ALL:
        for words in commands(page):
            if "authsvc" in words:
                parse(words[words.index("authsvc") + 1 :])
                tried += 1
    assert tried > len(ALERTS)


def parse(words: list[str]) -> None:
    """Read the words as the command line would, and run nothing; fails for what there is not."""
    command: Any = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        name, *words = words
        assert name in command.commands, f"authsvc has no command {name}"
        command = command.commands[name]
    command.make_context(command.name, list(words))


@pytest.mark.parametrize("words", [["nothing"], ["writer", "nothing"], ["check", "--nothing"], ["client", "disable"]], ids=" ".join)
def test_a_command_that_there_is_not_would_be_found(words: list[str]) -> None:
    with pytest.raises(Exception, match=r"has no command|No such option|Missing parameter"):
        parse(words)


def upgrades() -> set[tuple[str, ...]]:
    """The values that `helm upgrade` lines set."""
    lines = [words for page in ALL for words in commands(page) if words[:2] == ["helm", "upgrade"]]
    assert all(words[2:6] == ["auth", "charts/auth-service", "-n", "auth"] for words in lines)
    return {tuple(words[8:]) for words in lines}


@pytest.mark.parametrize("options", sorted(upgrades()), ids=" ".join)
def test_the_chart_takes_the_values(options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    values = {"oracle": ORACLE, "monitoring": {"enabled": True}} if "oracle" in " ".join(options) else {"monitoring": {"enabled": True}}
    assert render(values, *options) != render(values)


def test_queries_are_promql_and_ask_for_series_that_there_are(tmp_path: Path) -> None:
    asked = [query for page in ALL for query in queries(page)]
    rules = [{"record": f"asked:{number}", "expr": query} for number, query in enumerate(asked)]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    known = ours() | RECORDED | OTHERS.keys() | SAID_BY_PROMETHEUS
    assert {query: unknown for query in asked if (unknown := metrics_of(query) - known)} == {}
    promtool("check", "rules", "--lint=none", file)


@pytest.mark.parametrize("page", ALL, ids=lambda page: page.stem)
def test_files_and_pages_that_are_named_are_there(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", text):
        assert (page.parent / link).exists(), link
    for path in PATHS.findall(re.sub(r"\]\([^)]+\)", "", text)):
        assert (ROOT / path).exists(), path


def test_the_chart_links_to_the_folder() -> None:
    assert yaml.safe_load((CHART / "values.yaml").read_text())["monitoring"]["runbooksUrl"] == str(PAGES.relative_to(ROOT))
    assert INDEX.exists()
