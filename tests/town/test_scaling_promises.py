"""Promised workers: counted from the moment they are promised, and never two for one demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from books import Books
from servers import RedisServer
from tinytown.models.scaling import Start
from tinytown.store import Store
from tinytown.store.clockwork import Reserved
from tinytown.town.scaling import LEASE_MS, Promised, ScalingDesk
from towns import TurnedClock, hand, open_town, settle, start, told

DEADLINE = 30


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
async def store(redis_url: str, clock: TurnedClock) -> AsyncIterator[Store]:
    """Lend the store of an empty town; afterwards its books must add up."""
    clock.turn()
    async with open_town(redis_url, clock=clock) as store:
        yield store
    with Redis.from_url(redis_url, decode_responses=True, protocol=2) as client:
        wrong = Books(client).check()
    assert not wrong, "\n".join(wrong)


def desk(store: Store, most: int = 5) -> ScalingDesk:
    return ScalingDesk(store, max_workers=most)


async def promise(store: Store, token: str = "one", most: int = 5) -> Promised:
    return await desk(store, most).promise(launcher="paper", token=token)


async def starts(store: Store, result: str) -> int:
    return (await store.clockwork.counters()).get(f"worker_starts:paper:{result}", 0)


async def fail(store: Store, start: Start, reason: str = "exit 1") -> float:
    """Let a start fail; gives the pause in seconds that follows."""
    row = await store.clockwork.end_start(
        start, launcher="paper", result="crashed", failed=True, lived_ms=100, reason=reason
    )
    return row.held_ms / 1000


async def test_a_promise_counts_as_a_starting_worker_until_its_deadline(
    store: Store, clock: TurnedClock
) -> None:
    await start(store)
    assert [each.pool for each in (await promise(store)).starts] == ["default"]
    said = await desk(store).signal()
    assert (said.workers.starting, said.start, said.desired) == (1, 0, 1)
    clock.turn(seconds=DEADLINE, ms=-1)
    assert (await promise(store)).starts == ()
    clock.turn(ms=1)
    assert (await desk(store).signal()).workers.starting == 0


async def test_a_lapsed_promise_is_a_failed_start(store: Store, clock: TurnedClock) -> None:
    await start(store)
    await promise(store)
    clock.turn(seconds=DEADLINE)
    late = await promise(store)
    assert (late.overdue, late.starts, late.again_seconds) == (("default",), (), 1.0)
    assert await starts(store, "overdue") == 1
    clock.turn(seconds=1)
    assert len((await promise(store)).starts) == 1


async def test_a_worker_redeems_one_promise_of_its_pool(store: Store, clock: TurnedClock) -> None:
    for _ in range(2):
        await start(store)
    await start(store, pool="gpu")
    assert len((await promise(store)).starts) == 3
    clock.turn(seconds=2)
    await hand(store)
    said = await desk(store).signal()
    assert (said.pools["default"].workers.starting, said.pools["gpu"].workers.starting) == (2, 1)
    assert await starts(store, "arrived") == 1
    clock.turn(seconds=DEADLINE)
    said = await desk(store).signal()
    assert said.pools["default"].workers.starting == 1, "one is here, one never came"


async def test_a_worker_that_is_late_still_redeems_its_promise(
    store: Store, clock: TurnedClock
) -> None:
    await start(store)
    await promise(store)
    clock.turn(seconds=DEADLINE + 5)
    await hand(store)
    assert (await promise(store)).overdue == ()
    assert await starts(store, "arrived") == 1


async def test_the_way_of_a_worker_is_boot_time(store: Store, clock: TurnedClock) -> None:
    await start(store)
    await promise(store)
    clock.turn(ms=1700)
    worker = await hand(store)
    clock.turn(ms=300)
    await settle(store, await worker.take())
    assert (await store.clockwork.counters())["agent_ms:boot"] == 2000
    await worker.leave()


async def test_a_worker_of_several_pools_is_counted_where_it_was_wanted(store: Store) -> None:
    await start(store, pool="gpu")
    await promise(store)
    await hand(store, "default", "gpu")
    said = await desk(store).signal()
    assert said.pools["gpu"].workers.starting == 1
    assert said.start == 0


async def test_only_one_launcher_promises_at_a_time(store: Store, redis_url: str) -> None:
    await start(store)
    assert len((await promise(store, "one")).starts) == 1
    await start(store)
    refused = await promise(store, "two")
    assert refused.starts == ()
    assert 0 < (refused.again_seconds or 0) <= LEASE_MS / 1000
    assert len((await promise(store, "one")).starts) == 1


async def test_a_launcher_that_died_is_followed_by_the_next(
    store: Store, redis: AsyncRedis
) -> None:
    await start(store)
    await promise(store, "one")
    await start(store)
    await redis.delete(store.keys("launcher_lease"))  # its time is over
    assert len((await promise(store, "two")).starts) == 1, "the promise of the dead one counts"


async def test_nothing_is_promised_from_a_demand_that_has_changed(store: Store) -> None:
    await start(store)
    before = await store.clockwork.demand()
    worker = await hand(store)
    reply = await store.clockwork.reserve_starts(
        [Start("a", "default")], stamp=before.stamp, launcher="paper", token="one", lease_ms=1000
    )
    assert reply is None
    await settle(store, await worker.take())


async def test_a_promise_whose_reply_got_lost_is_given_again(store: Store) -> None:
    await start(store)
    stamp = (await store.clockwork.demand()).stamp
    for _ in range(2):
        reply = await store.clockwork.reserve_starts(
            [Start("a", "default")], stamp=stamp, launcher="paper", token="one", lease_ms=1000
        )
        assert reply == Reserved(granted=("a",))
    assert (await desk(store).signal()).workers.starting == 1


async def test_launchers_that_race_start_no_more_than_is_wanted(store: Store) -> None:
    for _ in range(3):
        await start(store)
    found: list[Start] = []

    async def launcher(token: str) -> None:
        found.extend((await promise(store, token)).starts)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(launcher, f"process-{number}")
    assert len(found) == 3
    assert (await desk(store).signal()).workers.starting == 3


async def test_failures_in_a_row_hold_a_pool_back_longer_and_longer(
    store: Store, clock: TurnedClock
) -> None:
    await start(store)
    pauses = []
    for _ in range(6):
        (promised,) = (await promise(store)).starts
        pauses.append(await fail(store, promised))
        assert (await promise(store)).starts == ()
        clock.turn(seconds=pauses[-1])
    assert pauses == [1, 2, 4, 8, 60, 60]
    assert (await told(store)).count("worker.lost") == 1, "the open circuit is told once"


async def test_a_failure_that_is_told_twice_counts_once(store: Store) -> None:
    await start(store)
    (promised,) = (await promise(store)).starts
    assert await fail(store, promised) == 1
    assert await fail(store, promised) == 1
    assert await starts(store, "crashed") == 1


async def test_after_a_failure_one_worker_is_tried_at_a_time(
    store: Store, clock: TurnedClock
) -> None:
    for _ in range(4):
        await start(store)
    first = (await promise(store)).starts
    assert len(first) == 4
    for each in first:
        await fail(store, each)
    clock.turn(seconds=8)
    assert len((await promise(store)).starts) == 1
    assert (await promise(store)).starts == ()


async def test_a_worker_that_gets_to_work_closes_the_circuit(
    store: Store, clock: TurnedClock
) -> None:
    for _ in range(3):
        await start(store)
    for each in (await promise(store)).starts:
        await fail(store, each)
    clock.turn(seconds=60)
    await promise(store)
    worker = await hand(store)
    assert (await promise(store)).starts == (), "being there is not yet working"
    claim = await worker.take()
    assert len((await promise(store)).starts) == 2
    await settle(store, claim)


async def test_a_pool_that_cannot_start_holds_back_no_other(store: Store) -> None:
    await start(store)
    (promised,) = (await promise(store)).starts
    await fail(store, promised)
    await start(store, pool="gpu")
    assert [each.pool for each in (await promise(store)).starts] == ["gpu"]


async def test_failures_long_ago_are_forgotten(store: Store, clock: TurnedClock) -> None:
    await start(store)
    (promised,) = (await promise(store)).starts
    await fail(store, promised)
    clock.turn(seconds=601)
    (promised,) = (await promise(store)).starts
    assert await fail(store, promised) == 1


async def test_a_launcher_that_asks_for_time_is_not_counted_as_failing(
    store: Store, clock: TurnedClock
) -> None:
    await start(store)
    (promised,) = (await promise(store)).starts
    row = await store.clockwork.end_start(
        promised, launcher="paper", result="refused", failed=False, hold_ms=3000
    )
    assert (row.failures, row.held_ms) == (0, 3000)
    assert (await promise(store)).again_seconds == 3
    clock.turn(seconds=3)
    assert len((await promise(store)).starts) == 1


async def test_a_blocked_or_deferred_task_is_promised_nobody(
    store: Store, clock: TurnedClock
) -> None:
    await start(store, not_before_ms=clock() + 60_000)
    mission = await start(store, pool="gpu")
    await store.missions.pause(mission.id)
    assert (await promise(store)).starts == ()


async def test_a_clock_that_jumps_back_keeps_no_promise_alive_for_ever(
    store: Store, clock: TurnedClock
) -> None:
    await start(store)
    await promise(store)
    clock.turn(seconds=-3600)
    worker = await hand(store)
    assert (await store.clockwork.counters()).get("agent_ms:boot", 0) == 0
    await settle(store, await worker.take())


pools = st.sampled_from(["default", "gpu"])
steps = st.one_of(
    st.tuples(st.just("task"), pools),
    st.tuples(st.just("launch"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("arrive"), st.just("")),
    st.tuples(st.just("fail"), st.just("")),
    st.tuples(st.just("wait"), st.sampled_from(["1", "8", "31"])),
)


@given(most=st.integers(0, 4), acts=st.lists(steps, max_size=20))
def test_however_it_goes_promises_and_workers_never_exceed_the_most(
    shared_redis: RedisServer, most: int, acts: list[tuple[str, str]]
) -> None:
    """Tasks, launchers, arrivals and failures in any order; checked after every step."""
    shared_redis.send("FLUSHALL")
    anyio.run(_walk, shared_redis.url, most, acts)


async def _walk(url: str, most: int, acts: list[tuple[str, str]]) -> None:
    clock = TurnedClock()
    clock.turn()
    async with open_town(url, clock=clock) as store:
        promised: list[Start] = []
        for act, what in acts:
            if act == "task":
                await start(store, pool=what)
            elif act == "launch":
                said = await desk(store, most).signal()
                given_out = await promise(store, what, most)
                assert len(given_out.starts) <= said.start
                promised += given_out.starts
            elif act == "arrive" and promised:
                await hand(store, promised.pop(0).pool)
            elif act == "fail" and promised:
                await fail(store, promised.pop(0))
            elif act == "wait":
                clock.turn(seconds=int(what))
            said = await desk(store, most).signal()
            assert said.start <= max(0, most - said.workers.present)
            assert said.start <= said.waiting
