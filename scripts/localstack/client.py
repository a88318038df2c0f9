"""The demo client: made once, kept over restarts, and made anew when its secret is lost or refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import NamedTuple

from localstack.errors import StackError
from localstack.layout import Layout, write_private
from localstack.web import accepts_client

CLIENT_ID = "demo"
_SCOPES = ("read", "write")


class DemoClient(NamedTuple):
    """What a person needs to get a token."""

    client_id: str
    client_secret: str


def demo_client(layout: Layout, authsvc: Callable[..., subprocess.CompletedProcess[str]]) -> DemoClient:
    """The client of the last start if its secret still holds, else a new one of the same ID."""
    if layout.client_file.exists():
        kept = DemoClient(**json.loads(layout.client_file.read_text(encoding="utf-8")))
        if accepts_client(layout.instance_urls[0], *kept):
            return kept
    # A secret is shown once: a client whose secret is not known here is of no use.
    if authsvc("client", "show", CLIENT_ID, "--json").returncode == 0:
        _checked(authsvc("client", "delete", CLIENT_ID))
    scopes = [argument for scope in _SCOPES for argument in ("--scope", scope)]
    made = json.loads(_checked(authsvc("client", "add", CLIENT_ID, *scopes, "--json")))
    client = DemoClient(made["client_id"], made["client_secret"])
    write_private(layout.client_file, json.dumps(client._asdict()) + "\n")
    return client


def _checked(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode:
        raise StackError(f"The demo client could not be made: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
