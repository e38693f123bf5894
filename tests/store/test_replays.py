"""Callbacks come and go with their mission; replays make many deliveries due again, in batches."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis import Redis

from posts import DAY, add, file, lease, record, webhook
from tinytown import ids
from tinytown.models.endpoint import EventFilter
from tinytown.store import Limits, Store
from tinytown.store.keys import Keyring
from towns import TurnedClock, ask, hand, open_town, start


@pytest.fixture
async def batches(redis_url: str) -> AsyncIterator[Store]:
    """Lend a town whose replays go in batches of three."""
    async with open_town(redis_url, limits=Limits(replay_batch=3)) as store:
        yield store


async def test_a_callback_hears_of_its_own_mission_and_goes_with_it(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    clock.turn()
    mission_id = ids.new("mission")
    endpoint = f"end_{mission_id[4:]}"
    callback = webhook(id=endpoint, events=("mission.completed", "mission.canceled"))
    mission = await start(store, mission_id=mission_id, callback=callback)
    other = await start(store)
    version, _ = await store.endpoints.all()
    for each in (other, mission):
        await store.missions.cancel(each.id, by="ada")
    for event in await store.events.after("0-0", limit=100):
        await store.deliveries.plan(event, [], version=version)
    [leased] = await lease(store)
    assert (leased.event.type, leased.event.mission_id) == ("mission.canceled", mission.id)
    assert await store.endpoints.read(endpoint) == callback
    await record(store, leased, "delivered")
    clock.turn(seconds=8 * DAY)
    await store.clockwork.tick()
    left = {key for key in books.scan_iter(f"*{endpoint[4:]}*") if books.pttl(key) == -1}
    assert left == set()
    assert books.hlen(Keyring("main")("callbacks")) == 0


async def replayed(store: Store, **fields: Any) -> int:
    """Run a replay to its end; how many it made due."""
    replay_id = ids.new("replay")
    whole = {"endpoint_id": "", "since_ms": 0, "until_ms": 10**13, "missing": False, "by": "ada"}
    for _ in range(2):  # repeated, it is the same
        await store.deliveries.start_replay(replay_id, **{**whole, **fields})
    while (await store.deliveries.read_replay(replay_id)).state == "running":
        assert (await store.clockwork.tick()).handled
    return (await store.deliveries.read_replay(replay_id)).done


async def test_a_replay_makes_the_dead_letters_of_an_endpoint_due_batch_by_batch(
    batches: Store,
) -> None:
    mine, other = await add(batches, max_in_flight=32), await add(batches, max_in_flight=32)
    for _ in range(4):
        await file(batches, mine, other)
        for each in await lease(batches):
            await record(batches, each, "dead", reason="HTTP 400")
    count = await batches.deliveries.count_dead(endpoint_id=mine, since_ms=0, until_ms=10**13)
    assert count == 4
    assert await replayed(batches, endpoint_id=mine) == 4
    assert {each.endpoint_id for each in await lease(batches)} == {mine}
    assert await replayed(batches) == 4, "the other's"
    assert len(await batches.deliveries.replays(limit=10)) == 2


async def test_a_replay_files_what_an_endpoint_missed_while_it_was_disabled(
    batches: Store, books: Redis
) -> None:
    wanted = {"team": "blue"}
    endpoint = await add(
        batches, events=("mission.*",), filter=EventFilter(labels=wanted), max_in_flight=32
    )
    await batches.endpoints.move(endpoint, "disable", reason="")
    begun = int(books.time()[0]) * 1000 - 1000
    missions = [await start(batches, labels=wanted) for _ in range(9)]
    await start(batches, labels={"team": "red"})
    for mission in missions:
        await batches.missions.cancel(mission.id, by="ada")
    await batches.endpoints.move(endpoint, "revive", reason="")
    until = int(books.time()[0]) * 1000 + 1000
    missed = {"endpoint_id": endpoint, "since_ms": begun, "until_ms": until, "missing": True}
    assert await replayed(batches, **missed) == 18
    assert await replayed(batches, **missed) == 0, "nothing twice"
    events = [each.event for each in await lease(batches)]
    assert {event.type for event in events} == {"mission.created", "mission.canceled"}
    assert {event.mission_id for event in events} <= {mission.id for mission in missions}


async def test_a_callback_that_was_paused_is_told_what_it_missed_of_its_mission(
    batches: Store,
) -> None:
    mission_id = ids.new("mission")
    endpoint = f"end_{mission_id[4:]}"
    callback = webhook(
        id=endpoint, events=("mission.canceled",), filter=EventFilter(mission_id=mission_id)
    )
    await start(batches, mission_id=mission_id, callback=callback)
    await batches.endpoints.move(endpoint, "disable", reason="")
    for each in (mission_id, (await start(batches)).id):
        await batches.missions.cancel(each, by="ada")
    await batches.endpoints.move(endpoint, "revive", reason="")
    assert await replayed(batches, endpoint_id=endpoint, missing=True) == 1
    [leased] = await lease(batches)
    assert (leased.event.type, leased.event.mission_id) == ("mission.canceled", mission_id)


async def test_a_phone_is_not_rung_again_for_a_question_that_is_over(
    batches: Store, books: Redis
) -> None:
    phone = await add(batches, kind="push", url="json://x", events=("question.asked",))
    await batches.endpoints.move(phone, "disable", reason="")
    await start(batches)
    claim = await (await hand(batches)).take()
    _, over = await ask(batches, claim, "Over?")
    await batches.questions.answer(over, "yes", by="ada", via="api")
    await ask(batches, claim, "Open?")
    await batches.endpoints.move(phone, "revive", reason="")
    until = int(books.time()[0]) * 1000 + 1000
    assert await replayed(batches, endpoint_id=phone, until_ms=until, missing=True) == 2
    assert [each.event.data["text"] for each in await lease(batches)] == ["Open?"]


async def test_what_was_delivered_long_ago_is_not_taken_for_missing(
    redis_url: str, clock: TurnedClock, books: Redis
) -> None:
    async with open_town(redis_url, clock=clock, limits=Limits(replay_batch=3)) as store:
        endpoint = await add(store, events=("mission.created",), max_in_flight=32)
        await file(store, endpoint, times=4)
        dead = await lease(store)
        [happened] = await file(store, endpoint)
        await record(store, (await lease(store))[0], "delivered")
        delivered = store.keys("delivery", f"dlv_{happened}_{endpoint[4:]}")
        done = []
        for days in (6, 8):
            books.delete(delivered)  # as if it had expired
            for each in dead:
                assert await record(store, each, "dead", reason="HTTP 400")
            clock.ms = round(time.time() * 1000) + days * DAY * 1000
            wish = {"endpoint_id": endpoint, "missing": True}
            done.append(await replayed(store, **wish))
            dead = [each for each in await lease(store) if each.event.stream_id != happened]
        assert done == [4 + 1, 4], "as far back as deliveries are known; dead letters all"
