"""A task's life through other engines, each in an environment of its own, beside ours."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import anyio
import msgspec

from bench.ground import Row
from bench.lifecycle import our_loop
from servers import RedisServer
from tinytown import ids
from tinytown.models.mission import Result, StartMission
from tinytown.models.task import Claim
from tinytown.store import Store, open_store
from tinytown.store.workers import Card
from tinytown.town.missions import plan

TASKS: Final = 300
ROUNDS: Final = 3
RIVALS: Final = {
    "pydocket": ("pydocket",),
    "arq": ("arq", "hiredis"),
    "saq": ("saq[redis]", "hiredis", "typing_extensions"),
    "taskiq": ("taskiq-redis", "hiredis"),
}
"""What each environment gets; the versions that were found are printed."""


class Ran(msgspec.Struct, frozen=True):
    """What a rival's run says about itself."""

    version: str
    seconds: float


def environment(name: str, packages: tuple[str, ...]) -> Path:
    """Make (or find) a rival's environment and give its Python."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = cache / "tinytown-bench" / name
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        (home / "ready").touch()
    return python


async def drain(store: Store, tasks: int) -> float:
    """Start all missions, then let one process drain them ten at a time, as the rivals do."""
    begun = time.perf_counter()
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

    async def work() -> None:
        worker = ids.new("agent")
        card = Card(host="bench", version="0", agent=None)
        await store.workers.register(worker, ["default"], card, silence_ms=60_000)
        while True:
            claim = await store.docket.claim(
                worker, ["default"], lease_ms=30_000, silence_ms=60_000
            )
            if not isinstance(claim, Claim):
                return
            await store.docket.settle(
                claim.task_id,
                claim.attempt,
                completed=True,
                summary="done",
                reason="",
                result=Result(summary="done"),
                patch=b"",
            )

    async with anyio.create_task_group() as group:
        for _ in range(10):
            group.start_soon(work)
    return time.perf_counter() - begun


async def engines() -> list[Row]:
    """Let all engines live the same tasks in turns; the best round of each counts."""
    ours: list[float] = []
    theirs: dict[str, list[Ran]] = {name: [] for name in RIVALS}
    pythons = {name: environment(name, packages) for name, packages in RIVALS.items()}
    for _ in range(ROUNDS):
        with RedisServer(tcp=True) as server:
            async with open_store(server.url, town="bench", name="tt:bench") as store:
                await our_loop(store, 20)
                ours.append(await drain(store, TASKS))
        for name, python in pythons.items():
            script = Path(__file__).parent / "rivals" / f"run_{name}.py"
            with RedisServer(tcp=True) as server:
                ran = subprocess.run(  # noqa: ASYNC221 - nothing else runs meanwhile
                    [python, script, str(server.port), str(TASKS)],
                    check=True,
                    capture_output=True,
                    timeout=300,
                )
            last_line = ran.stdout.strip().splitlines()[-1]
            theirs[name].append(msgspec.json.decode(last_line, type=Ran))
    our_rate = TASKS / min(ours)
    rows = []
    for name, runs in theirs.items():
        rate = TASKS / min(run.seconds for run in runs)
        rows.append(
            Row(
                f"{TASKS} tasks, enqueued and drained: ours / {name} {runs[0].version}",
                "> 1",
                f"{our_rate / rate:.1f} ({our_rate:.0f}/s and {rate:.0f}/s)",
                our_rate > rate,
            )
        )
    return rows
