"""Webhook endpoints in the store: bounds in flight, circuit, pace, order, disabling."""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator

import msgspec
import pytest
from redis import Redis

from posts import DAY, LEASE, add, file, lease, next_due_in, record, state_of, webhook
from tinytown.errors import Stale, TooMany
from tinytown.models.delivery import DeliveryState
from tinytown.models.endpoint import EndpointState
from tinytown.store import Limits, Store
from tinytown.store.endpoints import digest_of
from towns import TurnedClock, open_town, start, told


@pytest.fixture
async def tiny(redis_url: str) -> AsyncIterator[Store]:
    """Lend a town in which no more than three deliveries may wait for an endpoint."""
    async with open_town(redis_url, limits=Limits(backlog=3, sweep=2)) as store:
        yield store


async def test_no_more_than_the_cap_is_on_its_way_to_one_endpoint(store: Store) -> None:
    narrow, wide = await add(store, max_in_flight=2), await add(store)
    await file(store, narrow, wide, times=6)
    first = await lease(store)
    assert sorted(each.endpoint_id for each in first) == sorted([narrow] * 2 + [wide] * 4)
    assert await lease(store) == [], "nor to another notifier"
    await record(store, next(each for each in first if each.endpoint_id == narrow), "delivered")
    assert [each.endpoint_id for each in await lease(store)] == [narrow]


async def test_the_text_of_an_event_is_stored_once_for_all_its_deliveries(
    store: Store, books: Redis
) -> None:
    endpoints = [await add(store) for _ in range(20)]
    [stream_id] = await file(store, *endpoints)
    assert len(list(books.scan_iter("*:event:*"))) == 1
    leased = await lease(store)
    assert len({each.event.id for each in leased}) == 1
    assert leased[0].event.data["title"] == "a mission"
    texts = [books.hgetall(key) for key in books.scan_iter("*:delivery:*")]
    assert not any("a mission" in str(text) for text in texts)
    listed = await store.deliveries.read(leased[0].id)
    assert (listed.event, listed.event.stream_id) == (leased[0].event, stream_id)


async def test_five_failures_in_a_row_open_the_circuit_and_one_probe_closes_it(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint, times=20)
    for _ in range(2):
        for each in await lease(store):
            await record(store, each, "retry", delay_ms=1, reason="HTTP 500")
        clock.turn(ms=5)
    assert await state_of(store, endpoint) is EndpointState.FAILING
    assert await next_due_in(store, clock) == 30_000 - 5
    clock.turn(seconds=30)
    [probe] = await lease(store)
    assert await lease(store) == [], "one probe at a time"
    await record(store, probe, "retry", delay_ms=1, reason="HTTP 500")
    assert await next_due_in(store, clock) == 60_000, "twice as long"
    clock.turn(seconds=60)
    [probe] = await lease(store)
    await record(store, probe, "delivered")
    assert await state_of(store, endpoint) is EndpointState.ACTIVE
    assert len(await lease(store)) == 4
    story = await told(store)
    assert (story.count("endpoint.failing"), story.count("endpoint.recovered")) == (1, 1)


async def test_an_open_circuit_is_never_open_for_more_than_ten_minutes(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint)
    for _ in range(15):
        [probe] = await lease(store)
        await record(store, probe, "retry", delay_ms=1, reason="reset")
        clock.turn(ms=1)
        clock.turn(ms=max(0, await next_due_in(store, clock)))
    [probe] = await lease(store)
    await record(store, probe, "retry", delay_ms=1, reason="reset")
    assert await next_due_in(store, clock) == 600_000


async def test_a_throttle_slows_the_endpoint_and_success_lets_it_go_again(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint, times=30)
    first, *others = await lease(store)
    await record(store, first, "retry", delay_ms=5_000, effect="throttle", reason="HTTP 429")
    for each in others:
        await record(store, each, "delivered")
    starts = []
    for _ in range(12):
        clock.turn(ms=max(0, await next_due_in(store, clock)))
        for each in await lease(store):
            starts.append(clock.ms)
            await record(store, each, "delivered")
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[0] >= 100, "spaced out after a throttle"
    assert gaps == sorted(gaps, reverse=True), "faster with every success"


async def test_what_a_receiver_asks_for_holds_up_the_whole_endpoint(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint, times=9)
    first, *_ = await lease(store)
    await record(
        store, first, "retry", delay_ms=7_000, effect="throttle", hold_ms=7_000, reason="HTTP 429"
    )
    clock.turn(ms=6_999)
    assert await lease(store) == []
    clock.turn(ms=1)
    assert len(await lease(store)) == 1


async def test_a_rate_lets_a_second_s_worth_through_at_once_and_then_spaces(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store, rate_per_second=5, max_in_flight=32)
    await file(store, endpoint, times=30)
    sent = 0
    for _ in range(41):  # two seconds
        for each in await lease(store):
            sent += 1
            await record(store, each, "delivered")
        clock.turn(ms=50)
    assert 5 + 9 <= sent <= 5 + 10


async def test_in_order_means_one_at_a_time_and_a_failure_holds_up_those_behind_it(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store, fifo=True)
    happened = await file(store, endpoint, times=5)
    seen: list[str] = []
    chance = random.Random(7)
    while len(seen) < len(happened):
        [each] = await lease(store)
        assert await lease(store) == []
        if chance.random() < 0.4:
            await record(store, each, "retry", delay_ms=10_000, reason="HTTP 500")
            assert await next_due_in(store, clock) == 10_000
            clock.turn(seconds=10)
        else:
            seen.append(each.event.stream_id)
            await record(store, each, "delivered")
    assert seen == happened


async def test_in_order_waits_for_what_happened_earlier_and_is_not_filed_yet(
    store: Store,
) -> None:
    endpoint = await add(store, fifo=True)
    await store.events.ensure_group()
    await start(store)
    async with store.blocking("test", block_seconds=1) as client:
        events = await store.events.consume(client, "one", block_ms=100, limit=10)
    version, _ = await store.endpoints.all()
    await store.deliveries.plan(events[1], [endpoint], version=version)
    assert await lease(store) == []
    await store.deliveries.plan(events[0], [endpoint], version=version)
    [first] = await lease(store)
    assert first.event.id == events[0].id


async def test_a_notifier_that_goes_silent_loses_its_deliveries_to_the_next_one(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await file(store, await add(store), times=3)
    silent = await lease(store)
    assert len(silent) == 3
    clock.turn(ms=LEASE)
    again = await lease(store)
    assert sorted(each.id for each in again) == sorted(each.id for each in silent)
    assert not await record(store, silent[0], "delivered"), "the ghost is refused"
    taken = next(each for each in again if each.id == silent[0].id)
    assert await record(store, taken, "delivered")


async def test_a_delivery_that_outlives_five_notifiers_is_poison(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await file(store, await add(store))
    for _ in range(5):
        [leased] = await lease(store)
        clock.turn(ms=LEASE)
    assert await lease(store) == []
    dead = await store.deliveries.read(leased.id)
    assert (dead.state, dead.reason) == (
        DeliveryState.DEAD,
        "gave up after 5 notifiers were lost while they sent it",
    )


async def test_an_endpoint_that_wants_no_more_is_disabled_with_the_reason(store: Store) -> None:
    endpoint = await add(store)
    await file(store, endpoint)
    [leased] = await lease(store)
    await record(store, leased, "dead", effect="disable", reason="410 Gone")
    [health] = await store.endpoints.health([endpoint])
    assert (health.state, health.disabled_reason) == (EndpointState.DISABLED, "410 Gone")
    story = await told(store)
    assert (story.count("endpoint.disabled"), story.count("delivery.dead")) == (1, 1)


async def test_a_receiver_may_take_one_and_want_no_more(store: Store) -> None:
    endpoint = await add(store)
    await file(store, endpoint, times=2)
    leased, _ = await lease(store)
    await record(store, leased, "delivered", effect="disable", reason="it wants no more")
    assert (await store.deliveries.read(leased.id)).state is DeliveryState.DELIVERED
    [health] = await store.endpoints.health([endpoint])
    assert (health.state, health.disabled_reason) == (EndpointState.DISABLED, "it wants no more")
    assert await lease(store) == []


async def test_five_days_without_success_warn_half_way_and_then_disable(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint)
    for hour in range(0, 5 * 24 + 1, 3):
        assert await state_of(store, endpoint) is not EndpointState.DISABLED, hour
        [probe] = await lease(store)
        await record(store, probe, "retry", delay_ms=1, reason="connect_timeout")
        clock.turn(seconds=3 * 3600)
    [health] = await store.endpoints.health([endpoint])
    assert health.state is EndpointState.DISABLED
    assert health.disabled_reason == "nothing got through for 5 days: connect_timeout"
    assert (await told(store)).count("endpoint.failing") == 2, "when it began, and half-way"


async def test_the_first_delivery_given_up_is_told_and_then_one_a_day(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    failing = []
    for _ in range(9):  # one is given up, the next is taken: the circuit never opens
        for outcome in ("dead", "delivered"):
            await file(store, endpoint)
            [leased] = await lease(store)
            await record(store, leased, outcome, reason="given up after attempt 2: HTTP 500")
        clock.turn(seconds=3 * 3600)
        failing.append((await told(store)).count("endpoint.failing"))
    assert failing == [1] * 8 + [2]
    assert (await told(store)).count("endpoint.recovered") == 2


async def test_a_receiver_that_refuses_one_message_is_not_failing(store: Store) -> None:
    endpoint = await add(store)
    await file(store, endpoint)
    [leased] = await lease(store)
    await record(store, leased, "dead", effect="spare", reason="the receiver refuses this one")
    assert await state_of(store, endpoint) is EndpointState.ACTIVE
    assert "endpoint.failing" not in await told(store)


async def test_five_failures_in_five_quiet_days_disable_nobody(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store)
    await file(store, endpoint)
    for _ in range(6):
        [probe] = await lease(store)
        await record(store, probe, "retry", delay_ms=1, reason="reset")
        clock.turn(seconds=DAY)
    assert await state_of(store, endpoint) is EndpointState.FAILING


async def test_too_far_behind_is_a_dead_letter_and_never_silence(tiny: Store) -> None:
    endpoint = await add(tiny)
    await file(tiny, endpoint, times=4)
    [dead], _ = await tiny.deliveries.dead(cursor=None, limit=9)
    assert "too far behind" in (dead.reason or "")


async def test_changing_what_somebody_else_has_changed_is_refused(store: Store) -> None:
    made = webhook()
    await store.endpoints.put(made)
    mine = msgspec.structs.replace(made, name="mine")
    theirs = msgspec.structs.replace(made, name="theirs")
    await store.endpoints.put(theirs, must_exist=True, digest=digest_of(made))
    with pytest.raises(Stale):
        await store.endpoints.put(mine, must_exist=True, digest=digest_of(made))
    with pytest.raises(Stale):
        await store.endpoints.drop(made.id, digest=digest_of(made))
    assert await store.endpoints.read(made.id) == theirs
    await store.endpoints.drop(made.id, digest=digest_of(theirs))


async def test_a_town_has_so_many_endpoints_and_no_more(redis_url: str) -> None:
    async with open_town(redis_url, limits=Limits(endpoints=2)) as store:
        first, second = webhook(), webhook()
        for each in (first, second, first):  # changing one adds none
            await store.endpoints.put(each)
        with pytest.raises(TooMany):
            await store.endpoints.put(webhook())
        await store.endpoints.drop(second.id)
        await store.endpoints.put(webhook())


async def test_who_asks_for_a_delivery_now_does_not_wait_for_its_time(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    endpoint = await add(store, fifo=True)
    await file(store, endpoint)
    for _ in range(5):
        [each] = await lease(store)
        await record(store, each, "retry", delay_ms=1, hold_ms=DAY * 1000, reason="HTTP 503")
        assert await lease(store) == []
        assert (await store.deliveries.replay(each.id)).state is DeliveryState.DUE
    [probe] = await lease(store)
    await store.deliveries.replay(probe.id)
    assert await lease(store) == [], "it is on its way already"
    await record(store, probe, "delivered")
    assert await state_of(store, endpoint) is EndpointState.ACTIVE


async def test_webhooks_that_take_all_their_places_leave_those_of_phones(store: Store) -> None:
    programs = [await add(store, max_in_flight=8) for _ in range(4)]
    await file(store, *programs, times=5)
    phone = await add(store, kind="push", url="json://x")
    await file(store, phone)
    first = await store.deliveries.claim(lease_ms=LEASE, limit=8, webhooks=6)
    assert len(first.deliveries) == 7
    assert [each.endpoint_id for each in first.deliveries if each.kind == "push"] == [phone]
    await file(store, phone)
    full = await store.deliveries.claim(lease_ms=LEASE, limit=2, webhooks=0)
    assert full.deliveries == [], "the phone has one on its way"
    assert full.next_due_ms > full.now_ms, "nothing to hurry for: who gets done asks again"


async def test_clearing_away_what_expired_takes_a_bounded_breath(
    store: Store, books: Redis, tiny: Store
) -> None:
    endpoint = await add(store)
    await file(store, endpoint, times=3)
    await store.endpoints.move(endpoint, "disable", reason="")
    for key in books.scan_iter("*:delivery:*"):
        books.delete(key)
    await store.endpoints.move(endpoint, "revive", reason="")
    assert (await tiny.deliveries.claim(lease_ms=LEASE, limit=9)).deliveries == []
    assert books.zcard(store.keys("endpoint_due", endpoint)) == 1
    assert (await tiny.deliveries.claim(lease_ms=LEASE, limit=9)).deliveries == []
    reasons = [
        event.data["reason"]
        for event in await store.events.after("0-0", limit=99)
        if event.type == "delivery.dead"
    ]
    assert reasons == [f"{count} expired while their endpoint was disabled" for count in (2, 1)]
