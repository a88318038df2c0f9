"""Every value does something, is typed and may be null where it says so; and templates use only values that there are."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from manifests import name_of
from rendering import CHART, refused, render, rendered_text
from schemas import VERSIONS, complaints
from value_sets import API_VERSIONS, VALUE_SETS

UNUSED = {"global", "enabled"}
"""A parent chart's; helm hands them to every subchart."""
CHANGED: dict[str, Any] = {
    "podSpec": {"schedulerName": "changed"},
    "resources": {"requests": {"cpu": "77m", "memory": "200Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    "jobResources": {"requests": {"cpu": "77m", "memory": "77Mi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    "extraEnv": [{"name": "CHANGED", "value": "changed"}],
    "extraVolumes": [{"name": "changed", "emptyDir": {}}],
    "extraVolumeMounts": [{"name": "tmp", "mountPath": "/changed"}],
    "imagePullSecrets": [{"name": "changed"}],
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "changed"}}],
    "parentRefs": [{"name": "changed"}],
    "triggers": [{"type": "cpu", "metadata": {"value": "50"}}],
    "clientsFrom": [{"podSelector": {}}],
    "monitoringFrom": [{"podSelector": {}}],
    "seed": [{"id": "changed"}],
    "sysctls": {"net.ipv4.tcp_syncookies": "1"},
    "unsafeSysctls": {"net.core.somaxconn": "65535"},
    "settings": {"AUTH_LOG_LEVEL": "warning"},
    "networkCidr": "10.77.0.0/16",
    "trustedProxies": ["10.77.0.0/16"],
    "loadBalancerSourceRanges": ["10.77.0.0/16"],
    "serverSnippet": "add_header X-Changed 1;",
    "errorBudget": 0.01,
    "p99Seconds": 0.1,
    "baselineCpuMicroseconds": {"token": 77},
    "interval": "30s",
    # By themselves these only enter sums.
    "burst": 1000,
    "workers": 2,
    "maxClients": 16,
    "accessTtlSeconds": 10**6,
    "clientConnections": 10**6,
    "outageMinutes": 10**6,
    "tokensPerSecond": 10**6,
}
"""What the last name of a value becomes where its schema alone does not tell."""
CANDIDATES: tuple[Any, ...] = (
    *(True, False, "changed", "Always", "77Mi", "77s", "/changed", "https://changed.example", "rediss://changed.example:6379/0"),
    *("oracle://changed@changed.example:1521/CHANGED", "sha256:" + "77" * 32, ["changed.example"], {"changed": "changed"}),
)
"""The first that the schema takes and that is not the default."""
DEFAULTS: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
FREE = ("podSpec", "resources", "jobResources")
"""Set as a whole: objects of Kubernetes."""


def leaves(group: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every value."""
    for key, value in group.items():
        if isinstance(value, dict) and value and key not in FREE and "properties" in resolved((*above, key)):
            yield from leaves(value, (*above, key))
        else:
            yield (*above, key)


def resolved(path: tuple[str, ...]) -> dict[str, Any]:
    """The schema of a value."""
    node = SCHEMA
    for key in path:
        node = _followed(node)["properties"][key]
    return _followed(node)


def _followed(node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node or "allOf" in node:
        node = SCHEMA["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node["allOf"][0]
    return node


def default(path: tuple[str, ...]) -> Any:
    """What values.yaml has."""
    return functools.reduce(lambda node, key: node[key], path, DEFAULTS)


def with_value(values: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy of the values with one set."""
    if not path:
        return value  # type: ignore[no-any-return]
    return values | {path[0]: with_value(values.get(path[0]) or {}, path[1:], value)}


def is_taken(path: tuple[str, ...], value: Any) -> bool:
    """Whether the schema has nothing against it."""
    return not list(Draft7Validator(SCHEMA).iter_errors(with_value({}, path, value)))


def changes(path: tuple[str, ...]) -> Iterator[Any]:
    """Values that the schema takes and that are not the default."""
    now = default(path)
    if path[-1] in CHANGED:
        yield CHANGED[path[-1]]
    words = [node["enum"] for node in (resolved(path), *resolved(path).get("anyOf", ())) if "enum" in node]
    numbers = [now + 1, now - 1] if isinstance(now, int) and not isinstance(now, bool) else [1]
    for value in (*(word for group in words for word in group), *CANDIDATES, *numbers):
        if type(value) is not type(now) and now is not None:
            continue
        if value != now and is_taken(path, value):
            yield value


LEAVES = sorted(leaves(DEFAULTS))
NAMES = [".".join(path) for path in LEAVES]


@pytest.mark.parametrize("path", LEAVES, ids=NAMES)
def test_a_value_does_something(path: tuple[str, ...]) -> None:
    """In one of the sets at least, a change of the value changes the render or is refused by the chart's own sums."""
    if path[0] in UNUSED:
        return
    tried = list(changes(path))
    assert tried, "nothing else is taken for it: say in CHANGED what it may become"
    assert any(_has_effect(values, path, value) for value in tried for values in VALUE_SETS.values()), f"{tried} change no render"


def _has_effect(values: dict[str, Any], path: tuple[str, ...], value: Any) -> bool:
    before = rendered_text(values, apis=API_VERSIONS)
    changed = with_value(values, path, value)
    try:
        return rendered_text(changed, apis=API_VERSIONS) != before
    except AssertionError:
        # Refused though its schema is met: by a sum that it is part of.
        return bool(refused(changed, apis=API_VERSIONS))


def _may_be_null(path: tuple[str, ...]) -> bool:
    return is_taken(path, None)


@pytest.mark.parametrize("path", [path for path in LEAVES if _may_be_null(path)], ids=".".join)
def test_a_value_that_may_be_null_can_be(path: tuple[str, ...]) -> None:
    objects = render(with_value(VALUE_SETS["all on"], path, None), apis=API_VERSIONS)
    assert {name_of(thing): found for thing in objects if (found := complaints(thing, VERSIONS[0]))} == {}


def test_lists_and_maps_may_be_null() -> None:
    """Users null what they do not want of a chart's defaults."""
    assert [
        ".".join(path)
        for path in LEAVES
        if isinstance(default(path), list | dict) and path[-1] not in (*FREE, "parentRefs") and not is_taken(path, None)
    ] == []


@pytest.mark.parametrize("path", LEAVES, ids=NAMES)
def test_a_value_of_another_type_is_refused(path: tuple[str, ...]) -> None:
    wrong: Any = "text" if isinstance(default(path), bool | int | list | dict) else [[]]
    assert not is_taken(path, wrong)


def test_values_that_there_are_not_are_refused_in_every_group() -> None:
    groups = {path[:depth] for path in LEAVES for depth in range(len(path))}
    assert [".".join(group) for group in groups if is_taken((*group, "noSuchValue"), 1)] == []
    assert "noSuchValue" in refused({"nginx": {"noSuchValue": 1}})


def test_every_value_is_described_by_the_schema_or_its_group() -> None:
    def undescribed(path: tuple[str, ...]) -> bool:
        node = SCHEMA
        for key in path:
            node = _followed(node)["properties"][key]
        return not (node.get("description") or _followed(node).get("description") or path[-1] in ("enabled", "annotations", "hostnames"))

    assert [".".join(path) for path in LEAVES if undescribed(path)] == []


def test_the_schema_refers_to_nothing_outside() -> None:
    """A cluster without the internet installs it too."""
    references = re.findall(r'"\$ref": *"([^"]+)"', json.dumps(SCHEMA))
    assert references
    assert all(reference.startswith("#/") for reference in references)


def test_a_parent_chart_may_hand_down_its_own() -> None:
    assert render({"global": {"anything": {"at": "all"}}, "enabled": True})


def test_templates_use_values_that_there_are() -> None:
    unknown = [
        f"{file.relative_to(CHART)}: .Values.{'.'.join(path)}"
        for file in _templates()
        for path in _used(file.read_text())
        if not _exists(path)
    ]
    assert unknown == []


def _templates() -> list[Path]:
    return sorted(file for folder in ("templates", "files") for file in (CHART / folder).rglob("*") if file.is_file())


def _used(template: str) -> Iterator[list[str]]:
    """Paths from the root, also through a variable that is a group: `$redis := .Values.redis`."""
    names = {"Values": ""}
    for name, group in re.findall(r"\$(\w+) := \$?(?:\.\w+)*\.Values\.([\w.]+?)\s*-?\}\}", template):
        names[f"${name}"] = group
    for start, rest in re.findall(r"(Values|\$\w+)((?:\.[A-Za-z]\w*)+)", template):
        if start in names:
            yield [*filter(None, names[start].split(".")), *rest.strip(".").split(".")]


def _exists(path: list[str]) -> bool:
    node: Any = DEFAULTS
    for key in path:
        if not isinstance(node, dict) or not node:
            return True  # within what is a user's own
        if key not in node:
            return False
        node = node[key]
    return True
