"""/v1/missions: start one, read it, and steer it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, Limit, MissionPage
from tinytown.http.parts import Id, TheActor, TheTown
from tinytown.http.problems import refusals
from tinytown.models.mission import (
    Mission,
    MissionState,
    Result,
    StartedMission,
    StartMission,
)

_MOVED: Final = refusals(401, 403, 404, 409, 503)
_BYTES: Final = "surrogateescape"
"""How the store keeps bytes that are not UTF-8 in text."""


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A sentence for a mission's agents."""

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=8192)]


class TaskResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one task left behind."""

    task_id: str
    result: Result


class MissionResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a mission left behind: the whole, and each task with its patch."""

    mission_id: str
    state: MissionState
    result: Result | None
    tasks: list[TaskResult]


@post(
    "/",
    opt={"scope": "write"},
    operation_id="start_mission",
    summary="Start a mission",
    responses={
        201: ResponseSpec(StartedMission, description="Started; `Location` leads to it"),
        **refusals(400, 401, 403, 409, 413, 415, 422, 503),
    },
)
async def start_mission(
    data: JSONBody[StartMission], town: TheTown, actor: TheActor, replies: TheReplies
) -> Response[Mission]:
    """Start a mission; with an `Idempotency-Key`, once however often it is asked.

    With a `callback_url` that address is told how it goes, by signed webhooks; the secret that
    verifies them is in this reply and never again.
    """

    async def start(mission_id: str) -> Mission:
        return await town.missions.start(data, actor, mission_id=mission_id)

    return await once(
        replies,
        "mission",
        data,
        start,
        location=lambda mission: f"/v1/missions/{mission.id}",
        secret=data.callback_url is not None,
    )


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_missions",
    summary="List missions",
    responses=refusals(400, 401, 403, 503),
)
async def list_missions(
    town: TheTown,
    in_state: Annotated[
        MissionState | None,
        QueryParameter(name="state", description="Missions in this state."),
    ] = None,
    label: Annotated[
        str | None, QueryParameter(max_length=300, description="`name=value` of a label.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> MissionPage:
    """List missions, newest first."""
    items, more = await town.missions.page(state=in_state, label=label, cursor=cursor, limit=limit)
    return MissionPage(items=items, next_cursor=more)


@get(
    "/{mission_id:str}",
    opt={"scope": "read"},
    operation_id="read_mission",
    summary="Read a mission",
    responses=refusals(401, 403, 404, 503),
)
async def read_mission(mission_id: Id, town: TheTown) -> Mission:
    """Read a mission with its tasks, its open question and its result."""
    return await town.missions.read(mission_id)


@post(
    "/{mission_id:str}/cancel",
    opt={"scope": "write"},
    status_code=200,
    operation_id="cancel_mission",
    summary="Cancel a mission",
    responses=_MOVED,
)
async def cancel_mission(mission_id: Id, town: TheTown, actor: TheActor) -> Mission:
    """End a mission with all its tasks; its questions are withdrawn."""
    return await town.missions.cancel(mission_id, actor)


@post(
    "/{mission_id:str}/pause",
    opt={"scope": "write"},
    status_code=200,
    operation_id="pause_mission",
    summary="Pause a mission",
    responses=_MOVED,
)
async def pause_mission(mission_id: Id, town: TheTown) -> Mission:
    """Start nothing new of a mission; what runs may finish."""
    return await town.missions.pause(mission_id)


@post(
    "/{mission_id:str}/resume",
    opt={"scope": "write"},
    status_code=200,
    operation_id="resume_mission",
    summary="Resume a mission",
    responses=_MOVED,
)
async def resume_mission(mission_id: Id, town: TheTown) -> Mission:
    """Go on with a paused mission."""
    return await town.missions.resume(mission_id)


@post(
    "/{mission_id:str}/retry",
    opt={"scope": "write"},
    status_code=200,
    operation_id="retry_mission",
    summary="Retry a mission",
    responses=_MOVED,
)
async def retry_mission(mission_id: Id, town: TheTown) -> Mission:
    """Run what failed or was canceled again."""
    return await town.missions.retry(mission_id)


@post(
    "/{mission_id:str}/message",
    opt={"scope": "write"},
    status_code=200,
    operation_id="message_mission",
    summary="Say something to a mission's agents",
    responses=refusals(400, 401, 403, 404, 409, 413, 415, 422, 429, 503),
)
async def message_mission(
    mission_id: Id, data: JSONBody[NewMessage], town: TheTown, actor: TheActor, replies: TheReplies
) -> Response[Mission]:
    """Leave a sentence for a mission's agents; running ones hear it at once."""

    async def leave(message_id: str) -> Mission:
        return await town.missions.message(mission_id, data.text, actor, message_id=message_id)

    return await once(replies, "event", data, leave, status=200)


@get(
    "/{mission_id:str}/result",
    opt={"scope": "read"},
    operation_id="read_result",
    summary="Read what a mission left behind",
    responses={
        200: ResponseSpec(MissionResult, description="What it left behind"),
        **refusals(401, 403, 404, 503),
    },
)
async def read_result(
    mission_id: Id, request: Request[Any, Any, Any], town: TheTown
) -> Response[Any]:
    """Read summary, branch, patch and links of a mission; `result` is null while it runs.

    JSON can only carry text: in it, what is not UTF-8 in a patch is shown as U+FFFD. With
    `Accept: text/x-patch` the patch itself comes, byte for byte.
    """
    mission, results = await town.missions.results(mission_id)
    patches = {task_id: (each.patch or "").encode(errors=_BYTES) for task_id, each in results}
    whole_patch = b"".join(patches.values())
    if "text/x-patch" in request.headers.get("accept", ""):
        return Response(whole_patch, media_type="text/x-patch")
    whole = mission.result
    if whole is not None:
        whole = msgspec.structs.replace(
            whole,
            patch=_text(whole_patch),
            patch_truncated=any(each.patch_truncated for _, each in results),
        )
    tasks = [
        TaskResult(
            task_id=task_id,
            result=msgspec.structs.replace(each, patch=_text(patches[task_id])),
        )
        for task_id, each in results
    ]
    return Response(
        MissionResult(mission_id=mission.id, state=mission.state, result=whole, tasks=tasks)
    )


def _text(patch: bytes) -> str | None:
    return patch.decode(errors="replace") or None


def routes(*more: Any) -> Router:
    """Gather the routes of missions, with those that stream."""
    return Router(
        "/v1/missions",
        route_handlers=[
            start_mission,
            list_missions,
            read_mission,
            cancel_mission,
            pause_mission,
            resume_mission,
            retry_mission,
            message_mission,
            read_result,
            *more,
        ],
        tags=["missions"],
    )
