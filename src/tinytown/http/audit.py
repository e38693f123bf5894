"""/v1/audit: who changed what in the town, and which hooks were refused and why.

Lines are written after the reply: what changes who may do what, and what leaves the town or enters
it. Missions and answers have a history of their own.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from litestar import Router, get

from tinytown.errors import Invalid, StoreUnavailable
from tinytown.http.lists import AuditPage, Cursor, Limit
from tinytown.http.parts import TheTown
from tinytown.http.problems import refusals
from tinytown.town import Town

_log = logging.getLogger("tinytown.http")

AUDITED: Final = ("/v1/keys", "/v1/endpoints", "/v1/sources", "/v1/deliveries", "/v1/replays")
"""Where every request that changes something is written down."""
_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_ID: Final = re.compile(r"[a-z]{3}_[0-9a-z_-]{1,80}")
_LINE: Final = re.compile(r"\d{1,16}-\d{1,9}")


class Ended(msgspec.Struct, frozen=True):
    """What the doorman knows of a request when its reply is out."""

    scope: Any
    status: int
    location: str
    request_id: str


Told = Callable[[Ended], Awaitable[None]]


class Auditor:
    """Writes down what somebody with a key did, or was refused."""

    def __init__(self, town: Town) -> None:
        """Write to one town's audit."""
        self._town = town

    async def __call__(self, ended: Ended) -> None:
        """Write a line, if this request is one to write about; never fails for the caller."""
        scope = ended.scope
        actor = scope.get("user")
        path = scope.get("path_template") or ""
        if actor is None or scope["method"] in _SAFE or not path.startswith(AUDITED):
            return
        named = [*scope["path_params"].values(), ended.location.rpartition("/")[2]]
        handler = scope.get("route_handler")
        try:
            await self._town.store.audit.write(
                actor=actor.id,
                verb=getattr(handler, "operation_id", None) or scope["method"],
                # What is no id of ours is text of the caller's: it is left out.
                object_id=next((each for each in named if _ID.fullmatch(str(each))), ""),
                result="done" if ended.status < 400 else f"refused {ended.status}",
                request_id=ended.request_id,
            )
        except StoreUnavailable as error:
            facts = {"reason": error.detail, "request_id": ended.request_id}
            _log.warning("audit.lost", extra={"facts": facts})


@get(
    "/",
    opt={"scope": "admin"},
    operation_id="read_audit",
    summary="Read the audit log",
    responses=refusals(400, 401, 403, 503),
)
async def read_audit(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> AuditPage:
    """Read who changed what, and why hooks were refused, newest first."""
    if cursor is not None and not _LINE.fullmatch(cursor):
        raise Invalid("the cursor is not one this list gave")
    items, more = await town.store.audit.page(cursor=cursor, limit=limit)
    return AuditPage(items=items, next_cursor=more)


def routes() -> Router:
    """Gather the routes of the audit."""
    return Router("/v1/audit", route_handlers=[read_audit], tags=["audit"])
