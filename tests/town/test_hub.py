"""The hub: everyone hears every event once and in order, and nobody waits for the slow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinytown.models.event import Event
from tinytown.store import Store
from tinytown.town.hub import BACKLOG, FellBehind, Hub, Listener, order
from towns import hand, settle, start

Eventually = Callable[..., Awaitable[None]]


def everything(event: Event) -> bool:
    """Want all events."""
    return bool(event)


async def hear(hub: Hub, heard: list[str]) -> None:
    """Follow the town from its beginning."""
    async for event in hub.follow(everything, after="0-0"):
        heard.append(event.id)  # noqa: PERF401 - one by one, as they come


async def live(store: Store, missions: int) -> None:
    """Let something happen: six events per mission, and three for the worker."""
    worker = await hand(store)
    for _ in range(missions):
        await start(store)
        await settle(store, await worker.take())
    await worker.claim()


async def stories(store: Store) -> list[str]:
    """List all events' ids."""
    return [event.id for event in await store.events.after("0-0", limit=100_000)]


async def test_a_listener_that_comes_and_goes_misses_nothing_and_hears_nothing_twice(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    heard: list[str] = []
    done = anyio.Event()

    async def listen() -> None:
        """Follow, hang up after a few events, and come back with the last id."""
        position = "0-0"
        hang_up_after = 1
        while not done.is_set():
            count = 0
            with anyio.move_on_after(0.2):
                async for event in hub.follow(everything, after=position):
                    heard.append(event.id)
                    position = event.stream_id
                    count += 1
                    if count >= hang_up_after:
                        break
            hang_up_after = hang_up_after % 7 + 1

    async with anyio.create_task_group() as group:
        group.start_soon(listen)
        await live(town_store, 60)
        expected = await stories(town_store)
        await eventually(lambda: len(heard) >= len(expected), "it heard all")
        done.set()
    assert heard == expected


async def test_a_hub_that_starts_while_history_is_read_leaves_no_gap(
    town_store: Store, eventually: Eventually
) -> None:
    hub = Hub(town_store)
    heard: list[str] = []
    await live(town_store, 2)

    async with anyio.create_task_group() as group:
        group.start_soon(hear, hub, heard)
        await live(town_store, 2)
        group.start_soon(hub.run)
        await live(town_store, 2)
        expected = await stories(town_store)
        await eventually(lambda: len(heard) >= len(expected), "it heard all")
        group.cancel_scope.cancel()
    assert heard == expected


async def test_a_slow_listener_is_dropped_and_the_others_hear_everything(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    heard: list[str] = []

    with hub.listen(everything) as slow:
        async with anyio.create_task_group() as group:
            group.start_soon(hear, hub, heard)
            await live(town_store, BACKLOG // 6 + 2)
            expected = await stories(town_store)
            await eventually(lambda: len(heard) == len(expected), "the quick one hears all")
            group.cancel_scope.cancel()
        with pytest.raises(FellBehind):
            await slow.next()
    assert heard == expected


async def test_a_listener_hears_only_what_it_wants_and_that_costs_no_place() -> None:
    listener = Listener(lambda event: event.type == "mission.created")

    def event(number: int, kind: str) -> Event:
        return Event(id=f"evt_{number}-0", type=kind, timestamp="", town="main")

    for number in range(3 * BACKLOG):
        listener.offer(event(number, "task.queued"))
    listener.offer(event(9, "mission.created"))
    assert (await listener.next()).stream_id == "9-0"


async def test_the_hub_goes_on_after_its_connection_was_cut(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    heard: list[str] = []

    async with anyio.create_task_group() as group:
        group.start_soon(hear, hub, heard)
        await live(town_store, 3)
        await town_store.clockwork._client.execute_command("CLIENT", "KILL", "TYPE", "normal")
        await live(town_store, 3)
        expected = await stories(town_store)
        await eventually(lambda: len(heard) >= len(expected), "it heard all")
        group.cancel_scope.cancel()
    assert heard == expected


@given(st.lists(st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)), min_size=2, max_size=2))
def test_stream_ids_are_ordered_as_redis_orders_them(ids: list[tuple[int, int]]) -> None:
    first, second = (f"{ms}-{number}" for ms, number in ids)
    assert (order(first) < order(second)) == (ids[0] < ids[1])
    assert order(str(ids[0][0])) == (ids[0][0], 0)
