"""The export of clients: one form for both directions, with the digests of the secrets and never the secrets."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from authsvc.clients import check_client
from authsvc.errors import OperatorError
from authsvc.model import Client, Secret

Milliseconds = Annotated[int, Field(ge=0, lt=2**53)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", val_json_bytes="base64")


class _ExportedSecret(_Strict):
    sha256: bytes
    created_ms: Milliseconds


class _ExportedClient(_Strict):
    client_id: str
    scopes: list[str]
    enabled: bool
    secrets: list[_ExportedSecret]
    access_ttl_seconds: int
    one_time_ttl_seconds: int


class _Export(_Strict):
    clients: list[_ExportedClient]


def export_text(clients: Iterable[Client]) -> str:
    """The clients as JSON that `read_export` takes."""
    exported = [
        {
            "client_id": client.id,
            "scopes": list(client.scopes),
            "enabled": client.enabled,
            "secrets": [{"sha256": b64encode(secret.digest).decode("ascii"), "created_ms": secret.created_ms} for secret in client.secrets],
            "access_ttl_seconds": client.access_ttl_seconds,
            "one_time_ttl_seconds": client.one_time_ttl_seconds,
        }
        for client in clients
    ]
    return json.dumps({"clients": exported}, indent=2)


def read_export(file: Path) -> list[Client]:
    """The clients of a file, or of standard input for `-`. All of them are checked before any is used; OperatorError."""
    try:
        text = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise OperatorError(f"{file} cannot be read: {error.strerror}.") from error
    return exported_clients(file, text)


def exported_clients(file: Path, text: bytes) -> list[Client]:
    """The clients of an export that was read from this file; OperatorError."""
    try:
        export = _Export.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise OperatorError(f"{file} is not an export of clients: {place and place + ': '}{first['msg']}.") from None
    clients = [_checked(file, client) for client in export.clients]
    for client_id, times in Counter(client.id for client in clients).items():
        if times > 1:
            raise OperatorError(f"{file} holds client {client_id} more than once.")
    return clients


def _checked(file: Path, exported: _ExportedClient) -> Client:
    client = Client(
        id=exported.client_id,
        scopes=tuple(exported.scopes),
        secrets=tuple(Secret(secret.sha256, secret.created_ms) for secret in exported.secrets),
        enabled=exported.enabled,
        access_ttl_seconds=exported.access_ttl_seconds,
        one_time_ttl_seconds=exported.one_time_ttl_seconds,
    )
    try:
        return check_client(client)
    except OperatorError as error:
        raise OperatorError(f"{file} holds a client {client.id!r} that cannot be: {error}") from error
