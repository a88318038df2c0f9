"""Checks an object against the schema of its kind: Kubernetes' own for every release, and `schemas/` for kinds from elsewhere."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from kubernetes_validate.utils import all_versions, schema_contents
from referencing import Registry, Resource

OURS = Path(__file__).with_name("schemas")
VERSIONS = tuple(f"1.{minor}" for minor in range(29, 38))
"""Releases of Kubernetes that the chart is for."""


def complaints(thing: dict[str, Any], version: str) -> list[str]:
    """What is wrong with an object for a release of Kubernetes, unknown fields included."""
    validator = _validator(thing["kind"], thing["apiVersion"], version)
    # JSON keeps apart what YAML and Python do not: a number that is a key, a date.
    errors = validator.iter_errors(json.loads(json.dumps(thing)))
    return [f"{error.json_path.removeprefix('$.')}: {error.message}" for error in errors]


@functools.cache
def _validator(kind: str, api_version: str, version: str) -> Draft202012Validator:
    """Kept: the package's own `validate` reads all definitions of a release again for each object."""
    # apps/v1 -> apps-v1, rbac.authorization.k8s.io/v1 -> rbac-v1, as the package names its files.
    group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api_version)
    file = f"{kind.lower()}-{group}.json"
    definitions = _definitions(version)
    if (OURS / file).exists():
        schema = json.loads((OURS / file).read_text())
    else:
        try:
            schema = schema_contents(f"{_folder(version)}/{file}", version)
        except FileNotFoundError:
            raise AssertionError(f"Kubernetes {version} has no {kind} of {api_version}, and {OURS.name}/ has no {file}") from None
    validator: Draft202012Validator = Draft202012Validator(schema, registry=definitions)
    return validator


@functools.cache
def _definitions(version: str) -> Any:
    return Resource.from_contents(schema_contents(f"{_folder(version)}/_definitions.json", version)) @ Registry()


def _folder(version: str) -> str:
    (full,) = {known for known in all_versions() if known.startswith(f"{version}.")}
    return f"kubernetes-json-schema/v{full}-local-strict"
