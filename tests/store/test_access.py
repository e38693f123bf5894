"""Keys by digest, the town's own secret, and replies to repeated requests."""

from __future__ import annotations

import anyio
import msgspec
import pytest

from tinytown import ids
from tinytown.errors import IdempotencyMismatch, InProgress, KeyNotFound
from tinytown.models.key import digest, fresh_secret
from tinytown.store import Store
from tinytown.store.access import REPLY_MS, STALE_MS, Reply, StoredKey
from towns import TurnedClock

REPLY = Reply(status=201, body=msgspec.Raw(b'{"id":"x","text":"\xc3\xa9"}'), location="/v1/x")


async def test_a_key_opens_until_it_is_revoked(store: Store) -> None:
    secret = fresh_secret()
    key = StoredKey(
        id=ids.new("key"),
        name="phone",
        scopes=("read",),
        created_at="2025-11-22T21:00:00.000Z",
        digest=digest(secret),
    )
    await store.access.put_key(key)
    found = await store.access.key_of(secret)
    assert found is not None
    assert found.id == key.id
    assert [each.id for each in await store.access.list_keys()] == [key.id]
    assert await store.access.key_of(fresh_secret()) is None
    await store.access.drop_key(key.id)
    assert await store.access.key_of(secret) is None
    with pytest.raises(KeyNotFound):
        await store.access.drop_key(key.id)


async def test_every_process_of_a_town_gets_the_same_secret(store: Store) -> None:
    secrets: set[bytes] = set()

    async def ask() -> None:
        secrets.add(await store.access.own_secret("links"))

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(ask)
    assert len(secrets) == 1
    assert len(secrets.pop()) == 32


async def begin(store: Store, reserved: str = "one", body: str = "d") -> str | Reply:
    """See the key "k"."""
    return await store.access.begin("me", "k", body_digest=body, reserved_id=reserved)


async def test_a_repeated_request_gets_the_reply_of_the_first(store: Store) -> None:
    assert await begin(store) == "one"
    with pytest.raises(InProgress):
        await begin(store, "two")
    await store.access.finish("me", "k", REPLY)
    again = await begin(store, "three")
    assert isinstance(again, Reply)
    assert (again.status, bytes(again.body), again.location) == (201, bytes(REPLY.body), "/v1/x")
    with pytest.raises(IdempotencyMismatch):
        await begin(store, body="other")
    assert await store.access.begin("you", "k", body_digest="d", reserved_id="four") == "four"


async def test_a_request_whose_reply_was_lost_is_not_its_own_rival(store: Store) -> None:
    assert await begin(store) == "one"
    assert await begin(store) == "one"


async def test_a_request_that_died_on_the_way_goes_on_under_its_id(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await begin(store)
    clock.turn(ms=STALE_MS)
    assert await begin(store, "two") == "one"
    with pytest.raises(InProgress):
        await begin(store, "three")


async def test_a_refused_request_frees_its_key(store: Store) -> None:
    await begin(store)
    await store.access.finish("me", "k", None)
    assert await begin(store, "two", body="other") == "two"
    await store.access.finish("me", "unknown", REPLY)


async def test_a_reply_is_kept_for_a_day(store: Store) -> None:
    await begin(store)
    await store.access.finish("me", "k", REPLY)
    ttl = await store.scripts._client.pttl(store.keys("idempotency", "me", "k"))
    assert REPLY_MS - 60_000 < ttl <= REPLY_MS
