"""Event: a fact that happened; the dotted names live here and nowhere else."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

TYPES: Final = (
    "mission.created",
    "mission.started",
    "mission.blocked",
    "mission.unblocked",
    "mission.paused",
    "mission.resumed",
    "mission.completed",
    "mission.failed",
    "mission.canceled",
    "task.queued",
    "task.started",
    "task.progressed",
    "task.completed",
    "task.failed",
    "task.requeued",
    "task.dead",
    "question.asked",
    "question.answered",
    "question.expired",
    "question.withdrawn",
    "question.reminded",
    "worker.started",
    "worker.idle",
    "worker.draining",
    "worker.stopped",
    "worker.lost",
    "endpoint.failing",
    "endpoint.recovered",
    "endpoint.disabled",
    "delivery.dead",
    "source.rejected",
)
"""The closed set of contract.md."""

MISSION_ENDS: Final = frozenset({"mission.completed", "mission.failed", "mission.canceled"})
"""What ends a mission, and with it whoever follows only that mission."""

_PATTERN: Final = re.compile(r"^(\*|[a-z]+\.(\*|[a-z]+))$")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One fact: the same object in the stream, SSE, webhooks, MCP and A2A."""

    id: str
    type: str
    timestamp: str
    town: str
    mission_id: str | None = None
    task_id: str | None = None
    data: dict[str, Any] = msgspec.field(default_factory=dict)

    @property
    def stream_id(self) -> str:
        """Give back the stream id that this event's id was made from."""
        return self.id.removeprefix("evt_")

    @property
    def tells_no_starts(self) -> bool:
        """Whether it tells that no worker can be started any more, not that one was lost."""
        return self.type == "worker.lost" and bool(self.data.get("failed_starts"))


def event_id(stream_id: str) -> str:
    """Name an event after its place in the stream: `evt_1763845200123-0`."""
    return f"evt_{stream_id}"


def is_pattern(text: str) -> bool:
    """Tell whether a filter names an event type of the closed set or a family (`mission.*`)."""
    if not _PATTERN.match(text):
        return False
    return text == "*" or any(matches(text, kind) for kind in TYPES)


def matches(pattern: str, kind: str) -> bool:
    """Tell whether an event type falls under a pattern: `*`, `mission.*` or the exact name."""
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return kind.startswith(pattern[:-1])
    return pattern == kind
