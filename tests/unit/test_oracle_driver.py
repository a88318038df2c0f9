"""What is mended of Oracle's driver: names of its own that must be there, and a `wait_for` that begins at once."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

import oracledb
import pytest

from authsvc.records.oracle_driver import wait_for


def test_the_driver_has_the_names_that_are_used_of_it() -> None:
    """A release of the driver without them fails here, and not in a writer whose sessions are cut."""
    connection = oracledb.AsyncConnection.__new__(oracledb.AsyncConnection)
    assert hasattr(connection, "_impl")
    assert "_pool" in oracledb.AsyncConnection._close.__code__.co_names, "closing asks whose it is"
    # A twin that ends must not end its session.
    assert not hasattr(oracledb.AsyncConnection, "__del__")
    assert hasattr(import_module("oracledb.thin_impl"), "asyncio")


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="from Python 3.12 on asyncio's own begins at once")
def test_the_driver_waits_our_way() -> None:
    assert import_module("oracledb.thin_impl").asyncio.wait_for is wait_for
    assert import_module("oracledb.thin_impl").asyncio.TimeoutError is TimeoutError


def test_what_is_waited_for_begins_before_anything_else_has_its_turn() -> None:
    order = []

    async def story() -> str:
        async def awaited() -> str:
            order.append("begun")
            await asyncio.sleep(0)
            return "its result"

        asyncio.get_running_loop().call_soon(order.append, "another's turn")
        return await wait_for(awaited(), 10)

    assert asyncio.run(story()) == "its result"
    assert order == ["begun", "another's turn"]


def test_what_takes_too_long_is_cancelled() -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(wait_for(asyncio.Event().wait(), 0.01))
