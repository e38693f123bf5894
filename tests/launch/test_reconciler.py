"""Starting what is missing: at once, as many as wanted, and never two for one demand."""

from __future__ import annotations

import logging

import anyio
import pytest

from conftest import Eventually
from paper import MakeTown, PaperLauncher, reconciling
from tinytown.launch import reconciler
from tinytown.launch.reconciler import Reservations
from tinytown.store import Store
from towns import ask, hand, settle, start


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
        await eventually(lambda: paper.started == ["default"], within_seconds=2)


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
        await eventually(lambda: len(paper.started) == 2, within_seconds=3)
    lines = [record for record in caplog.records if record.getMessage() == "launch.failed"]
    assert [line.__dict__["facts"]["reason"] for line in lines] == ["exit 1"]


async def test_three_that_end_at_once_are_enough_for_now(
    town_of: MakeTown,
    store: Store,
    paper: PaperLauncher,
    eventually: Eventually,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tinytown.launch.backoff.PAUSES_SECONDS", (0.05, 0.05, 30.0))
    async with reconciling(town_of(), paper.open()):
        await start(store)
        for number in (1, 2, 3):
            await eventually(lambda number=number: len(paper.started) == number)
            paper.end(number, clean=False)
        await start(store)
        await settled(store)
        assert len(paper.started) == 3
    failed = [record for record in caplog.records if record.getMessage() == "launch.failed"]
    assert [line.__dict__["facts"]["in_a_row"] for line in failed] == [1, 2, 3]
    assert failed[-1].levelno == logging.ERROR


async def test_a_launcher_that_refuses_is_not_asked_in_a_loop(
    town_of: MakeTown, store: Store, paper: PaperLauncher, eventually: Eventually
) -> None:
    paper.refuses = "no more processes"
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 1)
        await start(store)
        await settled(store)
        assert paper.started == ["refused default"]
        paper.refuses = ""
        await eventually(lambda: paper.started[-1] == "default", within_seconds=5)


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
    store: Store,
    paper: PaperLauncher,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciler, "START_DEADLINE_SECONDS", 0.3)
    monkeypatch.setattr(reconciler, "NET_SECONDS", 0.1)
    async with reconciling(town_of(), paper.open()):
        await start(store)
        await eventually(lambda: len(paper.started) == 2)


async def test_the_launcher_is_closed_with_the_town(
    town_of: MakeTown, paper: PaperLauncher
) -> None:
    async with reconciling(town_of(), paper.open()):
        assert not paper.closed
    assert paper.closed


def test_an_arrival_settles_the_oldest_place_of_its_pool() -> None:
    places = Reservations()
    places.add("1", "default", now=0.0)
    places.add("2", "gpu", now=0.0)
    places.add("3", "default", now=5.0)
    places.arrived("default")
    assert (places.count("default"), places.count("gpu"), places.count()) == (1, 1, 2)
    assert places.expire(now=30.0) == ["gpu"]
    assert places.expire(now=35.0) == ["default"]


def test_an_arrival_nobody_started_settles_nothing() -> None:
    places = Reservations()
    places.add("1", "gpu", now=0.0)
    places.arrived("default")
    assert places.count() == 1
