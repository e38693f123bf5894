"""/v1/events and a mission's history: as JSON pages, or live as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, get
from litestar.params import QueryParameter

from tinytown.errors import Invalid
from tinytown.http.lists import EventPage, Limit, LogPage
from tinytown.http.live import Frames, LiveResponse, TheFrames, TheStreams
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.event import Event, is_pattern, matches
from tinytown.models.mission import ENDED
from tinytown.store.events import LogLine, is_stream_id
from tinytown.town.hub import order

GAP: Final = b"event: gap\ndata: {}\n\n"
"""Told to a reader whose position is older than what is kept: it may have missed something."""

Types = Annotated[
    str | None,
    QueryParameter(
        max_length=1000, description="Patterns separated by commas: `mission.*,question.asked`."
    ),
]
After = Annotated[
    str | None,
    QueryParameter(max_length=42, description="A stream id; `Last-Event-ID` wins over it."),
]


def wanted(types: str | None) -> Callable[[Event], bool]:
    """Make a predicate of `?types=`; raises Invalid for a pattern no event can match."""
    if types is None:
        return lambda _: True
    patterns = [part.strip() for part in types.split(",") if part.strip()]
    wrong = [pattern for pattern in patterns if not is_pattern(pattern)]
    if wrong or not patterns:
        raise Invalid(f"no event matches {', '.join(wrong) or 'nothing'}", types=wrong)
    return lambda event: any(matches(pattern, event.type) for pattern in patterns)


def position(request: Request[Any, Any, Any], after: str | None) -> str | None:
    """Read where a reader is: `Last-Event-ID`, else `?after=`; raises Invalid for neither form."""
    text = request.headers.get("last-event-id") or after
    if text is None:
        return None
    text = text.removeprefix("evt_")
    if not is_stream_id(text) or any(n >= 2**64 for n in order(text)):
        raise Invalid("the position is not a stream id such as 1763845200123-0")
    return text


def wants_stream(request: Request[Any, Any, Any]) -> bool:
    """Tell whether the caller asked for server-sent events."""
    return "text/event-stream" in request.headers.get("accept", "")


async def frames_of(
    events: AsyncGenerator[Event, None], frames: Frames, *, lost: bool = False
) -> AsyncGenerator[bytes, None]:
    """Write events as frames; first say so if some before them are no longer kept."""
    if lost:
        yield GAP
    async with aclosing(events) as following:
        async for event in following:
            yield frames.of(event)


@get(
    "/v1/events",
    opt={"scope": "read"},
    operation_id="watch_events",
    summary="Watch the town",
    tags=["events"],
    media_type="text/event-stream",
    responses=refusals(400, 401, 403, 503),
)
async def watch_events(  # noqa: PLR0917 - the framework passes by name
    request: Request[Any, Any, Any],
    town: TheTown,
    frames: TheFrames,
    streams: TheStreams,
    types: Types = None,
    after: After = None,
) -> Response[Any]:
    """Stream the town's events (SSE).

    Without a position from now on, with one from there, without gap or repeat. A comment every
    15 s keeps proxies calm; `event: bye` announces an orderly end, `event: gap` that events
    between the position and the oldest one kept are gone.
    """
    wants = wanted(types)
    start = position(request, after)
    first = await town.store.events.first_id()
    lost = start is not None and order(start) < order(first) and order(start) > (0, 0)
    events = town.hub.follow(wants, after=start)
    return LiveResponse(frames_of(events, frames, lost=lost), streams)


@get(
    "/{mission_id:str}/events",
    opt={"scope": "read"},
    operation_id="read_mission_events",
    summary="Read or watch a mission's history",
    responses=refusals(400, 401, 403, 404, 503),
)
async def mission_events(  # noqa: PLR0917 - the framework passes by name
    request: Request[Any, Any, Any],
    mission_id: Id,
    town: TheTown,
    frames: TheFrames,
    streams: TheStreams,
    after: After = None,
    limit: Limit = 100,
) -> Response[EventPage]:
    """Read what happened in a mission, oldest first.

    With `Accept: text/event-stream` it is told live and ends with the mission. A reader that has
    heard the end already is answered with 204: an EventSource then stops coming back.
    """
    start = position(request, after)
    mission = await town.missions.read(mission_id)
    if not wants_stream(request):
        found = await town.store.events.of_mission(mission_id, after=start or "0-0", limit=limit)
        more = found[-1].stream_id if len(found) == limit else None
        return Response(EventPage(items=found, next_cursor=more))
    ended = mission.state in ENDED
    if ended and start and not await town.store.events.of_mission(mission_id, after=start, limit=1):
        return nothing_more()
    events = town.hub.follow_mission(mission_id, after=start, ended=ended)
    return LiveResponse(frames_of(events, frames), streams)


@get(
    "/{mission_id:str}/log",
    opt={"scope": "read"},
    operation_id="read_mission_log",
    summary="Read or watch what a mission's agents say and do",
    responses=refusals(400, 401, 403, 404, 503),
)
async def mission_log(  # noqa: PLR0917 - the framework passes by name
    request: Request[Any, Any, Any],
    mission_id: Id,
    town: TheTown,
    streams: TheStreams,
    after: After = None,
    limit: Limit = 100,
) -> Response[LogPage]:
    """Read a mission's log, oldest first; live with `Accept: text/event-stream`, as its history."""
    start = position(request, after)
    mission = await town.missions.read(mission_id)
    if not wants_stream(request):
        found = await town.store.events.log_of(mission_id, after=start or "0-0", limit=limit)
        return Response(
            LogPage(items=found, next_cursor=found[-1].id if len(found) == limit else None)
        )
    over = mission.state in ENDED
    if over and start and not await town.store.events.log_of(mission_id, after=start, limit=1):
        return nothing_more()

    async def ended() -> bool:
        return (await town.missions.read(mission_id)).state in ENDED

    return LiveResponse(_lines(town.logs.follow(mission_id, after=start, ended=ended)), streams)


def nothing_more() -> Response[Any]:
    """Tell an EventSource to stop coming back."""
    return Response(None, status_code=204)


async def _lines(lines: AsyncGenerator[LogLine, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines) as following:
        async for line in following:
            yield b"id: %s\nevent: log\ndata: %s\n\n" % (
                line.id.encode(),
                msgspec.json.encode(line),
            )
