"""What the town's workers cost, as `tt status` tells it."""

from __future__ import annotations

import msgspec
import pytest

from laptop import Laptop
from paper import NO_SIGNAL
from tinytown.cli.status import Overview, cost, spent
from tinytown.townhall import Townhall
from towns import hand, settle, start

NOTHING = Overview(
    url="http://town",
    version="1",
    uptime_seconds=1,
    scaling=NO_SIGNAL,
    agent_seconds={},
    missions=[],
    questions=[],
    workers=[],
    endpoints=[],
)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        ({}, "workers so far: none was needed"),
        ({"busy": 0.0, "boot": 4.0}, "workers so far: booted 4.0 s"),
        (
            {"busy": 7200.0, "idle": 480.0, "boot": 60.0, "drain": 0.0},
            "workers so far: worked 2 h, idled 8 min, booted 1 min · 8% on top of the work",
        ),
    ],
)
def test_the_cost_of_being_ready_is_one_line(seconds: dict[str, float], said: str) -> None:
    assert cost(msgspec.structs.replace(NOTHING, agent_seconds=seconds)) == said


def test_the_seconds_are_read_from_the_metrics() -> None:
    text = (
        b"# TYPE tinytown_agent_seconds_total counter\n"
        b'tinytown_agent_seconds_total{kind="boot"} 1.5\n'
        b'tinytown_agent_seconds_total{kind="busy"} 7.2e+03\n'
        b'tinytown_events_total{type="task.started"} 3.0\n'
    )
    assert spent(text) == {"boot": 1.5, "busy": 7200.0}


async def test_status_tells_what_workers_did(tt: Laptop, hall: Townhall) -> None:
    store = hall.town.store
    before = (await tt("status", "--json")).json["agent_seconds"]
    assert before == {"boot": 0.0, "busy": 0.0, "drain": 0.0, "idle": 0.0}
    await start(store)
    worker = await hand(store)
    await settle(store, await worker.take())
    await worker.leave()
    assert "workers so far: " in (await tt("status")).out
