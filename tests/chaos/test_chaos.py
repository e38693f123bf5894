"""Chaos: three hundred missions under random blows; none lost, none done twice, none asked twice.

The short form runs with every test. `just chaos` runs the long form, with real workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from chaos.storm import Outcome, Storm, Weather, count
from hands import Workers, workers
from servers import RedisServer

LONG = os.environ.get("CHAOS") == "long"
SEED = int(os.environ.get("CHAOS_SEED") or int.from_bytes(os.urandom(4), "big"))
"""The blows of a seed are the same; when they fall is not."""
PAPER = Path(__file__).with_name("paper_worker.py")


Starter = Callable[[str], subprocess.Popen[bytes]]


def judge(found: Outcome, storm: Storm) -> None:
    """Say what the town promised."""
    assert found.states == {"completed": storm.missions}, found
    assert set(found.completed.values()) == {1}, "no task is completed twice"
    assert len(found.completed) == storm.missions
    assert set(found.answers.values()) == {1}, "every question is answered once"
    assert len(found.answers) == (storm.missions + 2) // 3, "and asked once"
    assert not found.wrong, "\n".join(found.wrong)
    # A blow costs one task at most; without Redis every worker may lose its lease.
    hits = sum(number for name, number in found.blows.items() if name.startswith("worker"))
    assert found.redelivered <= hits + storm.workers * found.blows["Redis killed and started"]
    assert len(found.blows) >= 5, "it was a storm"


AGENT = """
case "$(cat "$TINYTOWN_GOAL_FILE")" in
    *ask*) tt ask "Which way?" --option left --option right ;;
esac
echo done
"""


async def rage(storm: Storm, journal: Path, start_worker: Starter) -> Outcome:
    """Let a storm rage over a new Redis."""
    journal.touch()
    with RedisServer(persist=True) as redis:
        weather = Weather(storm, redis, lambda: start_worker(redis.url))
        await weather.blow()
        found = count(weather, journal)
    print(f"{storm}: {dict(found.blows)}, {found.redelivered} redelivered")  # noqa: T201
    return found


@pytest.mark.timeout(1800 if LONG else 120)
async def test_a_storm_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    storm = Storm(seed=SEED, missions=2000 if LONG else 300, blows=400 if LONG else 40)
    journal = tmp_path / "journal"
    lease = str(round(storm.lease_seconds * 1000))

    def start_worker(url: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, PAPER, url, journal, lease])

    found = await rage(storm, journal, start_worker)
    judge(found, storm)
    assert set(found.settled.values()) <= {1}, "no two workers believe they did it"


@pytest.mark.timeout(1800 if LONG else 120)
async def test_real_workers_with_real_agents_weather_a_storm_too(tmp_path: Path) -> None:
    """Fewer missions: each is a workspace, a process group and a socket for its agent."""
    storm = Storm(
        seed=SEED,
        missions=300 if LONG else 24,
        blows=100 if LONG else 8,
        workers=2,
        lease_seconds=3,
        calm_seconds=(0.3, 0.8),
    )
    with ExitStack() as stack:
        crews: list[Workers] = []

        def start_worker(url: str) -> subprocess.Popen[bytes]:
            if not crews:
                crews.append(stack.enter_context(workers(url, tmp_path)))
            return crews[0].start(AGENT, lease_seconds=str(storm.lease_seconds))._process

        judge(await rage(storm, tmp_path / "journal", start_worker), storm)
