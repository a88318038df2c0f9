"""`scripts/bench records`: rows a second of `write_records` beside the bare driver's `executemany` of the same statement."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from statistics import median
from typing import Any

import oracledb
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from authsvc.model import TokenRecord
from authsvc.records import oracle_sql, sqlite_sql
from authsvc.records.connect import connect_store
from authsvc.records.contract import RecordStore
from authsvc.records.migrate import upgrade
from authsvc.records.rows import record_values
from authsvc.records.sqlite_file import PRAGMAS
from authsvc.settings import PROFILES

BATCH_ROWS = PROFILES["balanced"][0]
ORACLE_VARIABLES = ("TEST_ORACLE_DSN", "TEST_ORACLE_USER", "TEST_ORACLE_PASSWORD")
EXPIRES_MS = 0
"""No token of a service has expired so long ago: the bench deletes what did."""
PURGE_ROWS = 5000
REQUEST_ID = "4be7f80c1d22-1a2b3c"


@dataclass
class Subject:
    """A record store, and its driver on a connection of its own to the same database."""

    name: str
    store: RecordStore
    write_bare: Callable[[list[tuple[Any, ...]]], Awaitable[None]]
    rates: list[tuple[float, float]]
    """Rows a second of the store and of the driver, for each round."""


@contextlib.asynccontextmanager
async def _embedded(folder: Path) -> AsyncIterator[Subject]:
    path = folder / "records.db"
    store = connect_store(f"sqlite:///{path}", 30)
    await store.open()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in PRAGMAS:
            connection.execute(pragma)

        async def write(rows: list[tuple[Any, ...]]) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(sqlite_sql.MERGE_RECORD, rows)
            connection.execute("COMMIT")

        try:
            yield Subject("SQLite", store, write, [])
        finally:
            await store.close()


@contextlib.asynccontextmanager
async def _oracle() -> AsyncIterator[Subject]:
    dsn, user, password = (os.environ[name] for name in ORACLE_VARIABLES)
    url = f"oracle://{user}:{password}@{dsn}"
    await asyncio.to_thread(upgrade, url)
    store = connect_store(url, 30)
    try:
        await store.open()
        async with oracledb.connect_async(user=user, password=password, dsn=dsn) as connection:
            connection.autocommit = True

            async def write(rows: list[tuple[Any, ...]]) -> None:
                with connection.cursor() as cursor:
                    cursor.setinputsizes(*oracle_sql.RECORD_TYPES)
                    await cursor.executemany(oracle_sql.MERGE_RECORD, rows)

            yield Subject("Oracle", store, write, [])
            while await store.purge_records(EXPIRES_MS + 1, PURGE_ROWS):
                pass
    finally:
        await store.close()


def _batch() -> list[TokenRecord]:
    """Tokens that nobody has seen yet, a few of them used or revoked, in the order in which a store sends them."""
    now_ms = int(time.time() * 1000)
    ends: tuple[dict[str, Any], ...] = (
        {"revoked_ms": now_ms, "revoked_request_id": REQUEST_ID, "revoked_by": "reporting-svc"},
        {"used_ms": now_ms, "used_request_id": REQUEST_ID},
        *({},) * 8,
    )
    records = [
        TokenRecord(
            *(secrets.token_bytes(20), "a", 12, "reporting-svc", 123456, "read:all write:all", now_ms, EXPIRES_MS),
            **{"issued_request_id": REQUEST_ID} | ends[number % 10],
        )
        for number in range(BATCH_ROWS)
    ]
    return sorted(records, key=attrgetter("name"))


async def _round(subject: Subject, seconds: float) -> None:
    """Batches of the store and of the driver in turn, until each has had that long; only the writes are timed."""

    async def by_store() -> float:
        records = _batch()
        began = time.perf_counter()
        await subject.store.write_records(records)
        return time.perf_counter() - began

    async def by_driver() -> float:
        rows = list(map(record_values, _batch()))
        began = time.perf_counter()
        await subject.write_bare(rows)
        return time.perf_counter() - began

    batches, of_store, of_driver = 0, 0.0, 0.0
    while min(of_store, of_driver) < seconds:
        # Whoever comes second may pay for what the first left to be tidied up.
        of_store += await by_store()
        of_driver += await by_driver() + await by_driver()
        of_store += await by_store()
        batches += 2
    subject.rates.append((batches * BATCH_ROWS / of_store, batches * BATCH_ROWS / of_driver))


async def measure(seconds: float, rounds: int, folder: Path, console: Console) -> dict[str, object]:
    """Measure each store that can be had; prints the table and returns it."""
    missing = [name for name in ORACLE_VARIABLES if not os.environ.get(name)]
    if missing:
        console.print(f"Oracle is left out: {', '.join(missing)} not set.")
    async with contextlib.AsyncExitStack() as stack:
        subjects = [await stack.enter_async_context(_embedded(folder))]
        if not missing:
            subjects.append(await stack.enter_async_context(_oracle()))
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Writing", total=rounds * len(subjects))
            for _ in range(rounds):
                for subject in subjects:
                    await _round(subject, seconds)
                    progress.advance(task)
    table = Table("record store", "rows/s", "its driver alone", "of the driver", "spread", box=None, header_style="bold")
    report: list[dict[str, object]] = []
    for subject in subjects:
        store, driver = (median(side) for side in zip(*subject.rates, strict=True))
        ratios = [mine / bare for mine, bare in subject.rates]
        table.add_row(subject.name, f"{store:,.0f}", f"{driver:,.0f}", f"{median(ratios):.2f}", f"{min(ratios):.2f}-{max(ratios):.2f}")
        spread = [min(ratios), max(ratios)]
        of_store = [mine for mine, _ in subject.rates]
        row = {"what": subject.name, "rows_per_second": store, "rows_spread": [min(of_store), max(of_store)], "driver": driver}
        report.append(row | {"of_driver": median(ratios), "spread": spread})
    console.print(table)
    console.print(f"batches of {BATCH_ROWS:,} new rows, each with its commit; {rounds} rounds")
    return {"rows": report}
