"""What is written from the values' model: values.yaml with its comments, the JSON schema, and the table of the chart's README."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from chart.base import Pods

WIDTH = 132
HEADER = "# The chart's values. Written by scripts/generate-docs from scripts/chart: change them there."


@dataclass(frozen=True)
class Value:
    """One value as users see it."""

    path: tuple[str, ...]
    default: Any
    description: str
    is_group: bool

    @property
    def key(self) -> str:
        """As `--set` takes it."""
        return ".".join(self.path)


def all_values(root: BaseModel) -> Iterator[Value]:
    """Every value and group in order."""
    yield from _values(root, ())


def _values(group: BaseModel, above: tuple[str, ...]) -> Iterator[Value]:
    fields = type(group).model_fields
    # What a component has of its own comes before what all pods have.
    for name, field in sorted(fields.items(), key=lambda item: item[0] in Pods.model_fields):
        value = getattr(group, name)
        path = (*above, field.alias or name)
        if isinstance(value, BaseModel) and not _is_leaf(value):
            yield Value(path, None, field.description or _sentence(value), is_group=True)
            yield from _values(value, path)
        else:
            default = value.model_dump(by_alias=True, exclude_none=True) if isinstance(value, BaseModel) else value
            yield Value(path, default, field.description or "", is_group=False)


def _is_leaf(value: BaseModel) -> bool:
    """Whether a group is an object of Kubernetes to its users, and set as one."""
    return type(value).__name__ in ("PodSpec", "Resources")


def _sentence(group: BaseModel) -> str:
    return " ".join((type(group).__doc__ or "").split())


def values_yaml(root: BaseModel) -> str:
    """values.yaml."""
    lines = [HEADER]
    for value in all_values(root):
        indent = "  " * (len(value.path) - 1)
        if len(value.path) == 1:
            lines.append("")
        if value.description:
            lines += [f"{indent}# {line}" for line in textwrap.wrap(value.description, WIDTH - len(indent))]
        if value.is_group:
            lines.append(f"{indent}{value.path[-1]}:")
        else:
            lines.append(f"{indent}{value.path[-1]}: {_inline(value.default)}")
    return "\n".join(lines) + "\n"


def _inline(value: Any) -> str:
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=True, width=10_000).removesuffix("...\n").rstrip("\n")
    return '""' if text == "''" else text


def schema_json(root: BaseModel) -> str:
    """values.schema.json, for Helm 3 and 4: draft 7, and no reference out of it."""
    schema = _plain(type(root).model_json_schema(by_alias=True))
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **schema}, indent=2) + "\n"


def _plain(node: Any) -> Any:
    """Without titles, which say nothing, and without defaults, which values.yaml has."""
    if isinstance(node, dict):
        kept = {key: _plain(value) for key, value in node.items() if key != "default" and not (key == "title" and isinstance(value, str))}
        # Helm hands the users' parts of a group on their own where a parent chart sets them: nothing is required, all has a default.
        kept.pop("required", None)
        return kept
    return [_plain(value) for value in node] if isinstance(node, list) else node


def table(root: BaseModel) -> str:
    """The README's table of all values."""
    rows = ["| value | default | meaning |", "|---|---|---|"]
    for value in all_values(root):
        default = "" if value.is_group else f"`{json.dumps(value.default)}`"
        name = f"**`{value.key}`**" if value.is_group else f"`{value.key}`"
        rows.append(f"| {name} | {default} | {value.description.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"
