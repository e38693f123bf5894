"""The races around zero: a task at the moment its worker leaves, a townhall killed at a start.

Short forms run with every test; `just races` runs a thousand rounds and two hundred kills.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskGroup

from conftest import Eventually
from paper import MakeTown, reconciling
from tinytown.launch import Ended, StartFailed, silence
from tinytown.models.mission import Result
from tinytown.models.scaling import Signal, Start
from tinytown.models.task import Claim
from tinytown.store import Limits, Store
from tinytown.vault import Vault
from tinytown_workers.loop import Worker, WorkerRules
from tinytown_workers.session import SessionRules
from towns import LEASE_MS, SILENCE_MS, Hand, open_town, start

LONG = os.environ.get("RACES") == "long"
ROUNDS = 1000 if LONG else 60
KILLS = 200 if LONG else 4
IDLE_SECONDS = 0.05
START_MS = 700


class QuickWorker(Worker):
    """The real worker's life, with work that is done at once."""

    async def _work(self, claim: Claim, client: Any) -> None:
        await self._store.docket.settle(
            claim.task_id,
            claim.attempt,
            completed=True,
            summary="done",
            reason="",
            result=Result(summary="done"),
            patch=b"",
            bundle=b"",
        )


class Room:
    """A launcher whose workers live in this process: no boot blurs the race."""

    name = "room"
    outlived = True

    def __init__(self, group: TaskGroup, store: Store, directory: Path) -> None:
        self._group, self._store, self._directory = group, store, directory
        self.starts = 0

    async def start(self, starts: Sequence[Start], signal: Signal) -> dict[str, StartFailed]:
        for each in starts:
            self.starts += 1
            worker = QuickWorker(
                self._store,
                rules=WorkerRules(pools=(each.pool,), idle_seconds=IDLE_SECONDS),
                session_rules=SessionRules(work_dir=self._directory, agent="command"),
                environ={},
                vault=Vault(None, "main"),
            )
            self._group.start_soon(worker.run)
        return {}

    async def ended(self) -> Ended:
        return await silence()


@pytest.mark.timeout(1800 if LONG else 60)
async def test_a_task_that_comes_while_its_worker_leaves_is_never_stranded(
    town_of: MakeTown, redis_url: str, tmp_path: Path
) -> None:
    town_side: Store
    async with open_town(redis_url) as town_side, anyio.create_task_group() as group:
        room = Room(group, town_side, tmp_path)

        @asynccontextmanager
        async def opening() -> AsyncIterator[Room]:
            yield room

        town = town_of(of=town_side)
        done = {"mission.completed"}
        async with reconciling(town, opening()):
            await town.hub.ready.wait()
            with town.hub.listen(lambda event: event.type in done) as listener:
                for _ in range(ROUNDS):
                    # From a little before the worker would leave to a little after.
                    await anyio.sleep(IDLE_SECONDS * random.uniform(0.5, 3.0))  # the race itself
                    await start(town_side)
                    with anyio.fail_after(5):
                        await listener.next()
        group.cancel_scope.cancel()
    async with open_town(redis_url) as after:
        counters = await after.clockwork.counters()
    assert counters["missions_finished:completed"] == ROUNDS
    assert counters.get("redelivered", 0) == 0
    assert room.starts == counters["worker_starts:room:arrived"], "every start was a worker"
    warm = ROUNDS - room.starts
    print(f"{ROUNDS} rounds: {room.starts} cold, {warm} caught before they left")  # noqa: T201
    assert room.starts > ROUNDS / 10, "workers did go home in between"
    assert warm > ROUNDS / 10, "and some were caught before they did"


class Rivals:
    """Two townhalls of paper; one or the other is killed now and then."""

    def __init__(self, url: str, journal: Path) -> None:
        self._arguments = [url, str(journal), str(START_MS)]
        self._processes: list[subprocess.Popen[bytes]] = []

    def begin(self) -> None:
        """Start one; it is ready when it says so."""
        script = Path(__file__).with_name("rival.py")
        process = subprocess.Popen(
            [sys.executable, script, *self._arguments], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        self._processes.append(process)

    def kill(self) -> None:
        """Kill the older one."""
        process = self._processes.pop(0)
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()

    def end(self) -> None:
        """Kill all."""
        while self._processes:
            self.kill()


@pytest.mark.timeout(1800 if LONG else 90)
async def test_whoever_is_killed_at_a_start_no_demand_is_served_twice(
    redis_url: str, tmp_path: Path, eventually: Eventually
) -> None:
    """Two launchers, SIGKILL at random moments: another start only after a promise has lapsed."""
    journal = tmp_path / "journal"
    journal.touch()
    rivals = Rivals(redis_url, journal)
    served = 0
    missions = []

    async def serve(store: Store) -> None:
        """Be the workers that the journal says were started."""
        nonlocal served
        for line in journal.read_text().splitlines()[served:]:
            served += 1
            worker = await Hand(store, line.split()[1]).register()
            claim = await store.docket.claim(
                worker.id, worker.pools, lease_ms=LEASE_MS, silence_ms=SILENCE_MS
            )
            assert isinstance(claim, Claim), "a worker was started for nothing"
            await store.docket.settle(
                claim.task_id, claim.attempt, completed=True, summary="done", reason="",
                result=Result(summary="done"), patch=b"", bundle=b"",
            )  # fmt: skip
            await worker.leave()

    async with open_town(redis_url, limits=Limits(start_ms=START_MS)) as store:
        try:
            for _ in range(2):
                await anyio.to_thread.run_sync(rivals.begin)
            for _ in range(KILLS):
                mission = await start(store)
                missions.append(mission.id)
                await anyio.sleep(random.random() * 0.04)  # the blow falls anywhere
                rivals.kill()

                async def completed(mission_id: str = mission.id) -> bool:
                    await serve(store)
                    return (await store.missions.read(mission_id)).state == "completed"

                await eventually(completed, within_seconds=15)
                await anyio.to_thread.run_sync(rivals.begin)
        finally:
            rivals.end()
        counters = await store.clockwork.counters()
    starts = [line.split()[0] for line in journal.read_text().splitlines()]
    lapsed = counters.get("worker_starts:journal:overdue", 0)
    print(f"{KILLS} kills: {len(starts)} starts, {lapsed} promises lapsed")  # noqa: T201
    assert len(set(starts)) == len(starts)
    assert counters["missions_finished:completed"] == KILLS
    assert len(starts) <= KILLS + lapsed
