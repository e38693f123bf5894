"""Deliveries: one event for one endpoint, filed once, leased, retried, given up, replayed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from redis import Redis

from tinytown import ids
from tinytown.errors import DeliveryNotFound, EndpointNotFound, IllegalMove
from tinytown.models.delivery import Attempt, DeliveryState, DueDelivery
from tinytown.models.endpoint import EndpointRecord, EndpointState
from tinytown.models.event import Event
from tinytown.store import Store
from tinytown.store.deliveries import Due
from tinytown.store.events import GROUP
from towns import TurnedClock, ask, hand, start, told

LEASE = 45_000


async def phone(store: Store) -> str:
    """Add an endpoint."""
    record = EndpointRecord(
        id=ids.new("endpoint"),
        kind="push",
        url="json://127.0.0.1",
        name="",
        events=("*",),
        created_at="2025-11-22T21:00:00.000Z",
    )
    await store.endpoints.put(record)
    return record.id


async def event_of(store: Store, kind: str) -> Event:
    """Find the last event of a type."""
    events = await store.events.after("0-0", limit=10_000)
    return next(event for event in reversed(events) if event.type == kind)


async def file(store: Store, *endpoints: str, kind: str = "mission.created") -> int | None:
    """File deliveries of the last event of a type."""
    version, _ = await store.endpoints.all()
    event = await event_of(store, kind)
    return await store.deliveries.plan(event, endpoints, version=version)


async def lease(store: Store, *, limit: int = 10) -> Due:
    """Lease what is due."""
    return await store.deliveries.claim(lease_ms=LEASE, limit=limit)


async def due_one(store: Store) -> DueDelivery:
    """Lease the one delivery that is surely due."""
    [delivery] = (await lease(store)).deliveries
    return delivery


async def record(store: Store, delivery: DueDelivery, outcome: Any, **how: Any) -> bool:
    """Write how an attempt went."""
    attempt = Attempt(number=delivery.attempt, at="now", outcome=outcome, duration_seconds=0.1)
    return await store.deliveries.record(delivery.id, attempt, outcome=outcome, **how)


async def filed(store: Store) -> str:
    """File one delivery for one new phone."""
    endpoint = await phone(store)
    await start(store)
    assert await file(store, endpoint) == 1
    return endpoint


async def test_an_event_is_filed_once_per_endpoint_however_often_it_is_planned(
    store: Store,
) -> None:
    endpoints = [await phone(store), await phone(store)]
    await start(store)
    assert await file(store, *endpoints) == 2
    assert await file(store, *endpoints) == 0
    assert {each.endpoint_id for each in (await lease(store)).deliveries} == set(endpoints)
    assert (await lease(store)).deliveries == []


async def test_planning_acknowledges_the_event_in_the_same_breath(
    store: Store, books: Redis
) -> None:
    await store.events.ensure_group()
    endpoint = await phone(store)
    await start(store)
    async with store.blocking("test", block_seconds=1) as client:
        events = await store.events.consume(client, "one", block_ms=100, limit=10)
    assert books.xpending(store.events.stream, GROUP)["pending"] == len(events) == 2
    await file(store, endpoint)
    assert books.xpending(store.events.stream, GROUP)["pending"] == 1
    [left] = await store.events.reclaim("two", idle_ms=0, limit=10)
    assert left.type == "task.queued"
    await store.deliveries.plan(left, [], version=(await store.endpoints.all())[0])


async def test_a_lost_group_begins_where_the_last_one_was(store: Store, books: Redis) -> None:
    await store.events.ensure_group()
    endpoint = await phone(store)
    await start(store)
    await file(store, endpoint)
    planned = await event_of(store, "mission.created")
    books.xgroup_destroy(store.events.stream, GROUP)
    async with store.blocking("test", block_seconds=1) as client:
        assert await store.events.consume(client, "one", block_ms=50, limit=99) == []
        seen = await store.events.consume(client, "one", block_ms=50, limit=99)
    assert [event.type for event in seen] == ["task.queued"]
    assert seen[0].stream_id > planned.stream_id
    books.flushall()
    await start(store)
    async with store.blocking("test", block_seconds=1) as client:
        assert await store.events.consume(client, "one", block_ms=50, limit=99) == []
        seen = await store.events.consume(client, "one", block_ms=50, limit=99)
    assert [event.type for event in seen] == ["mission.created", "task.queued"]


async def test_matching_against_old_endpoints_is_refused(store: Store) -> None:
    endpoint = await phone(store)
    await start(store)
    version, _ = await store.endpoints.all()
    await phone(store)
    event = await event_of(store, "mission.created")
    assert await store.deliveries.plan(event, [endpoint], version=version) is None
    assert (await lease(store)).deliveries == []


async def test_a_delivery_is_leased_to_one_notifier_and_the_late_one_is_refused(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await filed(store)
    slow = await due_one(store)
    assert (await lease(store)).deliveries == []
    clock.turn(ms=LEASE)
    quick = await due_one(store)
    assert (quick.id, quick.attempt) == (slow.id, 2)
    assert not await record(store, slow, "delivered")
    assert await record(store, quick, "delivered")
    assert await record(store, quick, "delivered"), "repeated, it is the same"
    delivery = await store.deliveries.read(quick.id)
    assert (delivery.state, len(delivery.attempts)) == (DeliveryState.DELIVERED, 1)
    assert (await store.clockwork.counters())["deliveries:push:delivered"] == 1


async def test_of_many_notifiers_one_gets_each_delivery(store: Store) -> None:
    endpoints = [await phone(store) for _ in range(20)]
    await start(store)
    await file(store, *endpoints)
    got: list[str] = []

    async def notify() -> None:
        got.extend(each.endpoint_id for each in (await lease(store, limit=3)).deliveries)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(notify)
    assert sorted(got) == sorted(endpoints)


async def test_a_failed_attempt_is_due_again_after_its_delay(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await filed(store)
    first = await due_one(store)
    for _ in range(2):  # repeated, it counts once
        await record(store, first, "retry", delay_ms=7000, reason="HTTP 500")
    assert (await store.endpoints.health([endpoint]))[0].failures == 1
    found = await lease(store)
    assert (found.deliveries, found.next_due_ms - found.now_ms) == ([], 7000)
    clock.turn(ms=7000)
    again = await due_one(store)
    assert again.attempt == 2
    await record(store, again, "delivered")
    assert [each.outcome for each in (await store.deliveries.read(again.id)).attempts] == [
        "retry",
        "delivered",
    ]


async def test_a_delivery_given_up_is_a_dead_letter_until_a_person_replays_it(
    store: Store,
) -> None:
    endpoint = await filed(store)
    delivery = await due_one(store)
    await record(store, delivery, "dead", reason="HTTP 410")
    [dead], _ = await store.deliveries.dead(cursor=None, limit=10)
    assert (dead.id, dead.reason, dead.state) == (delivery.id, "HTTP 410", DeliveryState.DEAD)
    told_dead = await event_of(store, "delivery.dead")
    assert told_dead.data["endpoint"] == endpoint
    replayed = await store.deliveries.replay(delivery.id)
    assert replayed.state is DeliveryState.DUE
    assert await store.deliveries.dead(cursor=None, limit=10) == ([], None)
    again = await due_one(store)
    # The fence goes on counting; the retry schedule begins anew.
    assert (again.attempt, again.tried) == (2, 1)
    await record(store, again, "delivered")
    assert (await store.deliveries.replay(delivery.id)).state is DeliveryState.DUE, "sent again"
    with pytest.raises(DeliveryNotFound):
        await store.deliveries.replay("dlv_unknown")


async def test_a_push_for_a_question_already_answered_is_not_sent(store: Store) -> None:
    endpoint = await phone(store)
    await start(store)
    claim = await (await hand(store)).take()
    _, question = await ask(store, claim)
    await file(store, endpoint, kind="question.asked")
    await store.questions.answer(question, "yes", by="ada", via="api")
    assert (await lease(store)).deliveries == []
    [delivery], _ = await store.deliveries.of_endpoint(endpoint, cursor=None, limit=10)
    assert delivery.state is DeliveryState.OBSOLETE
    assert (await lease(store)).next_due_ms == 0


async def test_an_endpoint_fails_after_three_failures_and_recovers_with_a_success(
    store: Store,
) -> None:
    endpoint = await filed(store)
    for number in (1, 2, 3):
        assert (await store.endpoints.health([endpoint]))[0].state is EndpointState.ACTIVE, number
        await record(store, await due_one(store), "retry", reason="HTTP 500")
    health = (await store.endpoints.health([endpoint]))[0]
    assert (health.state, health.last_error) == (EndpointState.FAILING, "HTTP 500")
    await record(store, await due_one(store), "delivered")
    health = (await store.endpoints.health([endpoint]))[0]
    assert (health.state, health.failures, health.last_error) == (EndpointState.ACTIVE, 0, "")
    story = await told(store)
    assert (story.count("endpoint.failing"), story.count("endpoint.recovered")) == (1, 1)


async def test_news_of_a_dead_delivery_that_dies_breeds_no_more_news(store: Store) -> None:
    endpoint = await filed(store)
    await record(store, await due_one(store), "dead")
    await file(store, endpoint, kind="delivery.dead")
    await record(store, await due_one(store), "dead")
    assert (await told(store)).count("delivery.dead") == 1


async def test_one_endpoint_never_hides_another(store: Store, clock: TurnedClock) -> None:
    clock.turn()
    loud, quiet = await phone(store), await phone(store)
    for _ in range(30):
        await start(store)
        await file(store, loud)
        clock.turn(ms=1)
    await start(store)
    await file(store, quiet)
    got = [each.endpoint_id for each in (await lease(store, limit=2)).deliveries]
    assert got == [loud, quiet], "one delivery on its way to a phone at once"
    assert (await lease(store, limit=1)).deliveries == [], "nor a second by another notifier"


async def test_a_paused_endpoint_hears_nothing_until_it_is_resumed(store: Store) -> None:
    endpoint = await filed(store)
    assert await store.endpoints.move(endpoint, "disable", reason="") is EndpointState.DISABLED
    with pytest.raises(IllegalMove, match="disabled"):
        await store.endpoints.move(endpoint, "disable", reason="")
    await start(store)
    assert await file(store, endpoint) == 0
    assert (await lease(store)).deliveries == []
    assert await store.endpoints.move(endpoint, "revive", reason="") is EndpointState.ACTIVE
    assert (await due_one(store)).endpoint_id == endpoint
    with pytest.raises(IllegalMove, match="active"):
        await store.endpoints.move(endpoint, "revive", reason="")


async def test_an_endpoint_paused_while_a_push_is_on_its_way_is_not_tried_again(
    store: Store,
) -> None:
    endpoint = await filed(store)
    delivery = await due_one(store)
    await store.endpoints.move(endpoint, "disable", reason="")
    await record(store, delivery, "retry", delay_ms=0)
    assert (await lease(store)).deliveries == []
    await store.endpoints.move(endpoint, "revive", reason="")
    assert (await due_one(store)).attempt == 2


async def test_a_removed_endpoint_leaves_nothing_behind_even_while_a_push_is_on_its_way(
    store: Store, books: Redis
) -> None:
    endpoint = await filed(store)
    delivery = await due_one(store)
    await store.endpoints.drop(endpoint)
    assert await record(store, delivery, "retry", delay_ms=0)
    assert (await store.deliveries.read(delivery.id)).state is DeliveryState.OBSOLETE
    assert (await lease(store)).next_due_ms == 0
    assert list(books.scan_iter(f"*{endpoint}*")) == []
    for gone in (
        lambda: store.endpoints.drop(endpoint),
        lambda: store.endpoints.read(endpoint),
        lambda: store.endpoints.move(endpoint, "disable", reason=""),
    ):
        with pytest.raises(EndpointNotFound):
            await gone()


async def test_changing_an_endpoint_that_is_gone_does_not_bring_it_back(store: Store) -> None:
    endpoint = await phone(store)
    known = await store.endpoints.read(endpoint)
    await store.endpoints.drop(endpoint)
    with pytest.raises(EndpointNotFound):
        await store.endpoints.put(known, must_exist=True)


async def test_deliveries_are_listed_newest_first_in_pages(
    store: Store, clock: TurnedClock
) -> None:
    endpoint = await phone(store)
    made = []
    for _ in range(5):
        clock.turn(ms=1)
        await start(store)
        await file(store, endpoint)
        made.append((await lease(store)).deliveries[0].id)
        made_last = made[-1]
        await store.deliveries.record(
            made_last,
            Attempt(number=1, at="now", outcome="dead", duration_seconds=0.1),
            outcome="dead",
        )
    page, cursor = await store.deliveries.dead(cursor=None, limit=2)
    assert [each.id for each in page] == made[:2:-1]
    rest, cursor = await store.deliveries.dead(cursor=cursor, limit=9)
    assert ([each.id for each in rest], cursor) == (made[2::-1], None)
    page, _ = await store.deliveries.of_endpoint(endpoint, cursor=None, limit=9)
    assert [each.id for each in page] == made[::-1]
