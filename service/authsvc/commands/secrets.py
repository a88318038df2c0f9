"""`authsvc secrets`: random entries that a Kubernetes Secret lacks are made, and those that it has are left alone."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from authsvc.commands.cluster import CONFLICT, NOT_FOUND, Cluster, at_cluster
from authsvc.credentials import new_secret
from authsvc.errors import OperatorError
from authsvc.settings import key_problem

ATTEMPTS = 10
"""Somebody else changed the Secret between our look and our change so often: that is no race any more."""
_MERGE_PATCH = "application/merge-patch+json"


def _entry(text: str) -> str:
    if not re.fullmatch(r"[-._a-zA-Z0-9]{1,253}", text):
        raise typer.BadParameter(f"{text!r} is no entry of a Secret: 1 to 253 characters of A-Z a-z 0-9 . _ -")
    return text


def _label(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise typer.BadParameter(f"{text!r} is no label: KEY=VALUE.")
    return key, value


def secrets(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The Secret; it is made if it is not there.")],
    entries: Annotated[list[str], typer.Argument(metavar="ENTRY", parser=_entry, help="Each gets a random value if it is missing.")],
    namespace: Annotated[str | None, typer.Option(help="Namespace of the Secret, instead of the pod's own.")] = None,
    label: Annotated[
        list[Any] | None, typer.Option(metavar="KEY=VALUE", parser=_label, help="A label for a Secret that is made; repeat for more.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make what a Kubernetes Secret lacks, and never change what it has; safe to repeat, and beside another one."""
    wanted = list(dict.fromkeys(entries))
    with at_cluster(namespace) as cluster:
        made = make_missing(cluster, name, wanted, dict(label or ()))
    states = {entry: "made" if entry in made else "was there" for entry in wanted}
    if as_json:
        typer.echo(json.dumps({"secret": name, "namespace": cluster.namespace, "entries": states}))
    else:
        for entry, state in states.items():
            typer.echo(f"{entry}: {state}")


def make_missing(cluster: Cluster, name: str, entries: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """Add the entries that the Secret lacks and return which these were; whoever came first keeps what he made."""
    from kubernetes.client.exceptions import ApiException

    for _ in range(ATTEMPTS):
        try:
            return _make_once(cluster, name, entries, labels)
        except ApiException as error:
            if error.status != CONFLICT:
                raise
    raise OperatorError(f"Secret {name} is being changed by others all the time: nothing was made, try again.")


def _make_once(cluster: Cluster, name: str, entries: Sequence[str], labels: Mapping[str, str]) -> list[str]:
    """One look and one change; the cluster refuses the change as a conflict if the look was out of date by then."""
    from kubernetes.client import V1ObjectMeta, V1Secret
    from kubernetes.client.exceptions import ApiException

    api, namespace = cluster
    try:
        held = api.read_namespaced_secret(name, namespace)
    except ApiException as error:
        if error.status != NOT_FOUND:
            raise
        secret = V1Secret(metadata=V1ObjectMeta(name=name, labels=dict(labels)), type="Opaque", data=_values(entries))
        api.create_namespaced_secret(namespace, secret)
        return list(entries)
    missing = [entry for entry in entries if entry not in (held.data or {})]
    if missing:
        assert held.metadata is not None, "the cluster answers whole objects"
        patch = {"metadata": {"resourceVersion": held.metadata.resource_version}, "data": _values(missing)}
        api.patch_namespaced_secret(name, namespace, patch, _content_type=_MERGE_PATCH)
    return missing


def _values(entries: Sequence[str]) -> dict[str, bytes | str]:
    return {entry: b64encode(_random_text().encode("ascii")).decode("ascii") for entry in entries}


def _random_text() -> str:
    """43 random characters that will do as a token key, too: once in a million times they look like a placeholder."""
    while key_problem(text := new_secret()):
        pass
    return text
