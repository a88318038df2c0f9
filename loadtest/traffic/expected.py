"""Which answers are right: status and content as the wire contract has them, whatever was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

TOKEN_CHARACTERS = 46
_KNOWN_ERRORS = frozenset(
    (
        *("invalid_request", "invalid_client", "invalid_token", "invalid_scope", "insufficient_scope", "unauthorized_client"),
        *("unsupported_grant_type", "slow_down", "temporarily_unavailable", "server_error", "not_found"),
    )
)
Content = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class Expected:
    """One right answer."""

    status: int
    content: Content

    def wrong(self, status: int, body: bytes) -> str | None:
        """What is wrong with an answer in a few words, of which there are few: they are counted by; None for a right one."""
        if status == 0:
            return "no answer"
        try:
            answer = json.loads(body)
        except ValueError:
            return f"{status} without JSON"
        if not isinstance(answer, dict):
            return f"{status} without an object"
        if status != self.status:
            error = answer.get("error")
            return f"{status} {error}" if isinstance(error, str) and error in _KNOWN_ERRORS else f"{status} instead of {self.status}"
        return None if self.content(answer) else f"{status} with wrong content"


def issued(prefix: str) -> Expected:
    """A new token of this kind."""
    return Expected(200, lambda answer: _is_token(answer, prefix))


def active(client_id: str) -> Expected:
    """A token of this client is good."""
    said = {"active": True, "valid": True, "client_id": client_id}
    return Expected(200, lambda answer: said.items() <= answer.items())


def described(client_id: str) -> Expected:
    """What introspection says of a good token."""
    said = {"active": True, "client_id": client_id}
    return Expected(200, lambda answer: said.items() <= answer.items())


HEALTHY = Expected(200, lambda answer: answer == {"status": "ok"})
REFUSED = Expected(401, lambda answer: answer.get("error") == "invalid_token")
INACTIVE = Expected(200, lambda answer: answer == {"active": False})
REVOKED = Expected(200, lambda answer: answer == {"message": "Token revoked"})


def _is_token(answer: dict[str, Any], prefix: str) -> bool:
    token = answer.get("access_token")
    return (
        isinstance(token, str)
        and token.startswith(prefix)
        and len(token) == TOKEN_CHARACTERS
        and answer.get("token_type") == "Bearer"
        and isinstance(answer.get("expires_in"), int)
        and (prefix == "at_" or answer.get("one_time") is True)
    )
