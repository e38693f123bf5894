"""/v1/endpoints: who wants to hear, and how each is doing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from litestar import Response, Router, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import JSONBody

from tinytown.http.etags import IfMatch, tagged
from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, EndpointPage, Limit, page_of
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.delivery import Trial
from tinytown.models.endpoint import (
    Endpoint,
    EndpointPatch,
    EndpointWithSecret,
    NewEndpoint,
    NewSecret,
)

_MOVED: Final = refusals(401, 403, 404, 409, 503)


class Post:
    """What this door needs of those who send: made by the composition root."""

    def __init__(
        self,
        test: Callable[[str], Awaitable[Trial]],
        *,
        ring: Callable[[], None],
        tick: Callable[[], None],
    ) -> None:
        """Hand three things to handlers.

        `test` sends a message to an endpoint now, `ring` tells the notifier that something became
        due, `tick` the dispatcher.
        """
        self.test = test
        self.ring = ring
        self.tick = tick


ThePost: TypeAlias = NamedDependency[Post]


@post(
    "/",
    opt={"scope": "write"},
    operation_id="add_endpoint",
    summary="Add an endpoint",
    responses=refusals(400, 401, 403, 409, 413, 415, 422, 429, 503),
)
async def add_endpoint(
    data: JSONBody[NewEndpoint], town: TheTown, replies: TheReplies
) -> Response[EndpointWithSecret]:
    """Add a phone (`push`, an Apprise URL) or a program (`webhook`, an https URL).

    From then on its URL is only shown redacted, and a secret the town makes is in this reply and
    never again.
    """

    async def add(endpoint_id: str) -> EndpointWithSecret:
        return await town.endpoints.add(data, endpoint_id=endpoint_id)

    return await once(
        replies,
        "endpoint",
        data,
        add,
        location=lambda made: f"/v1/endpoints/{made.id}",
        secret=True,
    )


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_endpoints",
    summary="List endpoints",
    responses=refusals(400, 401, 403, 503),
)
async def list_endpoints(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> EndpointPage:
    """List the endpoints, oldest first; the callbacks of missions are not among them."""
    items, more = page_of(await town.endpoints.all(), cursor, limit)
    return EndpointPage(items=items, next_cursor=more)


@get(
    "/{endpoint_id:str}",
    opt={"scope": "read"},
    operation_id="read_endpoint",
    summary="Read an endpoint",
    responses=refusals(401, 403, 404, 503),
)
async def read_endpoint(endpoint_id: Id, town: TheTown) -> Response[Endpoint]:
    """Read an endpoint, or a mission's callback, and how it is doing.

    Its `ETag` names what its owner said of it; how it is doing changes without.
    """
    endpoint, digest = await town.endpoints.look(endpoint_id)
    return Response(endpoint, headers=tagged(digest))


@patch(
    "/{endpoint_id:str}",
    opt={"scope": "write"},
    operation_id="change_endpoint",
    summary="Change an endpoint",
    responses=refusals(400, 401, 403, 404, 409, 412, 413, 415, 503),
)
async def change_endpoint(
    endpoint_id: Id, data: JSONBody[EndpointPatch], town: TheTown, if_match: IfMatch
) -> Response[Endpoint]:
    """Change what is named; what is left out stays. What is due goes by the new words.

    A header sent back as `***` keeps its value.
    """
    endpoint, digest = await town.endpoints.change(endpoint_id, data, expected=if_match.digests)
    return Response(endpoint, headers=tagged(digest))


@delete(
    "/{endpoint_id:str}",
    opt={"scope": "write"},
    operation_id="remove_endpoint",
    summary="Remove an endpoint",
    responses=refusals(400, 401, 403, 404, 409, 412, 503),
)
async def remove_endpoint(endpoint_id: Id, town: TheTown, if_match: IfMatch) -> None:
    """Remove an endpoint with what is due for it."""
    await town.endpoints.remove(endpoint_id, expected=if_match.digests)


@post(
    "/{endpoint_id:str}/pause",
    opt={"scope": "write"},
    status_code=200,
    operation_id="pause_endpoint",
    summary="Pause an endpoint",
    responses=_MOVED,
)
async def pause_endpoint(endpoint_id: Id, town: TheTown) -> Endpoint:
    """Send nothing to an endpoint until it is resumed; what is due waits."""
    return await town.endpoints.pause(endpoint_id)


@post(
    "/{endpoint_id:str}/resume",
    opt={"scope": "write"},
    status_code=200,
    operation_id="resume_endpoint",
    summary="Resume an endpoint",
    responses=_MOVED,
)
async def resume_endpoint(endpoint_id: Id, town: TheTown, out: ThePost) -> Endpoint:
    """Send to an endpoint again; `recover` tells it what it missed meanwhile."""
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
    endpoint_id: Id, town: TheTown, out: ThePost, replies: TheReplies
) -> Response[Trial]:
    """Send a test message now and say how it went; a failure is an answer too (200).

    A webhook gets an event of type `ping`, signed like all others.
    """

    async def send(_: str) -> Trial:
        await town.endpoints.read(endpoint_id)
        return await out.test(endpoint_id)

    return await once(replies, "request", None, send, status=200)


@post(
    "/{endpoint_id:str}/rotate",
    opt={"scope": "write"},
    status_code=200,
    operation_id="rotate_endpoint",
    summary="Give a webhook a new secret",
    responses=refusals(400, 401, 403, 404, 409, 412, 413, 415, 422, 503),
)
async def rotate_endpoint(
    endpoint_id: Id,
    data: JSONBody[NewSecret],
    town: TheTown,
    replies: TheReplies,
    if_match: IfMatch,
) -> Response[EndpointWithSecret]:
    """Sign with a new secret; the present ones sign beside it for `overlap_seconds` more.

    A secret the town makes is in this reply and never again.
    """

    async def rotate(secret_id: str) -> EndpointWithSecret:
        return await town.endpoints.rotate(
            endpoint_id, data, secret_id=secret_id, expected=if_match.digests
        )

    return await once(replies, "secret", data, rotate, status=200, secret=True)


def routes(*more: Any) -> Router:
    """Gather the routes of endpoints, with those about what was sent to them."""
    return Router(
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
            rotate_endpoint,
            *more,
        ],
        tags=["endpoints"],
    )
