"""Mission: what a person wants done; owns tasks; ends once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec

from tinytown.models.endpoint import EventPatterns, Secret, Url
from tinytown.models.moves import Moves, one
from tinytown.models.question import Question
from tinytown.models.task import Task, TaskSpec

GOAL_BYTES: Final = 65_536
"""The largest goal in bytes of UTF-8 (contract: 1..65536)."""

TASKS: Final = 100
"""The most tasks of one mission: a person's plan, and a bound for every script that walks them."""

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Pool = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}$")]
Priority = Literal["low", "normal", "high"]
PRIORITIES: Final[tuple[Priority, ...]] = ("high", "normal", "low")


class MissionState(StrEnum):
    """Where a mission stands."""

    QUEUED = "queued"
    RUNNING = "running"
    BLOCKED = "blocked"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"


class MissionMove(StrEnum):
    """What can happen to a mission."""

    START = "start"
    ASK = "ask"
    ANSWER = "answer"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    RETRY = "retry"


ENDED: Final = one(MissionState.COMPLETED, MissionState.FAILED, MissionState.CANCELED)
"""Nothing but a person's retry leaves these states."""

_S = MissionState
MOVES: Final[Moves[MissionMove, MissionState]] = {
    MissionMove.START: (one(_S.QUEUED), one(_S.RUNNING)),
    MissionMove.ASK: (one(_S.RUNNING), one(_S.BLOCKED)),
    MissionMove.ANSWER: (one(_S.BLOCKED), one(_S.RUNNING)),
    MissionMove.PAUSE: (one(_S.QUEUED, _S.RUNNING, _S.BLOCKED), one(_S.PAUSED)),
    MissionMove.RESUME: (one(_S.PAUSED), one(_S.QUEUED, _S.RUNNING, _S.BLOCKED)),
    # A paused mission's last running task may still finish.
    MissionMove.COMPLETE: (one(_S.RUNNING, _S.BLOCKED, _S.PAUSED), one(_S.COMPLETED)),
    MissionMove.FAIL: (one(_S.QUEUED, _S.RUNNING, _S.BLOCKED, _S.PAUSED), one(_S.FAILED)),
    MissionMove.CANCEL: (one(_S.QUEUED, _S.RUNNING, _S.BLOCKED, _S.PAUSED), one(_S.CANCELED)),
    MissionMove.RETRY: (one(_S.FAILED, _S.CANCELED), one(_S.QUEUED)),
}


class StartMission(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a caller says to start a mission."""

    goal: Annotated[
        str,
        msgspec.Meta(
            min_length=1,
            max_length=GOAL_BYTES,
            description="What to do, 1 to 65536 bytes of UTF-8; reaches the agent byte for byte.",
        ),
    ]
    title: Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    repo: (
        Annotated[
            str, msgspec.Meta(min_length=1, max_length=2048, description="A git URL to clone.")
        ]
        | None
    ) = None
    ref: (
        Annotated[
            str,
            msgspec.Meta(max_length=255, min_length=1, description="Branch, tag or commit."),
        ]
        | None
    ) = None
    agent: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9_-]{1,32}$")] | None = None
    pool: Pool | None = None
    priority: Priority = "normal"
    tasks: Annotated[tuple[TaskSpec, ...], msgspec.Meta(max_length=TASKS)] = ()
    labels: Annotated[
        dict[
            Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._/-]{1,63}$")],
            Annotated[str, msgspec.Meta(max_length=200)],
        ],
        msgspec.Meta(max_length=32),
    ] = msgspec.field(default_factory=dict)
    not_before: (
        Annotated[str, msgspec.Meta(description="RFC 3339 time before which nothing starts.")]
        | None
    ) = None
    time_limit_seconds: Annotated[float, msgspec.Meta(gt=0, le=604_800)] | None = None
    callback_url: (
        Annotated[
            Url,
            msgspec.Meta(
                description="Where this mission tells how it goes, by signed webhooks; never shown."
            ),
        ]
        | None
    ) = None
    callback_secret: Secret | None = None
    """`whsec_…` or `whsk_…` of the caller's own; left out, the town makes one and shows it once."""
    callback_events: EventPatterns | None = None
    """CALLBACK_EVENTS when left out: it needs an answer, or it is over."""

    def __repr__(self) -> str:
        """Name the title only: the callback's address and secret open doors."""
        return f"StartMission(title={self.title!r}, pool={self.pool!r})"


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """Where a mission tells how it goes: an endpoint that comes and goes with it."""

    endpoint_id: str


class StartedCallback(Callback, frozen=True, kw_only=True):
    """A callback just made: what verifies its webhooks."""

    secret: str | None = None
    """Shown only this once; None where the caller brought it."""
    public_key: str | None = None
    """`whpk_…` where signatures are ed25519."""

    def __repr__(self) -> str:
        """Name it by its endpoint, never by its secret."""
        return f"StartedCallback({self.endpoint_id!r})"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What a mission left behind."""

    summary: str = ""
    branch: str | None = None
    base: str | None = None
    head: str | None = None
    pushed: bool = False
    files_changed: int = 0
    patch: str | None = None
    patch_truncated: bool = False
    cost_usd: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    links: dict[str, str] = msgspec.field(default_factory=dict)


class Mission(msgspec.Struct, frozen=True, kw_only=True):
    """A mission as everyone sees it."""

    id: str
    title: str
    goal: str
    state: MissionState
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    repo: str | None = None
    ref: str | None = None
    agent: str | None = None
    pool: str = "default"
    priority: Priority = "normal"
    not_before: str | None = None
    time_limit_seconds: float | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    tasks: tuple[Task, ...] = ()
    question: Question | None = None
    result: Result | None = None
    reason: str | None = None
    callback: Callback | None = None


class StartedMission(Mission, frozen=True, kw_only=True):
    """A mission just started with a callback: what is told only now."""

    callback: StartedCallback | None = None
