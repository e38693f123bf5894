"""A mission that a test leads by hand: started, claimed, asking, ending. Straight on the store."""

from __future__ import annotations

from typing import Any

from tinytown import ids
from tinytown.models.endpoint import PUSH_EVENTS, EndpointRecord
from tinytown.models.mission import Result, StartMission
from tinytown.models.question import Ask
from tinytown.models.task import Claim
from tinytown.store import Store
from tinytown.store.missions import TaskPlan
from tinytown.store.workers import Card


class Errand:
    """One mission with one task and the worker that holds it."""

    def __init__(self, store: Store, claim: Claim) -> None:
        self._store = store
        self.claim = claim
        self.mission_id = claim.mission_id

    async def ask(self, text: str = "Shall I?", **fields: Any) -> str:
        """Ask a blocking question; returns its id."""
        told = {"options": ("Yes", "No"), "kind": "choice", **fields}
        _, question = await self._store.questions.ask(
            ids.new("question"),
            Ask(text=text, **told),
            task_id=self.claim.task_id,
            attempt=self.claim.attempt,
        )
        return question

    async def finish(self, *, summary: str = "All done.", reason: str = "") -> None:
        """End the task, and with it the mission; with a reason it failed."""
        await self._store.docket.settle(
            self.claim.task_id,
            self.claim.attempt,
            completed=not reason,
            summary=summary,
            reason=reason,
            result=Result(summary=summary, branch="tinytown/x", files_changed=2),
            patch=b"",
        )


async def start_errand(store: Store, *, title: str = "Fix the build", **spec: Any) -> Errand:
    """Start a mission and claim its task."""
    worker, pool = ids.new("agent"), "errands"
    await store.missions.start(
        ids.new("mission"),
        StartMission(goal="do it", **spec),
        title=title,
        not_before_ms=0,
        actor="test",
        max_attempts=3,
        tasks=[
            TaskPlan(
                id=ids.new("task"),
                name="main",
                pool=pool,
                agent="",
                instructions="do it",
                depends_on="[]",
                deps=0,
                dependents="",
                after="",
            )
        ],
    )
    await store.workers.register(
        worker, [pool], Card(host="test", version="0", agent=None), silence_ms=60_000
    )
    claim = await store.docket.claim(worker, [pool], lease_ms=60_000, silence_ms=60_000)
    assert isinstance(claim, Claim)
    return Errand(store, claim)


async def add_endpoint(store: Store, url: str, events: tuple[str, ...] = PUSH_EVENTS) -> str:
    """Add a push endpoint; returns its id."""
    endpoint = ids.new("endpoint")
    await store.endpoints.put(
        EndpointRecord(
            id=endpoint,
            kind="push",
            url=url,
            name="phone",
            events=events,
            created_at="2026-11-22T21:00:00.000Z",
        )
    )
    return endpoint
