"""/hooks: where other services send theirs. No key: each hook brings its own proof.

Whatever is wrong with one is the same 401 without a reason: who guesses ids or secrets learns
nothing. The reason is in the audit log.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Request, Response, post
from litestar.openapi.datastructures import ResponseSpec

from tinytown.http.parts import Id, TheTown
from tinytown.http.problems import refusals
from tinytown.models.hook import HOOK_BYTES, Taken
from tinytown.schemes import Hook
from tinytown.town.intake import Challenge

# These two want 200 and nothing else; Slack also shows people what it reads there.
_SILENT: Final = frozenset({"x-slack-signature", "linear-signature"})


@post(
    "/hooks/{source_id:str}",
    status_code=202,
    operation_id="receive_hook",
    summary="Send a hook",
    tags=["hooks"],
    request_max_body_size=HOOK_BYTES,
    responses={
        200: ResponseSpec(None, description="Stored; or the answer to a challenge"),
        202: ResponseSpec(Taken, description="Stored"),
        **refusals(400, 401, 413, 429, 503),
    },
)
async def receive_hook(
    source_id: Id, request: Request[Any, Any, Any], town: TheTown
) -> Response[Any]:
    """Take a webhook of at most 1 MB, in whatever form its service sends it.

    2xx means that it is stored and will be looked at, once however often it is sent.
    """
    hook = Hook(
        method=request.method,
        headers=tuple(
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in request.scope["headers"]
        ),
        query=request.scope["query_string"].decode("latin-1"),
        body=await request.body(),
    )
    taken = await town.intake.receive(
        source_id, hook, request_id=request.scope["state"]["request_id"]
    )
    if isinstance(taken, Challenge):
        return Response(taken.body, status_code=200, media_type=taken.media_type)
    if any(name in _SILENT for name, _ in hook.headers):
        return Response(b"", status_code=200, media_type="text/plain")
    return Response(taken)
