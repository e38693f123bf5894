"""Task: one unit a single worker claims and settles."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec

from tinytown.models.moves import Moves, one

AGENTS: Final = ("claude", "codex", "opencode", "gemini", "command")
"""The coding CLIs a worker knows how to run."""


class TaskState(StrEnum):
    """Where a task stands."""

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    DEAD = "dead"


class TaskMove(StrEnum):
    """What can happen to a task."""

    ENQUEUE = "enqueue"
    DEFER = "defer"
    CLAIM = "claim"
    ASK = "ask"
    ANSWER = "answer"
    RELEASE = "release"
    COMPLETE = "complete"
    FAIL = "fail"
    DIE = "die"
    CANCEL = "cancel"
    RETRY = "retry"


ENDED: Final = one(TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELED, TaskState.DEAD)
"""Nothing but a person's retry leaves these states."""

LEASED: Final = one(TaskState.RUNNING, TaskState.BLOCKED)
"""A worker holds the lease in these states."""

_S = TaskState
MOVES: Final[Moves[TaskMove, TaskState]] = {
    TaskMove.ENQUEUE: (one(_S.PENDING), one(_S.QUEUED)),
    TaskMove.DEFER: (one(_S.QUEUED), one(_S.PENDING)),
    TaskMove.CLAIM: (one(_S.QUEUED), one(_S.RUNNING)),
    TaskMove.ASK: (one(_S.RUNNING), one(_S.BLOCKED)),
    TaskMove.ANSWER: (one(_S.BLOCKED), one(_S.RUNNING)),
    # Handed back by its worker, or taken back after the lease expired. In a paused mission the
    # task is put aside instead of going back on the docket.
    TaskMove.RELEASE: (LEASED, one(_S.QUEUED, _S.PENDING)),
    TaskMove.COMPLETE: (LEASED, one(_S.COMPLETED)),
    TaskMove.FAIL: (LEASED, one(_S.FAILED)),
    TaskMove.DIE: (LEASED, one(_S.DEAD)),
    TaskMove.CANCEL: (one(_S.PENDING, _S.QUEUED, _S.RUNNING, _S.BLOCKED), one(_S.CANCELED)),
    TaskMove.RETRY: (one(_S.FAILED, _S.CANCELED, _S.DEAD), one(_S.PENDING)),
}


class TaskSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One task as the caller of `POST /v1/missions` describes it."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    instructions: Annotated[str, msgspec.Meta(min_length=1, max_length=65_536)]
    pool: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}$")] | None = None
    agent: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}$")] | None = None
    depends_on: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=63)], ...], msgspec.Meta(max_length=100)
    ] = ()


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """A task as everyone sees it. `attempt` counts claims from 1; 0 = never claimed."""

    id: str
    name: str
    state: TaskState
    attempt: int = 0
    worker: str | None = None
    pool: str = "default"
    agent: str | None = None
    depends_on: tuple[str, ...] = ()
    queued_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    summary: str | None = None
    reason: str | None = None


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A sentence from a person to the agents of a mission."""

    id: str
    text: str
    at: str
    by: str


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker holds after a claim: the task, its mission and the fence (`attempt`)."""

    task_id: str
    mission_id: str
    attempt: int
    lease_until_ms: int
    name: str
    goal: str
    instructions: str
    title: str
    repo: str | None
    ref: str | None
    agent: str | None
    pool: str
    time_limit_seconds: float | None
    messages: tuple[Message, ...] = ()
    earlier: tuple[str, ...] = ()
    """Ids of the tasks this one builds on, each after those it builds on itself."""
    leads: bool = False
    """Whether other tasks build on this one."""
    checkpoint: bool = False
    """Whether an earlier attempt left something to go on with."""
