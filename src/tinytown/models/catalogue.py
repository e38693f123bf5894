"""The catalogue: for each type of event the shape of its data, and one that really happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from tinytown.models import facts
from tinytown.models.event import TYPES, Event, event_id

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_MISSION: Final = "mis_01m8372261jgj7ar55kmjbe8e4"
_TASK: Final = "tsk_01m837226138ry45hxsbcg273t"
_WORKER: Final = "agt_01m8372267c8zy54r2cws1r9c3"
_QUESTION: Final = "qst_01m837226bf1w9evr57ehjj89s"
_ENDPOINT: Final = "end_01m8371j8zns1kt0j7em75d02a"
_TITLE: Final = "Tidy the database"
_RESULT: Final[Mapping[str, Any]] = {
    "summary": "Dropped 3 unused tables and wrote the migration.",
    "branch": "tinytown/tidy-the-database",
    "base": "9fceb02d0ae598e95dc970b74767f19372d61af8",
    "head": "f1d2d2f924e986ac86fdf7b36c94bcdf32beec15",
    "pushed": True,
    "files_changed": 4,
    "patch": None,
    "patch_truncated": False,
    "cost_usd": 0.42,
    "input_tokens": 61020,
    "output_tokens": 5118,
    "links": {},
}
_ASKED: Final[Mapping[str, Any]] = {
    "question_id": _QUESTION,
    "title": _TITLE,
    "kind": "choice",
    "text": "Drop the table old_orders?",
    "options": ["Drop it", "Keep it"],
    "free_text": False,
    "default": "Keep it",
    "context": "12 rows, last read in 2019",
    "risk": "medium",
    "expires_at": "2026-11-22T23:00:00.000Z",
}
_CLOSED: Final[Mapping[str, Any]] = {
    "question_id": _QUESTION,
    "title": _TITLE,
    "kind": "choice",
    "text": "Drop the table old_orders?",
}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one type of event."""

    data: type[facts.Facts]
    """The shape of the event's data; its first sentence says when the event happens."""
    example: Mapping[str, Any]
    """The data of one, as it is told."""
    reserved: bool = False
    """Whether nothing in this version tells it: its name is taken, its shape is meant."""

    @property
    def when(self) -> str:
        """Say when the event happens."""
        return " ".join((self.data.__doc__ or "").split())

    @property
    def schema(self) -> dict[str, Any]:
        """Describe the event's data as JSON Schema (2020-12)."""
        schema = msgspec.json.schema(self.data)
        others = schema["$defs"]
        shape = others.pop(schema["$ref"].rpartition("/")[2])
        return {"$schema": _DIALECT, **shape, **({"$defs": others} if others else {})}


CATALOGUE: Final[Mapping[str, Entry]] = {
    "mission.created": Entry(
        data=facts.MissionCreated,
        example={"title": _TITLE, "state": "queued", "tasks": 2},
    ),
    "mission.started": Entry(
        data=facts.MissionStarted, example={"title": _TITLE, "state": "running"}
    ),
    "mission.blocked": Entry(
        data=facts.MissionBlocked, example={"title": _TITLE, "state": "blocked"}
    ),
    "mission.unblocked": Entry(
        data=facts.MissionUnblocked, example={"title": _TITLE, "state": "running"}
    ),
    "mission.paused": Entry(data=facts.MissionPaused, example={"title": _TITLE, "state": "paused"}),
    "mission.resumed": Entry(
        data=facts.MissionResumed,
        example={"title": _TITLE, "state": "queued", "reason": "retry"},
    ),
    "mission.completed": Entry(
        data=facts.MissionCompleted,
        example={
            "title": _TITLE,
            "state": "completed",
            "summary": _RESULT["summary"],
            "result": _RESULT,
            "duration_seconds": 847.31,
        },
    ),
    "mission.failed": Entry(
        data=facts.MissionFailed,
        example={
            "title": _TITLE,
            "state": "failed",
            "reason": "gave up after 3 lost workers: its worker went silent",
            "duration_seconds": 241.002,
        },
    ),
    "mission.canceled": Entry(
        data=facts.MissionCanceled,
        example={
            "title": _TITLE,
            "state": "canceled",
            "by": "ada's laptop",
            "duration_seconds": 37,
        },
    ),
    "task.queued": Entry(data=facts.TaskQueued, example={"name": "look", "pool": "default"}),
    "task.started": Entry(
        data=facts.TaskStarted,
        example={"name": "look", "worker": _WORKER, "attempt": 1, "lease_seconds": 30.0},
    ),
    "task.progressed": Entry(
        data=facts.TaskProgressed,
        example={"name": "look", "text": "Read 12 of 48 tables", "percent": 25.0},
    ),
    "task.completed": Entry(
        data=facts.TaskCompleted,
        example={
            "name": "look",
            "worker": _WORKER,
            "attempt": 1,
            "summary": "3 tables are not read by anything.",
            "duration_seconds": 212.5,
        },
    ),
    "task.failed": Entry(
        data=facts.TaskFailed,
        example={
            "name": "look",
            "worker": _WORKER,
            "attempt": 1,
            "summary": "",
            "reason": "the agent ended with exit code 1",
            "duration_seconds": 3.08,
            "canceled": ["tidy"],
        },
    ),
    "task.requeued": Entry(
        data=facts.TaskRequeued,
        example={
            "name": "look",
            "pool": "default",
            "reason": "its worker went silent",
            "attempt": 1,
        },
    ),
    "task.dead": Entry(
        data=facts.TaskDead,
        example={
            "name": "look",
            "reason": "gave up after 3 lost workers: its worker went silent",
            "attempt": 3,
            "canceled": ["tidy"],
        },
    ),
    "question.asked": Entry(data=facts.QuestionAsked, example=_ASKED),
    "question.answered": Entry(
        data=facts.QuestionAnswered,
        example={
            **_CLOSED,
            "outcome": "answered",
            "answer": "Keep it",
            "answered_by": "ada's phone",
            "answered_via": "link",
        },
    ),
    "question.expired": Entry(
        data=facts.QuestionExpired,
        example={**_CLOSED, "outcome": "defaulted", "answer": "Keep it"},
    ),
    "question.withdrawn": Entry(
        data=facts.QuestionWithdrawn, example={**_CLOSED, "outcome": "withdrawn"}
    ),
    "question.reminded": Entry(data=facts.QuestionReminded, example=_ASKED, reserved=True),
    "worker.started": Entry(
        data=facts.WorkerStarted,
        example={"worker": _WORKER, "pools": ["default"], "silence_seconds": 60.0},
    ),
    "worker.idle": Entry(data=facts.WorkerIdle, example={"worker": _WORKER}),
    "worker.draining": Entry(data=facts.WorkerDraining, example={"worker": _WORKER}),
    "worker.stopped": Entry(
        data=facts.WorkerStopped, example={"worker": _WORKER, "reason": "idle"}
    ),
    "worker.lost": Entry(
        data=facts.WorkerLost,
        example={
            "worker": None,
            "pool": "default",
            "launcher": "fly",
            "failed_starts": 5,
            "next_try_seconds": 60,
            "reason": "5 starts in a row failed: the machine's image was not found",
        },
    ),
    "endpoint.failing": Entry(
        data=facts.EndpointFailing, example={"endpoint": _ENDPOINT, "reason": "HTTP 503"}
    ),
    "endpoint.recovered": Entry(data=facts.EndpointRecovered, example={"endpoint": _ENDPOINT}),
    "endpoint.disabled": Entry(
        data=facts.EndpointDisabled,
        example={"endpoint": _ENDPOINT, "reason": "paused by ada's laptop"},
    ),
    "delivery.dead": Entry(
        data=facts.DeliveryDead,
        example={
            "delivery": "dlv_1795404400862-1_01m8371j8zns1kt0j7em75d02a",
            "endpoint": _ENDPOINT,
            "event_type": "mission.completed",
            "reason": "given up after attempt 10: HTTP 503",
        },
    ),
    "source.rejected": Entry(
        data=facts.SourceRejected,
        example={"source": "src_01m8371k3q2x9v7t5r1p0n8m6w"},
    ),
}


def example(kind: str) -> Event:
    """Show a whole event of a type; raises KeyError for one that is not in the closed set."""
    family = kind.partition(".")[0]
    return Event(
        id=event_id(f"1795404400{TYPES.index(kind):03}-0"),
        type=kind,
        timestamp=f"2026-11-22T21:00:00.{TYPES.index(kind):03}Z",
        town="main",
        mission_id=_MISSION if family in {"mission", "task", "question"} else None,
        task_id=_TASK if family in {"task", "question"} else None,
        data=dict(CATALOGUE[kind].example),
    )
