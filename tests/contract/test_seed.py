"""Seeding: the record store has the clients of a file as the file says, and nothing else of it changes."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from authsvc.clients import seed
from authsvc.errors import OperatorError
from authsvc.model import Client, Secret
from authsvc.records.contract import NEW_EPOCH, RecordStore
from contract.record_stores import RECORD_STORES

OLD, NEW = Secret(b"\x00" * 32, 1_790_000_000_123), Secret(bytes(range(32)), 1_790_000_000_124)
APP = Client("app", ("write", "read"), (OLD,), True, 7200, 60)
OTHER = Client("other", ("read",), (NEW, OLD), False)

Story = Callable[[RecordStore], Coroutine[Any, Any, None]]


@pytest.fixture(params=RECORD_STORES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


def stored(test: Callable[[RecordStore], Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test over an open store of each kind."""

    @functools.wraps(test)
    def run(database: Any) -> None:
        async def story() -> None:
            async with database.opened() as store:
                await test(store)

        asyncio.run(story())

    del run.__wrapped__  # pytest would ask for the inner one's parameters
    return run


async def clients_of(store: RecordStore) -> dict[str, Client]:
    return {client.id: client for client in await store.list_clients()}


def as_given(client: Client) -> Client:
    """What a file can say of a client."""
    return replace(client, epoch=0, revision=0)


@stored
async def test_missing_clients_are_added_as_they_are(store: RecordStore) -> None:
    assert await seed(store, [APP, OTHER]) == ["app", "other"]
    assert list(map(as_given, (await clients_of(store)).values())) == [APP, OTHER]


@stored
async def test_clients_that_are_the_same_are_not_touched(store: RecordStore) -> None:
    await seed(store, [APP, OTHER])
    before = await clients_of(store)
    assert await seed(store, [APP, OTHER]) == []
    assert await clients_of(store) == before


CHANGES: list[dict[str, Any]] = [
    {"scopes": ("read",)}, {"secrets": (OLD, NEW)}, {"enabled": False}, {"access_ttl_seconds": 60}, {"one_time_ttl_seconds": 7200},
]  # fmt: skip


@stored
async def test_any_difference_is_a_change_that_ends_no_token(store: RecordStore) -> None:
    await seed(store, [APP, OTHER])
    for changes in CHANGES:
        before = await clients_of(store)
        assert await seed(store, [replace(APP, **changes), OTHER]) == ["app"]
        now = await clients_of(store)
        assert as_given(now["app"]) == replace(APP, **changes)
        assert now["app"].epoch == before["app"].epoch, "its tokens live on"
        assert now["app"].revision > before["app"].revision, "instances hear of it"
        assert now["other"] == before["other"]


@stored
async def test_clients_that_are_not_in_the_file_are_left_alone(store: RecordStore) -> None:
    own = await store.add_client(replace(OTHER, id="own"))
    await seed(store, [APP])
    assert (await clients_of(store))["own"] == own


@stored
async def test_what_commands_did_is_undone_but_ended_tokens_stay_ended(store: RecordStore) -> None:
    await seed(store, [APP, OTHER])
    first = await clients_of(store)
    ended = await store.change_client("app", lambda client: replace(client, enabled=False, epoch=NEW_EPOCH))
    await store.delete_client("other")
    assert await seed(store, [APP, OTHER]) == ["app", "other"]
    now = await clients_of(store)
    assert list(map(as_given, now.values())) == [APP, OTHER]
    assert now["app"].epoch == ended.epoch > first["app"].epoch
    assert now["other"].epoch > first["other"].epoch


@stored
async def test_writers_that_seed_at_once_make_one_of_each(store: RecordStore) -> None:
    many = [replace(APP, id=f"client-{number}") for number in range(20)]
    await asyncio.gather(*(seed(store, many) for _ in range(4)))
    assert list(map(as_given, (await clients_of(store)).values())) == sorted(many, key=lambda client: client.id)


@stored
async def test_what_no_client_may_be_is_refused_before_anything_is_stored(store: RecordStore) -> None:
    with pytest.raises(OperatorError, match="at least one scope"):
        await seed(store, [APP, replace(OTHER, scopes=())])
    assert await clients_of(store) == {}
