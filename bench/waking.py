"""How fast a town at zero wakes: a mission that starts its worker, against a bare Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from bench.ground import Row, percentile
from servers import RedisServer
from tinytown import ids
from tinytown.egress import Egress
from tinytown.launch import Launcher
from tinytown.launch.docker import Shape, docker_launcher
from tinytown.launch.environment import container_environment
from tinytown.launch.process import process_launcher
from tinytown.launch.reconciler import Reconciler
from tinytown.links import AnswerLinks
from tinytown.models.event import Event
from tinytown.models.mission import StartMission
from tinytown.store import open_store
from tinytown.town import Town, TownRules
from tinytown.town.missions import plan
from tinytown.vault import Vault

ROUNDS: Final = 30
SECONDS: Final = 1.5
TIMES: Final = 3.0
IMAGE: Final = "tinytown-worker"
BARE: Final = """
import anyio, hiredis, msgspec, redis.asyncio, sys
async def main():
    async with redis.asyncio.Redis.from_url(sys.argv[1], protocol=2) as client:
        await client.ping()
    print("here", flush=True)
anyio.run(main)
"""
"""Imports what a worker imports from others, and reaches Redis."""
WORKER: Final = {
    "TINYTOWN_AGENT": "command",
    "TINYTOWN_AGENT_COMMAND": "true",
    "TINYTOWN_IDLE_SECONDS": "0.05",
    "TINYTOWN_LOG": "json",
}


async def waking() -> list[Row]:
    """Wake a town through `process`, and through `docker` where an engine and our image are."""
    with (
        tempfile.TemporaryDirectory(prefix="tt-wake-", dir="/tmp") as folder,
        RedisServer(tcp=True) as redis,
    ):
        return await _process(redis.url, folder) + await _docker(redis.url)


async def _process(url: str, folder: str) -> list[Row]:
    environ = {"PATH": os.environ["PATH"], "HOME": folder, "TINYTOWN_HOME": folder, **WORKER}
    with (Path(folder) / "log").open("wb") as log:
        opening = process_launcher(
            environ, redis_url=url, town="main", drain_seconds=2, log=log.fileno()
        )
        woken, bare = await _in_turns(url, opening, [sys.executable, "-c", BARE, url])
    p95 = percentile(woken, 95)
    return [
        Row(
            f"cold wake through `process` (mission posted → claimed), {ROUNDS} times",
            f"p95 ≤ {SECONDS} s",
            f"p50 {percentile(woken, 50):.2f} s, p95 {p95:.2f} s",
            p95 <= SECONDS,
        ),
        _against("process", "a bare Python with its libraries", woken, bare),
    ]


async def _docker(url: str) -> list[Row]:
    """Start containers on the host's network: a bridge costs both the same, and hides the rest."""
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not _works("docker", "image", "inspect", IMAGE):
        why = f"not measured: no engine, or no image {IMAGE} (`just images`)"
        return [Row("cold wake through `docker`", f"p95 ≤ {TIMES:g} × a bare `docker start`", why)]
    shape = Shape(image=IMAGE, town="bench", network="host", memory_mb=256)
    opening = docker_launcher(
        Path(host.removeprefix("unix://")),
        shape,
        lambda pool: container_environment(WORKER, redis_url=url, town="main", pool=pool),
    )
    name = f"tinytown-bench-{os.getpid()}"
    bare = ["docker", "create", "--name", name, "--network", "host", "--memory", "256m"]
    subprocess.run([*bare, IMAGE, "python", "-c", BARE, url], check=True, capture_output=True)  # noqa: ASYNC221
    try:
        woken, bare_seconds = await _in_turns(url, opening, ["docker", "start", "--attach", name])
    finally:
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)  # noqa: ASYNC221
    return [_against("docker", "a bare `docker start` of one", woken, bare_seconds)]


def _against(launcher: str, what: str, woken: Sequence[float], bare: Sequence[float]) -> Row:
    """Compare the slow ends; the middles are told as well."""
    ours, theirs = percentile(woken, 95), percentile(bare, 95)
    return Row(
        f"cold wake through `{launcher}` ÷ {what}",
        f"p95 ≤ {TIMES:g}",
        f"p95 {ours / theirs:.2f} ({ours:.2f} s and {theirs:.2f} s), "
        f"p50 {percentile(woken, 50) / percentile(bare, 50):.2f}",
        ours / theirs <= TIMES,
    )


async def _in_turns(
    url: str, opening: AbstractAsyncContextManager[Launcher], bare: list[str]
) -> tuple[list[float], list[float]]:
    """Wake the town and start a bare Python by turns; gives the seconds of both."""

    async def fine(_: str) -> None:
        pass

    woken: list[float] = []
    others: list[float] = []
    async with open_store(url, town="main", name="tt:bench") as store:
        town = Town(
            store,
            rules=TownRules(),
            vault=Vault(None, "main"),
            links=AnswerLinks(town="main", keys=["0123456789abcdef"]),
            check_url=fine,
            redact_url=str,
            egress=Egress(),
        )
        async with anyio.create_task_group() as group:
            group.start_soon(town.hub.run)
            group.start_soon(Reconciler(town, opening).run)
            await town.hub.ready.wait()
            for _ in range(ROUNDS):
                woken.append(await _wake(town))
                others.append(await anyio.to_thread.run_sync(_first_line, bare))
            group.cancel_scope.cancel()
    return woken, others


async def _wake(town: Town) -> float:
    """Post a mission to a town at zero; gives the seconds until it was claimed."""
    asked = StartMission(goal="nothing")
    wanted: Callable[[Event], bool] = lambda event: event.type in {"task.started", "worker.stopped"}  # noqa: E731
    with town.hub.listen(wanted) as listener, anyio.fail_after(60):
        begun = time.perf_counter()
        await town.store.missions.start(
            ids.new("mission"),
            asked,
            title="nothing",
            not_before_ms=0,
            actor="bench",
            max_attempts=3,
            tasks=plan(asked),
        )
        while (await listener.next()).type != "task.started":
            pass
        seconds = time.perf_counter() - begun
        while (await listener.next()).type != "worker.stopped":
            pass
    return seconds


def _works(*command: str) -> bool:
    """Tell whether a program is there and succeeds."""
    found = shutil.which(command[0])
    return bool(found) and not subprocess.run(command, capture_output=True, check=False).returncode


def _first_line(command: list[str]) -> float:
    """Start a program; gives the seconds until it said something."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begun
    assert process.returncode == 0
    return seconds
