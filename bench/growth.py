"""What questions about the town cost when much is stored: the same as when little is."""

from __future__ import annotations

import time
from typing import Final

import anyio
import httpx

from bench.ground import Row, commands_so_far, percentile
from halls import HallProcess
from servers import RedisServer
from tinytown import ids
from tinytown.models.mission import StartMission
from tinytown.store import Store, open_store
from tinytown.town.missions import plan

FEW, MANY = 100, 100_000
ROUNDS: Final = 100
PATHS: Final = (
    "/api/scaling",
    "/ready",
    "/metrics",
    "/v1/missions?limit=50",
    "/v1/missions?state=canceled&limit=50",
    "/v1/missions?label=team%3Da&limit=50",
)


async def fill(store: Store, missions: int) -> None:
    """Start and cancel missions: they are stored until their retention."""
    places = anyio.Semaphore(16)

    async def one() -> None:
        async with places:
            mission = ids.new("mission")
            spec = StartMission(goal="do it", labels={"team": "a"})
            await store.missions.start(
                mission,
                spec,
                title="do it",
                not_before_ms=0,
                actor="bench",
                max_attempts=3,
                tasks=plan(spec),
            )
            await store.missions.cancel(mission, by="bench")

    for begin in range(0, missions, 1000):
        async with anyio.create_task_group() as group:
            for _ in range(begin, min(missions, begin + 1000)):
                group.start_soon(one)


async def growth() -> list[Row]:
    """Ask two towns in turns, one with few missions and one with many."""
    with (
        RedisServer() as few,
        RedisServer() as many,
        # The notifier would still be reading the events of what was stored.
        HallProcess(few.url, TINYTOWN_NOTIFIER="off") as small,
        HallProcess(many.url, TINYTOWN_NOTIFIER="off") as large,
    ):
        async with (
            open_store(few.url, town="main", name="tt:bench", max_connections=16) as a,
            open_store(many.url, town="main", name="tt:bench", max_connections=16) as b,
        ):
            await fill(a, FEW)
            await fill(b, MANY)
            async with small.client() as first, large.client() as second:
                return [await _compare(path, (a, first), (b, second)) for path in PATHS]


Side = tuple[Store, httpx.AsyncClient]


async def _compare(path: str, small: Side, large: Side) -> Row:
    """Measure one path on both sides: commands once each, times in turns."""
    counts = []
    for store, client in (small, large):
        await _get(client, path)
        before = await commands_so_far(store.clockwork._client)  # noqa: SLF001 - INFO only
        for _ in range(5):
            await _get(client, path)
        counts.append((await commands_so_far(store.clockwork._client) - before) / 5)  # noqa: SLF001
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        for (_, client), spent in zip((small, large), times, strict=True):
            begun = time.perf_counter()
            await _get(client, path)
            spent.append(time.perf_counter() - begun)
    # The lower quartile: what the machine does besides only ever adds to a time.
    quick, slow = (percentile(spent, 25) for spent in times)
    ratio = slow / quick
    same = round(counts[0]) == round(counts[1])
    return Row(
        f"{path}: {MANY:,} stored missions / {FEW}",
        "same commands, ≤ 1.3 × the time",
        f"{counts[1]:.0f} and {counts[0]:.0f} commands, {ratio:.2f} × the time"
        f" ({slow * 1000:.1f} ms)",
        same and ratio <= 1.3,
    )


async def _get(client: httpx.AsyncClient, path: str) -> None:
    reply = await client.get(path)
    assert reply.status_code == 200, (path, reply.text)
