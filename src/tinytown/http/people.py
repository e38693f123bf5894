"""/v1/workers and /v1/keys: who works here, and who may do what."""

from __future__ import annotations

from litestar import Response, Router, delete, get, post
from litestar.params import JSONBody

from tinytown.errors import KeyNotFound
from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, KeyPage, Limit, WorkerPage, page_of
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.key import CreatedKey, Key, NewKey
from tinytown.models.worker import Worker


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_workers",
    summary="List workers",
    responses=refusals(400, 401, 403, 503),
)
async def list_workers(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> WorkerPage:
    """List the workers that live or left within the hour, most recently seen first."""
    items, more = page_of(await town.workers.all(), cursor, limit)
    return WorkerPage(items=items, next_cursor=more)


@post(
    "/{worker_id:str}/drain",
    opt={"scope": "write"},
    status_code=200,
    operation_id="drain_worker",
    summary="Let a worker go home",
    responses=refusals(401, 403, 404, 409, 503),
)
async def drain_worker(worker_id: Id, town: TheTown) -> Worker:
    """Let a worker finish what it holds, take nothing new and go home."""
    return await town.workers.drain(worker_id)


@post(
    "/",
    opt={"scope": "admin"},
    operation_id="make_key",
    summary="Make a key",
    responses=refusals(400, 401, 403, 409, 413, 415, 422, 503),
)
async def make_key(
    data: JSONBody[NewKey], town: TheTown, replies: TheReplies
) -> Response[CreatedKey]:
    """Make a key. This reply alone carries it; the town keeps its hash."""

    async def make(key_id: str) -> CreatedKey:
        return await town.keys.make(data, key_id=key_id)

    return await once(
        replies, "key", data, make, location=lambda made: f"/v1/keys/{made.id}", secret=True
    )


@get(
    "/",
    opt={"scope": "admin"},
    operation_id="list_keys",
    summary="List keys",
    responses=refusals(400, 401, 403, 503),
)
async def list_keys(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> KeyPage:
    """List the keys, oldest first; never a secret."""
    items, more = page_of(await town.keys.all(), cursor, limit)
    return KeyPage(items=items, next_cursor=more)


@get(
    "/{key_id:str}",
    opt={"scope": "admin"},
    operation_id="read_key",
    summary="Read a key",
    responses=refusals(401, 403, 404, 503),
)
async def read_key(key_id: Id, town: TheTown) -> Key:
    """Read what a key may do and how long; never the secret."""
    for key in await town.keys.all():
        if key.id == key_id:
            return key
    raise KeyNotFound("there is no key with this id")


@delete(
    "/{key_id:str}",
    opt={"scope": "admin"},
    operation_id="revoke_key",
    summary="Revoke a key",
    responses=refusals(401, 403, 404, 503),
)
async def revoke_key(key_id: Id, town: TheTown) -> None:
    """Revoke a key; it opens nothing from now on."""
    await town.keys.revoke(key_id)


def routes() -> list[Router]:
    """Gather the routes of workers and keys."""
    return [
        Router("/v1/workers", route_handlers=[list_workers, drain_worker], tags=["workers"]),
        Router(
            "/v1/keys", route_handlers=[make_key, list_keys, read_key, revoke_key], tags=["keys"]
        ),
    ]
