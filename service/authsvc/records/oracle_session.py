"""One transaction's way to Oracle: rows, changes and the commit, with the driver's errors translated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from authsvc.records.oracle_errors import driver_errors
from authsvc.records.oracle_sql import RAISE_INCARNATION


class Session:
    """One transaction's way to the database."""

    def __init__(self, connection: Any, where: str) -> None:
        self.connection = connection
        self._where = where

    async def rows(self, statement: str, *values: Any, rows_at_once: int = 1000) -> list[Any]:
        """All rows of a query; each round trip brings so many."""
        with driver_errors(self._where), self.connection.cursor() as cursor:
            cursor.prefetchrows = cursor.arraysize = rows_at_once
            await cursor.execute(statement, values)
            found: list[Any] = await cursor.fetchall()
            return found

    async def write(self, statement: str, *values: Any, types: Sequence[Any] = ()) -> int:
        """The number of rows that a change wrote; `types` of the first binds, where NULL may stand."""
        with driver_errors(self._where), self.connection.cursor() as cursor:
            if types:
                cursor.setinputsizes(*types)
            await cursor.execute(statement, values)
            return int(cursor.rowcount)

    async def write_many(self, statement: str, rows: list[Any], types: Sequence[Any]) -> None:
        """One statement over many rows, in one round trip."""
        with driver_errors(self._where), self.connection.cursor() as cursor:
            cursor.setinputsizes(*types)
            await cursor.executemany(statement, rows)

    async def raised_incarnation(self, above: int) -> int:
        """The number that RAISE_INCARNATION gives."""
        with driver_errors(self._where), self.connection.cursor() as cursor:
            number = cursor.var(int)
            await cursor.execute(RAISE_INCARNATION, (above, number))
            return int(number.getvalue()[0])

    async def commit(self) -> None:
        """Make it last."""
        with driver_errors(self._where):
            await self.connection.commit()
