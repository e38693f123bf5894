"""Facts: what the `data` of each event says, as its readers may rely on it.

The scripts in store/lua are the truth: tests hold every event that they tell against these shapes.
A field that is not always there is left out of the JSON, never null unless its type says so.
Readers should pass over fields they do not know: an event may learn to say more.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from tinytown.models.mission import Result
from tinytown.models.question import Kind, Risk


def _says(description: str, **bounds: Any) -> Any:
    return msgspec.Meta(description=description, **bounds)


Title = Annotated[str, _says("The mission's title.")]
Summary = Annotated[str, _says("What the agent says it did.")]
Seconds = Annotated[float, _says("How long it took, from its start to now.", ge=0)]
Moment = Annotated[str, _says("RFC 3339, UTC, ends in `Z`.")]
TaskName = Annotated[str, _says("The task's name in its mission.")]
PoolName = Annotated[str, _says("The pool whose workers may take it.")]
Attempt = Annotated[int, _says("Which try this was, counted from 1.", ge=1)]
WorkerId = Annotated[str, _says("The worker's id.")]
Canceled = Annotated[
    tuple[str, ...], _says("Names of the tasks that waited for it and will not run.")
]
QuestionId = Annotated[str, _says("The question's id: `/v1/questions/{id}`.")]
EndpointId = Annotated[str, _says("The endpoint's id: `/v1/endpoints/{id}`.")]
Why = Annotated[str, _says("Why, in a sentence; secrets are masked.")]

Left = Annotated[
    Result,
    _says(
        "What its agent left behind. `patch` is null here: `GET /v1/missions/{id}/result` has it."
    ),
]


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What every event's data is: a JSON object."""


# Missions -----------------------------------------------------------------------------------------


class MissionCreated(Facts, frozen=True, kw_only=True):
    """A mission came into being."""

    title: Title
    state: Literal["queued"]
    tasks: Annotated[int, _says("How many tasks it has.", ge=1)]
    not_before: Moment | UnsetType = UNSET


class MissionStarted(Facts, frozen=True, kw_only=True):
    """A mission's first task was taken by a worker."""

    title: Title
    state: Literal["running"]


class MissionBlocked(Facts, frozen=True, kw_only=True):
    """A mission waits for a person."""

    title: Title
    state: Literal["blocked"]


class MissionUnblocked(Facts, frozen=True, kw_only=True):
    """A mission goes on; where a task's end was what unblocked it, that task's words are here."""

    title: Title
    state: Literal["running"]
    summary: Summary | UnsetType = UNSET
    result: Left | UnsetType = UNSET
    reason: Why | UnsetType = UNSET


class MissionPaused(Facts, frozen=True, kw_only=True):
    """A person paused a mission."""

    title: Title
    state: Literal["paused"]


class MissionResumed(Facts, frozen=True, kw_only=True):
    """A person resumed a mission, or started an ended one over (`reason` is `retry`)."""

    title: Title
    state: Annotated[Literal["queued", "running", "blocked"], _says("Where it stands now.")]
    not_before: Moment | UnsetType = UNSET
    reason: Literal["retry"] | UnsetType = UNSET


class MissionCompleted(Facts, frozen=True, kw_only=True):
    """All tasks of a mission completed; summary and result are the last one's."""

    title: Title
    state: Literal["completed"]
    summary: Summary
    result: Left | UnsetType = UNSET
    duration_seconds: Seconds


class MissionFailed(Facts, frozen=True, kw_only=True):
    """A mission ended with a task failed or given up; summary and result are those of its last."""

    title: Title
    state: Literal["failed"]
    reason: Annotated[Why, _says("Why a task failed; of several, the one that did last.")]
    summary: Summary | UnsetType = UNSET
    result: Left | UnsetType = UNSET
    duration_seconds: Seconds


class MissionCanceled(Facts, frozen=True, kw_only=True):
    """A person canceled a mission."""

    title: Title
    state: Literal["canceled"]
    by: Annotated[str, _says("Who: the name of the API key.")]
    duration_seconds: Annotated[Seconds, _says("Left out where nothing had started.")] | (
        UnsetType
    ) = UNSET


# Tasks --------------------------------------------------------------------------------------------


class TaskQueued(Facts, frozen=True, kw_only=True):
    """A task may be taken by a worker now."""

    name: TaskName
    pool: PoolName


class TaskStarted(Facts, frozen=True, kw_only=True):
    """A worker took a task."""

    name: TaskName
    worker: WorkerId
    attempt: Attempt
    lease_seconds: Annotated[
        float, _says("How long the worker may stay silent before the task is taken back.", gt=0)
    ]


class TaskProgressed(Facts, frozen=True, kw_only=True):
    """Something happened in a running task: its agent says how far it is, or hears something."""

    name: TaskName
    text: Annotated[str, _says("What the agent, or its worker, says.")] | UnsetType = UNSET
    percent: (
        Annotated[float, _says("How much is done, where the agent says.")] | UnsetType | None
    ) = UNSET
    parked: (
        Annotated[Literal[True], _says("Waits for a person; its worker was free to go home.")]
        | UnsetType
    ) = UNSET
    message: Annotated[str, _says("What a person wrote to the agent.")] | UnsetType = UNSET
    by: Annotated[str, _says("Who wrote it.")] | UnsetType = UNSET


class TaskCompleted(Facts, frozen=True, kw_only=True):
    """A task did what it was for."""

    name: TaskName
    worker: WorkerId
    attempt: Attempt
    summary: Summary
    duration_seconds: Seconds


class TaskFailed(Facts, frozen=True, kw_only=True):
    """A task's agent ended without doing what it was for."""

    name: TaskName
    worker: WorkerId
    attempt: Attempt
    summary: Summary
    reason: Why
    duration_seconds: Seconds
    canceled: Canceled | UnsetType = UNSET


class TaskRequeued(Facts, frozen=True, kw_only=True):
    """A task waits for a worker again; `attempt` is the try that ended, left out in a retry."""

    name: TaskName
    pool: PoolName
    reason: Why
    attempt: Attempt | UnsetType = UNSET


class TaskDead(Facts, frozen=True, kw_only=True):
    """A task was given up because it lost too many workers."""

    name: TaskName
    reason: Why
    attempt: Attempt
    canceled: Canceled | UnsetType = UNSET


# Questions ----------------------------------------------------------------------------------------


class QuestionAsked(Facts, frozen=True, kw_only=True):
    """An agent asks a person and waits."""

    question_id: QuestionId
    title: Title
    kind: Kind
    text: Annotated[str, _says("What is asked.")]
    options: Annotated[tuple[str, ...], _says("What may be answered.")] | UnsetType = UNSET
    free_text: Annotated[bool, _says("Whether an answer outside the options is welcome.")]
    default: (
        Annotated[str, _says("What is answered if nobody does until `expires_at`.")] | UnsetType
    ) = UNSET
    context: Annotated[str, _says("What helps to answer; may be empty.")]
    risk: Risk
    expires_at: Moment | UnsetType = UNSET


class QuestionAnswered(Facts, frozen=True, kw_only=True):
    """A person answered; the first answer counts."""

    question_id: QuestionId
    title: Title
    kind: Kind
    text: Annotated[str, _says("What was asked.")]
    outcome: Literal["answered"]
    answer: str
    answered_by: Annotated[str, _says("Who: a person's or a key's name.")]
    answered_via: Annotated[str, _says("How: `link`, `api`, …")]


class QuestionExpired(Facts, frozen=True, kw_only=True):
    """Nobody answered in time; `defaulted` only where a default was set: silence is no consent."""

    question_id: QuestionId
    title: Title
    kind: Kind
    text: Annotated[str, _says("What was asked.")]
    outcome: Literal["defaulted", "no_answer"]
    answer: Annotated[str, _says("The default, where there was one.")] | UnsetType = UNSET


class QuestionWithdrawn(Facts, frozen=True, kw_only=True):
    """Nobody needs the answer any more: the task that asked has ended."""

    question_id: QuestionId
    title: Title
    kind: Kind
    text: Annotated[str, _says("What was asked.")]
    outcome: Literal["withdrawn"]


class QuestionReminded(QuestionAsked, frozen=True, kw_only=True):
    """A question is still open; the same facts as when it was asked."""


# Workers ------------------------------------------------------------------------------------------


class WorkerStarted(Facts, frozen=True, kw_only=True):
    """A worker came to town."""

    worker: WorkerId
    pools: Annotated[tuple[str, ...], _says("Whose tasks it takes.")]
    silence_seconds: Annotated[
        float, _says("How long it may stay silent before it counts as lost.", gt=0)
    ]


class WorkerIdle(Facts, frozen=True, kw_only=True):
    """A worker found nothing to do."""

    worker: WorkerId


class WorkerDraining(Facts, frozen=True, kw_only=True):
    """A worker takes nothing new; the task it still holds is the event's `task_id`."""

    worker: WorkerId


class WorkerStopped(Facts, frozen=True, kw_only=True):
    """A worker went home."""

    worker: WorkerId
    reason: Why


class WorkerLost(Facts, frozen=True, kw_only=True):
    """A worker went silent; or (`worker` is null) none can be started for a pool."""

    worker: Annotated[str | None, _says("The worker's id; null when none could be started.")]
    task: Annotated[str, _says("The id of the task it held; empty for none.")] | UnsetType = UNSET
    pool: Annotated[str, _says("The pool for which none starts.")] | UnsetType = UNSET
    launcher: Annotated[str, _says("The launcher that tried.")] | UnsetType = UNSET
    failed_starts: Annotated[int, _says("How many in a row.", ge=1)] | UnsetType = UNSET
    next_try_seconds: Annotated[float, _says("When it is tried again.")] | UnsetType = UNSET
    reason: Why | UnsetType = UNSET


# Endpoints, deliveries, sources -------------------------------------------------------------------


class EndpointFailing(Facts, frozen=True, kw_only=True):
    """Attempts in a row failed, or a delivery was given up; once more when half its time is up."""

    endpoint: EndpointId
    reason: Why
    first_failure_at: Moment | UnsetType = UNSET
    disabled_at: (
        Annotated[str, _says("When it will be disabled if nothing gets through until then.")]
        | UnsetType
    ) = UNSET


class EndpointRecovered(Facts, frozen=True, kw_only=True):
    """A failing endpoint took a delivery, or a person resumed it."""

    endpoint: EndpointId
    reason: Annotated[str, _says("May be empty.")] | UnsetType = UNSET


class EndpointDisabled(Facts, frozen=True, kw_only=True):
    """An endpoint gets nothing any more: a person paused it, or it was given up."""

    endpoint: EndpointId
    reason: Annotated[str, _says("May be empty.")]


class DeliveryDead(Facts, frozen=True, kw_only=True):
    """A delivery was given up; it is kept, and a person can replay it."""

    delivery: Annotated[str, _says("The delivery's id: `/v1/deliveries/{id}`.")]
    endpoint: EndpointId
    event_type: Annotated[str, _says("The type of the event that was to be delivered.")]
    reason: Why


class SourceRejected(Facts, frozen=True, kw_only=True):
    """Inbound hooks were refused, told once a minute at most; the audit log alone says why."""

    source: Annotated[str, _says("The source's id: `/v1/sources/{id}`.")]
