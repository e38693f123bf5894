"""The demand: what the leases and counters say, whatever has happened before."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from servers import RedisServer
from tinytown.errors import StoreUnavailable
from tinytown.models.scaling import Demand, WorkerCounts
from tinytown.store import Store
from towns import LEASE_MS, SILENCE_MS, TurnedClock, ask, hand, open_town, settle, start


async def demand(store: Store, pool: str = "default") -> Demand:
    """Read one pool's demand."""
    return (await store.clockwork.demand()).pools[pool]


async def test_an_empty_town_has_no_pools_and_wants_nothing(store: Store) -> None:
    assert (await store.clockwork.demand()).pools == {}


async def test_the_situation_of_the_contract_is_counted_as_it_says(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    for _ in range(4):
        await start(store)
        clock.turn(seconds=1)
    blocked, busy = await hand(store), await hand(store)
    await ask(store, await blocked.take())
    await busy.take()
    await hand(store)
    found = await demand(store)
    assert (found.waiting, found.active, found.blocked) == (2, 1, 1)
    assert found.workers == WorkerCounts(busy=2, starting=1)
    assert found.oldest_waiting_ms == clock() - 2000


async def test_a_lease_that_ran_out_waits_although_nobody_took_it_back_yet(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    for _ in range(2):
        await start(store)
    worker, other = await hand(store), await hand(store)
    claim = await worker.take()
    await ask(store, await other.take())
    clock.turn(ms=LEASE_MS - 1)
    await worker.renew(claim)
    clock.turn(ms=2)
    found = await demand(store)
    assert (found.waiting, found.active, found.blocked) == (1, 1, 0)
    clock.turn(ms=LEASE_MS)
    assert (await demand(store)).waiting == 2


async def test_a_draining_worker_is_counted_with_what_it_still_holds(store: Store) -> None:
    for _ in range(2):
        await start(store)
    leaving, staying = await hand(store), await hand(store)
    claim = await leaving.take()
    await staying.take()
    await store.workers.drain(leaving.id)
    found = await demand(store)
    assert (found.active, found.leaving) == (2, 1)
    assert found.workers == WorkerCounts(busy=1, draining=1)
    await settle(store, claim)
    found = await demand(store)
    assert (found.active, found.leaving, found.workers.draining) == (1, 0, 1)
    await leaving.leave()
    assert (await demand(store)).workers == WorkerCounts(busy=1)


async def test_a_draining_worker_that_lost_its_lease_hides_nobody_elses_work(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    for _ in range(2):
        await start(store)
    gone, busy = await hand(store), await hand(store)
    await gone.take()
    claim = await busy.take()
    await store.workers.drain(gone.id)
    clock.turn(ms=LEASE_MS - 1)
    await busy.renew(claim)
    clock.turn(ms=2)
    found = await demand(store)
    assert (found.waiting, found.active, found.leaving) == (1, 1, 0)


async def test_each_pool_knows_when_its_own_next_task_is_due(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await start(store, pool="late", not_before_ms=clock() + 9000)
    await start(store, pool="soon", not_before_ms=clock() + 1000)
    await start(store, pool="now")
    due = {name: pool.next_due_ms for name, pool in (await store.clockwork.demand()).pools.items()}
    assert due == {"late": clock() + 9000, "soon": clock() + 1000, "now": None}


async def test_a_worker_nobody_hears_of_is_lost_and_then_forgotten(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    clock.turn()
    worker = await hand(store)
    await worker.claim()
    clock.turn(ms=SILENCE_MS)
    await store.clockwork.tick()
    assert (await demand(store)).workers == WorkerCounts(lost=1)
    clock.turn(seconds=3600)
    await store.clockwork.tick()
    assert (await demand(store)).workers == WorkerCounts()
    assert await store.workers.list() == []
    assert not books.exists(store.keys("worker", worker.id))


async def test_a_worker_is_counted_once_although_the_town_slept_for_days(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    """Its card must outlive the outage: one that vanished would be counted for ever."""
    clock.turn()
    worker = await hand(store)
    await worker.claim()
    assert books.ttl(store.keys("worker", worker.id)) > 300 * 86_400
    clock.turn(seconds=7 * 86_400)
    while (await store.clockwork.tick()).handled:
        pass
    assert (await demand(store)).workers.idle == 0


async def test_the_demand_is_the_same_however_much_is_stored(store: Store, books: Redis) -> None:
    async def cost() -> int:
        before = books.info("commandstats")
        await store.clockwork.demand()
        after = books.info("commandstats")
        calls = sum(row["calls"] for row in after.values())
        return int(calls - sum(row["calls"] for row in before.values()))

    await start(store)
    await cost()
    first = await cost()
    for _ in range(200):
        mission = await start(store)
        await store.missions.cancel(mission.id, by="ada")
    assert await cost() == first


async def test_a_redis_that_does_not_answer_is_an_error_and_never_zero(
    redis_server: Callable[..., RedisServer],
) -> None:
    server = redis_server()
    async with open_town(server.url) as store:
        await start(store)
        server.stop()
        with pytest.raises(StoreUnavailable):
            await store.clockwork.demand()


async def test_a_worker_of_two_pools_is_counted_in_the_first(store: Store) -> None:
    await hand(store, "one", "two")
    await start(store, pool="two")
    assert (await demand(store, "one")).workers.starting == 1
    assert (await demand(store, "two")).workers.starting == 0
