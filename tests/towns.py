"""Small towns for tests: a clock that tests turn, workers that do as they are told, missions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from tinytown import ids
from tinytown.models.endpoint import EndpointRecord
from tinytown.models.mission import Mission, MissionState, Result, StartMission
from tinytown.models.question import Ask
from tinytown.models.task import Claim, TaskSpec
from tinytown.store import Limits, Store
from tinytown.store.client import connect
from tinytown.store.docket import Nothing, Refused
from tinytown.store.workers import Card
from tinytown.town.missions import plan

LEASE_MS: Final = 30_000
SILENCE_MS: Final = 60_000
CARD: Final = Card(host="here", version="1", agent=None)
START_MS: Final = 1_763_845_200_000
"""Where a turned clock begins: 2025-11-22T21:00:00Z."""


class TurnedClock:
    """The time as the scripts see it; 0, the server's own, until a test turns it."""

    def __init__(self) -> None:
        self.ms = 0

    def __call__(self) -> int:
        """Tell the time in milliseconds."""
        return self.ms

    def turn(self, *, seconds: float = 0, ms: int = 0) -> None:
        """Let time pass."""
        self.ms = (self.ms or START_MS) + round(seconds * 1000) + ms


@asynccontextmanager
async def open_town(
    url: str,
    *,
    town: str = "main",
    clock: TurnedClock | None = None,
    limits: Limits | None = None,
    max_connections: int = 8,
) -> AsyncIterator[Store]:
    """Open the store of a town whose clock a test may turn."""
    async with connect(url, name="tt:test", max_connections=max_connections) as connections:
        yield Store(connections, town, limits or Limits(), clock=clock or TurnedClock())


async def start(
    store: Store,
    graph: Mapping[str, Sequence[str]] | None = None,
    *,
    mission_id: str | None = None,
    not_before_ms: int = 0,
    max_attempts: int = 3,
    pools: Mapping[str, str] | None = None,
    callback: EndpointRecord | None = None,
    **spec: Any,
) -> Mission:
    """Start a mission; `graph` maps each task's name to the names it depends on."""
    tasks = tuple(
        TaskSpec(
            name=name,
            instructions=f"do {name}",
            depends_on=tuple(needed),
            pool=(pools or {}).get(name),
        )
        for name, needed in (graph or {}).items()
    )
    asked = StartMission(goal=spec.pop("goal", "do it"), tasks=tasks, **spec)
    mission_id = mission_id or ids.new("mission")
    await store.missions.start(
        mission_id,
        asked,
        title=asked.title or "a mission",
        not_before_ms=not_before_ms,
        actor="key_tests",
        max_attempts=max_attempts,
        tasks=plan(asked),
        callback=callback,
    )
    return await store.missions.read(mission_id)


def named(mission: Mission, name: str) -> str:
    """Find the id of a mission's task by its name."""
    return next(task.id for task in mission.tasks if task.name == name)


def states(mission: Mission) -> dict[str, str]:
    """Say where each task of a mission stands."""
    return {task.name: task.state.value for task in mission.tasks}


class Hand:
    """A worker that does as a test tells it."""

    def __init__(self, store: Store, *pools: str) -> None:
        self.store = store
        self.id = ids.new("agent")
        self.pools = pools or ("default",)

    async def register(self) -> Hand:
        """Come to town."""
        await self.store.workers.register(self.id, self.pools, CARD, silence_ms=SILENCE_MS)
        return self

    async def claim(self) -> Claim | Nothing | Refused:
        """Ask for a task."""
        return await self.store.docket.claim(
            self.id, self.pools, lease_ms=LEASE_MS, silence_ms=SILENCE_MS
        )

    async def take(self) -> Claim:
        """Claim a task that is surely there."""
        claim = await self.claim()
        assert isinstance(claim, Claim), claim
        return claim

    async def renew(self, claim: Claim | None = None) -> str:
        """Show a sign of life, for the worker and its task."""
        return await self.store.docket.renew(
            self.id,
            silence_ms=SILENCE_MS,
            lease_ms=LEASE_MS,
            task_id=claim.task_id if claim else "",
            attempt=claim.attempt if claim else 0,
        )

    async def leave(self, *, always: bool = False) -> bool:
        """Go home."""
        return await self.store.workers.leave(self.id, always=always, reason="idle")


async def hand(store: Store, *pools: str) -> Hand:
    """Bring a registered worker to town."""
    return await Hand(store, *pools).register()


async def settle(
    store: Store,
    claim: Claim,
    *,
    completed: bool = True,
    patch: bytes = b"",
    bundle: bytes = b"",
    **result: Any,
) -> MissionState:
    """End a claimed task."""
    return await store.docket.settle(
        claim.task_id,
        claim.attempt,
        completed=completed,
        summary=result.get("summary", "done"),
        reason="" if completed else "it broke",
        result=Result(**{"summary": "done", **result}),
        patch=patch,
        bundle=bundle,
    )


async def ask(store: Store, claim: Claim, text: str = "Which?", **how: Any) -> tuple[str, str]:
    """Ask a person for a claimed task; gives whether it is new, and the question's id."""
    return await store.questions.ask(
        ids.new("question"), Ask(text=text, **how), task_id=claim.task_id, attempt=claim.attempt
    )


async def told(store: Store, after: str = "0-0") -> list[str]:
    """List the types of the events the town told, in order."""
    return [event.type for event in await store.events.after(after, limit=10_000)]
