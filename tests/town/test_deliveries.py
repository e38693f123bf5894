"""What a replay counts first is what it sends then, whatever an endpoint asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from tinytown import ids
from tinytown.models.delivery import NewReplay
from tinytown.models.endpoint import EndpointRecord, wants
from tinytown.models.event import TYPES, Event
from tinytown.models.key import Actor
from tinytown.store import Limits, Store
from tinytown.town.deliveries import DeliveryDesk
from towns import ask, hand, open_town, settle, start

ADA = Actor(id="key_ada", name="ada", scopes=frozenset({"write"}))
TOO_EARLY = "2001-01-01T00:00:00Z"


async def a_busy_day(store: Store) -> str:
    """Let much happen; gives a mission to filter by."""
    worker = await hand(store)
    first = await start(store, labels={"team": "blue", "size": "s"})
    claim = await worker.take()
    await ask(store, claim)
    await settle(store, claim, completed=False)
    other = await start(store, labels={"team": "red"})
    await store.missions.cancel(other.id, by="ada")
    await store.missions.retry(first.id)
    await settle(store, await worker.take())
    quiet = await start(store)
    await store.missions.pause(quiet.id)
    await worker.leave(always=True)
    gone = EndpointRecord(
        id=ids.new("endpoint"), kind="webhook", url="https://x.example/", name="",
        events=("question.expired",), created_at="",
    )  # fmt: skip
    await store.endpoints.put(gone)
    for move in ("disable", "revive"):
        await store.endpoints.move(gone.id, move, reason="")
    return first.id


def wishes(mission: str) -> list[dict[str, Any]]:
    """List what endpoints may ask for."""
    families = sorted({kind.partition(".")[0] + ".*" for kind in TYPES})
    filters: list[dict[str, Any]] = [
        {"mission_id": mission},
        {"labels": {"team": "blue"}},
        {"labels": {"team": "blue", "size": "s"}},
        {"labels": {"team": "green"}},
        {"labels": {"team": "red"}, "mission_id": mission},
    ]
    found: list[dict[str, Any]] = [{"events": (each,)} for each in ("*", *families, *TYPES)]
    found += [{"events": ("*",), "filter": each} for each in filters]
    found += [{"events": ("mission.*", "worker.started"), "filter": each} for each in filters]
    return found


async def test_the_count_and_the_replay_agree_on_every_wish(town_store: Store) -> None:
    store = town_store
    desk = DeliveryDesk(store)
    mission = await a_busy_day(store)
    counted = {}
    for wish in wishes(mission):
        record = msgspec.convert(
            {"id": ids.new("endpoint"), "kind": "webhook", "url": "https://x.example/", "name": "",
             "created_at": "", **wish},
            EndpointRecord,
        )  # fmt: skip
        await store.endpoints.put(record)
        # What is told about these endpoints themselves would be news for those that follow.
        asked = NewReplay(endpoint_id=record.id, since=TOO_EARLY, missing=True)
        count = await desk.count(asked)
        replay = await desk.replay_many(asked, ADA)
        while replay.state == "running":
            await store.clockwork.tick()
            replay = await desk.read_replay(replay.id)
        assert (count.dead, count.missing) == (0, replay.done), wish
        assert (await desk.count(asked)).missing == 0, wish
        counted[str(wish)] = count.missing
    assert sum(each > 0 for each in counted.values()) > 20, counted
    assert counted[str({"events": ("*",)})] > 15


async def test_missing_is_counted_as_far_back_as_deliveries_are_known(
    redis_url: str, eventually: Any
) -> None:
    record = EndpointRecord(
        id=ids.new("endpoint"), kind="webhook", url="", name="", events=("*",), created_at=""
    )
    asked = NewReplay(endpoint_id=record.id, since=TOO_EARLY, missing=True)
    async with open_town(redis_url) as store, open_town(
        redis_url, limits=Limits(delivery_ttl=0)
    ) as forgetful:  # fmt: skip
        await store.endpoints.put(record)
        await start(store)

        async def forgotten() -> bool:
            return (await DeliveryDesk(forgetful).count(asked)).missing == 0

        await eventually(forgotten)
        assert (await DeliveryDesk(store).count(asked)).missing > 0


@pytest.mark.parametrize("failed_starts", [3, None])
async def test_a_town_that_starts_nobody_is_told_to_whoever_hears_of_failed_missions(
    town_store: Store, redis: Redis, failed_starts: int | None
) -> None:
    store = town_store
    facts = {"worker": "agt_1", **({"failed_starts": failed_starts} if failed_starts else {})}
    event = Event(id="evt_1-0", type="worker.lost", timestamp="", town="main", data=facts)
    record = EndpointRecord(
        id=ids.new("endpoint"), kind="webhook", url="", name="", events=("mission.failed",),
        created_at="",
    )  # fmt: skip
    assert wants(record, event, {}) is bool(failed_starts)
    await store.endpoints.put(record)
    # No launcher here that could fail to start one.
    told: dict[Any, Any] = {"type": "worker.lost", "at": "1", "mission": "", "task": ""}
    await redis.xadd(store.events.stream, {**told, "data": msgspec.json.encode(facts).decode()})
    desk = DeliveryDesk(store)
    asked = NewReplay(endpoint_id=record.id, missing=True)
    replay = await desk.replay_many(asked, ADA)
    await store.clockwork.tick()
    assert (await desk.read_replay(replay.id)).done == bool(failed_starts)
