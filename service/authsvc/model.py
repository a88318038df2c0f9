"""Plain data that every floor shares: clients, token values, tombstones and versions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

CLIENT_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
SCOPE_PATTERN = r"[\x21\x23-\x5b\x5d-\x7e]{1,64}"
"""One scope-token of RFC 6749, 3.3, up to 64 characters."""
MAX_SCOPES = 32
DEFAULT_ACCESS_TTL_SECONDS = 3600
DEFAULT_ONE_TIME_TTL_SECONDS = 120
MAX_TTL_SECONDS = 30 * 24 * 3600
MAX_SECRETS = 2
DIGEST_BYTES = 32


class Kind(StrEnum):
    """What a token is good for; the value is the letter of its stored form."""

    ACCESS = "a"
    ONE_TIME = "o"


class Event(StrEnum):
    """A change of a token's state; the value is the letter of its stored form."""

    ISSUED = "i"
    USED = "u"
    REVOKED = "r"
    VOIDED = "v"


@dataclass(frozen=True, slots=True)
class Secret:
    """A live client secret: the SHA-256 of its text, and when it was made."""

    digest: bytes
    created_ms: int


@dataclass(frozen=True, slots=True)
class Client:
    """A client as the record store holds it.

    `revision` grows with every change of the row and `epoch` with every event that ends the client's tokens; both
    come from one ordered sequence of the record store. `secrets` holds one or two, the older first.
    """

    id: str
    scopes: tuple[str, ...]
    secrets: tuple[Secret, ...]
    enabled: bool = True
    access_ttl_seconds: int = DEFAULT_ACCESS_TTL_SECONDS
    one_time_ttl_seconds: int = DEFAULT_ONE_TIME_TTL_SECONDS
    epoch: int = 0
    revision: int = 0

    def problem(self) -> str | None:
        """Why no client may be like this, in a sentence; None if it may."""
        if not re.fullmatch(CLIENT_ID_PATTERN, self.id):
            return "A client id is 1 to 64 characters of A-Z a-z 0-9 . _ -"
        if not self.scopes:
            return "A client needs at least one scope: --scope NAME."
        if len(self.scopes) > MAX_SCOPES:
            return f"A client has at most {MAX_SCOPES} scopes."
        for scope in self.scopes:
            if not re.fullmatch(SCOPE_PATTERN, scope):
                return f"{scope!r} is no scope: 1 to 64 printable ASCII characters without space, quote and backslash."
        for seconds in (self.access_ttl_seconds, self.one_time_ttl_seconds):
            if not 1 <= seconds <= MAX_TTL_SECONDS:
                return f"A lifetime is 1 to {MAX_TTL_SECONDS} seconds."
        if not 1 <= len(self.secrets) <= MAX_SECRETS or any(len(secret.digest) != DIGEST_BYTES for secret in self.secrets):
            return "A client has one or two secrets, each kept as the 32 bytes of its SHA-256."
        return None


@dataclass(frozen=True, slots=True)
class DeletedClient:
    """What is left of a deleted client: the revision of its deletion, so that an older row cannot come back."""

    id: str
    revision: int


class Cause(NamedTuple):
    """Why a client changes: what is done to it, by whom, and the request that asked, where there is one."""

    change: str
    changed_by: str
    request_id: str | None = None


class ClientChange(NamedTuple):
    """A change of a client as the record store has it for good; numbers grow, and say nothing else.

    `change`, `changed_by` and `request_id` are those of its Cause; of plain SQL they are `insert`, `update` or `delete`, whom the
    database knows, and None. The rest is what the client was after it, in columns of the clients, and None for a deleted one.
    """

    number: int
    client_id: str
    revision: int | None
    """What the change drew; None only where a trigger was missing."""
    changed_ms: int
    change: str
    changed_by: str
    request_id: str | None
    scopes: str | None
    enabled: int | None
    secrets: int | None
    """How many were live."""
    access_ttl_seconds: int | None
    one_time_ttl_seconds: int | None
    epoch: int | None


def servable(record: Client | DeletedClient) -> Client | DeletedClient:
    """A record as the mirror gets it: a row that no client may be, made by plain SQL, is refused as if it were deleted."""
    return DeletedClient(record.id, record.revision) if isinstance(record, Client) and record.problem() else record


class TokenValue(NamedTuple):
    """What a live token means. `issued_seconds` and `ttl_seconds` inform; Redis alone ends a token."""

    kind: str
    incarnation: int
    client_id: str
    epoch: int
    scope: str
    issued_seconds: int
    ttl_seconds: int


class Tombstone(NamedTuple):
    """What a used or revoked token leaves under its own key until its time is up."""

    reason: str
    at_ms: int
    client_id: str


class TokenEvent(NamedTuple):
    """One entry of a stream: what happened to the token `name`, when, and the whole token value.

    `request_id` and `by` say which request it was and who did it, where that is known.
    """

    event: str
    name: bytes
    at_ms: int
    value: TokenValue
    request_id: str | None = None
    by: str | None = None


class StreamMark(NamedTuple):
    """How far a stream had come: its last id and `entries-added`, as `XINFO STREAM` tells."""

    last_id: str
    entries_added: int


class Version(NamedTuple):
    """How new a directory is: `number` and `nonce` name the incarnation, `change` counts changes within it."""

    number: int
    nonce: str
    change: int

    @property
    def incarnation(self) -> str:
        """The incarnation as Redis holds it."""
        return f"{self.number}-{self.nonce}"

    def covers(self, other: Version) -> bool:
        """Whether a directory of this version has seen all that `other` had."""
        return self.incarnation == other.incarnation and self.change >= other.change

    def __str__(self) -> str:
        return f"{self.incarnation}:{self.change}"

    @classmethod
    def parse(cls, text: bytes) -> Version:
        """Read the stored form; ValueError if it is none."""
        incarnation, _, change = text.decode("ascii").partition(":")
        number, _, nonce = incarnation.partition("-")
        return cls(int(number), nonce, int(change))


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """One row of the record store: everything that is known of one token. Times are Unix milliseconds, UTC.

    Each event has the id of its request, where that is known. A token is issued to its client and used by who holds it;
    `revoked_by` is its client, the operator of a command, or None for who held it.
    """

    name: bytes
    kind: str
    incarnation: int
    client_id: str
    epoch: int
    scope: str
    issued_ms: int
    expires_ms: int
    used_ms: int | None = None
    revoked_ms: int | None = None
    voided_ms: int | None = None
    issued_request_id: str | None = None
    used_request_id: str | None = None
    revoked_request_id: str | None = None
    revoked_by: str | None = None
