"""/v1/endpoints and /v1/deliveries: who wants to hear, and what became of each message."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, Literal, TypeAlias

from litestar import Response, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody, QueryParameter

from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, DeliveryPage, EndpointPage, Limit
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.delivery import Delivery, Trial
from tinytown.models.endpoint import Endpoint, EndpointPatch, NewEndpoint

_MOVED: Final = refusals(401, 403, 404, 409, 503)


class Post:
    """What this door needs of those who send: made by the composition root."""

    def __init__(self, test: Callable[[str], Awaitable[Trial]], ring: Callable[[], None]) -> None:
        """`test` sends a message to an endpoint now; `ring` says that something became due."""
        self.test = test
        self.ring = ring


@post(
    "/",
    opt={"scope": "write"},
    operation_id="add_endpoint",
    summary="Add an endpoint",
    responses=refusals(400, 401, 403, 409, 413, 415, 422, 503),
)
async def add_endpoint(
    data: JSONBody[NewEndpoint], town: TheTown, replies: TheReplies
) -> Response[Endpoint]:
    """Add a phone. Its `url` is an Apprise URL; from then on it is only shown redacted."""

    async def add(endpoint_id: str) -> Endpoint:
        return await town.endpoints.add(data, endpoint_id=endpoint_id)

    return await once(
        replies, "endpoint", data, add, location=lambda made: f"/v1/endpoints/{made.id}"
    )


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_endpoints",
    summary="List endpoints",
    responses=refusals(400, 401, 403, 503),
)
async def list_endpoints(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> EndpointPage:
    """List the endpoints, oldest first."""
    items, more = page_of(await town.endpoints.all(), cursor, limit)
    return EndpointPage(items=items, next_cursor=more)


@get(
    "/{endpoint_id:str}",
    opt={"scope": "read"},
    operation_id="read_endpoint",
    summary="Read an endpoint",
    responses=refusals(401, 403, 404, 503),
)
async def read_endpoint(endpoint_id: Id, town: TheTown) -> Endpoint:
    """Read an endpoint and how it is doing."""
    return await town.endpoints.read(endpoint_id)


@patch(
    "/{endpoint_id:str}",
    opt={"scope": "write"},
    operation_id="change_endpoint",
    summary="Change an endpoint",
    responses=refusals(400, 401, 403, 404, 413, 415, 503),
)
async def change_endpoint(
    endpoint_id: Id, data: JSONBody[EndpointPatch], town: TheTown
) -> Endpoint:
    """Change what is named; what is left out stays."""
    return await town.endpoints.change(endpoint_id, data)


@delete(
    "/{endpoint_id:str}",
    opt={"scope": "write"},
    operation_id="remove_endpoint",
    summary="Remove an endpoint",
    responses=refusals(401, 403, 404, 503),
)
async def remove_endpoint(endpoint_id: Id, town: TheTown) -> None:
    """Remove an endpoint with what is due for it."""
    await town.endpoints.remove(endpoint_id)


@post(
    "/{endpoint_id:str}/pause",
    opt={"scope": "write"},
    status_code=200,
    operation_id="pause_endpoint",
    summary="Pause an endpoint",
    responses=_MOVED,
)
async def pause_endpoint(endpoint_id: Id, town: TheTown) -> Endpoint:
    """Send nothing to an endpoint until it is resumed."""
    return await town.endpoints.pause(endpoint_id)


@post(
    "/{endpoint_id:str}/resume",
    opt={"scope": "write"},
    status_code=200,
    operation_id="resume_endpoint",
    summary="Resume an endpoint",
    responses=_MOVED,
)
async def resume_endpoint(endpoint_id: Id, town: TheTown, out: NamedDependency[Post]) -> Endpoint:
    """Send to an endpoint again."""
    endpoint = await town.endpoints.resume(endpoint_id)
    out.ring()
    return endpoint


@post(
    "/{endpoint_id:str}/test",
    opt={"scope": "write"},
    status_code=200,
    operation_id="test_endpoint",
    summary="Send a test message",
    responses=refusals(400, 401, 403, 404, 409, 422, 503),
)
async def test_endpoint(
    endpoint_id: Id, town: TheTown, out: NamedDependency[Post], replies: TheReplies
) -> Response[Trial]:
    """Send a test message now and say how it went; a failure is an answer too (200)."""

    async def send(_: str) -> Trial:
        await town.endpoints.read(endpoint_id)
        return await out.test(endpoint_id)

    return await once(replies, "request", None, send, status=200)


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


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_deliveries",
    summary="List dead letters",
    responses=refusals(400, 401, 403, 503),
)
async def list_deliveries(
    town: TheTown,
    in_state: Annotated[  # noqa: ARG001 - there is no other list yet, and none to mistake it for
        Literal["dead"], QueryParameter(name="state", description="What was given up.")
    ] = "dead",
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DeliveryPage:
    """List the deliveries that were given up, newest first."""
    items, more = await town.deliveries.dead(cursor=cursor, limit=limit)
    return DeliveryPage(items=items, next_cursor=more)


@post(
    "/{delivery_id:str}/replay",
    opt={"scope": "write"},
    status_code=200,
    operation_id="replay_delivery",
    summary="Try a dead letter again",
    responses=_MOVED,
)
async def replay_delivery(delivery_id: Id, town: TheTown, out: NamedDependency[Post]) -> Delivery:
    """Make a dead letter due again, now."""
    delivery = await town.deliveries.replay(delivery_id)
    out.ring()
    return delivery


Item: TypeAlias = Any


def page_of(items: list[Item], cursor: str | None, limit: int) -> tuple[list[Item], str | None]:
    """Cut a page of a list that is short enough to be read whole."""
    start = next((index + 1 for index, item in enumerate(items) if item.id == cursor), 0)
    page = items[start : start + limit]
    return page, page[-1].id if page and start + limit < len(items) else None


def routes() -> list[Router]:
    """Gather the routes of endpoints and deliveries."""
    return [
        Router(
            "/v1/endpoints",
            route_handlers=[
                add_endpoint,
                list_endpoints,
                read_endpoint,
                change_endpoint,
                remove_endpoint,
                pause_endpoint,
                resume_endpoint,
                test_endpoint,
                endpoint_deliveries,
            ],
            tags=["endpoints"],
        ),
        Router(
            "/v1/deliveries",
            route_handlers=[list_deliveries, replay_delivery],
            tags=["deliveries"],
        ),
    ]
