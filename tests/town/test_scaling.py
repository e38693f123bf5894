"""The signal of a town: the contract's example from its own situation, pools, and the way down."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from tinytown.errors import NotFound
from tinytown.store import Store
from tinytown.town.scaling import ScalingDesk
from towns import TurnedClock, ask, hand, open_town, settle, start


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def store(redis_url: str, clock: TurnedClock) -> AsyncIterator[Store]:
    clock.turn()
    async with open_town(redis_url, clock=clock) as store:
        yield store


@pytest.fixture
def desk(store: Store) -> ScalingDesk:
    return ScalingDesk(store, max_workers=5)


async def test_the_contracts_example_comes_out_of_exactly_its_situation(
    store: Store, desk: ScalingDesk, clock: TurnedClock
) -> None:
    """One task works, one waits for a person without a worker, two wait, one worker is coming."""
    for _ in range(2):
        await start(store, pool="coder")
    asker, worker = await hand(store, "coder"), await hand(store, "coder")
    claim = await asker.take()
    await worker.take()
    await ask(store, claim)
    await store.docket.park(claim.task_id, claim.attempt)
    await asker.leave()
    await start(store, pool="coder")
    await desk.promise(launcher="paper", token="one")
    clock.turn(ms=1200)
    await start(store, pool="coder")
    clock.turn(ms=3000)
    said = msgspec.to_builtins(await desk.signal())
    coder = said.pop("pools")["coder"]
    same = {
        "desired": 3,
        "start": 1,
        "min": 0,
        "max": 5,
        "queue_depth": 3,
        "waiting": 2,
        "active": 1,
        "blocked": 1,
        "deferred": 0,
        "oldest_waiting_seconds": 4.2,
        "next_due_seconds": None,
        "workers": {"idle": 0, "busy": 1, "starting": 1, "draining": 0, "lost": 0},
        "recommendation": "scale_up",
        "reason": "2 waiting, 1 busy, 1 starting, max 5",
    }
    assert said == {
        "version": 1,
        "town": "main",
        "generated_at": "2025-11-22T21:00:04.200Z",
        "seq": said["seq"],
        **same,
    }
    assert {**coder, "max": 5, "reason": same["reason"]} == same
    assert coder["max"] == 3, "what this pool has and may still start"


async def test_a_pool_says_the_same_in_the_towns_shape(store: Store, desk: ScalingDesk) -> None:
    await start(store, pool="gpu")
    await start(store)
    town, pool = await desk.signal(), await desk.pool("gpu")
    assert (town.waiting, pool.waiting, pool.start) == (2, 1, 1)
    assert list(pool.pools) == ["gpu"]
    # An autoscaler asks before the first mission: nobody has named the pool yet, nobody is wanted.
    nobodys = await desk.pool("nobodys")
    assert (nobodys.desired, nobodys.start, nobodys.recommendation) == (0, 0, "scale_to_zero")
    with pytest.raises(NotFound):
        await desk.pool("No Body's")


async def test_the_next_thing_due_is_told_and_is_no_demand(
    store: Store, desk: ScalingDesk, clock: TurnedClock
) -> None:
    await start(store, not_before_ms=clock() + 9500)
    await start(store, pool="gpu", not_before_ms=clock() + 60_000)
    said = await desk.signal()
    assert (said.deferred, said.desired, said.start) == (2, 0, 0)
    assert (said.next_due_seconds, said.pools["gpu"].next_due_seconds) == (9.5, 60)
    assert said.recommendation == "scale_to_zero"


async def test_the_oldest_wait_gets_the_last_place(store: Store, clock: TurnedClock) -> None:
    desk = ScalingDesk(store, max_workers=1)
    await start(store, pool="old")
    clock.turn(seconds=1)
    for _ in range(3):
        await start(store, pool="new")
    said = await desk.signal()
    assert {name: pool.start for name, pool in said.pools.items()} == {"old": 1, "new": 0}
    assert [each.pool for each in (await desk.promise(launcher="x", token="1")).starts] == ["old"]


async def test_a_lapsed_lease_waits_since_it_lapsed(
    store: Store, desk: ScalingDesk, clock: TurnedClock
) -> None:
    await start(store)
    worker = await hand(store)
    await worker.take()
    clock.turn(seconds=32)
    said = await desk.signal()
    assert (said.waiting, said.active, said.oldest_waiting_seconds) == (1, 0, 2.0)


async def test_a_town_goes_down_as_its_workers_leave(store: Store, desk: ScalingDesk) -> None:
    for _ in range(2):
        await start(store)
    workers = [await hand(store), await hand(store)]
    claims = [await worker.take() for worker in workers]
    seen = []
    for worker, claim in zip(workers, claims, strict=True):
        await settle(store, claim)
        said = await desk.signal()
        seen.append((said.desired, said.recommendation))
        await worker.leave()
    said = await desk.signal()
    assert [*seen, (said.desired, said.workers.present)] == [
        (1, "scale_down"),
        (0, "scale_to_zero"),
        (0, 0),
    ]
