"""What every record store must do: the MUST sentences, as a Protocol that SQLite and Oracle implement alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from authsvc.model import Cause, Client, ClientChange, DeletedClient, StreamMark, TokenRecord

ORACLE_SCHEME = "oracle://"
SCHEMA_VERSION = "0003"
"""The newest migration. Written down, because Alembic takes longer to load than a command takes to run. All have four digits."""
NEW_EPOCH = 0
"""A changed client with this epoch asks the store to draw a new one (SQL: set the column to NULL)."""


class ClientExists(Exception):
    """A client of this id is there already."""


class ClientMissing(Exception):
    """There is no client of this id."""


class Connections(NamedTuple):
    """Connections of one process to the record store: those that are open, and those of them that nobody uses now."""

    open: int
    idle: int
    waiting: int = 0
    """Calls that wait for a connection."""
    lost: int = 0
    """Connections that broke while they were used, since the store was made."""


class Schema(NamedTuple):
    """The version of the schema that was found, and of this release's own."""

    found: str
    own: str


class RecordStore(Protocol):
    """The system of record. Every method may raise RecordsUnavailable (worth trying again) or OperatorError (is not).

    A method that returned has committed. A method that raised RecordsUnavailable may have committed or not, and MUST be
    safe to call again. Stores MUST be usable from one event loop by several tasks, and by several processes at once.
    """

    async def open(self) -> None:
        """Connect. The embedded store MUST bring its schema up to date first; others MUST refuse an old schema."""

    async def open_as_it_is(self) -> Schema:
        """Connect to what is there, and MUST neither create nor change anything; the schema may be a later one, as in `open`.

        OperatorError MUST be raised where there is no record store, or one of an earlier schema.
        """

    async def check_budget(self) -> None:
        """OperatorError with the sum where the sessions of all writers are more than the database gives. A command takes few."""

    async def try_write(self) -> None:
        """Write and commit as every change does, and raise as it would. MUST leave nothing behind, even if it is interrupted.

        MUST raise RecordsUnavailable for a full disk, too, where so small a write would still find a place.
        """

    async def close(self) -> None:
        """Release everything; MUST be safe to call twice."""

    def connections(self) -> Connections:
        """How many connections there are at this moment. MUST NOT ask the database."""

    async def identity(self) -> str:
        """The random identity that the first migration made. MUST never change and MUST differ between databases."""

    async def next_incarnation(self, above: int) -> int:
        """A new incarnation number. MUST be greater than `above` and than every number returned before."""

    async def add_client(self, client: Client, cause: Cause | None = None) -> Client:
        """Insert a client; its epoch and revision are ignored and MUST be drawn anew from the one ordered sequence.

        This and every other change MUST be noted for `read_changes` in the same transaction, whoever makes it, plain SQL too.

        Raises ClientExists. Returns the row as stored.
        """

    async def change_client(self, client_id: str, change: Callable[[Client], Client], cause: Cause | None = None) -> Client:
        """Replace a client by what `change` makes of it. Read and write MUST be one atomic step against other changes.

        An exception of `change` MUST leave the row as it was and reach the caller. The revision MUST be drawn anew, and
        the epoch too where the result has NEW_EPOCH; any other epoch in the result is ignored. Raises ClientMissing.
        """

    async def delete_client(self, client_id: str, cause: Cause | None = None) -> DeletedClient:
        """Delete a client. MUST leave a tombstone with a new revision, whoever deletes, plain SQL too. Raises ClientMissing."""

    async def read_changes(self, client_id: str | None, since_ms: int, after: int, limit: int) -> list[ClientChange]:
        """Changes of one client, or of all, made at that time or later: at most `limit`, those behind number `after`, in their order.

        Of changes without a cause it MUST be told which inserted, which updated and which deleted.
        """

    async def read_client(self, client_id: str) -> Client | None:
        """One client, or None."""

    async def read_clients(self, client_ids: Iterable[str]) -> list[Client | DeletedClient]:
        """What is known of these ids now: a client, else its tombstone, else nothing. Thousands of ids MUST be taken."""

    async def list_clients(self) -> list[Client]:
        """All clients, ordered by id."""

    async def revisions(self) -> dict[str, int]:
        """The newest revision of every id, deleted ones included. MUST come from one consistent read."""

    async def write_records(self, records: Sequence[TokenRecord]) -> None:
        """Merge a batch of records, all or nothing.

        MUST be idempotent and MUST commute: however often and in whatever order batches arrive, a time once set stays,
        and of two times for one event the earlier stays. `used_ms`, `revoked_ms` and `voided_ms` are None where nothing is
        known of them, and None MUST never clear a time. Raises RecordRefused when a row by itself can never be stored
        (nothing is stored then).
        """

    async def read_record(self, name: bytes) -> TokenRecord | None:
        """The record of one token, or None."""

    async def search_records(self, client_id: str | None, issued_since_ms: int, after: TokenRecord | None, limit: int) -> list[TokenRecord]:
        """A page of the records that were issued at that time or later: at most `limit`, those behind `after`, the page's last before.

        Those of one client come in the order of their issue and then of their names, those of all clients (None) by their names.
        Page upon page MUST give each record that was there all the while exactly once.
        """

    async def purge_records(self, expired_before_ms: int, limit: int) -> int:
        """Delete at most `limit` records that expired before that time; returns how many it deleted."""

    async def take_lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a named lease by the store's own clock. MUST be given to one holder at a time."""

    async def write_marks(self, incarnation: int, marks: Mapping[str, StreamMark]) -> None:
        """Keep how far each stream has come; several writers may say so at once.

        Within an incarnation a mark MUST only grow (by `entries_added`). Marks of earlier incarnations MUST be dropped, and
        those of an earlier one than is kept MUST be ignored.
        """

    async def read_marks(self) -> tuple[int, dict[str, StreamMark]]:
        """The incarnation and its marks as written last; (0, {}) when there are none."""
