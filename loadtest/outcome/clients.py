"""The two clients that a run needs: one whose tokens outlive it, and one whose tokens end after a second."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import BaseModel

TTL_SECONDS, BRIEF_TTL_SECONDS = 86_400, 1


class Credentials(BaseModel):
    """Of both, as the generators read them."""

    client_id: str
    client_secret: str
    brief_client_id: str
    brief_client_secret: str


def client_ids(name: str) -> tuple[str, str]:
    """Of a run's two clients."""
    return name, f"{name}-brief"


def add_clients(name: str, authsvc: Callable[[list[str]], str], note_made: Callable[[str], None] = lambda client_id: None) -> Credentials:
    """Make them by the admin command, which `authsvc` runs and returns the output of; `note_made` is told of each that is there."""
    found: dict[str, str] = {}
    for prefix, client_id, ttl in zip(("", "brief_"), client_ids(name), (TTL_SECONDS, BRIEF_TTL_SECONDS), strict=True):
        words = ["client", "add", client_id, "--scope", "read", "--scope", "write", "--access-ttl-seconds", str(ttl), "--json"]
        client = json.loads(authsvc(words))
        note_made(client_id)
        found |= {f"{prefix}client_id": client["client_id"], f"{prefix}client_secret": client["client_secret"]}
    return Credentials(**found)
