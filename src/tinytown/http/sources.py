"""/v1/sources: whose hooks the town takes, by which rules, and what became of them."""

from __future__ import annotations

from typing import Final

from litestar import Response, Router, delete, get, patch, post
from litestar.params import JSONBody

from tinytown.http.etags import IfMatch, tagged
from tinytown.http.idempotency import TheReplies, once
from tinytown.http.lists import Cursor, HookPage, Limit, SourcePage, page_of
from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.hook import StoredHook
from tinytown.models.source import (
    DryRun,
    NewSource,
    NewSourceSecret,
    Preview,
    Source,
    SourcePatch,
    SourceWithSecret,
)

_MOVED: Final = refusals(400, 401, 403, 404, 412, 503)


@post(
    "/",
    opt={"scope": "write"},
    operation_id="add_source",
    summary="Add a source",
    responses=refusals(400, 401, 403, 409, 413, 415, 422, 429, 503),
)
async def add_source(
    data: JSONBody[NewSource], town: TheTown, replies: TheReplies
) -> Response[SourceWithSecret]:
    """Take a service's webhooks from now on. `url` is where it sends them.

    A secret the town makes is in this reply and never again.
    """

    async def add(source_id: str) -> SourceWithSecret:
        return await town.sources.add(data, source_id=source_id)

    return await once(
        replies, "source", data, add, location=lambda made: f"/v1/sources/{made.id}", secret=True
    )


@get(
    "/",
    opt={"scope": "read"},
    operation_id="list_sources",
    summary="List sources",
    responses=refusals(400, 401, 403, 503),
)
async def list_sources(town: TheTown, cursor: Cursor = None, limit: Limit = 50) -> SourcePage:
    """List the sources, oldest first; never a secret."""
    items, more = page_of(await town.sources.all(), cursor, limit)
    return SourcePage(items=items, next_cursor=more)


@get(
    "/{source_id:str}",
    opt={"scope": "read"},
    operation_id="read_source",
    summary="Read a source",
    responses=refusals(401, 403, 404, 503),
)
async def read_source(source_id: Id, town: TheTown) -> Response[Source]:
    """Read a source; its `ETag` names this state of it."""
    source, digest = await town.sources.read(source_id)
    return Response(source, headers=tagged(digest))


@patch(
    "/{source_id:str}",
    opt={"scope": "write"},
    operation_id="change_source",
    summary="Change a source",
    responses=refusals(400, 401, 403, 404, 412, 413, 415, 503),
)
async def change_source(
    source_id: Id, data: JSONBody[SourcePatch], town: TheTown, if_match: IfMatch
) -> Response[Source]:
    """Change what is named; what is left out stays. The next hook goes by the new rules."""
    source, digest = await town.sources.change(source_id, data, expected=if_match.digests)
    return Response(source, headers=tagged(digest))


@delete(
    "/{source_id:str}",
    opt={"scope": "write"},
    operation_id="remove_source",
    summary="Remove a source",
    responses=_MOVED,
)
async def remove_source(source_id: Id, town: TheTown, if_match: IfMatch) -> None:
    """Remove a source with its hooks; those that wait start nothing any more."""
    await town.sources.remove(source_id, expected=if_match.digests)


@post(
    "/{source_id:str}/pause",
    opt={"scope": "write"},
    status_code=200,
    operation_id="pause_source",
    summary="Pause a source",
    responses=_MOVED,
)
async def pause_source(source_id: Id, town: TheTown, if_match: IfMatch) -> Response[Source]:
    """Refuse its hooks until it is resumed; what was taken before is still done."""
    source, digest = await town.sources.pause(source_id, expected=if_match.digests)
    return Response(source, headers=tagged(digest))


@post(
    "/{source_id:str}/resume",
    opt={"scope": "write"},
    status_code=200,
    operation_id="resume_source",
    summary="Resume a source",
    responses=_MOVED,
)
async def resume_source(source_id: Id, town: TheTown, if_match: IfMatch) -> Response[Source]:
    """Take its hooks again."""
    source, digest = await town.sources.resume(source_id, expected=if_match.digests)
    return Response(source, headers=tagged(digest))


@post(
    "/{source_id:str}/rotate",
    opt={"scope": "write"},
    status_code=200,
    operation_id="rotate_source",
    summary="Give a source a new secret",
    responses=refusals(400, 401, 403, 404, 409, 412, 413, 415, 422, 503),
)
async def rotate_source(
    source_id: Id,
    data: JSONBody[NewSourceSecret],
    town: TheTown,
    replies: TheReplies,
    if_match: IfMatch,
) -> Response[SourceWithSecret]:
    """Change the secret; what the present one signs is taken for `overlap_seconds` more."""

    async def rotate(_: str) -> SourceWithSecret:
        source, _digest = await town.sources.rotate(source_id, data, expected=if_match.digests)
        return source

    return await once(replies, "request", data, rotate, status=200, secret=True)


@post(
    "/{source_id:str}/dry-run",
    opt={"scope": "write"},
    status_code=200,
    operation_id="dry_run_source",
    summary="Try a source's rules",
    responses=refusals(400, 401, 403, 404, 413, 415, 503),
)
async def dry_run_source(source_id: Id, data: JSONBody[DryRun], town: TheTown) -> Preview:
    """Say what a stored or pasted hook would do now; nothing happens."""
    return await town.sources.dry_run(source_id, data)


@get(
    "/{source_id:str}/hooks",
    opt={"scope": "read"},
    operation_id="list_source_hooks",
    summary="List a source's hooks",
    responses=refusals(400, 401, 403, 404, 503),
)
async def source_hooks(
    source_id: Id, town: TheTown, cursor: Cursor = None, limit: Limit = 50
) -> HookPage:
    """List a source's latest hooks and what became of each, newest first."""
    items, more = await town.sources.hooks(source_id, cursor=cursor, limit=limit)
    return HookPage(items=items, next_cursor=more)


@post(
    "/{source_id:str}/hooks/{hook_id:str}/replay",
    opt={"scope": "write"},
    status_code=200,
    operation_id="replay_hook",
    summary="Let a hook go through the rules again",
    responses=refusals(401, 403, 404, 409, 429, 503),
)
async def replay_hook(source_id: Id, hook_id: Id, town: TheTown) -> StoredHook:
    """Try a hook again that could not be carried out, or that no rule wanted."""
    return await town.sources.replay(source_id, hook_id)


def routes() -> Router:
    """Gather the routes of sources."""
    return Router(
        "/v1/sources",
        route_handlers=[
            add_source,
            list_sources,
            read_source,
            change_source,
            remove_source,
            pause_source,
            resume_source,
            rotate_source,
            dry_run_source,
            source_hooks,
            replay_hook,
        ],
        tags=["sources"],
    )
