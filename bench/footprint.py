"""What a town costs while nothing happens: memory, processor time, commands, and waking up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
import httpx

from bench.ground import Row, commands_so_far, cpu_seconds, family, pss_mb, until
from fakes.ntfy import NtfyServer
from halls import HallProcess
from hands import workers
from servers import RedisServer
from tinytown.store import Store, open_store

PHONES: Final = 100
IDLE_SECONDS: Final = 30.0
COMMANDS_SECONDS: Final = 60.0
WAKES: Final = 7
HEAVY: Final = ("litestar", "granian", "apprise", "prometheus_client", "httpx", "click", "rich")
"""What a worker must not import on its way to its first claim."""


async def footprint() -> list[Row]:
    """Let a town stand still, look at it, and wake a worker."""
    with (
        tempfile.TemporaryDirectory(prefix="tt-bench-", dir="/tmp") as folder,
        RedisServer() as redis,
        NtfyServer() as ntfy,
        HallProcess(redis.url, TINYTOWN_NOTIFY=f"ntfy://127.0.0.1:{ntfy.port}/bench") as hall,
        workers(redis.url, Path(folder)) as crew,
    ):
        async with open_store(redis.url, town="main", name="tt:bench") as store:
            await _ring_once(hall, ntfy)
            rows = [await _commands(store, crew, redis)]
            rows += await _with_phones(hall)
    rows += await _waking()
    return rows


async def _ring_once(hall: HallProcess, ntfy: NtfyServer) -> None:
    """Let the notifier send once: what it loads for that counts."""
    async with hall.client() as client:
        [endpoint] = (await client.get("/v1/endpoints")).json()["items"]
        await client.post(f"/v1/endpoints/{endpoint['id']}/test")
    ntfy.wait(1)


async def _commands(store: Store, crew: Any, redis: RedisServer) -> Row:
    """Count what townhall and one idle worker say to Redis in a minute, inner calls included."""
    worker = crew.start(idle_seconds="3600", lease_seconds="30")

    async def idle() -> bool:
        return any(each.state == "idle" for each in await store.workers.list())

    await until(idle)
    await anyio.sleep(2)
    client = store.clockwork._client  # noqa: SLF001 - INFO is no part of the store's words
    before = await commands_so_far(client)
    await anyio.sleep(COMMANDS_SECONDS)
    spent = await commands_so_far(client) - before
    sent = await _sent(client)
    memory = pss_mb(worker.pid)
    worker.send(signal.SIGTERM)
    await worker.exit_code()
    per_minute = spent * 60 / COMMANDS_SECONDS
    assert redis.process is not None
    return Row(
        f"idle town (townhall and one idle worker, {memory:.0f} MB): commands a minute",
        "≤ 30",
        f"{per_minute:.0f}, those inside scripts included ({sent})",
        per_minute <= 30,
    )


async def _sent(client: Any) -> str:
    """Name what clients sent most."""
    stats = await client.info("commandstats")
    sent = {
        name[8:]: row["calls"]
        for name, row in stats.items()
        if name[8:] in {"evalsha", "xread", "xreadgroup"}
    }
    return ", ".join(f"{name} {calls} since start" for name, calls in sorted(sent.items()))


async def _with_phones(hall: HallProcess) -> list[Row]:
    """Hang a hundred phones on the event stream and let everybody wait."""
    async with anyio.create_task_group() as group:
        hanging: list[httpx.Response] = []

        async def hang() -> None:
            async with hall.client() as client, client.stream("GET", "/v1/events") as reply:
                assert reply.status_code == 200
                hanging.append(reply)
                await anyio.sleep_forever()

        for _ in range(PHONES):
            group.start_soon(hang)
        await until(lambda: len(hanging) == PHONES)
        await anyio.sleep(3)
        pids = family(hall.process.pid)
        before = sum(cpu_seconds(pid) for pid in pids)
        await anyio.sleep(IDLE_SECONDS)
        busy = (sum(cpu_seconds(pid) for pid in pids) - before) / IDLE_SECONDS
        memory = sum(pss_mb(pid) for pid in pids)
        group.cancel_scope.cancel()
    what = f"townhall with notifier, one push endpoint, {PHONES} idle SSE clients"
    return [
        Row(
            f"{what}: memory (PSS of {len(pids)} process)",
            "≤ 100 MB",
            f"{memory:.0f} MB",
            memory <= 100,
        ),
        Row(f"{what}: processor", "< 1 %", f"{busy * 100:.2f} %", busy < 0.01),
    ]


async def _waking() -> list[Row]:
    """Time a worker from its first instruction to its first claim, against its three libraries."""
    ratios, claimed = [], []
    with (
        tempfile.TemporaryDirectory(prefix="tt-bench-", dir="/tmp") as folder,
        RedisServer() as redis,
        workers(redis.url, Path(folder)) as crew,
    ):
        async with open_store(redis.url, town="main", name="tt:bench") as store:
            for _ in range(WAKES):
                begun = time.perf_counter()
                subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
                    [sys.executable, "-c", "import redis.asyncio, msgspec, anyio"], check=True
                )
                libraries = time.perf_counter() - begun
                position = await store.events.last_id()
                begun = time.perf_counter()
                worker = crew.start()
                await until(partial(_rests, store, position))
                claimed.append(time.perf_counter() - begun)
                ratios.append(claimed[-1] / libraries)
                memory = pss_mb(worker.pid)
                worker.send(signal.SIGTERM)
                await worker.exit_code()
    heavy = _imported()
    return [
        Row(
            "worker: first claim / `python -c 'import redis.asyncio, msgspec, anyio'`",
            "≤ 3",
            f"{median(ratios):.1f} ({median(claimed) * 1000:.0f} ms)",
            median(ratios) <= 3,
        ),
        Row("worker before its CLI: memory (PSS)", "≤ 40 MB", f"{memory:.0f} MB", memory <= 40),
        Row(
            f"worker: imports none of {', '.join(HEAVY)}",
            "none",
            ", ".join(heavy) or "none (`python -X importtime`)",
            not heavy,
        ),
    ]


async def _rests(store: Store, position: str) -> bool:
    """Whether a worker has claimed and found nothing since."""
    events = await store.events.after(position, limit=10)
    return any(event.type == "worker.idle" for event in events)


def _imported() -> list[str]:
    """List the heavy libraries that a worker imports on its way, as Python itself tells."""
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tinytown_workers", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    names = {line.rpartition("|")[2].strip().split(".")[0] for line in ran.stderr.splitlines()}
    return sorted(names & set(HEAVY))
