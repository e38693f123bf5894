"""Threads of missions: a name under which one mission at a time is open, however many ask."""

from __future__ import annotations

import anyio
import pytest
from redis import Redis

from posts import DAY
from tinytown import ids
from tinytown.models.mission import StartMission
from tinytown.store import Store
from tinytown.store.missions import ThreadIsOpen
from tinytown.town.missions import plan
from towns import TurnedClock


async def on_thread(store: Store, thread: str) -> str:
    spec = StartMission(goal="do it")
    mission_id = ids.new("mission")
    await store.missions.start(
        mission_id,
        spec,
        title="t",
        not_before_ms=0,
        actor="a",
        max_attempts=3,
        tasks=plan(spec),
        thread=thread,
    )
    return mission_id


async def test_a_thread_has_one_open_mission(store: Store) -> None:
    first = await on_thread(store, "octo/town#1")
    with pytest.raises(ThreadIsOpen) as caught:
        await on_thread(store, "octo/town#1")
    assert caught.value.mission_id == first
    assert await on_thread(store, "octo/town#2") != first
    await store.missions.cancel(first, by="ada")
    second = await on_thread(store, "octo/town#1")
    assert await store.missions.of_thread("octo/town#1") == second
    assert await store.missions.of_thread("octo/town#3") is None


async def test_fifty_starts_of_one_thread_at_once_are_one_mission(store: Store) -> None:
    started: list[str] = []
    refused: list[str] = []

    async def one() -> None:
        try:
            started.append(await on_thread(store, "a thread: of {any} text\0"))
        except ThreadIsOpen as open_:
            refused.append(open_.mission_id)

    async with anyio.create_task_group() as group:
        for _ in range(50):
            group.start_soon(one)
    assert len(started) == 1
    assert refused == started * 49


async def test_a_thread_is_forgotten_with_its_last_mission(
    store: Store, clock: TurnedClock, books: Redis
) -> None:
    clock.turn()
    first = await on_thread(store, "octo/town#1")
    await store.missions.cancel(first, by="ada")
    clock.turn(seconds=DAY)
    second = await on_thread(store, "octo/town#1")
    clock.turn(seconds=7 * DAY)
    await store.clockwork.tick()
    assert await store.missions.of_thread("octo/town#1") == second, "another holds it"
    await store.missions.cancel(second, by="ada")
    clock.turn(seconds=8 * DAY)
    await store.clockwork.tick()
    assert list(books.scan_iter("*thread:*")) == []
