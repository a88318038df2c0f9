"""What oracledb's asyncio needs so that sessions which are cut cost no more than an error."""

from __future__ import annotations

import asyncio
import copy
import sys
from collections.abc import Awaitable
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

import oracledb

T = TypeVar("T")


async def wait_for(awaitable: Awaitable[T], timeout: float | None) -> T:
    """`asyncio.wait_for` as it is from Python 3.12 on: begun in the same turn of the loop, in the caller's own task."""
    async with asyncio.timeout(timeout):
        return await awaitable


class _Asyncio(ModuleType):
    """The module asyncio, but for `wait_for`."""

    wait_for = staticmethod(wait_for)

    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)


if sys.version_info < (3, 12):
    # The driver looks whether a session is alive, and then sends within `asyncio.wait_for`. Before Python 3.12 that is a task of
    # its own, a turn of the loop later: when the session's end comes in between, the process ends with SIGSEGV.
    import_module("oracledb.thin_impl").asyncio = _Asyncio("asyncio")  # type: ignore[attr-defined] # a name of the driver's own


class UnusedSessions:
    """The sessions that wait in a pool for their next use.

    Of one that is cut meanwhile the driver keeps for ever what is left, 80 kB, unless somebody closes it; but a pool lets nobody
    see it again. So each has a twin outside of the pool. Sessions of threads are no such: only who uses them finds them cut.
    """

    def __init__(self) -> None:
        self._twins: dict[Any, Any] = {}

    def add(self, session: Any) -> None:
        """It is about to be given back to its pool."""
        if isinstance(session, oracledb.AsyncConnection):
            twin = copy.copy(session)
            twin._pool = None
            self._twins[session._impl] = twin

    def remove(self, session: Any) -> None:
        """Its pool has handed it out."""
        if isinstance(session, oracledb.AsyncConnection):
            self._twins.pop(session._impl, None)

    async def close_lost(self) -> None:
        """Close those that were cut."""
        for implementation, twin in list(self._twins.items()):
            if not twin.is_healthy() and self._twins.pop(implementation, None) is not None:
                await twin.close()
