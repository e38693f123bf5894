"""/v1/deliveries and /v1/replays: what became of each message, and another try for it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from litestar import Response, Router, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import JSONBody, QueryParameter

from tinytown.http.endpoints import ThePost
from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, DeliveryPage, Limit, ReplayPage, page_of
from tinytown.http.parts import Id, TheActor, TheTown
from tinytown.http.problems import refusals
from tinytown.models.delivery import Delivery, NewReplay, Recovery, Replay, ReplayCount
from tinytown.town.deliveries import replay_of

_BEGUN: Final[dict[int, ResponseSpec]] = {
    200: ResponseSpec(ReplayCount, description="What it would make due: with `dry_run`"),
    202: ResponseSpec(Replay, description="Begun; `Location` tells how far it is"),
}
_TIMES: Final = refusals(400, 401, 403, 404, 409, 413, 415, 422, 503)


@get(
    "/{endpoint_id:str}/deliveries",
    opt={"scope": "read"},
    operation_id="list_endpoint_deliveries",
    summary="List what was sent to an endpoint",
    responses=refusals(400, 401, 403, 404, 503),
)
async def endpoint_deliveries(
    endpoint_id: Id, town: TheTown, cursor: Cursor = None, limit: Limit = 50
) -> DeliveryPage:
    """List an endpoint's latest deliveries with every attempt, newest first."""
    items, more = await town.deliveries.of_endpoint(endpoint_id, cursor=cursor, limit=limit)
    return DeliveryPage(items=items, next_cursor=more)


@post(
    "/{endpoint_id:str}/recover",
    opt={"scope": "write"},
    status_code=202,
    operation_id="recover_endpoint",
    summary="Tell an endpoint again what it missed",
    responses={**_BEGUN, **_TIMES},
)
async def recover_endpoint(  # noqa: PLR0917 - handed over by name
    endpoint_id: Id,
    data: JSONBody[Recovery],
    town: TheTown,
    actor: TheActor,
    replies: TheReplies,
    out: ThePost,
) -> Response[Any]:
    """Send what an endpoint was not told since a time: dead letters, and events never filed.

    `dry_run` only counts. What was never filed is looked for in the last seven days, as long as
    deliveries are known, so that nothing is sent twice; what is in the stream no more (`events`
    are kept by number) is lost.
    """
    wish = replay_of(endpoint_id, data)
    if data.dry_run:
        return Response(await town.deliveries.count(wish), status_code=200)

    async def begin(replay_id: str) -> Replay:
        return await town.deliveries.replay_many(wish, actor, replay_id=replay_id)

    return await _begun(replies, data, begin, out)


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_deliveries",
    summary="List dead letters",
    responses=refusals(400, 401, 403, 404, 503),
)
async def list_deliveries(
    town: TheTown,
    in_state: Annotated[  # noqa: ARG001 - there is no other list yet, and none to mistake it for
        Literal["dead"], QueryParameter(name="state", description="What was given up.")
    ] = "dead",
    endpoint_id: Annotated[
        str | None, QueryParameter(max_length=64, description="Only those of this endpoint.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DeliveryPage:
    """List the deliveries that were given up, the latest first."""
    items, more = await town.deliveries.dead(cursor=cursor, limit=limit, endpoint_id=endpoint_id)
    return DeliveryPage(items=items, next_cursor=more)


@get(
    "/{delivery_id:str}",
    opt={"scope": "read"},
    operation_id="read_delivery",
    summary="Read a delivery",
    responses=refusals(401, 403, 404, 503),
)
async def read_delivery(delivery_id: Id, town: TheTown) -> Delivery:
    """Read a delivery with every attempt."""
    return await town.deliveries.read(delivery_id)


@post(
    "/{delivery_id:str}/replay",
    opt={"scope": "write"},
    status_code=200,
    operation_id="replay_delivery",
    summary="Send a delivery again",
    responses=refusals(401, 403, 404, 409, 503),
)
async def replay_delivery(delivery_id: Id, town: TheTown, out: ThePost) -> Delivery:
    """Make a dead letter due again, now, or send again what was delivered."""
    delivery = await town.deliveries.replay(delivery_id)
    out.ring()
    return delivery


@post(
    "/replay",
    opt={"scope": "write"},
    status_code=202,
    operation_id="replay_deliveries",
    summary="Send many dead letters again",
    responses={**_BEGUN, **_TIMES},
)
async def replay_deliveries(
    data: JSONBody[NewReplay],
    town: TheTown,
    actor: TheActor,
    replies: TheReplies,
    out: ThePost,
) -> Response[Any]:
    """Make the dead letters of a time due again, of all endpoints or of one.

    The clock does it batch by batch; it goes on whichever process ends. `dry_run` only counts.
    """
    if data.dry_run:
        return Response(await town.deliveries.count(data), status_code=200)

    async def begin(replay_id: str) -> Replay:
        return await town.deliveries.replay_many(data, actor, replay_id=replay_id)

    return await _begun(replies, data, begin, out)


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_replays",
    summary="List replays",
    responses=refusals(400, 401, 403, 503),
)
async def list_replays(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> ReplayPage:
    """List the latest replays, newest first."""
    items, more = page_of(await town.deliveries.replays(), cursor, limit)
    return ReplayPage(items=items, next_cursor=more)


@get(
    "/{replay_id:str}",
    opt={"scope": "read"},
    operation_id="read_replay",
    summary="Read a replay",
    responses=refusals(401, 403, 404, 503),
)
async def read_replay(replay_id: Id, town: TheTown) -> Replay:
    """Read how far a replay is."""
    return await town.deliveries.read_replay(replay_id)


async def _begun(replies: TheReplies, data: Any, begin: Any, out: ThePost) -> Response[Any]:
    begun = await once(
        replies,
        "replay",
        data,
        begin,
        status=202,
        location=lambda replay: f"/v1/replays/{replay.id}",
    )
    out.tick()
    return begun


def of_endpoints() -> list[Any]:
    """List the routes below an endpoint."""
    return [endpoint_deliveries, recover_endpoint]


def routes() -> list[Router]:
    """Gather the routes of deliveries and replays."""
    return [
        Router(
            "/v1/deliveries",
            route_handlers=[list_deliveries, read_delivery, replay_delivery, replay_deliveries],
            tags=["deliveries"],
        ),
        Router("/v1/replays", route_handlers=[list_replays, read_replay], tags=["replays"]),
    ]
