"""The docket: tasks are queued, claimed by one worker, kept, handed back, lost and settled."""

from __future__ import annotations

import anyio
import msgspec
import pytest
from redis.asyncio import Redis

from tinytown import ids
from tinytown.errors import LeaseLost, TaskNotFound, TooLarge, WorkerNotFound
from tinytown.models.mission import MissionState, Result
from tinytown.models.task import Claim
from tinytown.store import Store
from tinytown.store.docket import PATCH_BYTES, Nothing, Refused
from towns import LEASE_MS, Hand, TurnedClock, ask, hand, settle, start, told


async def test_a_mission_goes_from_queued_to_completed_and_tells_it(store: Store) -> None:
    mission = await start(store)
    assert mission.state is MissionState.QUEUED
    worker = await hand(store)
    claim = await worker.take()
    assert (claim.mission_id, claim.attempt, claim.goal) == (mission.id, 1, "do it")
    assert (await store.missions.read(mission.id)).state is MissionState.RUNNING
    assert await settle(store, claim) is MissionState.COMPLETED
    mission = await store.missions.read(mission.id)
    assert mission.result is not None
    assert mission.result.summary == "done"
    assert await told(store) == [
        "mission.created",
        "task.queued",
        "worker.started",
        "task.started",
        "mission.started",
        "task.completed",
        "mission.completed",
    ]


async def test_starting_the_same_mission_again_changes_nothing(store: Store) -> None:
    mission = await start(store)
    before = await told(store)
    assert (await start(store, mission_id=mission.id)).tasks == mission.tasks
    assert await told(store) == before


async def test_a_goal_arrives_byte_for_byte(store: Store) -> None:
    goal = "line one\r\n\tline two \\ \" ' \u202e\u0000é\U0001f680" + "x" * 60_000
    await start(store, goal=goal)
    assert (await (await hand(store)).take()).goal == goal


async def test_an_urgent_task_is_claimed_before_an_older_one_and_equals_in_order(
    store: Store,
) -> None:
    low = await start(store, priority="low")
    first = await start(store)
    second = await start(store)
    high = await start(store, priority="high")
    claimed = [(await (await hand(store)).take()).mission_id for _ in range(4)]
    assert claimed == [high.id, first.id, second.id, low.id]


async def test_a_worker_takes_only_tasks_of_its_pools(store: Store) -> None:
    await start(store, pool="gpu")
    plain = await hand(store)
    assert isinstance(await plain.claim(), Nothing)
    both = await hand(store, "default", "gpu")
    assert (await both.take()).pool == "gpu"


async def test_urgency_counts_across_the_pools_of_a_worker(store: Store) -> None:
    await start(store, pool="first")
    urgent = await start(store, pool="second", priority="high")
    assert (await (await hand(store, "first", "second")).take()).mission_id == urgent.id


async def test_twenty_workers_claim_a_hundred_tasks_each_exactly_once(store: Store) -> None:
    missions = [(await start(store)).id for _ in range(100)]
    claimed: list[str] = []

    async def work() -> None:
        worker = await hand(store)
        while isinstance(claim := await worker.claim(), Claim):
            claimed.append(claim.mission_id)
            await settle(store, claim)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(work)
    assert sorted(claimed) == sorted(missions)
    assert (await told(store)).count("task.completed") == 100


async def test_a_claim_whose_reply_was_lost_is_answered_again(store: Store) -> None:
    await start(store)
    await start(store)
    worker = await hand(store)
    first = await worker.take()
    again = await worker.take()
    assert (again.task_id, again.attempt) == (first.task_id, first.attempt)
    assert (await told(store)).count("task.started") == 1


async def test_a_blocked_worker_may_not_claim_another_task(store: Store) -> None:
    await start(store)
    await start(store)
    worker = await hand(store)
    await ask(store, await worker.take())
    assert await worker.claim() == Refused("busy")


async def test_a_worker_the_town_forgot_is_told_to_register(store: Store, redis: Redis) -> None:
    worker = await hand(store)
    await redis.flushall()
    assert await worker.claim() == Refused("")
    with pytest.raises(WorkerNotFound):
        await worker.renew()
    await worker.register()
    assert isinstance(await worker.claim(), Nothing)


async def test_an_idle_worker_learns_where_the_next_task_will_appear(
    store: Store, redis: Redis
) -> None:
    worker = await hand(store)
    nothing = await worker.claim()
    assert isinstance(nothing, Nothing)
    mission = await start(store, priority="high")
    async with store.blocking("test", block_seconds=5) as client:
        heard = await store.workers.wait(client, nothing.streams, block_ms=5000)
    [(stream, [(_, fields)])] = heard.items()
    assert stream == store.keys("docket", "default", "high")
    assert fields == {"task": mission.tasks[0].id}


async def test_a_worker_rests_once_and_says_so_once(store: Store) -> None:
    worker = await hand(store)
    await worker.claim()
    await worker.claim()
    assert (await told(store)).count("worker.idle") == 1
    await start(store)
    await settle(store, await worker.take())
    await worker.claim()
    assert (await told(store)).count("worker.idle") == 2


# -- leases -----------------------------------------------------------------------------------


async def test_a_lease_that_is_renewed_does_not_run_out(store: Store, clock: TurnedClock) -> None:
    clock.turn()
    await start(store)
    worker = await hand(store)
    claim = await worker.take()
    for _ in range(5):
        clock.turn(ms=LEASE_MS - 1)
        await worker.renew(claim)
        await store.clockwork.tick()
    assert await settle(store, claim) is MissionState.COMPLETED


async def test_a_lease_that_ran_out_is_another_workers_and_the_ghost_is_refused(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    mission = await start(store)
    ghost = await hand(store)
    lost = await ghost.take()
    clock.turn(ms=LEASE_MS)
    other = await hand(store)
    claim = await other.take()  # no tick was needed
    assert (claim.task_id, claim.attempt) == (lost.task_id, 2)
    for write in (
        lambda: settle(store, lost),
        lambda: store.docket.release(lost.task_id, 1, reason="mine", counts=False),
        lambda: store.docket.append_log(lost.task_id, 1, first=0, lines=[b"{}"]),
        lambda: store.docket.progress(lost.task_id, 1, {}),
        lambda: ask(store, lost),
    ):
        with pytest.raises(LeaseLost):
            await write()
    with pytest.raises(WorkerNotFound):
        await ghost.renew(lost)
    assert await settle(store, claim) is MissionState.COMPLETED
    assert (await told(store)).count("task.completed") == 1
    assert (await store.missions.read(mission.id)).tasks[0].attempt == 2
    assert (await store.clockwork.counters())["redelivered"] == 1


async def test_a_worker_that_went_silent_loses_its_task_and_may_come_back(
    store: Store, clock: TurnedClock
) -> None:
    clock.turn()
    await start(store)
    worker = await hand(store)
    claim = await worker.take()
    clock.turn(seconds=40)
    await worker.renew(claim)
    clock.turn(seconds=60)
    assert (await store.clockwork.tick()).handled > 0
    assert (await store.workers.read(worker.id)).state == "lost"
    with pytest.raises(WorkerNotFound):
        await worker.renew(claim)
    assert await worker.claim() == Refused("lost")
    await worker.register()
    assert (await worker.take()).attempt == 2


async def test_a_worker_never_leaves_while_something_waits_for_it(store: Store) -> None:
    worker = await hand(store)
    await worker.claim()
    await start(store)
    assert not await worker.leave()
    claim = await worker.take()
    assert not await worker.leave(always=True), "it still holds a task"
    await settle(store, claim)
    assert await worker.leave()
    assert await worker.leave(), "leaving twice is leaving"


async def test_no_task_is_stranded_between_an_idle_exit_and_a_new_mission(store: Store) -> None:
    """Whoever comes first: either the worker stays for the task, or the town knows it is gone."""
    for _ in range(50):
        worker = await hand(store)
        assert isinstance(await worker.claim(), Nothing)
        left: list[bool] = []

        async def leave(worker: Hand = worker, left: list[bool] = left) -> None:
            left.append(await worker.leave())

        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            group.start_soon(start, store)
        demand = (await store.clockwork.demand()).pools["default"]
        assert demand.waiting == 1
        assert demand.workers.idle == (0 if left == [True] else 1)
        if left == [True]:
            worker = await hand(store)
        await settle(store, await worker.take())
        await worker.leave()


async def test_a_released_task_is_back_at_once_and_counts_as_no_loss(store: Store) -> None:
    await start(store, max_attempts=1)
    for attempt in range(1, 6):
        worker = await hand(store)
        claim = await worker.take()
        assert claim.attempt == attempt
        await store.workers.drain(worker.id)
        await store.docket.release(claim.task_id, attempt, reason="drains", counts=False)
        assert await worker.leave()


async def test_a_log_line_is_kept_once_however_often_it_is_sent(store: Store) -> None:
    mission = await start(store)
    claim = await (await hand(store)).take()
    lines = [msgspec.json.encode({"n": n}) for n in range(4)]
    append = store.docket.append_log
    assert await append(claim.task_id, 1, first=0, lines=lines[:2]) == 2
    assert await append(claim.task_id, 1, first=0, lines=lines[:3]) == 3
    assert await append(claim.task_id, 1, first=3, lines=lines[3:]) == 4
    kept = await store.events.log_of(mission.id, after="0-0", limit=100)
    assert [bytes(line.entry) for line in kept] == lines


async def test_an_unknown_task_is_not_found(store: Store) -> None:
    unknown = ids.new("task")
    for write in (
        lambda: store.docket.release(unknown, 1, reason="", counts=False),
        lambda: store.docket.append_log(unknown, 1, first=0, lines=[]),
        lambda: store.docket.progress(unknown, 1, {}),
        lambda: store.docket.settle(
            unknown, 1, completed=True, summary="", reason="", result=Result(), patch=b""
        ),
    ):
        with pytest.raises(TaskNotFound):
            await write()


# -- settling ---------------------------------------------------------------------------------


async def test_a_repeated_settle_counts_once(store: Store) -> None:
    await start(store)
    claim = await (await hand(store)).take()
    for _ in range(3):
        assert await settle(store, claim, input_tokens=10, cost_usd=0.5) is MissionState.COMPLETED
    with pytest.raises(LeaseLost):
        await settle(store, claim, completed=False)
    counters = await store.clockwork.counters()
    assert counters["tokens:input"] == 10
    assert counters["cost_micros"] == 500_000
    assert (await told(store)).count("mission.completed") == 1


async def test_a_cancel_and_a_settle_at_once_agree_on_one_ending(store: Store) -> None:
    endings: set[MissionState] = set()
    for _ in range(30):
        mission = await start(store)
        worker = await hand(store)
        claim = await worker.take()
        refused: list[Exception] = []

        async def tried(step: object, refused: list[Exception] = refused) -> None:
            try:
                await step  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - the loser's error is looked at below
                refused.append(error)

        steps = [settle(store, claim), store.missions.cancel(mission.id, by="me")]
        if len(endings) % 2:
            steps.reverse()
        async with anyio.create_task_group() as group:
            for step in steps:
                group.start_soon(tried, step)
        assert len(refused) == 1
        endings.add((await store.missions.read(mission.id)).state)
        await worker.leave()
    assert endings <= {MissionState.COMPLETED, MissionState.CANCELED}


async def test_a_patch_is_kept_byte_for_byte_and_not_without_bounds(store: Store) -> None:
    mission = await start(store)
    claim = await (await hand(store)).take()
    patch = bytes(range(256)) * 100
    with pytest.raises(TooLarge):
        await settle(store, claim, patch=b"x" * (PATCH_BYTES + 1))
    await settle(store, claim, patch=patch, bundle=patch)
    assert await store.missions.bundles([claim.task_id, ids.new("task")]) == [patch]
    [(task_id, result)] = await store.missions.results(await store.missions.read(mission.id))
    assert task_id == claim.task_id
    assert result.patch is not None
    assert result.patch.encode("utf-8", "surrogateescape") == patch
