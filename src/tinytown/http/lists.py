"""What every list of this door has in common: `{items, next_cursor}` and at most 100 items."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from litestar.params import QueryParameter

from tinytown.errors import Invalid
from tinytown.models.audit import AuditLine
from tinytown.models.delivery import Delivery, Replay
from tinytown.models.endpoint import Endpoint
from tinytown.models.event import Event
from tinytown.models.hook import StoredHook
from tinytown.models.key import Key
from tinytown.models.mission import Mission
from tinytown.models.question import Question
from tinytown.models.source import Source
from tinytown.models.worker import Worker
from tinytown.store.events import LogLine

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=100, description="Items of a page.")]
Cursor: TypeAlias = Annotated[
    str | None,
    QueryParameter(max_length=100, description="`next_cursor` of the page before."),
]


class MissionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Missions, newest first."""

    items: list[Mission]
    next_cursor: str | None = None


class QuestionPage(msgspec.Struct, frozen=True, kw_only=True):
    """Questions, the one that waits longest first."""

    items: list[Question]
    next_cursor: str | None = None


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """Events, oldest first."""

    items: list[Event]
    next_cursor: str | None = None


class LogPage(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of a mission's log, oldest first."""

    items: list[LogLine]
    next_cursor: str | None = None


class EndpointPage(msgspec.Struct, frozen=True, kw_only=True):
    """Endpoints, oldest first."""

    items: list[Endpoint]
    next_cursor: str | None = None


class DeliveryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Deliveries, newest first."""

    items: list[Delivery]
    next_cursor: str | None = None


class ReplayPage(msgspec.Struct, frozen=True, kw_only=True):
    """Replays, newest first."""

    items: list[Replay]
    next_cursor: str | None = None


class WorkerPage(msgspec.Struct, frozen=True, kw_only=True):
    """Workers, most recently seen first."""

    items: list[Worker]
    next_cursor: str | None = None


class KeyPage(msgspec.Struct, frozen=True, kw_only=True):
    """Keys, oldest first; never a secret."""

    items: list[Key]
    next_cursor: str | None = None


class SourcePage(msgspec.Struct, frozen=True, kw_only=True):
    """Sources, oldest first; never a secret."""

    items: list[Source]
    next_cursor: str | None = None


class HookPage(msgspec.Struct, frozen=True, kw_only=True):
    """Hooks, newest first."""

    items: list[StoredHook]
    next_cursor: str | None = None


class AuditPage(msgspec.Struct, frozen=True, kw_only=True):
    """Lines of the audit log, newest first."""

    items: list[AuditLine]
    next_cursor: str | None = None


def page_of(items: list[Any], cursor: str | None, limit: int) -> tuple[list[Any], str | None]:
    """Cut a page of a list that is short enough to be read whole.

    Raises Invalid for a cursor that is not in it (any more): to begin anew would tell things twice.
    """
    start = 0
    if cursor is not None:
        ids = [item.id for item in items]
        if cursor not in ids:
            raise Invalid("the cursor is not one of this list, or its record is gone: begin anew")
        start = ids.index(cursor) + 1
    page = items[start : start + limit]
    return page, page[-1].id if page and start + limit < len(items) else None
