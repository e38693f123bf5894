"""The dispatcher: sleeps until exactly the next due time, and hears of nearer ones at once."""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable
from types import MethodType

import anyio
import anyio.lowlevel

from tinytown.models.mission import MissionState
from tinytown.models.question import QuestionState
from tinytown.store import Store
from tinytown.store.clockwork import Tick
from tinytown.town.dispatcher import IDLE_SECONDS, Dispatcher
from tinytown.town.hub import Hub
from towns import Hand, ask, hand, start

Eventually = Callable[..., Awaitable[None]]
Move = Callable[[str], Awaitable[object]]


class Watched(Dispatcher):
    """A dispatcher whose sleep can be seen."""

    @property
    def sleeps_for(self) -> float:
        """How long it means to sleep."""
        return self._wake_at - time.monotonic()

    @property
    def sleeping(self) -> bool:
        """Whether it has ticked and waits."""
        return self.last_tick_age_seconds is not None and math.isfinite(self._wake_at)


async def run(store: Store, hub: Hub, live: Callable[[Watched], Awaitable[None]]) -> None:
    """Let a dispatcher run while something happens."""
    dispatcher = Watched(store, hub)
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        with anyio.fail_after(15):
            while not dispatcher.sleeping:
                await anyio.lowlevel.checkpoint()
            await live(dispatcher)
        group.cancel_scope.cancel()


async def test_a_town_where_nothing_is_due_is_ticked_once_in_a_long_while(
    town_store: Store, hub: Hub
) -> None:
    async def live(dispatcher: Watched) -> None:
        assert IDLE_SECONDS - 5 < dispatcher.sleeps_for <= IDLE_SECONDS
        assert dispatcher.healthy

    await run(town_store, hub, live)


async def test_a_deadline_is_kept_within_milliseconds(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    async def live(dispatcher: Watched) -> None:
        await start(town_store)
        claim = await (await hand(town_store)).take()
        _, question = await ask(town_store, claim, deadline_seconds=0.5, default="a")
        asked = time.monotonic()
        await eventually(lambda: dispatcher.sleeps_for < 1, "it heard of the deadline")

        async def expired() -> bool:
            return (await town_store.questions.read(question)).state is QuestionState.EXPIRED

        await eventually(expired, "the deadline passed", within_seconds=3)
        assert 0.5 <= time.monotonic() - asked < 1.5

    await run(town_store, hub, live)


async def test_a_mission_for_later_starts_when_its_time_comes(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    async def live(_: Watched) -> None:
        now = (await town_store.clockwork.demand()).now_ms
        await start(town_store, not_before_ms=now + 400)
        worker = await hand(town_store)
        nothing = await worker.claim()
        async with town_store.blocking("test", block_seconds=5) as client:
            heard = await town_store.workers.wait(client, nothing.streams, block_ms=5000)  # type: ignore[union-attr]
        assert heard, "the worker was woken by the task that became due"

    await run(town_store, hub, live)


async def test_a_mission_resumed_before_its_time_is_not_forgotten(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    missions = town_store.missions

    async def cancel(mission_id: str) -> object:
        return await missions.cancel(mission_id, by="ada")

    for moves in ((missions.pause, missions.resume), (cancel, missions.retry)):

        async def live(dispatcher: Watched, moves: tuple[Move, ...] = moves) -> None:
            now = (await town_store.clockwork.demand()).now_ms
            mission = await start(town_store, not_before_ms=now + 30_000)
            await eventually(lambda: dispatcher.sleeps_for < 31, "it heard of it")
            dispatcher._wake_at = time.monotonic() + IDLE_SECONDS
            for move in moves:
                await move(mission.id)
            await eventually(lambda: dispatcher.sleeps_for < 31, "it heard of it again")

        await run(town_store, hub, live)


async def test_a_deadline_that_is_set_while_a_tick_is_on_its_way_is_not_missed(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    """The tick looked before the deadline was there, and its reply comes after the news of it."""
    clockwork = town_store.clockwork
    plain = clockwork.tick
    ticked, go_on = anyio.Event(), anyio.Event()

    async def late(self: object, *, limit: int = 100) -> Tick:
        tick = await plain(limit=limit)
        ticked.set()
        await go_on.wait()
        return tick

    dispatcher = Watched(town_store, hub)
    clockwork.tick = MethodType(late, clockwork)  # type: ignore[method-assign]
    await start(town_store)
    claim = await (await hand(town_store)).take()
    async with anyio.create_task_group() as group:
        group.start_soon(dispatcher.run)
        await ticked.wait()
        await ask(town_store, claim, deadline_seconds=5)
        await eventually(lambda: dispatcher.sleeps_for < 6, "the news came")
        go_on.set()
        await eventually(lambda: dispatcher.last_tick_age_seconds is not None, "the reply came")
        assert dispatcher.sleeps_for < 6
        group.cancel_scope.cancel()


async def test_a_lost_worker_is_noticed_without_another_worker(
    town_store: Store, hub: Hub, eventually: Eventually
) -> None:
    async def live(_: Watched) -> None:
        mission = await start(town_store, max_attempts=1)
        worker = await Hand(town_store).register()
        await town_store.docket.claim(worker.id, worker.pools, lease_ms=300, silence_ms=60_000)

        async def failed() -> bool:
            return (await town_store.missions.read(mission.id)).state is MissionState.FAILED

        await eventually(failed, "the lease ran out", within_seconds=5)

    await run(town_store, hub, live)


async def test_an_idle_dispatcher_and_hub_cost_few_commands(town_store: Store, hub: Hub) -> None:
    """What a minute would cost, from what one sleep costs: Redis may be paid by the command."""
    client = town_store.clockwork._client

    async def spent() -> int:
        stats = await client.info("commandstats")
        return sum(row["calls"] for name, row in stats.items() if name != "cmdstat_info")

    async def live(_: Watched) -> None:
        before = await spent()
        await town_store.clockwork.tick()
        per_tick = await spent() - before
        per_minute = per_tick * 60 / IDLE_SECONDS + 60 / 30  # and the hub's blocking read
        assert per_minute < 10, f"{per_tick} commands a tick, inner calls included"

    await run(town_store, hub, live)
