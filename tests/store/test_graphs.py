"""Graphs of tasks: what waits for what, and what a lost one takes with it."""

from __future__ import annotations

import itertools

import pytest

from tinytown.models.mission import MissionState
from tinytown.store import Store
from tinytown.store.docket import Nothing
from towns import LEASE_MS, TurnedClock, hand, named, settle, start, states, told


async def test_a_task_starts_when_all_it_depends_on_is_done(store: Store) -> None:
    mission = await start(
        store, {"a": [], "b": [], "join": ["a", "b"], "x": ["join"], "y": ["join"]}
    )
    first, second = await hand(store), await hand(store)
    a, b = await first.take(), await second.take()
    assert {a.name, b.name} == {"a", "b"}
    await settle(store, a)
    assert isinstance(await first.claim(), Nothing)
    await settle(store, b)
    join = await first.take()
    assert (join.name, join.earlier) == ("join", (named(mission, "a"), named(mission, "b")))
    await settle(store, join)
    x, y = await first.take(), await second.take()
    assert {x.name, y.name} == {"x", "y"}
    assert x.earlier == (*join.earlier, join.task_id)
    await settle(store, x)
    assert await settle(store, y) is MissionState.COMPLETED


async def test_a_failed_task_cancels_what_waits_for_it_and_nothing_else(store: Store) -> None:
    mission = await start(store, {"bad": [], "after": ["bad"], "last": ["after"], "free": []})
    first, second = await hand(store), await hand(store)
    claims = {claim.name: claim for claim in (await first.take(), await second.take())}
    assert await settle(store, claims["bad"], completed=False) is MissionState.RUNNING
    assert states(await store.missions.read(mission.id)) == {
        "bad": "failed",
        "after": "canceled",
        "last": "canceled",
        "free": "running",
    }
    assert await settle(store, claims["free"]) is MissionState.FAILED
    mission = await store.missions.read(mission.id)
    assert mission.reason == "it broke"
    failed = [
        event for event in await store.events.after("0-0", limit=99) if event.type == "task.failed"
    ]
    assert sorted(failed[0].data["canceled"]) == ["after", "last"]


@pytest.mark.parametrize("counted", [True, False])
async def test_three_lost_workers_are_enough(
    store: Store,
    clock: TurnedClock,
    counted: bool,  # noqa: FBT001
) -> None:
    clock.turn()
    mission = await start(store, {"bad": [], "after": ["bad"]})
    for attempt in itertools.count(1):
        worker = await hand(store)
        claim = await worker.take()
        if counted:
            await store.docket.release(claim.task_id, attempt, reason="it crashed", counts=True)
        else:
            clock.turn(ms=LEASE_MS)
            await store.clockwork.tick()
        if attempt == 3:
            break
        assert states(await store.missions.read(mission.id))["bad"] == "queued"
        await worker.leave(always=True)
    mission = await store.missions.read(mission.id)
    assert mission.state is MissionState.FAILED
    assert states(mission) == {"bad": "dead", "after": "canceled"}
    why = "it crashed" if counted else "its worker went silent"
    assert mission.reason == f"gave up after 3 lost workers: {why}"
    assert (await told(store)).count("task.dead") == 1
