"""Whose turn it is: order among events, turns among endpoints, and what new bounds move."""

from __future__ import annotations

import random

import msgspec
from redis import Redis

from posts import LEASE, add, file, lease, next_due_in, record, webhook
from tinytown.models.delivery import DeliveryState
from tinytown.models.event import Event
from tinytown.store import Limits, Store
from tinytown.store.keys import Keyring
from towns import TurnedClock, start


async def read_events(store: Store, missions: int) -> list[Event]:
    """Let missions start, and read as a notifier that has yet to plan."""
    await store.events.ensure_group()
    for _ in range(missions):
        await start(store)
    async with store.blocking("test", block_seconds=1) as client:
        events = await store.events.consume(client, "notifier", block_ms=100, limit=100)
    return [event for event in events if event.type == "mission.created"]


async def plan(store: Store, event: Event, endpoint: str) -> None:
    """File one event."""
    version, _ = await store.endpoints.all()
    assert await store.deliveries.plan(event, [endpoint], version=version) == 1


def tried(books: Redis, event: Event, times: int, *, idle_ms: int = 0) -> None:
    """Make it look as if notifiers had read an event so often, the last one a while ago."""
    books.xclaim(
        Keyring("main")("events"),
        "notifiers",
        "notifier",
        min_idle_time=0,
        message_ids=[event.stream_id],
        idle=idle_ms,
        retrycount=times,
        justid=True,
    )


async def acknowledge_all_but(store: Store, books: Redis, *events: Event) -> None:
    """Plan everything else for nobody."""
    waiting = {event.id for event in events}
    version, _ = await store.endpoints.all()
    for event in await store.events.after("0-0", limit=1000):
        if event.id not in waiting:
            await store.deliveries.plan(event, [], version=version)


async def test_order_waits_for_what_a_lost_notifier_had_read_however_long_ago(
    store: Store, books: Redis
) -> None:
    endpoint = await add(store, fifo=True)
    first, second = await read_events(store, 2)
    await acknowledge_all_but(store, books, first, second)
    tried(books, first, 1, idle_ms=3_600_000)
    await plan(store, second, endpoint)
    assert await lease(store) == []
    await plan(store, first, endpoint)
    [leased] = await lease(store)
    assert leased.event.id == first.id


async def test_an_event_that_nobody_can_plan_holds_nobody_up_and_hides_no_other(
    store: Store, books: Redis
) -> None:
    endpoint = await add(store, fifo=True)
    poison, second, third = await read_events(store, 3)
    await acknowledge_all_but(store, books, poison, second, third)
    tried(books, poison, Limits().planning_tries)
    await plan(store, third, endpoint)
    assert await lease(store) == [], "the second is still to come"
    await plan(store, second, endpoint)
    [leased] = await lease(store)
    assert leased.event.id == second.id


async def test_those_of_a_lost_notifier_are_due_since_its_lease_ended(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store, max_in_flight=1)
    await file(store, endpoint)
    [lost] = await lease(store)
    ended = (await store.deliveries.read(lost.id)).due_at
    await store.endpoints.move(endpoint, "disable", reason="")
    clock.turn(ms=LEASE + 5_000)
    assert await lease(store) == []
    found = await store.deliveries.read(lost.id)
    assert (found.state, found.due_at) == (DeliveryState.DUE, ended)


async def test_a_faster_rate_counts_from_now(store: Store, clock: TurnedClock) -> None:
    clock.turn()
    slow = webhook(rate_per_second=0.001)
    await store.endpoints.put(slow)
    await file(store, slow.id, times=3)
    [first] = await lease(store)
    await record(store, first, "delivered")
    assert await next_due_in(store, clock) == 1_000_000
    await store.endpoints.put(msgspec.structs.replace(slow, rate_per_second=10.0))
    assert await next_due_in(store, clock) <= 100
    await store.endpoints.put(msgspec.structs.replace(slow, rate_per_second=None))
    assert len(await lease(store)) == 2


async def test_endpoints_take_turns_whatever_waits_for_each(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    behind = [await add(store, max_in_flight=32) for _ in range(3)]
    await file(store, *behind, times=10)
    under_way = await lease(store, limit=8)
    clock.turn(seconds=60)
    late = await add(store)
    await file(store, late)
    # Places get free one by one; whoever has waited longest for one gets it.
    chance = random.Random(7)
    served = []
    for _ in range(4):
        await record(store, under_way.pop(chance.randrange(len(under_way))), "delivered")
        clock.turn(ms=5)
        [next_one] = await lease(store, limit=1)
        served.append(next_one.endpoint_id)
        under_way.append(next_one)
    assert late in served, "not behind thirty that were due before"
