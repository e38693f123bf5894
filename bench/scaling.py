"""What scaling promises: the four-day trace, and how fast a town at zero wakes up.

python -m bench.scaling            # both, as a table; exit 1 when a promise is broken
python -m bench.scaling 60         # with so many cold starts
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import anyio
import msgspec

from bench.scaling_trace import BOOT, Outcome, Town, trace
from bench.scaling_trace import with_blocked as counting_questions
from bench.scaling_trace import without_starting as forgetting_starts
from tinytown import ids
from tinytown import town as towns
from tinytown.embedded.programs import find_program
from tinytown.launch.process import process_launcher
from tinytown.launch.reconciler import Reconciler
from tinytown.links import AnswerLinks
from tinytown.models.event import Event
from tinytown.models.mission import StartMission
from tinytown.store import open_store
from tinytown.town.missions import plan
from tinytown.vault import Vault

SEEDS: Final = 20
"""Traces of four days each: one is luck."""
ROUNDS: Final = 30
BARE: Final = """
import anyio, hiredis, msgspec, redis.asyncio, sys
async def main():
    async with redis.asyncio.Redis.from_url(sys.argv[1], protocol=2) as client:
        await client.ping()
    print("here", flush=True)
anyio.run(main)
"""


class Row(msgspec.Struct, frozen=True):
    """One promise and what came of it."""

    name: str
    found: float
    most: float
    unit: str = ""

    @property
    def kept(self) -> bool:
        """Whether it holds."""
        return self.found <= self.most


def over_all(outcomes: Sequence[Outcome]) -> float:
    """Give the idle and boot seconds for each busy second, over all traces."""
    extra = sum(each.spent["idle"] + each.spent["starting"] for each in outcomes)
    return extra / sum(each.spent["busy"] for each in outcomes)


def four_days(seeds: int = SEEDS) -> list[Row]:
    """Serve the traces by the town's own arithmetic."""
    ours = [Town(trace(seed), idle_seconds=60).run() for seed in range(seeds)]
    waits = sorted(wait for each in ours for wait in each.waits)
    return [
        Row("wait p95", waits[int(len(waits) * 0.95)], BOOT + 1, "s"),
        Row("over-provision at 60 s idle exit", over_all(ours) * 100, 8, "%"),
        Row("starts while only blocked or deferred", sum(o.needless_starts for o in ours), 0),
        Row("late although there was room", sum(o.late_with_room for o in ours), 0),
        Row("tasks lost", sum(o.lost for o in ours), 0),
        Row("workers at once", max(o.most_at_once for o in ours), 5),
    ]


def for_comparison(seeds: int = SEEDS) -> list[str]:
    """Say what the same traces cost under other rules."""
    lines = []
    for name, how in (
        ("15 s idle exit", {"idle_seconds": 15.0}),
        ("300 s idle exit", {"idle_seconds": 300.0}),
        ("forgetting the starts on their way", {"counted": forgetting_starts}),
        ("counting questions as work", {"counted": counting_questions}),
    ):
        rules = {"idle_seconds": 60.0, **how}
        found = [Town(trace(seed), **rules).run() for seed in range(seeds)]  # type: ignore[arg-type]
        starts = sum(each.starts for each in found) / seeds / 4
        lines.append(f"  {name:38} {over_all(found):6.1%} over, {starts:4.0f} starts a day")
    return lines


@contextmanager
def redis(directory: str) -> Iterator[str]:
    """Lend a Redis of its own, as `tt up` would start it; gives its URL."""
    socket = Path(directory) / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--dir", directory]
    with subprocess.Popen([find_program().path, *options], stdout=subprocess.DEVNULL) as server:
        while not socket.exists():
            time.sleep(0.01)
        try:
            yield f"unix://{socket}"
        finally:
            server.terminate()


def cold(rounds: int = ROUNDS) -> tuple[list[float], list[float]]:
    """Measure in turns: a mission that wakes a town at zero, and a bare Python; in seconds."""
    with (
        tempfile.TemporaryDirectory(prefix="tt-wake-", dir="/tmp") as directory,
        redis(directory) as url,
    ):
        return anyio.run(_cold, url, directory, rounds)


async def _cold(url: str, directory: str, rounds: int) -> tuple[list[float], list[float]]:
    async def fine(_: str) -> None:
        pass

    environ = {
        "PATH": os.environ["PATH"],
        "HOME": directory,
        "TINYTOWN_HOME": directory,
        "TINYTOWN_AGENT": "command",
        "TINYTOWN_AGENT_COMMAND": "true",
        "TINYTOWN_IDLE_SECONDS": "0.05",
        "TINYTOWN_LOG": "json",
    }
    woken: list[float] = []
    bare: list[float] = []
    with (Path(directory) / "log").open("wb") as log:
        async with open_store(url, town="main", name="tt:bench") as store:
            town = towns.Town(
                store,
                rules=towns.TownRules(),
                vault=Vault(None, "main"),
                links=AnswerLinks(town="main", keys=["0123456789abcdef"]),
                check_url=fine,
                redact_url=str,
            )
            opening = process_launcher(
                environ, redis_url=url, town="main", drain_seconds=2, log=log.fileno()
            )
            async with anyio.create_task_group() as group:
                group.start_soon(town.hub.run)
                group.start_soon(Reconciler(town, opening).run)
                await town.hub.ready.wait()
                for _ in range(rounds):
                    woken.append(await _wake(town))
                    bare.append(await anyio.to_thread.run_sync(_bare, url))
                group.cancel_scope.cancel()
    return woken, bare


async def _wake(town: towns.Town) -> float:
    """Post a mission to a town at zero; gives the seconds until it was claimed."""
    asked = StartMission(goal="nothing")
    kinds = {"task.started", "worker.stopped"}

    def wanted(event: Event) -> bool:
        return event.type in kinds

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


def _bare(url: str) -> float:
    """Start a Python that imports what a worker imports from others, and reaches Redis."""
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", BARE, url], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seconds = time.perf_counter() - begun
    assert process.returncode == 0
    return seconds


def p95(values: Sequence[float]) -> float:
    """Give the 95th percentile."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]


def cold_wake(rounds: int = ROUNDS) -> list[Row]:
    """Say how fast a town at zero wakes through `process`."""
    woken, bare = cold(rounds)
    return [
        Row("cold wake p95", p95(woken), 1.5, "s"),
        Row("cold wake p95 ÷ bare Python p95", p95(woken) / p95(bare), 3),
        Row(
            "cold wake median ÷ bare Python median",
            statistics.median(woken) / statistics.median(bare),
            3,
        ),
    ]


def main() -> int:
    """Print the table."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    rows = four_days() + cold_wake(rounds)
    for row in rows:
        mark = "kept" if row.kept else "BROKEN"
        print(f"{row.name:42} {row.found:8.2f} {row.unit:2} (≤ {row.most:g}) {mark}")
    print("\nthe same days under other rules:", *for_comparison(), sep="\n")
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
