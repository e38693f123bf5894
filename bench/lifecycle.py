"""A task's life through our scripts, beside the barest loop that the same client can make."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from functools import partial
from statistics import median
from typing import Any

import anyio

from bench.ground import Row, cpu_seconds
from servers import RedisServer
from tinytown import ids
from tinytown.models.mission import Result, StartMission
from tinytown.models.task import Claim
from tinytown.store import Store, open_store
from tinytown.store.workers import Card
from tinytown.town.missions import plan

ROUNDS = 15
TASKS = 100

Loop = Callable[[int], Coroutine[Any, Any, None]]


async def bare_loop(client: Any, tasks: int, *, piped: bool = False) -> None:
    """Add, read by group, acknowledge, delete: four commands, the last two as one if `piped`."""
    for _ in range(tasks):
        await client.xadd("bare", {"task": ids.new("task"), "goal": "do it"})
        reply = await client.xreadgroup("group", "consumer", {"bare": ">"}, count=1)
        [entry] = [entry for stream in _listed(reply) for entry in stream]
        if piped:
            async with client.pipeline(transaction=True) as pipe:
                pipe.xack("bare", "group", entry)
                pipe.xdel("bare", entry)
                await pipe.execute()
        else:
            await client.xack("bare", "group", entry)
            await client.xdel("bare", entry)


def _listed(reply: Any) -> list[list[str]]:
    rows = reply.values() if isinstance(reply, dict) else [row for _, row in reply]
    return [[id_ for id_, _ in (row[0] if isinstance(row[0], list) else row)] for row in rows]


async def our_loop(store: Store, tasks: int) -> None:
    """Start a mission, claim its task, settle it: with every promise the town makes."""
    worker = ids.new("agent")
    card = Card(host="bench", version="0", agent=None)
    await store.workers.register(worker, ["default"], card, silence_ms=60_000)
    for _ in range(tasks):
        spec = StartMission(goal="do it")
        await store.missions.start(
            ids.new("mission"),
            spec,
            title="do it",
            not_before_ms=0,
            actor="bench",
            max_attempts=3,
            tasks=plan(spec),
        )
        claim = await store.docket.claim(worker, ["default"], lease_ms=30_000, silence_ms=60_000)
        assert isinstance(claim, Claim)
        await store.docket.settle(
            claim.task_id,
            claim.attempt,
            completed=True,
            summary="done",
            reason="",
            result=Result(summary="done"),
            patch=b"",
        )
    await store.workers.leave(worker, always=True, reason="done")


async def lifecycle() -> list[Row]:
    """Run both loops in turns on one server, by the same client."""
    with RedisServer() as server:
        async with open_store(server.url, town="bench", name="tt:bench") as store:
            client = store._connections.commands  # noqa: SLF001 - the same client on purpose
            await client.xgroup_create("bare", "group", id="0", mkstream=True)

            ours = partial(our_loop, store)
            bare = partial(bare_loop, client)
            piped = partial(bare_loop, client, piped=True)
            return [
                await _compare(server.pid, ours, bare, "XADD, XREADGROUP, XACK, XDEL"),
                await _compare(server.pid, ours, piped, "the same, XACK and XDEL in one MULTI"),
                await _compare(server.pid, ours, bare, "the same, 10 loops at once", at_once=10),
            ]


async def _compare(pid: int, ours: Loop, bare: Loop, what: str, *, at_once: int = 1) -> Row:
    """Measure one pair of loops; only the first comparison is the promise."""
    walls, efforts = await _in_turns(pid, bare, ours, at_once)
    by_wall = median(b / o for b, o in walls)
    by_effort = median(b / o for b, o in efforts)
    promised = what.startswith("XADD")
    return Row(
        f"task lifecycle: ours / bare loop ({what})",
        "≥ 0.5" if promised else "–",
        f"{by_wall:.2f} ({TASKS / median(o for _, o in walls):.0f}/s"
        f" and {TASKS / median(b for b, _ in walls):.0f}/s); {by_effort:.2f} by processor time",
        max(by_wall, by_effort) >= 0.5 if promised else None,
    )


Pairs = list[tuple[float, float]]


async def _in_turns(pid: int, bare: Loop, ours: Loop, at_once: int) -> tuple[Pairs, Pairs]:
    """Measure round by round: seconds by the clock, and processor seconds of both sides."""
    walls: Pairs = []
    efforts: Pairs = []
    for loop in (bare, ours):
        await _run(loop, at_once)
    for _ in range(ROUNDS):
        spent = []
        for loop in (bare, ours):
            clock, effort = time.perf_counter(), time.process_time() + cpu_seconds(pid)
            await _run(loop, at_once)
            spent.append(
                (
                    time.perf_counter() - clock,
                    time.process_time() + cpu_seconds(pid) - effort,
                )
            )
        walls.append((spent[0][0], spent[1][0]))
        efforts.append((spent[0][1], spent[1][1]))
    return walls, efforts


async def _run(loop: Loop, at_once: int) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(at_once):
            group.start_soon(loop, TASKS // at_once)
