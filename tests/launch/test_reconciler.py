"""Starting what is missing: at once, as many as wanted, and never two for one demand."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import anyio
import pytest
from redis.asyncio import Redis

from conftest import Eventually
from paper import MakeTown, PaperLauncher, reconciling
from servers import RedisServer
from tinytown.launch import StartFailed, reconciler
from tinytown.models.scaling import Signal, Start
from tinytown.store import Limits, Store
from towns import ask, hand, open_town, settle, start


@pytest.fixture
def paper() -> PaperLauncher:
    return PaperLauncher()


async def settled(store: Store) -> None:
    """Wait until whoever listens has surely heard the stream's last event."""
    await anyio.sleep(0.25)  # that nothing happens can only be seen by waiting


async def test_a_queued_task_starts_a_worker_at_once(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(
            lambda: paper.started == ["default"], within_seconds=reconciler.NET_SECONDS - 1
        )


async def test_what_waits_already_when_the_town_opens_is_served(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    await start(store)
    async with reconciling(town_of(), paper.open()):
        await eventually(lambda: paper.started == ["default"])


async def test_one_demand_is_never_served_twice(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        # Events that wake the reconciler while the worker is still on its way.
        for _ in range(5):
            other = await hand(store, "elsewhere")
            await other.leave(always=True)
        await settled(store)
        assert paper.started == ["default"]


async def test_a_worker_that_comes_and_works_is_not_replaced(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        worker = await hand(store)
        claim = await worker.take()
        await settled(store)
        await settle(store, claim)
        await settled(store)
        assert paper.started == ["default"]


async def test_more_tasks_than_workers_start_more_up_to_the_most(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(max_workers=3), paper.open()):
        for _ in range(5):
            await start(store)
        await eventually(lambda: len(paper.started) == 3)
        await settled(store)
        assert len(paper.started) == 3


async def test_each_pool_gets_its_own_workers(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store, pool="gpu")
        await start(store)
        await eventually(lambda: sorted(paper.started) == ["default", "gpu"])


async def test_reserved_places_of_one_pool_leave_no_room_for_another(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(max_workers=1), paper.open()):
        await start(store, pool="gpu")
        await eventually(lambda: paper.started == ["gpu"])
        await start(store)
        await settled(store)
        assert paper.started == ["gpu"]


async def test_a_question_that_waits_for_a_person_starts_nobody(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        worker = await hand(store)
        await ask(store, await worker.take())
        await settled(store)
        assert paper.started == ["default"]


async def test_a_worker_that_dies_on_its_way_gives_its_place_back(
    town_of: MakeTown,
    store: Store,
    paper: PaperLauncher,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        paper.end(1, clean=False)
        await eventually(lambda: len(paper.started) == 2)
    lines = [record for record in caplog.records if record.getMessage() == "launch.failed"]
    assert [line.__dict__["facts"]["reason"] for line in lines] == ["exit 1"]


async def test_starts_that_fail_in_a_row_are_tried_one_by_one_and_then_rarely(
    town_of: MakeTown,
    impatient: Store,
    paper: PaperLauncher,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with reconciling(town_of(of=impatient), paper.open()):
        for _ in range(2):
            await start(impatient)
        await eventually(lambda: len(paper.started) == 2)
        paper.end(1, clean=False)
        paper.end(2, clean=False)
        # Both are missing again, but after a failure only one is tried.
        await eventually(lambda: len(paper.started) == 3)
        await start(impatient)
        await settled(impatient)
        assert len(paper.started) == 3
        paper.end(3, clean=False)
        await start(impatient)
        await settled(impatient)
        assert len(paper.started) == 3, "the circuit is open"
    failed = [record for record in caplog.records if record.getMessage() == "launch.failed"]
    assert [line.__dict__["facts"]["in_a_row"] for line in failed] == [1, 2, 3]
    assert failed[-1].levelno == logging.ERROR
    (told_,) = [e for e in await impatient.events.after("0-0", limit=99) if e.type == "worker.lost"]
    assert told_.data == {
        "worker": None,
        "pool": "default",
        "launcher": "paper",
        "failed_starts": 3,
        "next_try_seconds": 30,
        "reason": "3 starts in a row failed: exit 1",
    }


async def test_a_launcher_that_refuses_is_not_asked_in_a_loop(
    town_of: MakeTown, redis_url: str, paper: PaperLauncher, eventually: Eventually
) -> None:
    paper.refuses = StartFailed("no more processes")
    async with (
        open_town(redis_url, limits=Limits(start_pauses_ms=(3_000, 3_000))) as store,
        reconciling(town_of(of=store), paper.open()),
    ):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        await start(store)
        await settled(store)
        assert paper.started == ["refused default"]
        paper.refuses = None
        await eventually(lambda: paper.started[-1] == "default")


async def test_a_worker_that_goes_home_is_no_failure(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    async with reconciling(town_of(), paper.open()):
        for number in (1, 2, 3, 4):
            await start(store)
            await eventually(lambda number=number: len(paper.started) == number)
            worker = await hand(store)
            await settle(store, await worker.take())
            await worker.leave()
            paper.end(number, clean=True)
        assert paper.started == ["default"] * 4


async def test_a_start_that_never_comes_is_repeated_after_its_deadline(
    town_of: MakeTown,
    redis_url: str,
    paper: PaperLauncher,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "NET_SECONDS", 0.1)
    limits = Limits(start_ms=300, start_pauses_ms=(50, 50, 30_000))
    async with open_town(redis_url, limits=limits) as hasty:
        async with reconciling(town_of(of=hasty), paper.open()):
            await start(hasty)
            await eventually(lambda: len(paper.started) == 2)
        # On a slow machine the second may be overdue by now as well.
        assert (await hasty.clockwork.counters())["worker_starts:paper:overdue"] in {1, 2}


async def test_the_launcher_is_closed_with_the_town(
    town_of: MakeTown, paper: PaperLauncher
) -> None:
    async with reconciling(town_of(), paper.open()):
        assert not paper.closed
    assert paper.closed


async def test_a_town_at_rest_asks_redis_nothing(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually, redis: Redis
) -> None:
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        worker = await hand(store)
        await settle(store, await worker.take())
        await worker.leave()

        async def at_rest() -> bool:
            before = (await redis.info("stats"))["total_commands_processed"]
            await anyio.sleep(1)  # a second in which nothing may be sent
            after = (await redis.info("stats"))["total_commands_processed"]
            return bool(after - before == 1)  # the looking itself, nothing else

        # Not at once: the last change may still be on its way to who listens.
        await eventually(at_rest, within_seconds=reconciler.NET_SECONDS)


async def test_of_two_townhalls_one_starts_the_worker(
    town_of: MakeTown, store: Store, eventually: Eventually
) -> None:
    one, two = PaperLauncher(), PaperLauncher()
    async with reconciling(town_of(), one.open()), reconciling(town_of(), two.open()):
        for count in range(1, 6):
            await start(store)
            await eventually(lambda count=count: len(one.started) + len(two.started) == count)
        await settled(store)
        assert len(one.started) + len(two.started) == 5


async def test_a_launcher_that_breaks_keeps_its_promise_until_the_deadline(
    town_of: MakeTown, store: Store, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(PaperLauncher):
        async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
            await super().start(starts, signal)
            raise RuntimeError("nobody knows how far it came")

    broken = Broken()
    async with reconciling(town_of(), broken.open()):
        await start(store)
        await eventually(lambda: len(broken.started) == 1)
        await settled(store)
        assert (await town_of().scaling.signal()).workers.starting == 1
    assert [r.getMessage() for r in caplog.records].count("launch.broken") == 1


async def test_what_went_down_with_the_town_is_not_promised_any_more(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    paper.outlived = False
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
    assert (await town_of().scaling.signal()).start == 1


async def test_the_launcher_hears_the_signal_it_should_serve(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    for _ in range(3):
        await start(store)
    async with reconciling(town_of(max_workers=2), paper.open()):
        await eventually(lambda: len(paper.started) == 2)
    assert [(signal.start, signal.pools["default"].start) for signal in paper.signals] == [(2, 2)]


async def test_redis_may_go_away_in_the_middle_of_a_start(
    town_of: MakeTown, redis_server: Callable[..., RedisServer], eventually: Eventually
) -> None:
    """A failed start that could not be told is told when Redis is back, and then tried again."""
    server = redis_server(persist=True, appendfsync="always")

    class Away(PaperLauncher):
        async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
            failed = await super().start(starts, signal)
            if len(self.started) == 1:
                server.stop()
            return failed

    away = Away()
    away.refuses = StartFailed("no room", failed=False, again_seconds=0.05)
    async with open_town(server.url) as store:
        async with reconciling(town_of(of=store), away.open()):
            await start(store)
            await eventually(lambda: len(away.started) == 1)
            away.refuses = None
            await settled(store)
            server.start()
            await eventually(lambda: away.started[-1] == "default", within_seconds=15)
        counters = await store.clockwork.counters()
    assert counters["worker_starts:paper:refused"] == 1
    assert len(away.started) == 2
