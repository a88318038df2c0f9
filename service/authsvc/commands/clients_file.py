"""The file of clients that a writer brings in, at its start and whenever what it says has changed."""

from __future__ import annotations

from pathlib import Path

import structlog

from authsvc.clients import seed
from authsvc.commands.export import exported_clients
from authsvc.errors import OperatorError
from authsvc.records.contract import RecordStore

log = structlog.get_logger(__name__)


class ClientsFile:
    """What `client export` prints, kept by others: a mounted ConfigMap, say, which is replaced as a whole."""

    def __init__(self, file: Path, store: RecordStore) -> None:
        self._file = file
        self._store = store
        self._brought_in: bytes | None = None

    async def look(self) -> None:
        """Bring in what the file says, if that is new; OperatorError as long as it cannot be read or is no export."""
        try:
            text = self._file.read_bytes()
        except OSError as error:
            raise OperatorError(f"{self._file} cannot be read: {error.strerror}.") from error
        if text == self._brought_in:
            return
        self._brought_in = None
        clients = exported_clients(self._file, text)
        changed = await seed(self._store, clients)
        self._brought_in = text
        log.info("clients brought in", file=str(self._file), clients=len(clients), changed=changed)
